package runner

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/manifest"
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
	// joins says that a step has several inputs.
	joins bool
	// arena is the shared memory of what comes from Go.
	arena *ipc.Arena
	// queueBytes bounds what each queue of a stream holds.
	queueBytes int64

	// What follows is known once the nodes are ready.

	// streams says that a node gives any number of values, so that a run is a stream
	// of one item.
	streams bool
	// batch is what the largest batch node takes at once.
	batch int
}

// step is one node in its place.
type step struct {
	node   *node
	inputs []input // empty for a source, which takes the run's input
	next   []int
	// encode is set where a Python node takes the result, so that a Go node's
	// result is encoded once, where it was made.
	encode func(ctx context.Context, root string, v any) (ipc.Payload, *Error)
}

// input says where one input of a step comes from.
type input struct {
	from int
	port string // the keyword argument; empty for a single input
}

// newPlan lays out the nodes of a pipeline that has been validated.
func newPlan(p *manifest.Pipeline, nodes map[string]*node, arena *ipc.Arena) *plan {
	order := p.Order()
	pl := &plan{steps: make([]step, len(order)), linear: true, arena: arena}
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
			pl.steps[from].encode = pl.encode
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
		pl.joins = pl.joins || len(s.inputs) > 1
	}
	return pl
}

// know takes in what the workers said of their nodes.
func (pl *plan) know() {
	for i := range pl.steps {
		n := pl.steps[i].node
		if !n.isPython() {
			continue
		}
		d := n.description.Load()
		pl.streams = pl.streams || d.Many || d.Stateful
		pl.batch = max(pl.batch, d.Batch)
	}
}

// run takes one input through the plan, and returns what came of its sinks, which
// the caller owes a release.
func (pl *plan) run(ctx context.Context, v any) (outcome, error) {
	in := value{native: v}
	if pl.toPython {
		payload, err := pl.encode(ctx, "input", v)
		if err != nil {
			return outcome{}, err.WithOperation("encode the input")
		}
		in.payload, in.encoded = payload, true
	}
	if pl.linear {
		return pl.runChain(ctx, in)
	}
	return pl.runGraph(ctx, in)
}

// encode encodes a value for Python nodes, once, whoever of them it goes to.
func (pl *plan) encode(ctx context.Context, root string, v any) (ipc.Payload, *Error) {
	payload, err := ipc.Encode(root, v)
	if err != nil {
		return ipc.Payload{}, classify(err)
	}
	return pl.share(ctx, payload)
}

// share moves the large buffers of what was encoded into shared memory.
func (pl *plan) share(ctx context.Context, payload ipc.Payload) (ipc.Payload, *Error) {
	if len(payload.Buffers) == 0 {
		return payload, nil
	}
	payload, err := pl.arena.Share(ctx, payload)
	if err != nil {
		return ipc.Payload{}, classify(err)
	}
	return payload, nil
}

// runChain runs the steps one after the other on the caller's goroutine: with
// nothing to run side by side, no other has to be woken. It releases v.
func (pl *plan) runChain(ctx context.Context, v value) (outcome, error) {
	for i := range pl.steps {
		s := &pl.steps[i]
		out, err := s.node.run(ctx, s, func(input) value { return v }, v)
		v.payload.Release()
		if err != nil {
			return outcome{}, err
		}
		v = out
	}
	return outcome{plan: pl, one: v}, nil
}

// execution is one run of a graph.
type execution struct {
	plan    *plan
	ctx     context.Context
	cancel  context.CancelCauseFunc
	input   value
	results []value
	missing []atomic.Int32 // inputs that each step still waits for
	uses    []atomic.Int32 // steps that still want the result of each
	running sync.WaitGroup

	once sync.Once
	err  error // the first failure; the others follow from its cancellation
}

// runGraph runs each step as soon as its inputs are there, independent ones side
// by side. It returns when none is running any more, and releases the input.
func (pl *plan) runGraph(ctx context.Context, in value) (outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer in.payload.Release()
	x := &execution{
		plan: pl, ctx: ctx, cancel: cancel, input: in, results: make([]value, len(pl.steps)),
		missing: make([]atomic.Int32, len(pl.steps)), uses: make([]atomic.Int32, len(pl.steps)),
	}
	for i := range pl.steps {
		x.missing[i].Store(int32(len(pl.steps[i].inputs)))
		x.uses[i].Store(int32(len(pl.steps[i].next)))
	}
	for i := range pl.steps {
		if len(pl.steps[i].inputs) == 0 {
			x.running.Go(func() { x.step(i) })
		}
	}
	x.running.Wait()
	if x.err != nil {
		for i := range x.results {
			if len(pl.steps[i].next) == 0 || x.uses[i].Load() > 0 {
				x.results[i].payload.Release()
			}
		}
		return outcome{}, x.err
	}
	out := outcome{plan: pl, many: make([]value, len(pl.sinks))}
	for at, i := range pl.sinks {
		out.many[at] = x.results[i]
	}
	return out, nil
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
		for _, in := range s.inputs {
			if x.uses[in.from].Add(-1) == 0 {
				x.results[in.from].payload.Release()
			}
		}
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

// outcome is what came of a run: the value of the only sink, or those of all.
type outcome struct {
	plan *plan
	one  value
	many []value // in the order of the plan's sinks; nil for a chain
}

// value returns the value of the only sink, or a map of all by node id, each made
// by the given function.
func (o *outcome) value(decode func(v value, root string) (any, error)) (any, error) {
	switch len(o.many) {
	case 0:
		return decode(o.one, "result")
	case 1:
		return decode(o.many[0], "result")
	}
	all := make(map[string]any, len(o.many))
	for at, i := range o.plan.sinks {
		id := o.plan.steps[i].node.id
		v, err := decode(o.many[at], "result."+id)
		if err != nil {
			return nil, err
		}
		all[id] = v
	}
	return all, nil
}

func (o *outcome) release() {
	o.one.release()
	for i := range o.many {
		o.many[i].release()
	}
}

// value is what moves along a connection: a Go value, or its encoded form, or
// both. What one worker returns goes on to the next as it came.
type value struct {
	native  any
	payload ipc.Payload
	encoded bool
	// holds counts the further holds on the payload, where it has had any.
	holds *atomic.Int32
}

// hold has the payload released only after as many further releases. The copies of
// the value that are released must be made afterwards.
func (v *value) hold(more int) {
	if !v.encoded || more == 0 {
		return
	}
	if v.holds == nil {
		v.holds = new(atomic.Int32)
	}
	v.holds.Add(int32(more))
}

// release gives one hold back.
func (v *value) release() {
	if v.holds == nil || v.holds.Add(-1) < 0 {
		v.payload.Release()
	}
}

// decode returns the Go value, which needs no release.
func (v value) decode(root string) (any, error) {
	return v.with(ipc.Payload.Decode, root)
}

// view returns the Go value, which may view shared memory.
func (v value) view(root string) (any, error) {
	return v.with(ipc.Payload.View, root)
}

func (v value) with(decode func(ipc.Payload, string, ipc.Limits) (any, error), root string) (any, error) {
	if !v.encoded || v.native != nil {
		return v.native, nil
	}
	native, err := decode(v.payload, root, ipc.DefaultLimits())
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
func (pl *plan) checkInputs(n *node, d ipc.Description) error {
	if len(d.Inputs) > 0 {
		return nil
	}
	for i := range pl.steps {
		if s := &pl.steps[i]; s.node == n && len(s.inputs) > 0 {
			from := pl.steps[s.inputs[0].from].node.id
			return NewError(KindManifest, fmt.Sprintf("%s takes no input, but the result of %q is connected to it", d.Name, from)).
				WithNode(n.id).WithHint("give its Python code a first parameter, or remove the connection")
		}
	}
	return nil
}
