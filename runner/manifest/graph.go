package manifest

import "container/heap"

// Graph answers questions about how a pipeline's nodes are connected. It is a
// view of the pipeline as it was when [Pipeline.Graph] made it.
type Graph struct {
	pipeline *Pipeline
	nodes    []Node
	place    map[string]int // of a node in nodes, by id
	// inputs and outputs hold, for each node, the numbers of the connections
	// that lead to it and away from it.
	inputs, outputs [][]int
}

// Graph returns the graph of the pipeline's nodes. Connections whose ends are not
// nodes are left out, as [Pipeline.Validate] tells of them.
func (p *Pipeline) Graph() *Graph {
	g := &Graph{
		pipeline: p,
		nodes:    p.Nodes,
		place:    make(map[string]int, len(p.Nodes)),
		inputs:   make([][]int, len(p.Nodes)),
		outputs:  make([][]int, len(p.Nodes)),
	}
	for i, n := range p.Nodes {
		if _, ok := g.place[n.ID]; !ok {
			g.place[n.ID] = i
		}
	}
	for i, c := range p.Connections {
		from, okFrom := g.place[c.From]
		to, okTo := g.place[c.To]
		if okFrom && okTo {
			g.outputs[from] = append(g.outputs[from], i)
			g.inputs[to] = append(g.inputs[to], i)
		}
	}
	return g
}

// Order returns the ids of the nodes so that each comes after those it takes its
// inputs from, and otherwise in the manifest's order. Nodes on a cycle, and those
// behind one, are missing; a valid pipeline has none.
func (p *Pipeline) Order() []string { return p.Graph().Order() }

// Order returns the ids of the nodes as [Pipeline.Order] does.
func (g *Graph) Order() []string {
	missing := make([]int, len(g.nodes))
	var ready places
	for i := range g.nodes {
		if missing[i] = len(g.inputs[i]); missing[i] == 0 {
			ready = append(ready, i) // in order, hence a heap
		}
	}
	order := make([]string, 0, len(g.nodes))
	for len(ready) > 0 {
		i := heap.Pop(&ready).(int)
		order = append(order, g.nodes[i].ID)
		for _, c := range g.outputs[i] {
			to := g.place[g.pipeline.Connections[c].To]
			if missing[to]--; missing[to] == 0 {
				heap.Push(&ready, to)
			}
		}
	}
	return order
}

// Sources returns the ids of the nodes without inputs, in the manifest's order.
// They take the input of a run.
func (g *Graph) Sources() []string { return g.without(g.inputs) }

// Sinks returns the ids of the nodes without outputs, in the manifest's order.
// Their values are the result of a run.
func (g *Graph) Sinks() []string { return g.without(g.outputs) }

func (g *Graph) without(connections [][]int) []string {
	var ids []string
	for i, n := range g.nodes {
		if len(connections[i]) == 0 {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Inputs returns the connections that lead to a node, in the manifest's order.
func (g *Graph) Inputs(id string) []Connection { return g.at(id, g.inputs) }

// Outputs returns the connections that lead away from a node, in the manifest's
// order.
func (g *Graph) Outputs(id string) []Connection { return g.at(id, g.outputs) }

func (g *Graph) at(id string, connections [][]int) []Connection {
	i, ok := g.place[id]
	if !ok {
		return nil
	}
	found := make([]Connection, len(connections[i]))
	for k, c := range connections[i] {
		found[k] = g.pipeline.Connections[c]
	}
	return found
}

// places is a heap of places in the manifest: the first node comes first.
type places []int

func (p places) Len() int           { return len(p) }
func (p places) Less(i, j int) bool { return p[i] < p[j] }
func (p places) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *places) Push(i any)        { *p = append(*p, i.(int)) }
func (p *places) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}
