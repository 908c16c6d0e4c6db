// Package flow moves values through the nodes of a pipeline: one input through all
// of them ([Plan.Run]), or a stream of items ([Open]).
//
// The package calls nodes through the interface [Node], and returns their errors as they
// are. Its own errors have no kind; the caller adds one.
package flow

import (
	"cmp"
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
)

// Plan is a pipeline as runs and streams use it: its nodes as steps, ordered so that each
// step follows the steps from which it takes its inputs. A Plan is not changed once it
// is made, so any number of runs and streams may share it.
type Plan struct {
	steps []step
	// sinks are the steps whose values are the result.
	sinks []int
	// isChain means that each step takes the value of the one before as its only input.
	isChain bool
	// joins means that a step takes one item from each of several inputs.
	joins bool
	// encodes means that a source takes its input encoded, and shares that one of them is
	// another process.
	encodes, shares bool
	// arena holds the large buffers of shared inputs, and domain is the one of the first
	// source that takes them. Sources of other domains are sent copies.
	arena  *ipc.Arena
	domain ipc.Domain
	// queueBytes bounds the payloads that a queue of a stream holds, in bytes.
	queueBytes int64
	// ordered means that the result has an ipc.Object in place of each map.
	ordered bool
}

// step is one node with its connections.
type step struct {
	id     string
	first  string // the node that takes the inputs, for messages; see Step.First
	node   Node
	inputs []int // the steps before it; empty for a source
	next   []int // the steps after it
	// isSink means that its values are part of the result.
	isSink bool
	leaves bool // see Step.Leaves
	// merges means that it takes the items of its inputs one by one.
	merges bool
}

// Step describes one node to [NewPlan].
type Step struct {
	// ID is the id of the node, whose values the step has. If the step is a chain of nodes, it is
	// that of the last one, and First is that of the first.
	ID    string
	First string
	Node  Node
	// Inputs are the ids of the steps from which it takes its inputs, one for each
	// connection. It is empty for a source, which takes the input of the run.
	Inputs []string
	// Merges means that the step takes the items of all its inputs one by one, in the order
	// in which they arrive. Only a stream can run it: it may take many items for one.
	Merges bool
	// Output means that its values are part of the result, even if another step takes them.
	Output bool
	// Leaves means that all steps that take its values take a [Left] as well. In a run, the node
	// may return one.
	Leaves bool
	// Encoded means that the node takes its inputs encoded, and Local that it takes them in
	// this process. Otherwise Domain is the domain of the workers that take them.
	Encoded, Local bool
	Domain         ipc.Domain
}

// NewPlan returns the plan of steps. Each step must follow the steps that its Inputs
// name. The arena is for the inputs that [Plan.Run] and [Stream.Send] encode. Each queue
// of a stream holds up to queueBytes of payload.
func NewPlan(steps []Step, arena *ipc.Arena, queueBytes int64) *Plan {
	p := &Plan{steps: make([]step, len(steps)), isChain: true, arena: arena, queueBytes: queueBytes}
	index := make(map[string]int, len(steps))
	for i, s := range steps {
		index[s.ID] = i
		p.steps[i] = step{id: s.ID, first: cmp.Or(s.First, s.ID), node: s.Node, merges: s.Merges, isSink: s.Output, leaves: s.Leaves}
		for _, id := range s.Inputs {
			from := index[id]
			p.steps[i].inputs = append(p.steps[i].inputs, from)
			p.steps[from].next = append(p.steps[from].next, i)
		}
		if s.Encoded && len(s.Inputs) == 0 {
			p.encodes = true
			if !s.Local && !p.shares {
				p.shares, p.domain = true, s.Domain
			}
		}
		p.joins = p.joins || len(s.Inputs) > 1 && !s.Merges
	}
	for i := range p.steps {
		s := &p.steps[i]
		s.isSink = s.isSink || len(s.next) == 0
		if s.isSink {
			p.sinks = append(p.sinks, i)
		}
		follows := i == 0 || len(s.inputs) == 1 && s.inputs[0] == i-1
		p.isChain = p.isChain && follows && len(s.next) <= 1 && (len(s.next) == 0 || !s.isSink)
	}
	return p
}

// Merges reports whether a step takes the items of several inputs one by one, so that only a
// stream can run the plan.
func (p *Plan) Merges() bool {
	return slices.ContainsFunc(p.steps, func(s step) bool { return s.merges })
}

// Ordered returns the plan changed so that results have an [ipc.Object] in place of each
// map that comes from Python, and in place of the map of several sinks.
func (p Plan) Ordered() *Plan {
	p.ordered = true
	return &p
}

// Gathered returns the result of several sinks by node id: the value with index i is that
// of the sink with index i in [Plan.Sinks].
func (p *Plan) Gathered(values []any) any {
	if p.ordered {
		all := make(ipc.Object, len(values))
		for i, id := range p.Sinks() {
			all[i] = ipc.Member{Key: id, Value: values[i]}
		}
		return all
	}
	all := make(map[string]any, len(values))
	for i, id := range p.Sinks() {
		all[id] = values[i]
	}
	return all
}

// Sinks returns the ids of the nodes whose values are the result.
func (p *Plan) Sinks() []string {
	ids := make([]string, len(p.sinks))
	for at, i := range p.sinks {
		ids[at] = p.steps[i].id
	}
	return ids
}
