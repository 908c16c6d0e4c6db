// Package generate writes Go code that calls a pipeline: a client with a method for the
// pipeline and for each node, and the types of their inputs and results.
package generate

import (
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// client is what the generated file contains.
type client struct {
	pipeline *manifest.Pipeline
	inputs   []*typ // of the nodes that take the pipeline's input; none if no node takes one
	result   *typ   // of a run
	items    []*typ // that the sinks return in a stream
	gathers  bool   // a run returns lists
	methods  []method
	classes  []*class
	taken    namespace
}

// method calls one node.
type method struct {
	name, id string
	doc      string
	input    *typ // nil if the node takes none
	output   *typ
}

// Go returns the Go file for a pipeline whose nodes have the given descriptions, in the
// order of the manifest. It depends on nothing else, so that the same pipeline always
// gives the same file.
func Go(p *manifest.Pipeline, all []ipc.Description, pkg string) ([]byte, error) {
	c := &client{pipeline: p, taken: namespace{"Client": true, "New": true}}
	c.read(all)
	c.classes = classify(c.types())
	nameAll(c.classes, c.taken)
	return c.source(pkg)
}

// read reads the types of the pipeline and its nodes.
func (c *client) read(all []ipc.Description) {
	names := namespace{"Run": true, "Stream": true}
	c.gathers = slices.ContainsFunc(all, isMany)
	results := &named{want: "Result", about: "is what the pipeline returns: the value of each sink."}
	fieldNames := namespace{}
	for i, d := range all {
		id := c.pipeline.Nodes[i].ID
		m := method{id: id, doc: d.Doc, name: exported(id)}
		if names[m.name] {
			m.name += "Node"
		}
		m.name = names.add(m.name)
		ports := c.ports(id)
		m.input = input(d, ports, m.name)
		item := read(d.Output, false, m.name+"Output")
		m.output = item
		if isMany(d) {
			m.output = of("[]", item)
		}
		if !c.hasInputs(id) && m.input != nil {
			c.inputs = append(c.inputs, m.input)
		}
		if c.isSink(id) {
			result := item
			if c.gathers {
				result = of("[]", item)
			}
			c.items = append(c.items, item)
			results.fields = append(results.fields, field{key: id, name: fieldNames.add(exported(id)), typ: result})
		}
		c.methods = append(c.methods, m)
	}
	c.result = &typ{named: results}
	if len(results.fields) == 1 {
		c.result = results.fields[0].typ
	}
}

func isMany(d ipc.Description) bool { return d.Many || d.Stateful }

// hasInputs reports whether connections lead to a node.
func (c *client) hasInputs(id string) bool {
	return slices.ContainsFunc(c.pipeline.Connections, func(e manifest.Connection) bool { return e.To == id })
}

// isSink reports whether no connection leads from a node.
func (c *client) isSink(id string) bool {
	return !slices.ContainsFunc(c.pipeline.Connections, func(e manifest.Connection) bool { return e.From == id })
}

// ports returns the ports of a node that takes several inputs.
func (c *client) ports(id string) []string {
	var ports []string
	for _, e := range c.pipeline.Connections {
		if e.To == id && e.Port != "" {
			ports = append(ports, e.Port)
		}
	}
	if len(ports) < 2 {
		return nil
	}
	return ports
}

// input returns the type of a node's input: a struct with a field for each port if it has
// several, and nil if it takes none.
func input(d ipc.Description, ports []string, name string) *typ {
	switch {
	case d.Kind == "go" || d.Kind == "wasm" || d.Kind == "command": // none of them says what it takes
		return anyType
	case len(d.Inputs) == 0:
		return nil
	case len(ports) == 0:
		return read(d.Inputs[0].Schema, true, name+"Input")
	}
	n := &named{want: name + "Input", about: "has an input for each port of the node.", sent: true}
	names := namespace{}
	for _, p := range d.Inputs {
		if slices.Contains(ports, p.Name) {
			f := field{key: p.Name, name: names.add(exported(p.Name)), typ: read(p.Schema, true, name+exported(p.Name))}
			n.fields = append(n.fields, f)
		}
	}
	return &typ{named: n}
}

// types returns the types of all inputs and results.
func (c *client) types() []*typ {
	var all []*typ
	for _, m := range c.methods {
		if m.input != nil {
			all = append(all, m.input)
		}
		all = append(all, m.output)
	}
	return append(all, c.result)
}

// common returns the Go syntax of a type that all given ones are, or else any.
func common(types []*typ) string {
	for _, t := range types[1:] {
		if t.text() != types[0].text() {
			return "any"
		}
	}
	return types[0].text()
}
