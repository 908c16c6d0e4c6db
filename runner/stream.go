package runner

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
)

// Stream is a stream through a pipeline. Items go in by [Stream.Send] and come out
// by [Stream.Recv], in order, while others are under way. Send and Recv are used
// side by side: who sends much and receives nothing will wait, for a stream holds
// no more than its window.
//
// A stream that is not received to its end must be closed: it holds memory, and may
// keep workers busy, until then. Its methods are safe for concurrent use.
type Stream struct {
	runner *Runner
	plan   *plan
	ctx    context.Context // of all that the stream does
	cancel context.CancelCauseFunc
	unhook func() bool // takes the stream off its caller's context

	sending sync.Mutex // one Send at a time

	mu       sync.Mutex // guards what follows, with all queues and stages
	stages   []*stage
	in       []*queue   // what Send fills: the inputs of the sources
	out      []*queue   // what Recv empties: the results of the sinks
	turn     int        // the sink that Recv looks at first
	sender   *sync.Cond // where Send waits
	receiver *sync.Cond // where Recv waits

	live     int   // goroutines
	busy     int   // those that work, and do not wait for a queue
	blocked  bool  // Send waits for room,
	wants    int64 // so much of it
	sent     bool  // no more input
	received int   // items that Recv gave
	// fault is the first failure of a node. It travels behind the items before it, and
	// becomes err when it comes out.
	fault   *Error
	err     *Error        // why the stream ended early
	ended   bool          // nothing of it is running any more
	settled chan struct{} // closed when it has ended
}

// Item is what comes out of a stream.
type Item struct {
	// Value is a copy, as [Runner.Run] returns it.
	Value any
	// Node is the id of the sink that gave it.
	Node string
}

// StreamOption changes how [Runner.Stream] sets a stream up.
type StreamOption func(*streamOptions) error

type streamOptions struct{ window int }

const defaultWindow = 16

// LargestWindow is the largest window that [WithWindow] takes.
const LargestWindow = 4096

// WithWindow sets how many items may be under way or waiting between two nodes: those
// that the first one works on, those that wait, and those that the second one works
// on. The default is 16, or what the largest batch node takes at once.
func WithWindow(items int) StreamOption {
	return func(o *streamOptions) error {
		if items < 1 || items > LargestWindow {
			return NewError(KindManifest, fmt.Sprintf("WithWindow takes 1 to %d items, not %d", LargestWindow, items))
		}
		o.window = items
		return nil
	}
}

// Stream opens a stream through the pipeline, starting the runner where that has
// not been done. The stream ends with ctx.
func (r *Runner) Stream(ctx context.Context, opts ...StreamOption) (*Stream, error) {
	var o streamOptions
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, contextEnd(ctx)
	}
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.runs.Done()
	return r.openStream(ctx, o.window), nil
}

// Send hands the stream its next item, and waits while there is no room for it. What
// was sent must not be changed afterwards.
//
// An error that concerns the item alone, such as that it cannot be carried, does not
// end the stream. Where the stream has failed, Send returns why, which may be before
// Recv has come to it.
func (s *Stream) Send(v any) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	in := value{native: v}
	if s.plan.toPython {
		payload, err := ipc.Encode("input", v)
		if err != nil {
			return classify(err).WithOperation("encode the input")
		}
		in.payload, in.encoded = payload, true
	}
	s.mu.Lock()
	err := s.awaitRoom(int64(in.payload.Size()))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	// Only Send fills these queues, so that there will still be room. Shared memory is
	// taken now, when the items before have given theirs back.
	var full *Error
	if in.encoded {
		in.payload, full = s.plan.share(s.ctx, in.payload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusal(); err != nil { // by now
		in.release()
		return err
	}
	if full != nil {
		return full.WithOperation("encode the input")
	}
	push(s.in, in)
	return nil
}

// awaitRoom waits until all sources can take an item of the given size.
func (s *Stream) awaitRoom(size int64) error {
	for {
		if err := s.refusal(); err != nil {
			return err
		}
		if haveRoom(s.in, size) {
			return nil
		}
		s.blocked, s.wants = true, size
		if !s.isStuck() {
			s.sender.Wait()
		}
		s.blocked = false
	}
}

// refusal says why the stream takes no further input.
func (s *Stream) refusal() error {
	switch {
	case s.err != nil:
		return s.err
	case s.fault != nil:
		return s.fault
	case s.sent:
		return NewError(KindOther, "Send after CloseSend: the stream takes no more items")
	}
	return nil
}

// CloseSend says that there is no more input. It may be called twice.
func (s *Stream) CloseSend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endInput(nil)
	return nil
}

// endInput ends the input, with a fault where there is one.
func (s *Stream) endInput(fault *Error) {
	if s.sent || s.ended {
		return
	}
	s.sent = true
	if fault != nil {
		s.fail(s.in, fault)
	} else {
		shut(s.in)
	}
	s.sender.Broadcast()
}

// Recv returns the next item, and waits for it. At the end of the stream its error is
// [io.EOF]. Where the stream failed, all items before the failure come first, and
// then its error, which says in its metadata how many were "delivered". By then
// nothing of the stream is running any more.
func (s *Stream) Recv() (Item, error) {
	v, sink, err := s.next()
	if err != nil {
		return Item{}, s.report(err)
	}
	native, err := v.decode("result")
	v.release()
	if err != nil {
		e := AsError(err).WithNode(sink.node.id)
		s.abort(e)
		return Item{}, e
	}
	return Item{Value: native, Node: sink.node.id}, nil
}

// next returns what comes out next, which the caller owes a release, and its sink.
func (s *Stream) next() (value, *step, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if q := s.readyOut(); q != nil {
			v, size := q.pop()
			q.done(size)
			s.received++
			s.turn = (s.turn + 1) % len(s.out)
			if s.readyOut() != nil || s.drained() {
				s.receiver.Broadcast() // to others who receive
			}
			return v, q.producer.step, nil
		}
		over := s.faultOut() || s.err != nil || s.drained()
		switch {
		case over && s.ended:
			return value{}, nil, s.end()
		case over || !s.isStuck():
			s.receiver.Wait()
		}
	}
}

// readyOut is a sink whose result can be taken, each in turn.
func (s *Stream) readyOut() *queue {
	for range s.out {
		if q := s.out[s.turn]; q.isReady() && !q.isFaulty() {
			return q
		}
		s.turn = (s.turn + 1) % len(s.out)
	}
	return nil
}

// faultOut reports whether a fault has come out, and ends the stream with it.
func (s *Stream) faultOut() bool {
	for _, q := range s.out {
		if q.isFaulty() {
			s.stop(q.front().fault)
			return true
		}
	}
	return false
}

// drained reports whether all has come out.
func (s *Stream) drained() bool {
	for _, q := range s.out {
		if !q.isOver() {
			return false
		}
	}
	return true
}

// end is how a stream that has ended did.
func (s *Stream) end() error {
	if s.err == nil {
		return io.EOF
	}
	return s.err
}

// report adds how many items came out.
func (s *Stream) report(err error) error {
	if err == io.EOF {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return AsError(err).WithMetadata("delivered", fmt.Sprint(s.received))
}

// All receives to the end. An error is the last that it yields. Breaking off the
// loop closes the stream.
func (s *Stream) All() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		defer func() { _ = s.Close() }()
		for {
			item, err := s.Recv()
			if err == io.EOF || !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the stream at once: what is under way is cancelled, and what has not
// been received is dropped. When it returns, nothing of the stream is running. It
// may be called twice, and after the end.
func (s *Stream) Close() error {
	s.mu.Lock()
	if !s.ended || !s.drained() {
		s.stop(NewError(KindOther, "the stream is closed"))
	}
	s.mu.Unlock()
	<-s.settled
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.out {
		q.discard(0)
	}
	return nil
}

// Through feeds a sequence through a stream of its own, and yields what comes out.
// An error of the sequence ends it, behind the items before. The sequence runs on a
// goroutine of its own. When the loop is broken off, the stream is closed, and the
// sequence is stopped at its next item; it should end with ctx where it waits.
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
	var fault *Error
	for v, err := range in {
		if err == nil {
			err = s.Send(v)
		}
		if err != nil {
			fault = AsError(err)
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endInput(fault)
}
