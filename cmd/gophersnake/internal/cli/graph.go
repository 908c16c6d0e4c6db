package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

func newGraph(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "graph PIPELINE",
		Short: "Draw a pipeline",
		Long: `Draw a pipeline as text, or for Graphviz (dot) or Mermaid. Nothing is run, and no
Python is needed.`,
		Example: `  gophersnake graph speech
  gophersnake graph pipeline.yaml --format dot | dot -Tsvg > pipeline.svg
  gophersnake graph pipeline.yaml --format mermaid`,
		Args: needs(1, 1, "the PIPELINE"),
		RunE: func(_ *cobra.Command, args []string) error {
			draw, ok := map[string]func(*manifest.Pipeline) string{
				"text": a.graphText, "dot": graphDot, "mermaid": graphMermaid,
			}[format]
			if !ok {
				return outputFormat("format", format, "text", "dot", "mermaid")
			}
			p, err := a.load(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.out, draw(p))
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, dot or mermaid")
	return c
}

func graphDot(p *manifest.Pipeline) string {
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
		if c.Port != "" {
			fmt.Fprintf(&b, " [label=%s]", quoteDot(c.Port))
		}
		b.WriteString("\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func quoteDot(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(text) + `"`
}

func graphMermaid(p *manifest.Pipeline) string {
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
