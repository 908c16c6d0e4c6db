// Package flow moves values through the nodes of a pipeline: one input through all
// of them ([Plan.Run]), or a stream of items ([Open]).
//
// The package knows nodes only as a [Node], and returns their errors as they are.
// Its own errors are plain ones, to which the caller gives a kind.
package flow

import (
	"github.com/gophersnake/gophersnake/ipc"
)

// Plan is a pipeline laid out to run: each step comes after the steps from which it
// takes its inputs. It does not change once it is made.
type Plan struct {
	steps []step
	// sinks are the steps whose values are the result.
	sinks []int
	// isChain says that each step takes the value of the one before as its only input.
	isChain bool
	// joins says that a step has several inputs.
	joins bool
	// encodes says that a source takes its input encoded.
	encodes bool
	// arena holds the large buffers of what is encoded.
	arena *ipc.Arena
	// queueBytes bounds the payloads that a queue of a stream holds.
	queueBytes int64
}

// step is one node with its connections.
type step struct {
	id     string
	node   Node
	inputs []int // the steps before it; empty for a source
	next   []int // the steps after it; empty for a sink
}

// Step describes one node to [NewPlan].
type Step struct {
	ID   string
	Node Node
	// Inputs are the ids of the steps from which it takes its inputs, one for each
	// connection. It is empty for a source, which takes the input of the run.
	Inputs []string
	// Encoded says that the node takes its inputs encoded.
	Encoded bool
}

// NewPlan lays out steps, each of which comes after the steps before it. The arena
// is for what [Plan.Run] and [Stream.Send] encode. Each queue of a stream holds up
// to queueBytes of payload.
func NewPlan(steps []Step, arena *ipc.Arena, queueBytes int64) *Plan {
	p := &Plan{steps: make([]step, len(steps)), isChain: true, arena: arena, queueBytes: queueBytes}
	index := make(map[string]int, len(steps))
	for i, s := range steps {
		index[s.ID] = i
		p.steps[i] = step{id: s.ID, node: s.Node}
		for _, id := range s.Inputs {
			from := index[id]
			p.steps[i].inputs = append(p.steps[i].inputs, from)
			p.steps[from].next = append(p.steps[from].next, i)
		}
		p.encodes = p.encodes || s.Encoded && len(s.Inputs) == 0
		p.joins = p.joins || len(s.Inputs) > 1
	}
	for i := range p.steps {
		s := &p.steps[i]
		if len(s.next) == 0 {
			p.sinks = append(p.sinks, i)
		}
		follows := i == 0 || len(s.inputs) == 1 && s.inputs[0] == i-1
		p.isChain = p.isChain && follows && len(s.next) <= 1
	}
	return p
}

// Sinks returns the ids of the nodes whose values are the result.
func (p *Plan) Sinks() []string {
	ids := make([]string, len(p.sinks))
	for at, i := range p.sinks {
		ids[at] = p.steps[i].id
	}
	return ids
}
