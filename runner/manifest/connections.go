package manifest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// checkConnections checks the connections and the cycles they form. nodes are the
// indexes of the nodes by id.
func (p *Pipeline) checkConnections(r *report, nodes map[string]int) {
	ids := slices.SortedFunc(maps.Keys(nodes), func(a, b string) int { return nodes[a] - nodes[b] })
	first, ported := p.distinct(nodes)
	ports := make(map[[2]string]int)
	for i, c := range p.Connections {
		path := connectionPath(i)
		checkEnd(r, path+".from", c.From, nodes, ids)
		checkEnd(r, path+".to", c.To, nodes, ids)
		if j := first[c.edge()]; j != i {
			r.problem(path, "duplicates %s", r.describePath(connectionPath(j)))
			continue
		}
		if c.From == c.To && c.From != "" {
			r.problem(path, "connects %q to itself", c.From)
		}
		to, known := nodes[c.To]
		switch {
		case !known:
		case c.Port == "" && ported[c.To] && isNode(nodes, c.From):
			r.problem(path+".to", "other inputs of %q have a port, so each needs one; write %s.NAME, with NAME the keyword argument that receives the value",
				c.To, c.To)
		case c.Port == "":
		case !portText.MatchString(c.Port):
			r.problem(path+".to", "the port %q is not a valid Python argument name", shorten(c.Port))
		case p.Nodes[to].hasParam(c.Port):
			r.problem(path+".to", "the port %q of %q is also one of its params", c.Port, c.To)
		default:
			port := [2]string{c.To, c.Port}
			if j, ok := ports[port]; ok {
				r.problem(path+".to", "the port %q of %q is already used by %s", c.Port, c.To, r.describePath(connectionPath(j)))
			}
			ports[port] = i
		}
	}
	p.checkCycles(r)
	p.checkFusion(r, nodes)
}

// checkFusion checks the connections that fuse nodes: one worker can run both nodes, and the value
// goes nowhere else.
func (p *Pipeline) checkFusion(r *report, nodes map[string]int) {
	if !slices.ContainsFunc(p.Connections, func(c Connection) bool { return c.Fuse }) {
		return
	}
	g := p.Graph()
	for i, c := range p.Connections {
		if !c.Fuse || !isNode(nodes, c.From) || !isNode(nodes, c.To) {
			continue
		}
		if why := g.whyNotFused(c); why != "" {
			r.problem(connectionPath(i)+".fuse", "%s", why)
		}
	}
	for _, chain := range g.Chains() {
		if len(chain) > ipc.MaxMembers {
			r.problem("connections", "fuse %d nodes in a row, from %q to %q; one worker runs at most %d",
				len(chain), chain[0], chain[len(chain)-1], ipc.MaxMembers)
		}
	}
}

// whyNotFused returns why a connection cannot fuse its nodes, or "".
func (g *Graph) whyNotFused(c Connection) string {
	from, to := &g.nodes[g.index[c.From]], &g.nodes[g.index[c.To]]
	switch {
	case len(g.Outputs(c.From)) > 1:
		return fmt.Sprintf("the value of %q goes to other nodes as well, so that it cannot be handed over in a worker", c.From)
	case from.Output:
		return fmt.Sprintf("the value of %q is part of the result (is_output_node), so that it cannot be handed over in a worker", c.From)
	case len(g.Inputs(c.To)) > 1:
		return fmt.Sprintf("%q has other inputs as well, so that it cannot run in the worker of %q", c.To, c.From)
	}
	for _, n := range []*Node{from, to} {
		switch {
		case n.Wasm != nil || n.Command != nil:
			return fmt.Sprintf("%q is not written in Python, and only Python nodes are fused", n.ID)
		case n.Host != nil:
			return fmt.Sprintf("%q runs on another machine (host)", n.ID)
		case n.Workers.Threads > 1:
			return fmt.Sprintf("%q runs in several threads (workers.threads)", n.ID)
		}
	}
	if field := from.otherWorker(to); field != "" {
		return fmt.Sprintf("%q and %q differ in %s; one worker runs both, so that it must be the same", c.From, c.To, field)
	}
	return ""
}

// otherWorker returns a field in which two nodes differ so that they cannot have the same worker,
// or "".
func (n *Node) otherWorker(m *Node) string {
	switch {
	case n.Interpreter != m.Interpreter:
		return "interpreter"
	case !slices.Equal(n.Requirements, m.Requirements):
		return "requirements"
	case n.Workers != m.Workers:
		return "workers"
	case n.Limits != m.Limits:
		return "limits"
	case !maps.Equal(n.Env, m.Env) || !maps.Equal(n.dockerEnv, m.dockerEnv):
		return "env"
	case !slices.Equal(n.PassEnv, m.PassEnv):
		return "pass_env"
	case !reflect.DeepEqual(n.Isolation, m.Isolation):
		return "isolation"
	case !reflect.DeepEqual(n.Container, m.Container):
		return "container"
	}
	return ""
}

// distinct returns the index of the first of each set of equal connections, and the nodes
// with an input that has a port.
func (p *Pipeline) distinct(nodes map[string]int) (first map[Connection]int, ported map[string]bool) {
	first = make(map[Connection]int, len(p.Connections))
	ported = make(map[string]bool)
	for i, c := range p.Connections {
		if _, ok := first[c.edge()]; !ok {
			first[c.edge()] = i
		}
		if portText.MatchString(c.Port) && isNode(nodes, c.From) {
			ported[c.To] = true
		}
	}
	return first, ported
}

func isNode(nodes map[string]int, id string) bool {
	_, ok := nodes[id]
	return ok
}

// edge returns the connection without its position, and without how it is carried.
func (c Connection) edge() Connection {
	c.Position, c.Fuse = Position{}, false
	return c
}

func (n *Node) hasParam(name string) bool {
	_, ok := n.Params[name]
	return ok
}

// checkEnd checks that an end of a connection is a node.
func checkEnd(r *report, path, id string, nodes map[string]int, ids []string) {
	if id == "" {
		r.problem(path, "is required")
		return
	}
	if _, ok := nodes[id]; ok {
		return
	}
	node, _, dotted := strings.Cut(id, ".")
	if _, ok := nodes[node]; ok && dotted && strings.HasSuffix(path, ".from") {
		r.problem(path, "%q names a port, but only the \"to\" of a connection can; write %s", shorten(id), node)
		return
	}
	all := "; the nodes are " + strings.Join(ids, ", ")
	if len(ids) > 12 {
		all = ""
	}
	r.unknownName(path, id, ids, "there is no node %q", all)
}

// checkCycles reports the cycles, but not a node that is connected to itself, which
// checkConnections reports.
func (p *Pipeline) checkCycles(r *report) {
	for _, cycle := range p.Graph().cycles() {
		ids, paths := make([]string, len(cycle)), make([]string, len(cycle))
		for i, c := range cycle {
			ids[i] = p.Connections[c].From
			paths[i] = r.describePath(connectionPath(c))
		}
		ids = append(ids, ids[0])
		r.problem(connectionPath(cycle[len(cycle)-1]), "closes a cycle: %s (%s)",
			strings.Join(abridge(ids), " → "), strings.Join(abridge(paths), ", "))
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

// cycles returns cycles as lists of connections, each of which begins at the cycle's
// first node in the manifest. It finds at least one if there are any. No two of them
// share a node: overlapping cycles are found after this one is broken.
//
// The search is depth first, with its own stack, because a chain of nodes may be long.
func (g *Graph) cycles() [][]int {
	const (
		unseen = -1
		done   = -2
	)
	depth := make([]int, len(g.nodes)) // index on the path, or one of the above
	for i := range depth {
		depth[i] = unseen
	}
	// A step is a node on the path, with its next output to follow, the connection
	// that led to it, and the index on the path of the last node that belongs to a
	// cycle already found.
	type step struct{ node, next, via, found int }
	var found [][]int
	for start := range g.nodes {
		if depth[start] != unseen {
			continue
		}
		depth[start] = 0
		path := []step{{node: start, via: -1, found: -1}}
		for len(path) > 0 {
			top := &path[len(path)-1]
			if top.next == len(g.outputs[top.node]) {
				depth[top.node] = done
				path = path[:len(path)-1]
				continue
			}
			via := g.outputs[top.node][top.next]
			top.next++
			to := g.index[g.pipeline.Connections[via].To]
			switch {
			case to == top.node || depth[to] == done:
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
				found = append(found, g.rotate(cycle))
			}
		}
	}
	return found
}

// rotate returns the cycle from the first of its nodes on.
func (g *Graph) rotate(cycle []int) []int {
	first := 0
	for i, c := range cycle {
		if g.index[g.pipeline.Connections[c].From] < g.index[g.pipeline.Connections[cycle[first]].From] {
			first = i
		}
	}
	return slices.Concat(cycle[first:], cycle[:first])
}
