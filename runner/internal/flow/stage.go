package flow

import (
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
)

// stage is one node in a stream. It takes one item from each of its inputs and puts
// the values that the node returns for it into all of its outputs, in order. A stage that
// merges takes an item from one of its inputs at a time: the one that arrived first.
//
// A stage starts goroutines as it needs them, up to its limit. Each of them loops
// over [stage.nextLocked], under the stream's lock:
//
//	next     when                                         the goroutine
//	wait     an input is missing, or no call may begin    sleeps until it is woken
//	take     each input has an item; to merge, one has    takes it; see handoff
//	finish   all inputs have ended                        finishes the session, ends the outputs
//	fault    a fault is next on an input                  passes it on to the outputs
//	uneven   some inputs have ended and others have not   puts an error into the outputs;
//	                                                      not if the stage merges
//	save     a checkpoint waits for the state             saves it; no item is in the stage
//
// After finish, fault and uneven the stage is over: its goroutines return. They also return
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
	saving     bool  // a checkpoint waits for the state of the session
	state      []byte
	over       bool // it takes no further item
}

func newStage(s *Stream, st *step, window int, state []byte) *stage {
	stage := &stage{
		stream: s, step: st, kind: st.node.Kind(), limit: window, lastSize: -1, probing: st.node.Probing(),
		wake: sync.NewCond(&s.mu), room: sync.NewCond(&s.mu),
	}
	if stage.kind != Single {
		stage.limit = 1
	}
	if stage.kind == Stateful {
		stage.session = st.node.Open(state)
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
	nextSave
)

// nextLocked returns the next step of the stage, by the table above.
func (st *stage) nextLocked() next {
	if st.saving {
		return nextSave
	}
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
	needed := len(st.in)
	if st.step.merges {
		needed = 1
	}
	switch {
	case over == len(st.in):
		return nextFinish
	case over > 0 && ready > 0 && !st.step.merges:
		return nextUneven
	case ready >= needed && (st.kind != Single || st.mayCallLocked()):
		return nextTake
	}
	return nextWait
}

// mayCallLocked reports whether a single node may be called: there is room for its
// value, and no probe of its breaker is under way.
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
	if st.step.merges {
		return st.earliestLocked().front().size
	}
	size := int64(0)
	for _, q := range st.in {
		size += q.front().size
	}
	return size
}

// earliestLocked returns the input of a stage that merges whose next item arrived before
// those of the others. At least one input must be ready, or none may have an item.
func (st *stage) earliestLocked() *queue {
	earliest := st.in[0]
	for _, q := range st.in[1:] {
		if q.isReady() && (!earliest.isReady() || q.front().arrival < earliest.front().arrival) {
			earliest = q
		}
	}
	return earliest
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

// wakeAllLocked wakes all goroutines, because the stage or the stream has ended.
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
			if st.kind == Single {
				h.callLocked()
			} else {
				h.generateLocked()
			}
		case nextFinish:
			st.finishLocked(h)
		case nextFault:
			st.failLocked(st.inputFaultLocked())
		case nextUneven:
			st.failLocked(st.unevenLocked())
		case nextSave:
			st.saveLocked()
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

// endLocked marks the stage as over, so that its goroutines return.
func (st *stage) endLocked() {
	st.over = true
	st.wakeAllLocked()
}

// inputFaultLocked returns the fault that is next on an input.
func (st *stage) inputFaultLocked() error {
	for _, q := range st.in {
		if q.isFaulty() {
			return q.front().fault
		}
	}
	return nil
}

// handoff passes items through a stage, one at a time. Each goroutine of a stage has its
// own.
//
// For a single node the order is: reserve → take → call → release the inputs → fill.
// A slot in each output is reserved when the item is taken, so the values of concurrent
// calls stay in order. For generators and sessions nothing is reserved: each value waits
// for room when it is emitted.
type handoff struct {
	stage *stage
	in    Inputs  // of the item
	from  *queue  // of the item, if the stage merges
	sizes []int64 // of the inputs' payloads
	slots []*slot // for the value, in each output
	emit  Emit
}

func newHandoff(st *stage) *handoff {
	h := &handoff{stage: st, sizes: make([]int64, len(st.in)), slots: make([]*slot, len(st.out)), emit: st.emit}
	if rest := len(st.in) - 1; rest > 0 && !st.step.merges {
		h.in.Rest = make([]Value, rest)
	}
	return h
}

// callLocked takes an item and passes it through a single node, while other
// goroutines of the stage pass the next ones.
func (h *handoff) callLocked() {
	st, s := h.stage, h.stage.stream
	size := st.nextSizeLocked()
	for i, q := range st.out {
		h.slots[i] = q.reserve(size)
	}
	h.takeLocked()
	st.calls++
	st.wakeLocked() // a goroutine for the next item

	s.unlockForWork()
	out, err := st.step.node.Call(s.ctx, h.in)
	h.in.Release()
	s.lockAfterWork()

	st.calls--
	h.doneLocked()
	switch {
	case err == nil:
		st.probing = false
		st.lastSize = int64(out.Payload.Size())
		out.retain(len(st.out) - 1)
		for i, q := range st.out {
			s.fillLocked(q, h.slots[i], out, st.lastSize)
		}
	case !s.isStoppedLocked():
		for i, q := range st.out {
			s.failLocked(q, h.slots[i], err)
		}
		s.noteFaultLocked(err)
		st.endLocked()
	}
}

// generateLocked takes an item and passes it through a generator or a session, which
// emits its values meanwhile.
func (h *handoff) generateLocked() {
	st, s := h.stage, h.stage.stream
	h.takeLocked()

	s.unlockForWork()
	var err error
	if st.session != nil {
		err = st.session.Item(s.ctx, h.in, h.emit)
	} else {
		err = st.step.node.Generate(s.ctx, h.in, h.emit)
		h.in.Release()
	}
	s.lockAfterWork()

	h.doneLocked()
	if err != nil {
		st.failLocked(err)
	}
}

// takeLocked takes one item from each input, or the earliest one if the stage merges.
func (h *handoff) takeLocked() {
	if h.stage.step.merges {
		h.from = h.stage.earliestLocked()
		h.in.First, h.sizes[0] = h.from.pop()
		return
	}
	h.in.First, h.sizes[0] = h.stage.in[0].pop()
	for i := range h.in.Rest {
		h.in.Rest[i], h.sizes[i+1] = h.stage.in[i+1].pop()
	}
}

// doneLocked frees the room of the inputs, which have been released, or which the
// session owns.
func (h *handoff) doneLocked() {
	h.in.First = Value{}
	clear(h.in.Rest)
	if h.from != nil {
		h.stage.stream.doneLocked(h.from, h.sizes[0])
		h.from = nil
		return
	}
	for i, q := range h.stage.in {
		h.stage.stream.doneLocked(q, h.sizes[i])
	}
}

// emit puts a value into all outputs, after waiting for room. It is the [Emit] of
// the node's calls.
func (st *stage) emit(payload ipc.Payload) error {
	s := st.stream
	v := Value{Payload: payload, Encoded: true}
	size := int64(v.Payload.Size())
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && !haveRoom(st.out, size) {
		st.emitting, st.emitSize = true, size
		s.busy--
		if !s.stopIfStuckLocked() {
			st.room.Wait()
		}
		s.busy++
		st.emitting = false
	}
	if s.err != nil {
		payload.Release()
		return s.err
	}
	s.putLocked(st.out, v, size)
	return nil
}

// putLocked puts a value into queues that have room for it.
func (s *Stream) putLocked(queues []*queue, v Value, size int64) {
	v.retain(len(queues) - 1)
	for _, q := range queues {
		s.fillLocked(q, q.reserve(size), v, size)
	}
}

// putFaultLocked puts a fault into queues, behind the items that they hold.
func (s *Stream) putFaultLocked(queues []*queue, fault error) {
	for _, q := range queues {
		s.failLocked(q, q.reserve(0), fault)
	}
	s.noteFaultLocked(fault)
}

// noteFaultLocked makes Send return the first fault.
func (s *Stream) noteFaultLocked(fault error) {
	if s.fault == nil {
		s.fault = fault
	}
	s.sender.Broadcast()
}

// fillLocked puts a value into a reserved slot. It wakes the consumer if the slot is the
// next one that it takes.
func (s *Stream) fillLocked(q *queue, item *slot, v Value, size int64) {
	q.fill(item, v, size)
	s.stampLocked(item)
	if item == q.front() {
		s.wakeConsumerLocked(q)
	}
}

// failLocked is fillLocked for a fault.
func (s *Stream) failLocked(q *queue, item *slot, fault error) {
	q.fail(item, fault)
	s.stampLocked(item)
	if item == q.front() {
		s.wakeConsumerLocked(q)
	}
}

// stampLocked notes when a slot was filled.
func (s *Stream) stampLocked(item *slot) {
	s.arrivals++
	item.arrival = s.arrivals
}

// closeLocked ends a queue: no further item is put into it.
func (s *Stream) closeLocked(q *queue) {
	q.closed = true
	s.wakeConsumerLocked(q)
}

// wakeConsumerLocked wakes the consumer of a queue whose first item can be taken now,
// or which has ended.
func (s *Stream) wakeConsumerLocked(q *queue) {
	switch {
	case q.consumer != nil:
		q.consumer.wakeLocked()
	case q.n == 0:
		s.receiver.Broadcast()
	default:
		s.receiver.Signal()
	}
}

// doneLocked frees the room of a taken item, and wakes the producer.
func (s *Stream) doneLocked(q *queue, size int64) {
	q.done(size)
	if s.isSettling {
		s.sender.Broadcast()
	}
	switch p := q.producer; {
	case p == nil:
		s.sender.Signal()
	case p.emitting:
		p.room.Signal()
	default:
		p.wakeLocked()
	}
}
