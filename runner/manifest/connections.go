package manifest

import (
	"maps"
	"slices"
	"strings"
)

// checkConnections looks at the graph. The nodes are given by id.
func (p *Pipeline) checkConnections(r *report, nodes map[string]int) {
	ids := slices.SortedFunc(maps.Keys(nodes), func(a, b string) int { return nodes[a] - nodes[b] })
	first := make(map[Connection]int, len(p.Connections))
	inputs := make(map[string]int, len(nodes)) // how many a node has
	for i, c := range p.Connections {
		if _, ok := first[c.edge()]; ok {
			continue
		}
		first[c.edge()] = i
		if _, ok := nodes[c.From]; ok {
			inputs[c.To]++
		}
	}
	ports := make(map[[2]string]int)
	for i, c := range p.Connections {
		path := connectionPath(i)
		checkEnd(r, path+".from", c.From, nodes, ids)
		checkEnd(r, path+".to", c.To, nodes, ids)
		if j := first[c.edge()]; j != i {
			r.at(path, "is the same as %s", r.describe(connectionPath(j)))
			continue
		}
		if c.From == c.To && c.From != "" {
			r.at(path, "leads from %q to itself", c.From)
		}
		to, known := nodes[c.To]
		switch {
		case !known:
		case c.Port == "" && inputs[c.To] > 1:
			r.at(path+".to", "%q has %d inputs, so each needs a port; write %s.NAME, NAME being the keyword argument that takes the value",
				c.To, inputs[c.To], c.To)
		case c.Port == "":
		case !portText.MatchString(c.Port):
			r.at(path+".to", "the port %q is not a Python argument's name", shorten(c.Port))
		case p.Nodes[to].hasParam(c.Port):
			r.at(path+".to", "the port %q of %q is also one of its params", c.Port, c.To)
		default:
			port := [2]string{c.To, c.Port}
			if j, ok := ports[port]; ok {
				r.at(path+".to", "the port %q of %q is taken by %s already", c.Port, c.To, r.describe(connectionPath(j)))
			}
			ports[port] = i
		}
	}
	p.checkCycles(r)
}

// edge returns the connection without its position.
func (c Connection) edge() Connection {
	c.Position = Position{}
	return c
}

func (n *Node) hasParam(name string) bool {
	_, ok := n.Params[name]
	return ok
}

// checkEnd checks that an end of a connection is a node.
func checkEnd(r *report, path, id string, nodes map[string]int, ids []string) {
	if id == "" {
		r.at(path, "is required")
		return
	}
	if _, ok := nodes[id]; ok {
		return
	}
	node, _, dotted := strings.Cut(id, ".")
	if _, ok := nodes[node]; ok && dotted && strings.HasSuffix(path, ".from") {
		r.at(path, "%q names a port, which only the end of a connection has; write %s", shorten(id), node)
		return
	}
	all := "; the nodes are " + enumerate(ids)
	if len(ids) > 12 {
		all = ""
	}
	r.unknownName(path, id, ids, "there is no node %q", all)
}
