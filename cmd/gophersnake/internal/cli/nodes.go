package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func newNodes(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "nodes PIPELINE|FILE.py",
		Short: "List the nodes of a pipeline or of a Python file",
		Long: `List the nodes of a pipeline or of a Python file: id, type, signature and what the
docstring says first. The code is imported in the pipeline's environment; of a
Python file, in that of the pipeline in the same folder, where there is one.`,
		Example: `  gophersnake nodes speech
  gophersnake nodes nodes.py
  gophersnake nodes pipeline.yaml --output json`,
		Args: needs(1, 1, "the PIPELINE or FILE.py"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputFormat("output", format, "text", "json"); err != nil {
				return err
			}
			a.jsonErrors = format == "json"
			list, err := a.listNodes(c.Context(), args[0])
			if len(list) > 0 { // where some nodes are wrong, the others are shown
				print := a.printNodes
				if format == "json" {
					print = func(list []listedNode) error { return printJSON(a.out, list) }
				}
				if failure := print(list); failure != nil {
					return failure
				}
			}
			return err
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// listedNode is a node with its id in the pipeline, which is empty for one of a
// Python file.
type listedNode struct {
	ID string `json:"id,omitempty"`
	ipc.Description
}

func (a *app) listNodes(ctx context.Context, name string) ([]listedNode, error) {
	if filepath.Ext(name) == ".py" {
		return a.listFile(ctx, name)
	}
	p, err := a.load(name)
	if err != nil {
		return nil, err
	}
	found, err := a.describe(ctx, p)
	var list []listedNode
	for i, d := range found {
		if d.Name != "" { // one that could not be described has none
			list = append(list, listedNode{p.Nodes[i].ID, d})
		}
	}
	return list, err
}

// listFile describes a Python file in the environment of the pipeline beside it.
func (a *app) listFile(ctx context.Context, file string) ([]listedNode, error) {
	p, err := runner.Load(filepath.Dir(file))
	if err != nil {
		p = &manifest.Pipeline{Base: filepath.Dir(file)}
	}
	d := a.newDisplay(nil, 0)
	defer d.close()
	found, err := runner.DescribeFile(ctx, file, p, a.options(runner.WithBuildProgress(d.building))...)
	list := make([]listedNode, len(found))
	for i := range found {
		list[i] = listedNode{Description: found[i]}
	}
	if err == nil && len(list) == 0 {
		err = runner.NewError(runner.KindManifest, "there are no nodes in "+file).
			WithHint("put @node (from gophersnake import node) on a function or a class")
	}
	return list, whyEnded(ctx, err)
}

// printNodes prints a table, or where that is wider than the terminal, a list.
func (a *app) printNodes(list []listedNode) error {
	rows := [][]string{{"NODE", "TYPE", "SIGNATURE", "DESCRIPTION"}}
	for _, n := range list {
		rows = append(rows, []string{orDefault(n.ID, "-"), n.Name, signature(n.Description), firstLine(n.Doc)})
	}
	if list[0].ID == "" {
		for i := range rows {
			rows[i] = rows[i][1:]
		}
	}
	text, width := table(rows, a.outStyle)
	if most := terminalWidth(a.out); most > 0 && width > most {
		text = a.nodeList(list)
	}
	_, err := fmt.Fprint(a.out, text)
	return err
}

func (a *app) nodeList(list []listedNode) string {
	var b strings.Builder
	for i, n := range list {
		if i > 0 {
			b.WriteString("\n")
		}
		if n.ID != "" && n.ID != n.Name {
			b.WriteString(a.outStyle.cyan(n.ID) + "  ")
		}
		b.WriteString(a.outStyle.bold(n.Name) + signature(n.Description) + "\n")
		if line := firstLine(n.Doc); line != "" {
			b.WriteString("  " + line + "\n")
		}
	}
	return b.String()
}

// signature is how Python would write what a node takes and returns.
func signature(d ipc.Description) string {
	var parts []string
	for _, p := range append(append([]ipc.Parameter{}, d.Inputs...), d.Params...) {
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

// table aligns rows in columns, the first row being their heads, and returns its
// width.
func table(rows [][]string, st style) (text string, width int) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, w := range widths {
		width += w + 2
	}
	var b strings.Builder
	for r, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		plain := strings.TrimRight(line.String(), " ")
		if r == 0 {
			plain = st.dim(plain)
		}
		b.WriteString(plain + "\n")
	}
	return b.String(), width - 2
}

// terminalWidth is 0 where the stream is no terminal.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}
