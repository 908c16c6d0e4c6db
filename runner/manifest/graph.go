package manifest

import (
	"container/heap"
	"slices"
)

// Graph shows how a pipeline's nodes are connected. [Pipeline.Graph] makes it. It is
// safe for concurrent use while the pipeline does not change.
type Graph struct {
	pipeline *Pipeline
	nodes    []Node
	index    map[string]int // of a node in nodes, by id
	// inputs and outputs are, for each node, the indexes of the connections that
	// lead to it and away from it.
	inputs, outputs [][]int
}

// Graph returns the graph of the pipeline's nodes. It leaves out connections from or
// to unknown nodes, which [Pipeline.Validate] reports. Make a new graph after a change
// of the pipeline.
func (p *Pipeline) Graph() *Graph {
	g := &Graph{
		pipeline: p,
		nodes:    p.Nodes,
		index:    make(map[string]int, len(p.Nodes)),
		inputs:   make([][]int, len(p.Nodes)),
		outputs:  make([][]int, len(p.Nodes)),
	}
	for i, n := range p.Nodes {
		if _, ok := g.index[n.ID]; !ok {
			g.index[n.ID] = i
		}
	}
	for i, c := range p.Connections {
		from, okFrom := g.index[c.From]
		to, okTo := g.index[c.To]
		if okFrom && okTo {
			g.outputs[from] = append(g.outputs[from], i)
			g.inputs[to] = append(g.inputs[to], i)
		}
	}
	return g
}

// Order returns the ids of the nodes as [Graph.Order] does.
func (p *Pipeline) Order() []string { return p.Graph().Order() }

// Order returns the ids of the nodes, so that each node follows those that it takes
// its inputs from. Otherwise the nodes keep the manifest's order. Nodes on a cycle, and
// those that depend on one, are missing; a valid pipeline has none.
func (g *Graph) Order() []string {
	missing := make([]int, len(g.nodes)) // inputs that are not in the order yet
	var ready indexHeap
	for i := range g.nodes {
		if missing[i] = len(g.inputs[i]); missing[i] == 0 {
			ready = append(ready, i) // sorted, hence a heap
		}
	}
	order := make([]string, 0, len(g.nodes))
	for len(ready) > 0 {
		i := heap.Pop(&ready).(int)
		order = append(order, g.nodes[i].ID)
		for _, c := range g.outputs[i] {
			to := g.index[g.pipeline.Connections[c].To]
			if missing[to]--; missing[to] == 0 {
				heap.Push(&ready, to)
			}
		}
	}
	return order
}

// Sources returns the ids of the nodes without inputs, in the manifest's order. They
// receive the input of a run.
func (g *Graph) Sources() []string {
	var ids []string
	for i, n := range g.nodes {
		if len(g.inputs[i]) == 0 {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Sinks returns the ids of the nodes whose values are the result of a run, in the manifest's
// order: those without outputs, and those with [Node].Output.
func (g *Graph) Sinks() []string {
	var ids []string
	for i, n := range g.nodes {
		if n.Output || len(g.outputs[i]) == 0 {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Merges reports whether a node takes the values of several nodes one by one: several
// connections lead to it, and none has a port.
func (g *Graph) Merges(id string) bool {
	inputs := g.Inputs(id)
	return len(inputs) > 1 && !slices.ContainsFunc(inputs, func(c Connection) bool { return c.Port != "" })
}

// Inputs returns the connections that lead to a node, in the manifest's order. It
// returns nil for an unknown id.
func (g *Graph) Inputs(id string) []Connection { return g.of(id, g.inputs) }

// Outputs returns the connections that lead away from a node, in the manifest's
// order. It returns nil for an unknown id.
func (g *Graph) Outputs(id string) []Connection { return g.of(id, g.outputs) }

func (g *Graph) of(id string, connections [][]int) []Connection {
	i, ok := g.index[id]
	if !ok {
		return nil
	}
	found := make([]Connection, len(connections[i]))
	for k, c := range connections[i] {
		found[k] = g.pipeline.Connections[c]
	}
	return found
}

// Chains returns the ids of the nodes that [Connection].Fuse fuses, one list for each worker, in
// the order in which the value passes through them. The chains have the manifest's order.
func (g *Graph) Chains() [][]string {
	next, isInner := make(map[string]string), make(map[string]bool)
	for _, c := range g.pipeline.Connections {
		if c.Fuse && c.From != c.To {
			next[c.From], isInner[c.To] = c.To, true
		}
	}
	var chains [][]string
	for _, n := range g.nodes {
		if next[n.ID] == "" || isInner[n.ID] {
			continue
		}
		chain := []string{n.ID}
		for id := next[n.ID]; id != "" && len(chain) < len(g.nodes); id = next[id] {
			chain = append(chain, id)
		}
		chains = append(chains, chain)
	}
	return chains
}

// indexHeap is a heap of indexes of nodes, with the smallest first.
type indexHeap []int

func (h indexHeap) Len() int           { return len(h) }
func (h indexHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h indexHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push appends an index, for [heap.Push].
func (h *indexHeap) Push(i any) { *h = append(*h, i.(int)) }

// Pop removes and returns the last index, for [heap.Pop].
func (h *indexHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
