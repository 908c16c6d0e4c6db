// Package graph draws pipelines as text, for Graphviz and for Mermaid.
package graph

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Text draws a pipeline as text, from its sources down.
func Text(p *manifest.Pipeline, style terminal.Style) string {
	d := &drawing{pipeline: p, consumers: make(map[string]int)}
	g := p.Graph()
	inputs := make(map[string][]string, len(p.Nodes)) // each source once
	for _, n := range p.Nodes {
		for _, c := range g.Inputs(n.ID) {
			if !slices.Contains(inputs[n.ID], c.From) {
				inputs[n.ID] = append(inputs[n.ID], c.From)
				d.consumers[c.From]++
			}
		}
	}
	for _, id := range p.Order() {
		d.draw(id, inputs[id])
	}
	return d.text(style)
}

// drawing has a row for each node, and a column for each value that nodes further down
// still consume:
//
//	● source
//	├─╮
//	│ ● one
//	│ │
//	● │ ten
//	├─╯
//	● mix
type drawing struct {
	pipeline *manifest.Pipeline
	// columns holds, for each column, the node that produces the value in it. It is
	// empty for a free column.
	columns []string
	// consumers counts the nodes that still consume each node's value.
	consumers map[string]int
	rows      []row
}

// row is one row: a part of the graph and, unless it only joins lines, a node.
type row struct {
	graph string
	node  *manifest.Node
}

// draw adds a node. It takes the column of an input that no other node consumes any more,
// or else a free column.
func (d *drawing) draw(id string, inputs []string) {
	before := slices.Clone(d.columns)
	var joined []int // the columns that lead to the node
	column := -1
	for i, from := range d.columns {
		if from == "" || !slices.Contains(inputs, from) {
			continue
		}
		joined = append(joined, i)
		if d.consumers[from]--; d.consumers[from] == 0 {
			d.columns[i] = ""
			if column < 0 {
				column = i
			}
		}
	}
	if column < 0 {
		column = freeColumn(before)
	}
	for len(d.columns) <= column {
		d.columns = append(d.columns, "")
	}
	d.columns[column] = id
	if len(joined) > 0 {
		d.rows = append(d.rows, row{graph: d.joinRow(before, joined, column)})
	}
	d.rows = append(d.rows, row{d.nodeRow(column), d.pipeline.Node(id)})
	if d.consumers[id] == 0 {
		d.columns[column] = ""
	}
}

// freeColumn returns the first column that was free before the node was drawn.
func freeColumn(before []string) int {
	if i := slices.Index(before, ""); i >= 0 {
		return i
	}
	return len(before)
}

// nodeRow returns the graph of the row of a node.
func (d *drawing) nodeRow(column int) string {
	var b strings.Builder
	for i, from := range d.columns {
		switch {
		case i == column:
			b.WriteString("● ")
		case from != "":
			b.WriteString("│ ")
		default:
			b.WriteString("  ")
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// joints are characters with lines that lead up, down, left or right, in this order.
var joints = map[[4]bool]string{
	{true, true, false, false}:  "│",
	{false, false, true, true}:  "─",
	{false, true, false, true}:  "╭",
	{false, true, true, false}:  "╮",
	{true, false, false, true}:  "╰",
	{true, false, true, false}:  "╯",
	{true, true, false, true}:   "├",
	{true, true, true, false}:   "┤",
	{false, true, true, true}:   "┬",
	{true, false, true, true}:   "┴",
	{true, true, true, true}:    "┼",
	{false, true, false, false}: "│",
	{true, false, false, false}: "│",
}

// joinRow returns the graph of the row above a node, which joins the lines of its inputs.
// Another vertical line crosses over the horizontal one.
func (d *drawing) joinRow(before []string, joined []int, column int) string {
	left, right := min(slices.Min(joined), column), max(slices.Max(joined), column)
	var b strings.Builder
	for i := range d.columns {
		used := i < len(before) && before[i] != ""
		uses := d.columns[i] != ""
		sign := " "
		switch {
		case slices.Contains(joined, i) || i == column:
			sign = joints[[4]bool{used && slices.Contains(joined, i), uses, i > left, i < right}]
		case used && uses:
			sign = "│"
		case i > left && i < right:
			sign = "─"
		}
		b.WriteString(sign)
		if i >= left && i < right {
			b.WriteString("─")
		} else {
			b.WriteString(" ")
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// text returns the graph with the names and remarks of the nodes beside it.
func (d *drawing) text(style terminal.Style) string {
	graph, ids, types := 0, 0, 0
	for _, row := range d.rows {
		graph = max(graph, len([]rune(row.graph)))
		if row.node != nil {
			ids = max(ids, len([]rune(row.node.ID)))
			types = max(types, len([]rune(typeColumn(row.node))))
		}
	}
	var b strings.Builder
	for _, row := range d.rows {
		if row.node == nil {
			b.WriteString(style.Dim(row.graph) + "\n")
			continue
		}
		drawn := fmt.Sprintf("%-*s", graph, row.graph)
		id, kind := fmt.Sprintf("%-*s", ids, row.node.ID), fmt.Sprintf("%-*s", types, typeColumn(row.node))
		line := style.Cyan(drawn) + "  " + style.Bold(id) + "  " + kind + "  " + style.Dim(d.remarks(row.node))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// typeColumn returns the type of a node, or nothing if the type is the same as the id.
func typeColumn(n *manifest.Node) string {
	if n.Type == n.ID {
		return ""
	}
	return n.Type
}

// remarks lists the ports, the node that it is fused with, the code and the number of workers of a
// node if the manifest sets them.
func (d *drawing) remarks(n *manifest.Node) string {
	var remarks []string
	for _, c := range d.pipeline.Connections {
		if c.To == n.ID && c.Port != "" {
			remarks = append(remarks, c.Port+" ← "+c.From)
		}
	}
	for _, c := range d.pipeline.Connections {
		if c.To == n.ID && c.Fuse {
			remarks = append(remarks, "fused with "+c.From)
		}
	}
	if n.Python != "" {
		remarks = append(remarks, n.Python)
	}
	switch w := n.Workers; {
	case w.Min != w.Max:
		remarks = append(remarks, fmt.Sprintf("%d to %d workers", w.Min, w.Max))
	case w.Max > 1:
		remarks = append(remarks, terminal.Plural(w.Max, "worker"))
	}
	return strings.Join(remarks, ", ")
}
