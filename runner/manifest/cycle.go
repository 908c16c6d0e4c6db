package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// checkCycles tells of cycles: of one where several share nodes. A node connected
// to itself has been told of.
func (p *Pipeline) checkCycles(r *report) {
	g := p.Graph()
	for _, cycle := range g.cycles() {
		ids, places := make([]string, len(cycle)), make([]string, len(cycle))
		for i, c := range cycle {
			ids[i] = p.Connections[c].From
			places[i] = r.describe(connectionPath(c))
		}
		ids = append(ids, ids[0])
		r.at(connectionPath(cycle[len(cycle)-1]), "closes a cycle: %s (%s)",
			strings.Join(abridge(ids), " → "), strings.Join(abridge(places), ", "))
	}
}

// abridge leaves out the middle of a long list.
func abridge(words []string) []string {
	const ends = 6
	if len(words) <= 2*ends {
		return words
	}
	middle := fmt.Sprintf("… %d more …", len(words)-2*ends)
	return slices.Concat(words[:ends], []string{middle}, words[len(words)-ends:])
}

// cycles returns cycles as the connections that make them up, beginning at the
// cycle's first node in the manifest. No two of them share a node: who mends one
// will see the next.
func (g *Graph) cycles() [][]int {
	const (
		unseen = -1
		left   = -2
	)
	depth := make([]int, len(g.nodes)) // on the path, or one of the above
	for i := range depth {
		depth[i] = unseen
	}
	// step is a node on the path: its next output to follow, the connection that
	// led here, and how deep the last node is that a cycle has been found with.
	type step struct{ node, next, via, found int }
	var found [][]int
	// The search goes depth first, with a stack of its own for long chains.
	for start := range g.nodes {
		if depth[start] != unseen {
			continue
		}
		depth[start] = 0
		path := []step{{node: start, via: -1, found: -1}}
		for len(path) > 0 {
			top := &path[len(path)-1]
			if top.next == len(g.outputs[top.node]) {
				depth[top.node] = left
				path = path[:len(path)-1]
				continue
			}
			via := g.outputs[top.node][top.next]
			top.next++
			to := g.place[g.pipeline.Connections[via].To]
			switch {
			case to == top.node || depth[to] == left:
			case depth[to] == unseen:
				depth[to] = len(path)
				path = append(path, step{node: to, via: via, found: top.found})
			case depth[to] > top.found:
				cycle := []int{via}
				for i := depth[to]; i < len(path); i++ {
					path[i].found = i
					if i > depth[to] {
						cycle = append(cycle, path[i].via)
					}
				}
				found = append(found, g.turn(cycle))
			}
		}
	}
	return found
}

// turn turns a cycle so that it begins at the first of its nodes.
func (g *Graph) turn(cycle []int) []int {
	first := 0
	for i, c := range cycle {
		if g.place[g.pipeline.Connections[c].From] < g.place[g.pipeline.Connections[cycle[first]].From] {
			first = i
		}
	}
	return slices.Concat(cycle[first:], cycle[:first])
}
