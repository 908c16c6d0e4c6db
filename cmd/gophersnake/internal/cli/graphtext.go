package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

// drawing draws a pipeline from its sources down: a row for each node, and a
// column for each value that later nodes still take.
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
	// columns holds the node whose value goes down each column, empty where none does.
	columns []string
	// takers counts the nodes that still take each node's value.
	takers map[string]int
	rows   []drawnRow
}

// drawnRow is one row: the graph, and what stands beside it.
type drawnRow struct {
	graph string
	node  *manifest.Node
}

func (a *app) graphText(p *manifest.Pipeline) string {
	d := &drawing{pipeline: p, takers: make(map[string]int)}
	g := p.Graph()
	inputs := make(map[string][]string, len(p.Nodes)) // each source once
	for _, n := range p.Nodes {
		for _, c := range g.Inputs(n.ID) {
			if !slices.Contains(inputs[n.ID], c.From) {
				inputs[n.ID] = append(inputs[n.ID], c.From)
				d.takers[c.From]++
			}
		}
	}
	for _, id := range p.Order() {
		d.draw(id, inputs[id])
	}
	return d.text(a.outStyle)
}

// draw adds a node: it takes the place of an input that nobody else takes any
// more, or a new column.
func (d *drawing) draw(id string, inputs []string) {
	before := slices.Clone(d.columns)
	var joined []int // the columns that lead to the node
	place := -1
	for i, from := range d.columns {
		if from == "" || !slices.Contains(inputs, from) {
			continue
		}
		joined = append(joined, i)
		if d.takers[from]--; d.takers[from] == 0 {
			d.columns[i] = ""
			if place < 0 {
				place = i
			}
		}
	}
	if place < 0 {
		place = d.freeColumn(before)
	}
	for len(d.columns) <= place {
		d.columns = append(d.columns, "")
	}
	d.columns[place] = id
	if len(joined) > 0 {
		d.rows = append(d.rows, drawnRow{graph: d.bend(before, joined, place)})
	}
	var row strings.Builder
	for i, from := range d.columns {
		switch {
		case i == place:
			row.WriteString("● ")
		case from != "":
			row.WriteString("│ ")
		default:
			row.WriteString("  ")
		}
	}
	d.rows = append(d.rows, drawnRow{strings.TrimRight(row.String(), " "), d.pipeline.Node(id)})
	if d.takers[id] == 0 {
		d.columns[place] = ""
	}
}

// freeColumn is the first column that was empty before and is so now.
func (d *drawing) freeColumn(before []string) int {
	for i, from := range before {
		if from == "" {
			return i
		}
	}
	return len(before)
}

// bends are the signs of lines that lead up, down, left and right.
var bends = map[[4]bool]string{
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

// bend is the row above a node, in which its inputs come together. A line that
// only passes by goes over the horizontal one.
func (d *drawing) bend(before []string, joined []int, place int) string {
	left, right := min(slices.Min(joined), place), max(slices.Max(joined), place)
	var row strings.Builder
	for i := range d.columns {
		was := i < len(before) && before[i] != ""
		is := d.columns[i] != ""
		sign := " "
		switch involved := slices.Contains(joined, i) || i == place; {
		case involved:
			sign = bends[[4]bool{was && slices.Contains(joined, i), is, i > left, i < right}]
		case was && is:
			sign = "│"
		case i > left && i < right:
			sign = "─"
		}
		row.WriteString(sign)
		if i >= left && i < right {
			row.WriteString("─")
		} else {
			row.WriteString(" ")
		}
	}
	return strings.TrimRight(row.String(), " ")
}

// text puts the nodes' names and what else is known of them beside the graph.
func (d *drawing) text(st style) string {
	graph, ids, types := 0, 0, 0
	for _, row := range d.rows {
		graph = max(graph, len([]rune(row.graph)))
		if row.node != nil {
			ids = max(ids, len([]rune(row.node.ID)))
			types = max(types, len([]rune(typeBeside(row.node))))
		}
	}
	var b strings.Builder
	for _, row := range d.rows {
		if row.node == nil {
			b.WriteString(st.dim(row.graph) + "\n")
			continue
		}
		drawn := fmt.Sprintf("%-*s", graph, row.graph)
		id, kind := fmt.Sprintf("%-*s", ids, row.node.ID), fmt.Sprintf("%-*s", types, typeBeside(row.node))
		line := st.cyan(drawn) + "  " + st.bold(id) + "  " + kind + "  " + st.dim(d.remarks(row.node))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// typeBeside is a node's type, where its id does not say the same.
func typeBeside(n *manifest.Node) string {
	if n.Type == n.ID {
		return ""
	}
	return n.Type
}

// remarks are what a node's manifest says beyond the usual.
func (d *drawing) remarks(n *manifest.Node) string {
	var remarks []string
	for _, c := range d.pipeline.Connections {
		if c.To == n.ID && c.Port != "" {
			remarks = append(remarks, c.Port+" ← "+c.From)
		}
	}
	if n.Python != "" {
		remarks = append(remarks, n.Python)
	}
	switch w := n.Workers; {
	case w.Min != w.Max:
		remarks = append(remarks, fmt.Sprintf("%d to %d workers", w.Min, w.Max))
	case w.Max > 1:
		remarks = append(remarks, plural(w.Max, "worker"))
	}
	return strings.Join(remarks, ", ")
}
