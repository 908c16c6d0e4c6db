package runner

import (
	"fmt"
	"slices"
	"sync"

	"github.com/gophersnake/gophersnake/retry"
)

// stage is a node in a stream. It takes an item from each of its inputs, in step,
// and gives what comes of them to all its outputs, in order.
//
// A stage has up to limit goroutines, which are started as they are needed. Each
// takes an item and, in the same moment, reserves the place of its result, so that
// results are in order whoever is done first. The stages with a serial handler have
// one goroutine. The fields are guarded by the stream's lock.
type stage struct {
	stream *Stream
	step   *step
	serial serial // nil where an item gives one value, and many can be under way
	// restores says that the node's state can be had back. It is as the stream began,
	// whatever a reload brings.
	restores bool
	in, out  []*queue
	limit    int

	calls   int        // under way, where they are not one by one
	probing bool       // the breaker was open, and no call has succeeded since
	workers int        // goroutines
	idle    int        // those that wait for something to do
	wake    *sync.Cond // where they wait
	room    *sync.Cond // where the one of a serial stage waits for room
	pushing bool       // it does
	size    int64      // of that for which it does
	over    bool       // it takes nothing more

	expect int64 // the size of the next result: that of the last one
	gave   bool  // there was a last one
}

// serial is how a stage deals with items one by one, each giving any number of
// values. It is called without the stream's lock, by one goroutine.
type serial interface {
	// item deals with one item, whose payloads remain the stage's.
	item(inputs []value) error
	// finish is called when the input has come to its end.
	finish() error
	// close is called at the end, whichever way it came.
	close()
}

func newStage(s *Stream, st *step, window int) *stage {
	settings := st.node.entry.settings.Load()
	stage := &stage{
		stream: s, step: st, limit: window,
		wake: sync.NewCond(&s.mu), room: sync.NewCond(&s.mu),
		probing: settings.breaker.State() != retry.Closed,
	}
	d := st.node.description.Load()
	switch {
	case d == nil: // it is written in Go
	case d.Stateful:
		stage.serial, stage.limit, stage.restores = &session{stage: stage}, 1, d.Restores && settings.idempotent
	case d.Many:
		stage.serial, stage.limit = generator{stage}, 1
	}
	return stage
}

// prospect is what a stage can do next.
type prospect int

const (
	wait    prospect = iota
	work             // an item can be taken
	finish           // the input has come to its end
	broken           // a fault comes next
	unequal          // one input has come to its end before another one
)

func (st *stage) prospect() prospect {
	ready, over := 0, 0
	for _, q := range st.in {
		switch {
		case q.isOver():
			over++
		case q.isFaulty():
			return broken
		case q.isReady():
			ready++
		}
	}
	switch {
	case over == len(st.in):
		return finish
	case over > 0 && ready > 0:
		return unequal
	case ready == len(st.in) && (st.serial != nil || st.mayCall()):
		return work
	}
	return wait
}

// mayCall reports whether one more call may begin: its result will have a place, and
// it is not the first one that is to show whether the node is well again.
func (st *stage) mayCall() bool {
	return haveRoom(st.out, st.expected()) && (st.calls == 0 || !st.probing)
}

// expected is the size of the next result, as far as can be known: that of the last
// one, or else that of the input.
func (st *stage) expected() int64 {
	if st.gave {
		return st.expect
	}
	size := int64(0)
	for _, q := range st.in {
		size += q.front().size
	}
	return size
}

// canGoOn reports whether the stage has something to do, though it may not have come
// to it yet.
func (st *stage) canGoOn() bool {
	if st.pushing {
		return haveRoom(st.out, st.size)
	}
	return !st.over && st.prospect() != wait
}

// imbalance returns an input that is waited for, and one that can take no more. Both
// are found where the stage is in the way of the whole stream.
func (st *stage) imbalance() (starved, full *queue) {
	for _, q := range st.in {
		switch {
		case q.n == 0:
			starved = q
		case q.producer != nil && !q.hasRoom(q.producer.needs()):
			full = q
		}
	}
	return starved, full
}

// needs is the size of what the stage would give next.
func (st *stage) needs() int64 {
	if st.pushing {
		return st.size
	}
	return st.expected()
}

// kick has one more goroutine look for something to do, if there is something.
func (st *stage) kick() {
	s := st.stream
	if st.over || s.err != nil || st.workers == st.limit && st.idle == 0 || st.prospect() == wait {
		return
	}
	if st.idle > 0 {
		st.idle--
		st.wake.Signal()
		return
	}
	st.workers++
	s.live++
	go st.run()
}

// hasRoom is told that an output may have room.
func (st *stage) hasRoom() {
	if st.pushing {
		st.room.Signal()
	} else {
		st.kick()
	}
}

func (st *stage) wakeAll() {
	st.idle = 0
	st.wake.Broadcast()
	st.room.Broadcast()
}

// run is a goroutine of the stage.
func (st *stage) run() {
	s := st.stream
	h := newHand(st)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && !st.over {
		switch st.prospect() {
		case wait:
			st.idle++
			if !s.isStuck() {
				st.wake.Wait()
			}
		case work:
			h.work()
		case finish:
			h.finish()
		case broken:
			st.fail(st.inputFault())
		case unequal:
			st.fail(st.inequality())
		}
	}
	if st.serial != nil {
		s.unlocked(st.serial.close)
	}
	st.workers--
	s.live--
	s.settle()
}

// unlocked runs something without the lock, which counts as work.
func (s *Stream) unlocked(do func()) {
	s.busy++
	s.mu.Unlock()
	do()
	s.mu.Lock()
	s.busy--
}

// fail ends the stage, and puts a fault behind what it gave.
func (st *stage) fail(fault *Error) {
	if st.halts() {
		return
	}
	st.stream.fail(st.out, fault)
	st.end()
}

// halts reports whether the stream has been stopped. A call that failed because its
// context ended may come to it first.
func (st *stage) halts() bool {
	s := st.stream
	if s.ctx.Err() != nil {
		s.stop(contextEnd(s.ctx))
	}
	return s.err != nil
}

// end has the stage take nothing more.
func (st *stage) end() {
	st.over = true
	st.wakeAll()
}

// inputFault is the fault that comes next.
func (st *stage) inputFault() *Error {
	return st.in[slices.IndexFunc(st.in, (*queue).isFaulty)].front().fault
}

// inequality is the error of a stage one of whose inputs ended before another.
func (st *stage) inequality() *Error {
	var ended, goesOn *queue
	for _, q := range st.in {
		if q.isOver() {
			ended = q
		} else {
			goesOn = q
		}
	}
	return NewError(KindExecution, fmt.Sprintf("it takes its inputs in step, but %q ended after %d items and %q has given %d",
		ended.producer.step.node.id, ended.given, goesOn.producer.step.node.id, goesOn.given)).
		WithNode(st.step.node.id).
		WithHint("connect nodes that give as many items as each other")
}
