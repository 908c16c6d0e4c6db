package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func newNodes(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "nodes [PIPELINE|FILE.py]",
		Short: "List the nodes of a pipeline or of a Python file, or the built-in ones",
		Long: `List the nodes of a pipeline or of a Python file: id, type, signature, and the first
line of the docstring. With --output json, each param, input and output has the JSON
Schema of its annotation. The code is imported in the environment of the pipeline; for a
Python file, in that of the pipeline in the same folder, if there is one. Without an
argument, list the built-in node types, which need no code.`,
		Example: `  gophersnake nodes
  gophersnake nodes speech
  gophersnake nodes nodes.py
  gophersnake nodes pipeline.yaml --output json`,
		Args: program.ArgumentCount(0, 1, ""),
		RunE: func(c *cobra.Command, args []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			a.JSONErrors = format == "json"
			if len(args) == 0 {
				return a.printNodes(listed(runner.DescribeBuiltins()), format)
			}
			nodes, err := a.listNodes(c.Context(), args[0])
			if len(nodes) > 0 { // also if there was an error in other nodes
				if printing := a.printNodes(nodes, format); printing != nil {
					return printing
				}
			}
			return err
		},
	}
	program.AddOutputFlag(c, &format)
	return c
}

// listedNode is a node and its id in the pipeline. The id of a node of a Python file is
// empty.
type listedNode struct {
	ID string `json:"id,omitempty"`
	ipc.Description
}

// listNodes returns the nodes of a pipeline or a Python file. If some nodes cannot be
// described, it returns an error and the others.
func (a *app) listNodes(ctx context.Context, name string) ([]listedNode, error) {
	if filepath.Ext(name) == ".py" {
		return a.listFile(ctx, name)
	}
	p, err := a.Load(name)
	if err != nil {
		return nil, err
	}
	descriptions, _, err := a.Describe(ctx, p)
	var nodes []listedNode
	for i, d := range descriptions {
		if d.Name != "" { // empty for a node that cannot be described
			nodes = append(nodes, listedNode{p.Nodes[i].ID, d})
		}
	}
	return nodes, err
}

// listFile describes the nodes of a Python file in the environment of the pipeline in the
// same folder.
func (a *app) listFile(ctx context.Context, file string) ([]listedNode, error) {
	p, err := runner.Load(filepath.Dir(file))
	if err != nil {
		p = &manifest.Pipeline{Base: filepath.Dir(file)}
	}
	d := a.NewDisplay(nil, 0)
	defer d.Close()
	descriptions, err := runner.DescribeFile(ctx, file, p, a.Options(runner.WithBuildProgress(d.BuildProgress))...)
	nodes := listed(descriptions)
	if err == nil && len(nodes) == 0 {
		err = runner.NewError(runner.KindManifest, "there are no nodes in "+file).
			WithHint("put @node (from gophersnake import node) on a function or a class")
	}
	return nodes, failure.Cause(ctx, err)
}

// listed returns nodes that are in no pipeline.
func listed(descriptions []ipc.Description) []listedNode {
	nodes := make([]listedNode, len(descriptions))
	for i, description := range descriptions {
		nodes[i] = listedNode{Description: description}
	}
	return nodes
}

// printNodes prints nodes as JSON or as a table, or as a list if the table is wider than
// the terminal.
func (a *app) printNodes(nodes []listedNode, format string) error {
	if format == "json" {
		return output.PrintJSON(a.Out, nodes)
	}
	rows := [][]string{{"NODE", "TYPE", "SIGNATURE", "DESCRIPTION"}}
	for _, n := range nodes {
		rows = append(rows, []string{cmp.Or(n.ID, "-"), n.Name, signature(n.Description), firstLine(n.Doc)})
	}
	if nodes[0].ID == "" {
		for i := range rows {
			rows[i] = rows[i][1:]
		}
	}
	text, width := terminal.Table(rows, a.Style)
	if limit := terminal.Width(a.Out); limit > 0 && width > limit {
		text = a.formatList(nodes)
	}
	_, err := fmt.Fprint(a.Out, text)
	return err
}

func (a *app) formatList(nodes []listedNode) string {
	var b strings.Builder
	for i, n := range nodes {
		if i > 0 {
			b.WriteString("\n")
		}
		if n.ID != "" && n.ID != n.Name {
			b.WriteString(a.Style.Cyan(n.ID) + "  ")
		}
		b.WriteString(a.Style.Bold(runner.PrintableLine(n.Name)) + runner.PrintableLine(signature(n.Description)) + "\n")
		if line := runner.PrintableLine(firstLine(n.Doc)); line != "" {
			b.WriteString("  " + line + "\n")
		}
	}
	return b.String()
}

// signature returns the parameters and the result of a node in Python's syntax. A module or
// an executable has no names for them.
func signature(d ipc.Description) string {
	if d.Kind == "wasm" || d.Kind == "command" {
		return "(input)"
	}
	var parts []string
	for _, p := range slices.Concat(d.Inputs, d.Params) {
		text := p.Name
		if p.Annotation != "" {
			text += ": " + p.Annotation
		}
		if p.Default != nil {
			if p.Annotation != "" {
				text += " = " + *p.Default
			} else {
				text += "=" + *p.Default
			}
		}
		parts = append(parts, text)
	}
	text := "(" + strings.Join(parts, ", ") + ")"
	if d.Returns != "" {
		text += " -> " + d.Returns
	}
	return text
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
