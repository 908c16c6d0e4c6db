package flow

import (
	"fmt"
	"sync"
)

// stage is one node in a stream. It takes one item from each of its inputs and puts
// the values that the node returns for it into all of its outputs, in order.
//
// A stage starts goroutines as it needs them, up to its limit. Each of them loops
// over [stage.nextLocked], under the stream's lock:
//
//	next     when                                         the goroutine
//	wait     an input is missing, or no call may begin    sleeps until it is woken
//	take     each input has an item                       takes it; see handoff
//	finish   all inputs have ended                        finishes the session, ends the outputs
//	fault    a fault is next on an input                  passes it on to the outputs
//	uneven   some inputs have ended and others have not   puts an error into the outputs
//
// After the last three the stage is over: its goroutines return. They also return
// when the stream is stopped.
type stage struct {
	stream  *Stream
	step    *step
	kind    Kind
	session Session // of a stateful node
	in, out []*queue
	limit   int        // goroutines
	wake    *sync.Cond // idle goroutines wait for a next step
	room    *sync.Cond // the emitting goroutine waits for room

	// The stream's lock guards the fields below.

	goroutines int
	idle       int
	calls      int   // of a single node, in progress
	probing    bool  // the breaker was not closed, and no call has succeeded since
	lastSize   int64 // of the payload of the last value; negative before the first one
	emitting   bool  // a goroutine waits for room for a value
	emitSize   int64 // of that value
	over       bool  // it takes no further item
}

func newStage(s *Stream, st *step, window int) *stage {
	stage := &stage{
		stream: s, step: st, kind: st.node.Kind(), limit: window, lastSize: -1, probing: st.node.Probing(),
		wake: sync.NewCond(&s.mu), room: sync.NewCond(&s.mu),
	}
	if stage.kind != Single {
		stage.limit = 1
	}
	if stage.kind == Stateful {
		stage.session = st.node.Open()
	}
	return stage
}

// next is the next step of a stage.
type next int

const (
	nextWait next = iota
	nextTake
	nextFinish
	nextFault
	nextUneven
)

func (st *stage) nextLocked() next {
	ready, over := 0, 0
	for _, q := range st.in {
		switch {
		case q.isOver():
			over++
		case q.isFaulty():
			return nextFault
		case q.isReady():
			ready++
		}
	}
	switch {
	case over == len(st.in):
		return nextFinish
	case over > 0 && ready > 0:
		return nextUneven
	case ready == len(st.in) && (st.kind != Single || st.mayCallLocked()):
		return nextTake
	}
	return nextWait
}

// mayCallLocked reports whether a single node may be called: its value will have
// room, and the call is not one that has to wait for a probe.
func (st *stage) mayCallLocked() bool {
	return haveRoom(st.out, st.nextSizeLocked()) && (st.calls == 0 || !st.probing)
}

// nextSizeLocked estimates the payload of the next value: by the last one, or by the
// inputs before there is one.
func (st *stage) nextSizeLocked() int64 {
	if st.emitting {
		return st.emitSize
	}
	if st.lastSize >= 0 {
		return st.lastSize
	}
	size := int64(0)
	for _, q := range st.in {
		size += q.at(0).size
	}
	return size
}

// canProceedLocked reports whether the stage has a next step. Its goroutine may not
// have been scheduled yet.
func (st *stage) canProceedLocked() bool {
	if st.emitting {
		return haveRoom(st.out, st.emitSize)
	}
	return !st.over && st.nextLocked() != nextWait
}

// wakeLocked wakes or starts a goroutine if the stage has a next step.
func (st *stage) wakeLocked() {
	s := st.stream
	switch {
	case st.over || s.err != nil || st.goroutines == st.limit && st.idle == 0 || st.nextLocked() == nextWait:
	case st.idle > 0:
		st.idle--
		st.wake.Signal()
	default:
		st.goroutines++
		s.live++
		go st.run()
	}
}

// wakeAllLocked wakes all goroutines, for the stage or the stream has ended.
func (st *stage) wakeAllLocked() {
	st.idle = 0
	st.wake.Broadcast()
	st.room.Broadcast()
}

// run is the body of each goroutine.
func (st *stage) run() {
	s := st.stream
	h := newHandoff(st)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && !st.over {
		switch st.nextLocked() {
		case nextWait:
			st.idle++
			if !s.stopIfStuckLocked() {
				st.wake.Wait()
			}
		case nextTake:
			h.passLocked()
		case nextFinish:
			st.finishLocked(h)
		case nextFault:
			st.failLocked(st.inputFaultLocked())
		case nextUneven:
			st.failLocked(st.unevenLocked())
		}
	}
	if st.session != nil {
		s.unlockForWork()
		st.session.Close()
		s.lockAfterWork()
	}
	st.goroutines--
	s.live--
	s.settleLocked()
}

// finishLocked ends the stage after the end of its inputs.
func (st *stage) finishLocked(h *handoff) {
	s := st.stream
	if st.session != nil {
		s.unlockForWork()
		err := st.session.Finish(s.ctx, h.emit)
		s.lockAfterWork()
		if err != nil {
			st.failLocked(err)
			return
		}
	}
	for _, q := range st.out {
		s.closeLocked(q)
	}
	st.endLocked()
}

// failLocked ends the stage with a fault, which follows the values that the stage
// has put into its outputs.
func (st *stage) failLocked(fault error) {
	if st.stream.isStoppedLocked() {
		return
	}
	st.stream.putFaultLocked(st.out, fault)
	st.endLocked()
}

func (st *stage) endLocked() {
	st.over = true
	st.wakeAllLocked()
}

// inputFaultLocked returns the fault that is next on an input.
func (st *stage) inputFaultLocked() error {
	for _, q := range st.in {
		if q.isFaulty() {
			return q.at(0).fault
		}
	}
	return nil
}

// UnevenError is the error of a node that takes one item from each of its inputs,
// of which one gave more than another.
type UnevenError struct {
	Node          string
	Fewer, More   string // ids of two nodes that it takes inputs from
	FewerN, MoreN int    // the items that they gave
	// Ended says that the input with fewer items has ended. Otherwise it has not
	// given its next item, and the queue of the other one is full, so that the stream
	// could not continue.
	Ended bool
}

// Error says how many items each input gave.
func (e *UnevenError) Error() string {
	if e.Ended {
		return fmt.Sprintf("it takes its inputs in step, but %q ended after %d items and %q has given %d",
			e.Fewer, e.FewerN, e.More, e.MoreN)
	}
	return fmt.Sprintf("it takes its inputs in step, but %q gave %d items, of which no more may wait, when %q had given %d",
		e.More, e.MoreN, e.Fewer, e.FewerN)
}

func (st *stage) newUnevenError(fewer, more *queue, ended bool) *UnevenError {
	return &UnevenError{
		Node: st.step.id, Ended: ended,
		Fewer: fewer.producer.step.id, FewerN: fewer.given, More: more.producer.step.id, MoreN: more.given,
	}
}

// unevenLocked returns the error of inputs of which some have ended.
func (st *stage) unevenLocked() error {
	var ended, open *queue
	for _, q := range st.in {
		if q.isOver() {
			ended = q
		} else {
			open = q
		}
	}
	return st.newUnevenError(ended, open, true)
}

// stuckLocked returns the error of a stage that waits for one input while another
// one can take no more. It is nil if the stage is not in that state.
func (st *stage) stuckLocked() *UnevenError {
	var empty, full *queue
	for _, q := range st.in {
		switch {
		case q.n == 0:
			empty = q
		case q.producer != nil && !q.hasRoom(q.producer.nextSizeLocked()):
			full = q
		}
	}
	if empty == nil || full == nil {
		return nil
	}
	return st.newUnevenError(empty, full, false)
}
