package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
)

// Stream is a stream of items through a pipeline. Items are put in by [Stream.Send]
// and taken out by [Stream.Recv], in order, while the nodes work on others. A stream
// holds no more than its window: a caller that sends much without receiving is
// blocked, so Send and Recv are usually called by two goroutines.
//
// A stream that is not received to its end must be closed. Until then it holds
// memory, and may keep workers busy. Its methods are safe for concurrent use.
type Stream struct {
	flow   *flow.Stream
	runner *Runner
	work   *tracing.Work // nil without traces, and for a run
	sent   atomic.Int64  // items, if the stream is traced
	closed atomic.Bool   // by its consumer
}

// Item is a value that a stream returns.
type Item struct {
	// Value is a copy, as [Runner.Run] returns it.
	Value any
	// Node is the id of the sink that returned it.
	Node string
}

// StreamOption changes how [Runner.Stream] and [Node.Stream] set a stream up.
type StreamOption func(*streamOptions) error

type streamOptions struct {
	window int
	states map[string][]byte
}

const defaultWindow = 16

// LargestWindow is the largest window that [WithWindow] takes.
const LargestWindow = 4096

// WithWindow sets the number of items that may be between two nodes: those that the
// first node works on, those that wait, and those that the second node works on. The
// default is 16, or the number of calls that the largest batch node takes at once if
// that is more.
func WithWindow(items int) StreamOption {
	return func(o *streamOptions) error {
		if items < 1 || items > LargestWindow {
			return NewError(KindManifest, fmt.Sprintf("WithWindow takes 1 to %d items, not %d", LargestWindow, items))
		}
		o.window = items
		return nil
	}
}

// Stream opens a stream through the pipeline, and starts the runner if needed. When ctx
// ends, the stream is stopped.
func (r *Runner) Stream(ctx context.Context, opts ...StreamOption) (*Stream, error) {
	return r.enterStream(ctx, r.plan, opts)
}

// Stream opens a stream through this node alone, as [Runner.Stream] does through the pipeline. Each
// item is an input as [Node.Call] takes it, and each value that the node returns or yields is an
// item of the result; a stateful node has one session for the stream. The calls are subject to all
// that applies to the node in a stream of the pipeline. If connections lead to several ports of the
// node, an item without the value of each port ends the stream.
func (c *Node) Stream(ctx context.Context, opts ...StreamOption) (*Stream, error) {
	n := c.runner.nodes[c.id]
	if n == nil {
		return nil, c.runner.unknownNode(c.id)
	}
	return c.runner.enterStream(ctx, c.runner.planOf(n), opts)
}

// planOf returns the plan of a stream through one node.
func (r *Runner) planOf(n *node) *flow.Plan {
	step := flow.Step{ID: n.id, Node: n.calls, Encoded: true, Local: !n.isPython(), Domain: n.domain}
	if len(n.inputs) > 1 && !n.merges {
		step.Node, step.Encoded = &portsNode{n.calls, n}, false
	}
	plan := flow.NewPlan([]flow.Step{step}, r.arena, queueBytes(r.options.sharedMemory, 2))
	if r.options.orderedMaps {
		plan = plan.Ordered()
	}
	return plan
}

// enterStream opens a stream through a plan.
func (r *Runner) enterStream(ctx context.Context, plan *flow.Plan, opts []StreamOption) (*Stream, error) {
	var o streamOptions
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, classify(context.Cause(ctx))
	}
	var work *tracing.Work
	if r.tracer != nil {
		ctx, work = r.tracer.Begin(ctx, "stream")
	}
	if err := r.enter(ctx); err != nil {
		work.End(err)
		return nil, err
	}
	defer r.runs.Done()
	return r.openStream(ctx, plan, o, work), nil
}

// openStream opens a stream, with the default window if the options have none. The
// caller has entered the runner. The stream ends the work, which is nil if it is not traced, or
// as a part of a run.
func (r *Runner) openStream(ctx context.Context, plan *flow.Plan, o streamOptions, work *tracing.Work) *Stream {
	if o.window == 0 {
		o.window = max(defaultWindow, r.batch)
	}
	s := &Stream{runner: r, work: work}
	r.runs.Add(1)
	r.mu.Lock()
	s.flow = flow.Open(ctx, plan, o.window, o.states, func(err error) { r.streamEnded(s, err) })
	r.streams[s] = struct{}{}
	ending := r.ending
	r.mu.Unlock()
	if ending {
		s.flow.Abort(errClosed())
	}
	return s
}

// portsNode is a node with several ports in a stream of its own: an item is a Go value with the
// values of all ports.
type portsNode struct {
	flow.Node
	node *node
}

// inputs returns the inputs of a call. The caller releases them.
func (n *portsNode) inputs(ctx context.Context, item flow.Inputs) (flow.Inputs, error) {
	in, err := n.node.encoded(ctx, item.First.Native)
	if err != nil {
		return in, classify(err).WithNode(n.node.id).WithOperation("encode the input")
	}
	return in, nil
}

// Call implements [flow.Node].
func (n *portsNode) Call(ctx context.Context, item flow.Inputs) (flow.Value, error) {
	in, err := n.inputs(ctx, item)
	if err != nil {
		return flow.Value{}, err
	}
	defer in.Release()
	return n.Node.Call(ctx, in)
}

// Generate implements [flow.Node].
func (n *portsNode) Generate(ctx context.Context, item flow.Inputs, emit flow.Emit) error {
	in, err := n.inputs(ctx, item)
	if err != nil {
		return err
	}
	defer in.Release()
	return n.Node.Generate(ctx, in, emit)
}

// Open implements [flow.Node].
func (n *portsNode) Open(state []byte) flow.Session {
	return &portsSession{n.Node.Open(state), n}
}

type portsSession struct {
	flow.Session
	node *portsNode
}

// Item implements [flow.Session].
func (s *portsSession) Item(ctx context.Context, item flow.Inputs, emit flow.Emit) error {
	in, err := s.node.inputs(ctx, item)
	if err != nil {
		return err
	}
	return s.Session.Item(ctx, in, emit)
}

func (r *Runner) streamEnded(s *Stream, err error) {
	if s.work != nil {
		if s.closed.Load() {
			err = nil // that its consumer needs no more is no failure
		}
		s.work.SetInputs(s.sent.Load())
		s.work.End(err)
	}
	r.mu.Lock()
	delete(r.streams, s)
	r.mu.Unlock()
	r.runs.Done()
}

// endStreams stops all streams, because the runner closes, and those that are opened
// later.
func (r *Runner) endStreams() {
	r.mu.Lock()
	r.ending = true
	open := slices.Collect(maps.Keys(r.streams))
	r.mu.Unlock()
	for _, s := range open {
		s.flow.Abort(errClosed())
	}
}

// Send puts the next item into the stream, and blocks while there is no room for it.
// The item must not be changed afterwards.
//
// An error that concerns the item alone, for instance that it cannot be encoded,
// does not end the stream. If the stream has failed, Send returns the failure, perhaps
// before Recv returns it.
func (s *Stream) Send(v any) error {
	if err := s.flow.Send(v); err != nil {
		return flowError(err)
	}
	if s.work != nil {
		s.sent.Add(1)
	}
	return nil
}

// CloseSend ends the input. Calls after the first one have no effect. It cannot fail:
// if the stream has failed, Recv returns the failure.
func (s *Stream) CloseSend() { s.flow.CloseSend(nil) }

// Recv returns the next item, and blocks until there is one. At the end of the stream
// its error is [io.EOF]. If the stream has failed, Recv returns all items before the
// failure first, and then its error, whose metadata has the number of items that
// were "delivered". By then nothing of the stream is running any more.
func (s *Stream) Recv() (item Item, err error) {
	v, item, err := s.next()
	if err != nil {
		return Item{}, err
	}
	item.Value, err = v.Take("result")
	return item, s.unreadable(item, err)
}

// RecvView is [Stream.Recv] without the last copy: it calls use with the next item, whose large
// tensors, recordings, images and bytes are views of shared memory, and releases them when use
// returns or panics. Nothing of the item may be changed, nor be used afterwards. Until then it counts
// against the limit of [WithSharedMemory]. The error is that of Recv, [io.EOF] at the end, or that
// of use, which does not end the stream.
func (s *Stream) RecvView(use func(Item) error) error {
	v, item, err := s.next()
	if err != nil {
		return err
	}
	defer v.Release()
	if item.Value, err = v.View("result"); err != nil {
		return s.unreadable(item, err)
	}
	return use(item)
}

// next returns the next value and its sink, or the error of Recv.
func (s *Stream) next() (flow.Value, Item, error) {
	v, sink, ok := s.flow.Next()
	if ok {
		return v, Item{Node: sink}, nil
	}
	if err := s.flow.Err(); err != nil {
		return v, Item{}, flowError(err).WithMetadata("delivered", fmt.Sprint(s.flow.Received()))
	}
	return v, Item{}, io.EOF
}

// unreadable ends the stream because of an item that cannot be decoded, and returns the error.
// It does nothing if err is nil.
func (s *Stream) unreadable(item Item, err error) error {
	if err == nil {
		return nil
	}
	e := classify(err).WithNode(item.Node)
	s.flow.Abort(e)
	return e
}

// All receives to the end. If the stream fails, the error is the last element of the
// sequence. Breaking out of the loop closes the stream.
func (s *Stream) All() iter.Seq2[Item, error] { return all(s.Recv, s.Close) }

// all receives to the end, and then closes the stream.
func all[T any](recv func() (T, error), closeStream func() error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		defer func() { _ = closeStream() }()
		for {
			item, err := recv()
			//nolint:errorlint // a node's error may wrap io.EOF
			if err == io.EOF || !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the stream at once: calls in progress are canceled, and items that were
// not received are dropped. When it returns, nothing of the stream is running. It
// may be called several times, and after the end of the stream.
//
// The error is always nil. It makes a Stream an [io.Closer].
func (s *Stream) Close() error {
	s.closed.Store(true)
	s.flow.Close(NewError(KindOther, "the stream is closed"))
	return nil
}

// TypedStream is a [Stream] whose items have Go types. It blocks, fails and is closed as a
// Stream is, and may be used by several goroutines.
type TypedStream[In, Out any] struct{ stream *Stream }

// OpenStream is [Runner.Stream] with types. If the pipeline has several sinks, the items of
// all of them are decoded into an Out.
func OpenStream[In, Out any](ctx context.Context, r *Runner, opts ...StreamOption) (*TypedStream[In, Out], error) {
	s, err := r.Stream(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return &TypedStream[In, Out]{s}, nil
}

// Send puts the next item into the stream; see [Stream.Send].
func (s *TypedStream[In, Out]) Send(v In) error { return s.stream.Send(v) }

// CloseSend ends the input; see [Stream.CloseSend].
func (s *TypedStream[In, Out]) CloseSend() { s.stream.CloseSend() }

// Recv returns the next item as an Out, and [io.EOF] at the end; see [Stream.Recv]. An item
// that is no Out ends the stream with the error of [Decode].
func (s *TypedStream[In, Out]) Recv() (out Out, err error) {
	item, err := s.stream.Recv()
	if err != nil {
		return out, err
	}
	out, err = As[Out](item.Value)
	return out, s.stream.unreadable(item, err)
}

// RecvView is [TypedStream.Recv] without the last copy; see [Stream.RecvView].
func (s *TypedStream[In, Out]) RecvView(use func(out Out) error) error {
	return s.stream.RecvView(func(item Item) error {
		out, err := As[Out](item.Value)
		if err != nil {
			return s.stream.unreadable(item, err)
		}
		return use(out)
	})
}

// All receives to the end; see [Stream.All].
func (s *TypedStream[In, Out]) All() iter.Seq2[Out, error] { return all(s.Recv, s.Close) }

// Close ends the stream at once; see [Stream.Close].
func (s *TypedStream[In, Out]) Close() error { return s.stream.Close() }

// Through sends a sequence through a stream of its own, and yields what the stream
// returns. An error in the sequence ends the stream, after the items before it. The
// sequence is read by another goroutine. Breaking out of the loop closes the stream;
// the sequence is then stopped at its next item, and should end with ctx if it
// blocks.
func (r *Runner) Through(ctx context.Context, in iter.Seq2[any, error], opts ...StreamOption) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		s, err := r.Stream(ctx, opts...)
		if err != nil {
			yield(Item{}, err)
			return
		}
		go s.feed(in)
		s.All()(yield)
	}
}

// feed sends a sequence.
func (s *Stream) feed(in iter.Seq2[any, error]) {
	for v, err := range in {
		if err == nil {
			err = s.Send(v)
		}
		if err != nil {
			s.flow.CloseSend(AsError(err))
			return
		}
	}
	s.flow.CloseSend(nil)
}

// gather runs one item as a stream of its own, and returns the values of each sink in
// a list: one list, or a map of lists by node id. The values are copies if shared is
// nil, and otherwise views of shared memory. In that case gather adds the memory to
// shared, whose Release frees it.
func (r *Runner) gather(ctx context.Context, input any, shared *Shared) (any, error) {
	s := r.openStream(ctx, r.plan, streamOptions{}, nil)
	defer func() { _ = s.Close() }()
	if err := s.Send(input); err != nil {
		return nil, err
	}
	s.CloseSend()
	sinks := r.plan.Sinks()
	lists := make(map[string][]any, len(sinks))
	for _, id := range sinks {
		lists[id] = []any{}
	}
	for {
		v, sink, ok := s.flow.Next()
		if !ok {
			break
		}
		var native any
		var err error
		if shared == nil {
			native, err = v.Take("result")
		} else {
			shared.items = append(shared.items, v)
			native, err = v.View("result")
		}
		if err != nil {
			return nil, classify(err).WithNode(sink)
		}
		lists[sink] = append(lists[sink], native)
	}
	if err := s.flow.Err(); err != nil {
		return nil, flowError(err)
	}
	if len(sinks) == 1 {
		return lists[sinks[0]], nil
	}
	all := make([]any, len(sinks))
	for i, id := range sinks {
		all[i] = lists[id]
	}
	return r.plan.Gathered(all), nil
}

// flowError returns the error of a run or a stream with its kind. That of a node has
// one already.
func flowError(err error) *Error {
	if e, ok := errors.AsType[*flow.InputError](err); ok {
		return classify(e.Err).WithOperation("encode the input")
	}
	if e, ok := errors.AsType[*flow.UnevenError](err); ok {
		hint := "connect nodes that give as many items as each other"
		if !e.Ended {
			hint = "let its inputs give as many items as each other, or give the stream a larger window with runner.WithWindow"
		}
		return NewError(KindExecution, e.Error()).WithNode(e.Node).WithHint(hint)
	}
	return classify(err)
}

// largestQueue bounds the payload that each queue of a stream holds, in bytes.
const largestQueue = 64 << 20

// queueBytes returns that bound for streams with the given number of queues. All
// queues together take up to half of the shared memory, so that there is room for
// the values that nodes are making.
func queueBytes(sharedMemory int64, queues int) int64 {
	if sharedMemory == 0 {
		return largestQueue
	}
	return min(largestQueue, sharedMemory/int64(2*queues))
}
