package graph

import (
	"fmt"
	"strings"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Dot returns a pipeline in the language of Graphviz. The connections of fused nodes are bold.
func Dot(p *manifest.Pipeline) string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %s {\n  rankdir=LR\n  node [shape=box, style=rounded]\n", quoteDot(p.Name))
	for _, n := range p.Nodes {
		label := n.ID
		if n.Type != n.ID {
			label += "\n" + n.Type
		}
		fmt.Fprintf(&b, "  %s [label=%s]\n", quoteDot(n.ID), quoteDot(label))
	}
	for _, c := range p.Connections {
		fmt.Fprintf(&b, "  %s -> %s", quoteDot(c.From), quoteDot(c.To))
		var attributes []string
		if c.Port != "" {
			attributes = append(attributes, "label="+quoteDot(c.Port))
		}
		if c.Fuse {
			attributes = append(attributes, "style=bold")
		}
		if len(attributes) > 0 {
			fmt.Fprintf(&b, " [%s]", strings.Join(attributes, ", "))
		}
		b.WriteString("\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func quoteDot(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(text) + `"`
}

// Mermaid returns a pipeline in the language of Mermaid. The connections of fused nodes are thick.
func Mermaid(p *manifest.Pipeline) string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	number := make(map[string]int, len(p.Nodes))
	for i, n := range p.Nodes {
		number[n.ID] = i
		label := quoteMermaid(n.ID)
		if n.Type != n.ID {
			label += "<br/>" + quoteMermaid(n.Type)
		}
		fmt.Fprintf(&b, "  n%d[\"%s\"]\n", i, label)
	}
	for _, c := range p.Connections {
		arrow := "-->"
		if c.Fuse {
			arrow = "==>"
		}
		if c.Port != "" {
			arrow += `|"` + quoteMermaid(c.Port) + `"|`
		}
		fmt.Fprintf(&b, "  n%d %s n%d\n", number[c.From], arrow, number[c.To])
	}
	return b.String()
}

func quoteMermaid(text string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "\n", " ").Replace(text)
}
