package runner

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/gophersnake/gophersnake/runner/internal/flow"
)

// Interceptor is a function around runs ([WithRunInterceptor]) or around the calls of nodes
// ([WithCallInterceptor]), for instance for tracing, caching, or checks of what goes in and
// out. It calls next to go on, with the same context and invocation or with changed ones,
// and returns the outcome of next or another one. If it returns without having called next,
// what it surrounds does not run. It may call next several times.
//
// An error that it returns is the error of the operation, with the node added. A panic
// becomes an error of kind [KindOther]. When it returns, the context that it passed to next
// is canceled, and the runner waits for the calls of next that it left behind.
//
// An Interceptor must be safe for concurrent use.
type Interceptor func(ctx context.Context, call Invocation, next Next) (Outcome, error)

// Next runs what an [Interceptor] surrounds: the interceptors that were given after it, and
// then the operation itself.
type Next func(ctx context.Context, call Invocation) (Outcome, error)

// WithRunInterceptor adds an interceptor around each [Runner.Run], [Runner.RunShared] and
// [Call]. It does not apply to streams and to [Node.Call]. The first interceptor that is
// given is the outermost. The input is the one that the caller passed, and the outcome is
// what the caller gets.
func WithRunInterceptor(i Interceptor) Option {
	return func(o *options) error { return addInterceptor(&o.runInterceptors, i, "WithRunInterceptor") }
}

// WithCallInterceptor adds an interceptor around each operation of a node, in runs, in
// streams and by [Node.Call]. The first one that is given is the outermost, and all of them
// are inside those of [WithRunInterceptor].
//
// An operation is a call with its retries: the interceptor is outside of the node's policy
// and its circuit breaker. It sees an operation once, however many attempts that takes, and
// also one that the breaker refuses. Its own errors are not retried and the breaker does not
// count them. A [NodeStarted] event follows when next is called.
//
// Values are decoded only if the interceptor asks for them, by [Invocation.Input] and
// [Outcome.Value], and encoded only if it replaces them. If it does neither, arrays stay in
// shared memory. Without interceptors, nothing is spent.
//
// If the node yields many values for an item, as generators and stateful nodes do, then next
// may be called once. The values are passed on while it runs, so its outcome is empty. An
// interceptor that does not call next returns a []any with the values instead. The last
// values of a stateful node, which it yields at the end of a stream, are not intercepted.
func WithCallInterceptor(i Interceptor) Option {
	return func(o *options) error { return addInterceptor(&o.callInterceptors, i, "WithCallInterceptor") }
}

func addInterceptor(to *interceptors, i Interceptor, option string) error {
	if i == nil {
		return NewError(KindManifest, option+" takes a function")
	}
	*to = append(*to, i)
	return nil
}

// Invocation describes a run or the call of a node to an [Interceptor].
type Invocation struct {
	// Pipeline is the name of the pipeline.
	Pipeline string
	// Node is the id of the node. It is empty for a run.
	Node string

	input *operand
}

// Input returns the input: the value that the caller passed to a run; the value that a node
// gets, decoded into the types that [Runner.Run] returns, or a map of these by port if the
// node has several inputs. It must not be changed. It can be read until the interceptor
// returns, and until next is called if the node yields many values. The error is of kind
// [KindMarshaling] if a worker returned an invalid value, and of kind [KindOther] if it is
// too late.
func (c Invocation) Input() (any, error) { return c.input.get() }

// WithInput returns the invocation with another input, for next. It takes what [Node.Call]
// takes, or for a run what [Runner.Run] takes.
func (c Invocation) WithInput(v any) Invocation {
	c.input = &operand{value: v}
	return c
}

// Outcome is the result of a run or of a node's call. The zero Outcome has the value nil.
type Outcome struct{ value *operand }

// NewOutcome returns an outcome with the given value, which may be anything that an input
// may contain.
func NewOutcome(v any) Outcome { return Outcome{&operand{value: v}} }

// Value returns the value, decoded into the types that [Runner.Run] returns. It must not be
// changed, and can be read until the interceptor returns; the value stays valid after that,
// except in [Runner.RunShared]. Its errors are as those of [Invocation.Input].
func (o Outcome) Value() (any, error) { return o.value.get() }

// operand is an input or an outcome: a Go value, or one that is decoded when it is read.
type operand struct {
	value any
	read  func() (any, error) // nil if value is set
	span  *span               // in which it can be read; its lock guards the next field
	spent bool                // it can no longer be read
	held  releaser            // what read decodes, for an outcome
}

type releaser interface{ Release() }

func (o *operand) get() (any, error) {
	switch {
	case o == nil:
		return nil, nil
	case o.read == nil:
		return o.value, nil
	}
	o.span.mu.Lock()
	defer o.span.mu.Unlock()
	if o.span.over || o.spent {
		return nil, errOver()
	}
	v, err := o.read()
	if err != nil {
		return nil, classify(err)
	}
	return v, nil
}

func errOver() *Error { return NewError(KindOther, "the call that was intercepted is over") }

// span is the time in which the interceptors of one operation run.
type span struct {
	active sync.WaitGroup // calls of next

	mu      sync.Mutex
	over    bool
	outputs []releaser // of all calls of next
}

// interceptors surround an operation, the outermost first.
type interceptors []Interceptor

// around runs an operation inside the interceptors. It returns the outcome, after all calls
// of next have ended. The caller owns what [span.take] returns for it.
func (all interceptors) around(ctx context.Context, s *span, call Invocation, operation Next) (out Outcome, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = NewError(KindOther, fmt.Sprintf("an interceptor panicked: %v", p)).WithMetadata("stack", string(debug.Stack()))
		}
		cancel()
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.active.Wait()
	}()
	return all.from(ctx, 0, call, func(inner context.Context, call Invocation) (Outcome, error) {
		if !s.begin() {
			return Outcome{}, errOver()
		}
		defer s.active.Done()
		inner, stop := context.WithCancelCause(inner)
		defer stop(nil)
		defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
		return operation(inner, call)
	})
}

// from calls the interceptor with the given index, or the operation after the last one.
func (all interceptors) from(ctx context.Context, i int, call Invocation, operation Next) (Outcome, error) {
	if i == len(all) {
		return operation(ctx, call)
	}
	return all[i](ctx, call, func(ctx context.Context, call Invocation) (Outcome, error) {
		return all.from(ctx, i+1, call, operation)
	})
}

// begin counts a call of next, unless it comes too late.
func (s *span) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.active.Add(1)
	}
	return !s.over
}

// outcome returns the outcome of a call of next. The span owns the value.
func (s *span) outcome(held releaser, read func() (any, error)) Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outputs = append(s.outputs, held)
	return Outcome{&operand{read: read, span: s, held: held}}
}

// take releases the values of all calls of next except the one that is the outcome, and
// returns that. It is nil if the outcome is another value. If the interceptors failed with
// err, take releases all of them and returns err.
func (s *span) take(out Outcome, err error) (releaser, error) {
	var taken releaser
	for _, held := range s.outputs {
		if err == nil && out.value != nil && held == out.value.held {
			taken = held
		} else {
			held.Release()
		}
	}
	s.outputs = nil
	if err == nil && taken == nil && out.value != nil && out.value.read != nil {
		err = NewError(KindOther, "an interceptor returned the outcome of another call")
	}
	return taken, err
}

// interceptRun is [Runner.Run] inside the interceptors. The runner is entered.
func (r *Runner) interceptRun(ctx context.Context, input any) (any, error) {
	s := new(span)
	call := Invocation{Pipeline: r.pipeline.Name, input: &operand{value: input}}
	out, err := r.options.runInterceptors.around(ctx, s, call, func(ctx context.Context, call Invocation) (Outcome, error) {
		input, err := call.Input()
		if err != nil {
			return Outcome{}, err
		}
		v, err := r.run(ctx, input)
		return NewOutcome(v), err
	})
	if _, err = s.take(out, err); err != nil {
		return nil, AsError(err)
	}
	return out.Value()
}

// interceptShared is [Runner.RunShared] inside the interceptors. The runner is entered.
func (r *Runner) interceptShared(ctx context.Context, input any) (*Shared, error) {
	s := new(span)
	call := Invocation{Pipeline: r.pipeline.Name, input: &operand{value: input}}
	out, err := r.options.runInterceptors.around(ctx, s, call, func(ctx context.Context, call Invocation) (Outcome, error) {
		input, err := call.Input()
		if err != nil {
			return Outcome{}, err
		}
		shared, err := r.runShared(ctx, input)
		if err != nil {
			return Outcome{}, err
		}
		return s.outcome(shared, func() (any, error) { return shared.Value, nil }), nil
	})
	taken, err := s.take(out, err)
	switch {
	case err != nil:
		return nil, AsError(err)
	case taken != nil:
		return taken.(*Shared), nil
	}
	v, err := out.Value()
	return &Shared{Value: v}, err
}

// interceptedNode is a node inside the interceptors of its calls.
type interceptedNode struct {
	*node
	pipeline     string
	interceptors interceptors
}

// invocation describes a call of the node. The inputs stay with the caller.
func (n *interceptedNode) invocation(s *span, in *flow.Inputs) Invocation {
	input := &operand{span: s, read: func() (any, error) { return n.decoded(in) }}
	return Invocation{Pipeline: n.pipeline, Node: n.id, input: input}
}

// inputs returns the inputs of an invocation, and whether the interceptors replaced them.
// The caller releases them in that case.
func (n *interceptedNode) inputs(ctx context.Context, call Invocation, in flow.Inputs) (flow.Inputs, bool, error) {
	if call.input != nil && call.input.read != nil {
		return in, false, nil
	}
	v, _ := call.Input()
	in, err := n.encoded(ctx, v)
	return in, err == nil, err
}

// Call implements [flow.Node].
func (n *interceptedNode) Call(ctx context.Context, in flow.Inputs) (flow.Value, error) {
	s := new(span)
	out, err := n.interceptors.around(ctx, s, n.invocation(s, &in), func(ctx context.Context, call Invocation) (Outcome, error) {
		in, replaced, err := n.inputs(ctx, call, in)
		if err != nil {
			return Outcome{}, err
		}
		if replaced {
			defer in.Release()
		}
		v, err := n.node.Call(ctx, in)
		if err != nil {
			return Outcome{}, err
		}
		return s.outcome(&v, func() (any, error) { return v.Decode("result") }), nil
	})
	taken, err := s.take(out, err)
	switch {
	case err != nil:
		return flow.Value{}, AsError(err).WithNode(n.id)
	case taken != nil:
		return *taken.(*flow.Value), nil
	}
	v, _ := out.Value()
	return n.encodedResult(ctx, v)
}

// Generate implements [flow.Node].
func (n *interceptedNode) Generate(ctx context.Context, in flow.Inputs, emit flow.Emit) error {
	return n.many(ctx, &in, emit, func(ctx context.Context, next flow.Inputs, replaced bool) error {
		if replaced {
			defer next.Release()
		}
		return n.node.Generate(ctx, next, emit)
	})
}

// Open implements [flow.Node].
func (n *interceptedNode) Open(state []byte) flow.Session {
	return &interceptedSession{n.node.Open(state), n}
}

type interceptedSession struct {
	flow.Session
	node *interceptedNode
}

// Item implements [flow.Session].
func (s *interceptedSession) Item(ctx context.Context, in flow.Inputs, emit flow.Emit) error {
	owned := true
	err := s.node.many(ctx, &in, emit, func(ctx context.Context, next flow.Inputs, replaced bool) error {
		owned = replaced // otherwise the session releases them
		return s.Session.Item(ctx, next, emit)
	})
	if owned {
		in.Release()
	}
	return err
}

// many runs an operation that emits any number of values inside the interceptors. If they
// do not call it, the values that they return are emitted.
func (n *interceptedNode) many(ctx context.Context, in *flow.Inputs, emit flow.Emit, operation func(context.Context, flow.Inputs, bool) error) error {
	s := new(span)
	call := n.invocation(s, in)
	input, called := call.input, false
	out, err := n.interceptors.around(ctx, s, call, func(ctx context.Context, call Invocation) (Outcome, error) {
		s.mu.Lock()
		again := called
		called, input.spent = true, true
		s.mu.Unlock()
		if again {
			return Outcome{}, NewError(KindOther, "an interceptor called next twice for a node that yields many values")
		}
		next, replaced, err := n.inputs(ctx, call, *in)
		if err != nil {
			return Outcome{}, err
		}
		return Outcome{}, operation(ctx, next, replaced)
	})
	if err == nil && !called {
		err = n.emitAll(ctx, out, emit)
	}
	if err != nil {
		return AsError(err).WithNode(n.id)
	}
	return nil
}

// emitAll emits the values of an outcome, which is a list.
func (n *interceptedNode) emitAll(ctx context.Context, out Outcome, emit flow.Emit) error {
	v, err := out.Value()
	if err != nil {
		return err
	}
	values, ok := v.([]any)
	if !ok {
		return NewError(KindMarshaling, fmt.Sprintf("expected a []any with the values of the node from the interceptor, got a %T", v))
	}
	for _, v := range values {
		encoded, err := n.encodedResult(ctx, v)
		if err != nil {
			return err
		}
		if err := emit(encoded.Payload); err != nil {
			return err
		}
	}
	return nil
}
