package runner

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gophersnake/gophersnake/ipc"
)

// plan is a pipeline made ready to run: its nodes in an order in which each
// comes after those it takes its inputs from.
type plan struct {
	steps []step
	// sinks are the steps whose results are the run's.
	sinks []int
	// linear says that the steps are a chain, each the only input of the next.
	linear bool
	// toPython says that a Python node takes the run's input.
	toPython bool
}

// step is one node in its place.
type step struct {
	node   *node
	inputs []input // empty for a source, which takes the run's input
	next   []int
	// toPython says that a Python node takes the result, so that a Go node's
	// result is encoded once, where it was made.
	toPython bool
}

// input says where one input of a step comes from.
type input struct {
	from int
	port string // the keyword argument; empty for a single input
}

// newPlan lays out the nodes of a pipeline that has been validated.
func newPlan(p *Pipeline, nodes map[string]*node) *plan {
	order := p.Order()
	pl := &plan{steps: make([]step, len(order)), linear: true}
	place := make(map[string]int, len(order))
	for i, id := range order {
		place[id] = i
		pl.steps[i].node = nodes[id]
	}
	for _, c := range p.Connections {
		from, to := place[c.From], place[c.To]
		pl.steps[to].inputs = append(pl.steps[to].inputs, input{from: from, port: c.Port})
		pl.steps[from].next = append(pl.steps[from].next, to)
		if pl.steps[to].node.isPython() {
			pl.steps[from].toPython = true
		}
	}
	for i := range pl.steps {
		s := &pl.steps[i]
		if len(s.next) == 0 {
			pl.sinks = append(pl.sinks, i)
		}
		if len(s.inputs) == 0 && s.node.isPython() {
			pl.toPython = true
		}
		first := i == 0 && len(s.inputs) == 0
		chained := len(s.inputs) == 1 && s.inputs[0].from == i-1 && s.inputs[0].port == ""
		if !first && !chained || len(s.next) > 1 {
			pl.linear = false
		}
	}
	return pl
}

// run takes one input through the plan.
func (pl *plan) run(ctx context.Context, v any) (any, error) {
	in := value{native: v}
	if pl.toPython {
		payload, err := ipc.Encode("input", v)
		if err != nil {
			return nil, classify(err).During("encode the input")
		}
		in.payload, in.encoded = payload, true
	}
	if pl.linear {
		return pl.runChain(ctx, in)
	}
	return pl.runGraph(ctx, in)
}

// runChain runs the steps one after the other on the caller's goroutine: with
// nothing to run side by side, no other has to be woken.
func (pl *plan) runChain(ctx context.Context, v value) (any, error) {
	for i := range pl.steps {
		s := &pl.steps[i]
		out, err := s.node.run(ctx, s, func(input) value { return v }, v)
		if err != nil {
			return nil, err
		}
		v = out
	}
	return v.decode("result")
}

// execution is one run of a graph.
type execution struct {
	plan    *plan
	ctx     context.Context
	cancel  context.CancelCauseFunc
	input   value
	results []value
	missing []atomic.Int32 // inputs that each step still waits for
	running sync.WaitGroup

	once sync.Once
	err  error // the first failure; the others follow from its cancellation
}

// runGraph runs each step as soon as its inputs are there, independent ones side
// by side. It returns when none is running any more.
func (pl *plan) runGraph(ctx context.Context, in value) (any, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x := &execution{
		plan: pl, ctx: ctx, cancel: cancel, input: in,
		results: make([]value, len(pl.steps)), missing: make([]atomic.Int32, len(pl.steps)),
	}
	for i := range pl.steps {
		x.missing[i].Store(int32(len(pl.steps[i].inputs)))
	}
	for i := range pl.steps {
		if len(pl.steps[i].inputs) == 0 {
			x.running.Go(func() { x.step(i) })
		}
	}
	x.running.Wait()
	if x.err != nil {
		return nil, x.err
	}
	return x.result()
}

// step runs one step, and goes on with one of those that it makes ready.
func (x *execution) step(i int) {
	for i >= 0 {
		s := &x.plan.steps[i]
		out, err := s.node.run(x.ctx, s, func(in input) value { return x.results[in.from] }, x.input)
		if err != nil {
			x.once.Do(func() {
				x.err = err
				x.cancel(err)
			})
			return
		}
		x.results[i] = out
		here := -1
		for _, next := range s.next {
			switch {
			case x.missing[next].Add(-1) > 0:
			case here < 0:
				here = next
			default:
				x.running.Go(func() { x.step(next) })
			}
		}
		i = here
	}
}

// result is the value of the only sink, or those of all by node id.
func (x *execution) result() (any, error) {
	sinks := x.plan.sinks
	if len(sinks) == 1 {
		return x.results[sinks[0]].decode("result")
	}
	all := make(map[string]any, len(sinks))
	for _, i := range sinks {
		id := x.plan.steps[i].node.id
		v, err := x.results[i].decode("result." + id)
		if err != nil {
			return nil, err
		}
		all[id] = v
	}
	return all, nil
}

// value is what moves along a connection: a Go value, or its encoded form, or
// both. What one worker returns goes on to the next as it came.
type value struct {
	native  any
	payload ipc.Payload
	encoded bool
}

// decode returns the Go value.
func (v value) decode(root string) (any, error) {
	if !v.encoded || v.native != nil {
		return v.native, nil
	}
	native, err := v.payload.Decode(root, ipc.DefaultLimits())
	if err != nil {
		return nil, classify(err)
	}
	return native, nil
}

// ports are the keyword arguments that a node's inputs are handed to.
func (pl *plan) ports(n *node) []string {
	var ports []string
	for i := range pl.steps {
		if pl.steps[i].node == n {
			for _, in := range pl.steps[i].inputs {
				if in.port != "" {
					ports = append(ports, in.port)
				}
			}
		}
	}
	return ports
}

// checkInputs refuses a connection to a node that takes no input. Which ports a
// node has, the worker checks.
func (pl *plan) checkInputs(n *node, d Description) error {
	if len(d.Inputs) > 0 {
		return nil
	}
	for i := range pl.steps {
		if s := &pl.steps[i]; s.node == n && len(s.inputs) > 0 {
			from := pl.steps[s.inputs[0].from].node.id
			return NewError(Manifest, fmt.Sprintf("%s takes no input, but the result of %q is connected to it", d.Name, from)).
				InNode(n.id).Suggest("give its Python code a first parameter, or remove the connection")
		}
	}
	return nil
}
