package flow

import (
	"context"
	"sync/atomic"

	"github.com/gophersnake/gophersnake/ipc"
)

// InputError is the error of an input that cannot be encoded, or for which there is no
// room in shared memory at present.
type InputError struct{ Err error }

// Error returns the text of the cause.
func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

// Run takes one input through all steps and returns the value of the only sink, or a
// map of all values by node id. No node is still running when it returns. The
// error is an *[InputError], that of the first node that failed, or that of a value
// that cannot be decoded.
func (p *Plan) Run(ctx context.Context, input any) (any, error) {
	out, err := p.RunShared(ctx, input)
	if err != nil {
		return nil, err
	}
	v, err := out.read(Value.Decode)
	out.Release()
	return v, err
}

// RunShared is Run without the last step: it returns the values as the sinks returned
// them. The caller releases the result.
func (p *Plan) RunShared(ctx context.Context, input any) (Result, error) {
	v := Value{Native: input}
	var err error
	switch {
	case p.shares:
		v, err = Encode(ctx, p.arena, p.domain, "input", input)
	case p.encodes:
		v, err = Plain("input", input)
	}
	if err != nil {
		return Result{}, &InputError{err}
	}
	if !p.isChain {
		return p.runGraph(ctx, v)
	}
	// A chain needs no other goroutine than the caller's.
	for i := range p.steps {
		out, err := p.steps[i].node.Call(ctx, Inputs{First: v, Leave: p.steps[i].leaves})
		v.Release()
		if err != nil {
			return Result{}, err
		}
		v = out
	}
	return Result{plan: p, one: p.result(v)}, nil
}

// Result is what a run returns: the value of each sink.
type Result struct {
	plan *Plan
	one  Value   // of a chain
	many []Value // in the order of the plan's sinks; nil for a chain
}

// View returns what [Plan.Run] returns, but with views of shared memory, as
// [Value.View] does. They are valid until the result is released.
func (r *Result) View() (any, error) { return r.read(Value.View) }

func (r *Result) read(decode func(v Value, root string) (any, error)) (any, error) {
	switch len(r.many) {
	case 0:
		return decode(r.one, "result")
	case 1:
		return decode(r.many[0], "result")
	}
	all := make([]any, len(r.plan.sinks))
	for at, i := range r.plan.sinks {
		v, err := decode(r.many[at], "result."+r.plan.steps[i].id)
		if err != nil {
			return nil, err
		}
		all[at] = v
	}
	return r.plan.Gathered(all), nil
}

// result returns the value of a sink, marked to keep the order of its maps if the plan
// says so.
func (p *Plan) result(v Value) Value {
	if p.ordered {
		v.Payload = v.Payload.Ordered()
	}
	return v
}

// Release frees the values.
func (r *Result) Release() {
	r.one.Release()
	for i := range r.many {
		r.many[i].Release()
	}
}

// Value is what a connection carries: a Go value or, if Encoded is set, its encoded form.
// What one worker returns is passed on to the next one without being decoded.
type Value struct {
	Native  any
	Payload ipc.Payload
	Encoded bool
	// Left is a value that another machine has kept, in place of the payload; nil for others.
	Left Left

	// further counts the references to the payload beyond the first one. It is nil
	// while there is only that one.
	further *atomic.Int32
}

// Left is a value outside of this process, for the next node to take; see [Step.Leaves]. Release deletes it.
type Left interface{ Release() }

// Plain returns a Go value in its encoded form, for consumers that are written in Go. Its
// large buffers are those of v, which must not change until nothing needs the value any
// more. The first name in the path of an encoding error is root.
func Plain(root string, v any) (Value, error) {
	payload, err := ipc.Encode(root, v)
	if err != nil {
		return Value{}, err
	}
	return Value{Payload: payload.Checked(), Encoded: true}, nil
}

// Encode returns a Go value in its encoded form, whose large buffers lie in the shared
// memory of arena, for workers of the domain. The caller releases it. The first name in the
// path of an encoding error is root.
func Encode(ctx context.Context, arena *ipc.Arena, domain ipc.Domain, root string, v any) (Value, error) {
	payload, err := ipc.Encode(root, v)
	if err == nil && len(payload.Buffers) > 0 {
		payload, err = arena.Share(ctx, domain, payload)
	}
	if err != nil {
		return Value{}, err
	}
	return Value{Payload: payload.Checked(), Encoded: true}, nil
}

// retain adds references to the payload, each of which needs a Release. Copy the value
// for the additional owners only after that: an earlier copy does not share the count.
func (v *Value) retain(more int) {
	if !v.Encoded || more == 0 {
		return
	}
	if v.further == nil {
		v.further = new(atomic.Int32)
	}
	v.further.Add(int32(more))
}

// Release drops one reference. The payload is freed with the last one.
func (v *Value) Release() {
	if v.further == nil || v.further.Add(-1) < 0 {
		v.Payload.Release()
		if v.Left != nil {
			v.Left.Release()
		}
	}
}

// Take returns the Go value and drops one reference. The first name in the path of an
// error is root.
func (v *Value) Take(root string) (any, error) {
	native, err := v.Decode(root)
	v.Release()
	return native, err
}

// Decode returns the Go value, which is valid after the release.
func (v Value) Decode(root string) (any, error) {
	if !v.Encoded {
		return v.Native, nil
	}
	return v.Payload.Decode(root, ipc.DefaultLimits())
}

// View is like Decode, but large buffers in shared memory are not copied: the
// result is valid until the release and must not be changed.
func (v Value) View(root string) (any, error) {
	if !v.Encoded {
		return v.Native, nil
	}
	return v.Payload.View(root, ipc.DefaultLimits())
}

// Inputs are the values that a node is called with, in the order of the connections
// to it. The one input of a source is the input of the run.
type Inputs struct {
	First Value
	// Rest is empty unless the node has several inputs.
	Rest []Value
	// Leave permits the node to return a [Left].
	Leave bool
}

// At returns the input with the given index.
func (in *Inputs) At(i int) Value {
	if i == 0 {
		return in.First
	}
	return in.Rest[i-1]
}

// Size returns the length of all payloads.
func (in *Inputs) Size() int64 {
	size := in.First.Payload.Size()
	for i := range in.Rest {
		size += in.Rest[i].Payload.Size()
	}
	return int64(size)
}

// Release drops one reference to each value.
func (in *Inputs) Release() {
	in.First.Release()
	for i := range in.Rest {
		in.Rest[i].Release()
	}
}
