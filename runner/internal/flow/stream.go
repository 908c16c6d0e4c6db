package flow

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
)

// ErrSendClosed is the error of a Send after CloseSend.
var ErrSendClosed = errors.New("Send after CloseSend: the stream takes no more items")

// Stream is a stream of items through a plan: a stage for each step, and a queue for
// each connection, each source and each sink. Its methods are safe for concurrent
// use.
//
// One lock guards the stream, its stages and its queues. A stream is in one of these
// states:
//
//	state    fields           Send takes items  Next
//	open     -                until CloseSend   returns items, or blocks
//	faulty   fault            no                returns the items before the fault
//	stopped  err              no                returns the items that are left, then blocks
//	ended    ended, maybe err no                returns the items that are left, then false
//
// A fault is the failure of a node. It passes through the queues behind the items
// that precede it, and stops the stream when it reaches a sink. Abort, Close and
// the end of the context stop the stream at once. A stream ends when its last goroutine
// has returned.
type Stream struct {
	plan   *Plan
	ctx    context.Context // of the calls of its nodes
	cancel context.CancelCauseFunc
	onEnd  func(error)
	done   chan struct{} // closed when the stream has ended

	sending sync.Mutex // held by Send, so that there is one at a time

	// mu guards the fields below, and those of all queues and stages.
	mu       sync.Mutex
	stages   []*stage
	in       []*queue    // the inputs of the sources
	out      []*queue    // the values of the sinks
	nextSink int         // the index of the sink that Next tries first
	sender   *sync.Cond  // Send waits for room
	receiver *sync.Cond  // Next waits for an item
	unhook   func() bool // removes the stream's hook on the context of its caller

	live       int   // goroutines of stages
	busy       int   // those of them that do not wait for a queue
	isBlocked  bool  // Send waits for room
	sendSize   int64 // for a payload of this size
	isSettling bool  // Checkpoint waits until nothing is between Send and the sinks
	sendClosed bool
	received   int    // items that Next returned
	arrivals   uint64 // slots of all queues that were filled
	fault      error
	err        error
	ended      bool
}

// Open opens a stream. Up to window items are between two nodes. The stream stops
// when ctx ends, with the cause of that. It calls onEnd once, when it has ended, with
// its failure or nil; the function must not call the stream. A stream that is not received to its end
// must be closed.
//
// Stateful nodes begin with the states of a [Checkpoint], by their ids.
func Open(ctx context.Context, p *Plan, window int, states map[string][]byte, onEnd func(error)) *Stream {
	s := &Stream{plan: p, onEnd: onEnd, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.sender, s.receiver = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	s.stages = make([]*stage, len(p.steps))
	for i := range p.steps {
		st := newStage(s, &p.steps[i], window, states[p.steps[i].id])
		s.stages[i] = st
		for _, from := range st.step.inputs {
			s.connect(s.stages[from], st, window)
		}
		if len(st.step.inputs) == 0 {
			s.in = append(s.in, s.connect(nil, st, window))
		}
		if st.step.isSink {
			s.out = append(s.out, s.connect(st, nil, window))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhook = context.AfterFunc(ctx, func() { s.Abort(context.Cause(ctx)) })
	return s
}

// connect adds a queue between two stages; nil stands for Send or Next.
func (s *Stream) connect(from, to *stage, window int) *queue {
	q := newQueue(from, to, window, s.plan.queueBytes)
	if from != nil {
		from.out = append(from.out, q)
	}
	if to != nil {
		to.in = append(to.in, q)
	}
	return q
}

// Send puts an item into the stream, after waiting for room. The item must not be
// changed afterwards. An *[InputError] concerns the item alone; any other error
// means that the stream takes no more items: [ErrSendClosed], the first fault, or
// the reason why the stream was stopped.
func (s *Stream) Send(item any) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	v := Value{Native: item}
	if s.plan.encodes {
		payload, err := ipc.Encode("input", item)
		if err != nil {
			return &InputError{err}
		}
		v.Payload, v.Encoded = payload.Checked(), true
	}
	size := int64(v.Payload.Size())
	s.mu.Lock()
	err := s.waitForRoomLocked(size)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	// The room stays free, because only Send fills these queues. Shared memory is
	// allocated only now: while Send waited, earlier items may have released some.
	var full error
	if s.plan.shares && len(v.Payload.Buffers) > 0 {
		v.Payload, full = s.plan.arena.Share(s.ctx, s.plan.domain, v.Payload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusalLocked(); err != nil {
		v.Release()
		return err
	}
	if full != nil {
		return &InputError{full}
	}
	s.putLocked(s.in, v, size)
	return nil
}

// waitForRoomLocked waits until each source can take an item of the given size.
func (s *Stream) waitForRoomLocked(size int64) error {
	for {
		if err := s.refusalLocked(); err != nil {
			return err
		}
		if haveRoom(s.in, size) {
			return nil
		}
		s.isBlocked, s.sendSize = true, size
		if !s.stopIfStuckLocked() {
			s.sender.Wait()
		}
		s.isBlocked = false
	}
}

// refusalLocked returns the reason why the stream takes no more items.
func (s *Stream) refusalLocked() error {
	switch {
	case s.err != nil:
		return s.err
	case s.fault != nil:
		return s.fault
	case s.sendClosed:
		return ErrSendClosed
	}
	return nil
}

// CloseSend ends the input. A fault that is not nil follows the last item, as the
// failure of a node would. Calls after the first one have no effect.
func (s *Stream) CloseSend(fault error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sendClosed || s.ended {
		return
	}
	s.sendClosed = true
	if fault != nil {
		s.putFaultLocked(s.in, fault)
	} else {
		for _, q := range s.in {
			s.closeLocked(q)
		}
	}
	s.sender.Broadcast()
}

// Next returns the next value with the id of its sink, after waiting for it. The
// caller releases the value. At the end of the stream ok is false: then no goroutine of
// the stream is running, and [Stream.Err] says whether it was stopped.
func (s *Stream) Next() (v Value, sink string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if q := s.readySinkLocked(); q != nil {
			v, size := q.pop()
			s.doneLocked(q, size)
			s.received++
			s.nextSink = (s.nextSink + 1) % len(s.out)
			if s.readySinkLocked() != nil || s.isDrainedLocked() {
				s.receiver.Broadcast() // for concurrent calls of Next
			}
			return s.plan.result(v), q.producer.step.id, true
		}
		s.stopAtFaultLocked()
		over := s.err != nil || s.isDrainedLocked()
		switch {
		case over && s.ended:
			return Value{}, "", false
		case over || !s.stopIfStuckLocked():
			s.receiver.Wait()
		}
	}
}

// readySinkLocked returns the queue of a sink that has a value, nil if none has. It
// begins at nextSink, so that each sink is read in turn.
func (s *Stream) readySinkLocked() *queue {
	for range s.out {
		if q := s.out[s.nextSink]; q.isReady() && !q.isFaulty() {
			return q
		}
		s.nextSink = (s.nextSink + 1) % len(s.out)
	}
	return nil
}

// stopAtFaultLocked stops the stream if a fault has reached a sink.
func (s *Stream) stopAtFaultLocked() {
	if i := slices.IndexFunc(s.out, (*queue).isFaulty); i >= 0 {
		s.stopLocked(s.out[i].front().fault)
	}
}

// isDrainedLocked reports whether all values have been received.
func (s *Stream) isDrainedLocked() bool {
	for _, q := range s.out {
		if !q.isOver() {
			return false
		}
	}
	return true
}

// Err returns the reason why the stream was stopped, nil if it was not.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Received returns how many values Next has returned.
func (s *Stream) Received() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received
}

// Abort stops the stream with an error, unless it has ended. It does not wait for
// the calls in progress, which are canceled.
func (s *Stream) Abort(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.stopLocked(err)
	}
}

// Close stops the stream with an error unless all values have been received, waits
// until nothing of it is running, and drops the values that were not received.
func (s *Stream) Close(err error) {
	s.mu.Lock()
	if !s.ended || !s.isDrainedLocked() {
		s.stopLocked(err)
	}
	s.mu.Unlock()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.out {
		q.discard(0)
	}
}

// unlockForWork releases the lock while a goroutine of a stage works outside it.
func (s *Stream) unlockForWork() {
	s.busy++
	s.mu.Unlock()
}

// lockAfterWork takes the lock again; it must follow each unlockForWork.
func (s *Stream) lockAfterWork() {
	s.mu.Lock()
	s.busy--
}

// stopLocked stops the stream, for the first reason given: calls in progress are
// canceled, and waiting goroutines return.
func (s *Stream) stopLocked(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.cancel(err)
	for _, st := range s.stages {
		st.wakeAllLocked()
	}
	s.sender.Broadcast()
	s.receiver.Broadcast()
	s.settleLocked()
}

// isStoppedLocked reports whether the stream has been stopped. It stops the stream
// itself if the context has ended: a call that failed for that reason may return before
// the stream's hook on the context has run.
func (s *Stream) isStoppedLocked() bool {
	if s.ctx.Err() != nil {
		s.stopLocked(context.Cause(s.ctx))
	}
	return s.err != nil
}

// settleLocked ends the stream once its last goroutine has returned. A stage that is
// over has by then started a goroutine of the next one, which passes the end on. The
// values that can still be received stay in the queues of the sinks.
func (s *Stream) settleLocked() {
	if s.ended || s.live > 0 {
		return
	}
	s.ended = true
	for _, q := range s.in {
		q.discard(0)
	}
	for _, st := range s.stages {
		for _, q := range st.out {
			if q.consumer == nil {
				q.discard(q.ready())
			} else {
				q.discard(0)
			}
		}
	}
	s.unhook()
	s.cancel(nil)
	close(s.done)
	s.receiver.Broadcast()
	s.onEnd(s.err)
}
