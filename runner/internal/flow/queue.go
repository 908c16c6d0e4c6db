package flow

// queue holds the items between two stages of a stream in order. It is a plain data
// structure, which the stream's lock guards. Its methods wake no goroutine; the methods
// of [Stream] that call them do.
//
// An item counts against the window and the bytes of the queue from before it is
// made until its consumer has finished with it:
//
//	state     begins with  the item
//	reserved  reserve      is being made by the producer
//	filled    fill, fail   waits for the consumer; a fault takes the place of a value
//	taken     pop          is being used by the consumer
//	(gone)    done         makes room for another one
//
// fail needs no room: the ring has one slot more than the window. discard drops
// items that nothing will take.
type queue struct {
	producer *stage // nil if Send fills the queue
	consumer *stage // nil if Next empties it

	maxBytes int64
	ring     []slot
	head, n  int   // the slots that are reserved or filled
	taken    int   // items
	bytes    int64 // of payload, in all three states
	produced int   // values that were filled in so far
	closed   bool  // no further item is reserved
}

// slot is one item that is reserved or filled.
type slot struct {
	value  Value
	size   int64 // of the payload; an estimate until the slot is filled
	filled bool
	fault  error // in place of the value
	// arrival is when the slot was filled, as the number of slots that were before.
	arrival uint64
}

func newQueue(producer, consumer *stage, window int, maxBytes int64) *queue {
	return &queue{producer: producer, consumer: consumer, ring: make([]slot, window+1), maxBytes: maxBytes}
}

// at returns the i-th of the slots that are reserved or filled.
func (q *queue) at(i int) *slot { return &q.ring[(q.head+i)%len(q.ring)] }

// front returns the first of these slots.
func (q *queue) front() *slot { return &q.ring[q.head] }

// isReady reports whether the first item can be taken. It may be a fault.
func (q *queue) isReady() bool { return q.n > 0 && q.ring[q.head].filled }

// isFaulty reports whether a fault is next.
func (q *queue) isFaulty() bool { return q.n > 0 && q.ring[q.head].fault != nil }

// isOver reports whether no item is left and none will be added.
func (q *queue) isOver() bool { return q.closed && q.n == 0 }

// haveRoom reports whether an item of the given size may be added to each queue. An
// empty queue takes an item of any size.
func haveRoom(queues []*queue, size int64) bool {
	for _, q := range queues {
		used := q.n + q.taken
		if used > 0 && (used >= len(q.ring)-1 || q.bytes+size > q.maxBytes) {
			return false
		}
	}
	return true
}

// reserve adds an item whose value follows later, by fill or fail, and returns its slot.
func (q *queue) reserve(size int64) *slot {
	item := &q.ring[(q.head+q.n)%len(q.ring)]
	*item = slot{size: size}
	q.n++
	q.bytes += size
	return item
}

// fill puts a value into a reserved slot.
func (q *queue) fill(item *slot, v Value, size int64) {
	q.bytes += size - item.size
	item.value, item.size, item.filled = v, size, true
	q.produced++
}

// fail puts a fault into a reserved slot.
func (q *queue) fail(item *slot, fault error) {
	item.fault, item.filled = fault, true
}

// pop takes the first value out. The consumer calls done with its size when it has
// finished with it.
func (q *queue) pop() (v Value, size int64) {
	item := &q.ring[q.head]
	v, size = item.value, item.size
	*item = slot{}
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	q.taken++
	return v, size
}

// done frees the room of a taken item.
func (q *queue) done(size int64) {
	q.taken--
	q.bytes -= size
}

// ready counts the items at the front that can be taken without waiting, up to and
// including a fault.
func (q *queue) ready() int {
	for i := range q.n {
		switch item := q.at(i); {
		case !item.filled:
			return i
		case item.fault != nil:
			return i + 1
		}
	}
	return q.n
}

// discard drops all items after the first ones, of which it keeps the given number, and
// releases their values.
func (q *queue) discard(first int) {
	for i := first; i < q.n; i++ {
		item := q.at(i)
		item.value.Release()
		*item = slot{}
	}
	q.n = min(q.n, first)
}
