package flow

import "github.com/gophersnake/gophersnake/ipc"

// handoff carries items through a stage, one at a time. Each goroutine of a stage
// has its own.
//
// An item passes through it in one line: reserve (of a single node) → take → call →
// release the inputs → fill. A slot in each output is reserved at the moment when
// the item is taken, so the values of concurrent calls stay in order. Generators
// and sessions reserve nothing: each value waits for room when they emit it.
type handoff struct {
	stage *stage
	in    Inputs  // of the item
	sizes []int64 // of the inputs' payloads
	slots []*slot // for the value, in each output
	emit  Emit
}

func newHandoff(st *stage) *handoff {
	h := &handoff{stage: st, sizes: make([]int64, len(st.in)), slots: make([]*slot, len(st.out)), emit: st.emit}
	if rest := len(st.in) - 1; rest > 0 {
		h.in.Rest = make([]Value, rest)
	}
	return h
}

// passLocked takes an item and passes it through the node. The stage must be able to
// take one.
func (h *handoff) passLocked() {
	if h.stage.kind == Single {
		h.callLocked()
	} else {
		h.generateLocked()
	}
}

// callLocked passes an item through a single node, while other goroutines of the
// stage pass the next ones.
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
		st.lastSize = out.size()
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

// generateLocked passes an item through a generator or a session, which emit their
// values meanwhile.
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

// takeLocked takes one item from each input.
func (h *handoff) takeLocked() {
	h.in.First, h.sizes[0] = h.stage.in[0].pop()
	for i := range h.in.Rest {
		h.in.Rest[i], h.sizes[i+1] = h.stage.in[i+1].pop()
	}
}

// doneLocked makes the room of the inputs free. They have been released, or are the
// session's.
func (h *handoff) doneLocked() {
	h.in.First = Value{}
	clear(h.in.Rest)
	for i, q := range h.stage.in {
		h.stage.stream.doneLocked(q, h.sizes[i])
	}
}

// emit puts a value into all outputs, after waiting for room. It is the [Emit] of
// the node's calls.
func (st *stage) emit(payload ipc.Payload) error {
	s := st.stream
	v := Value{Payload: payload, Encoded: true}
	size := v.size()
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

func (s *Stream) fillLocked(q *queue, item *slot, v Value, size int64) {
	q.fill(item, v, size)
	if item == q.at(0) {
		s.wakeConsumerLocked(q)
	}
}

func (s *Stream) failLocked(q *queue, item *slot, fault error) {
	q.fail(item, fault)
	if item == q.at(0) {
		s.wakeConsumerLocked(q)
	}
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

// doneLocked makes the room of a taken item free, and wakes the producer.
func (s *Stream) doneLocked(q *queue, size int64) {
	q.done(size)
	switch p := q.producer; {
	case p == nil:
		s.sender.Signal()
	case p.emitting:
		p.room.Signal()
	default:
		p.wakeLocked()
	}
}
