package runner

// largestQueue bounds the payload that a queue holds, in bytes.
const largestQueue = 64 << 20

// queueBytes is the bound where shared memory is limited. So many queues together
// fill half of it, so that there is room for what is being made.
func queueBytes(sharedMemory int64, queues int) int64 {
	if sharedMemory == 0 {
		return largestQueue
	}
	return min(largestQueue, sharedMemory/int64(2*queues))
}

// queue joins two stages of a stream. It holds its items from the moment when its
// producer begins to make them until its consumer is done with them: all that is
// counted, and nothing comes in beyond the window. All methods are called with the
// stream's lock held.
type queue struct {
	producer *stage // nil where Send fills it
	consumer *stage // nil where Recv empties it
	stream   *Stream

	ring    []slot // one longer than the window: a fault always has room
	head, n int    // the slots that the consumer has not taken
	taken   int    // slots that the consumer works on
	bytes   int64  // payload of both
	given   int    // items that came in so far
	shut    bool   // no more will
}

// slot is the place of one item in a queue. It is reserved before it is filled.
type slot struct {
	value  value
	size   int64 // of the payload; expected, until it is filled
	filled bool
	fault  *Error // in place of the value
}

func newQueue(s *Stream, producer, consumer *stage, window int) *queue {
	return &queue{stream: s, producer: producer, consumer: consumer, ring: make([]slot, window+1)}
}

func (q *queue) front() *slot { return &q.ring[q.head] }

// isReady reports whether the first slot can be taken.
func (q *queue) isReady() bool { return q.n > 0 && q.front().filled }

// isFaulty reports whether a fault comes next.
func (q *queue) isFaulty() bool { return q.isReady() && q.front().fault != nil }

// isOver reports whether nothing more is to be taken.
func (q *queue) isOver() bool { return q.shut && q.n == 0 }

// hasRoom reports whether an item of the given size may come in. One item always may.
func (q *queue) hasRoom(size int64) bool {
	used := q.n + q.taken
	return used == 0 || used < len(q.ring)-1 && q.bytes+size <= q.stream.plan.queueBytes
}

// reserve adds a slot to be filled later, and returns its place.
func (q *queue) reserve(size int64) int {
	at := (q.head + q.n) % len(q.ring)
	q.ring[at] = slot{size: size}
	q.n++
	q.bytes += size
	return at
}

// fill puts an item into its place, and wakes the consumer if it is the next one.
func (q *queue) fill(at int, v value, size int64) {
	it := &q.ring[at]
	q.bytes += size - it.size
	it.value, it.size, it.filled = v, size, true
	q.given++
	if at == q.head {
		q.wakeConsumer()
	}
}

// fillFault puts a fault into its place.
func (q *queue) fillFault(at int, fault *Error) {
	it := &q.ring[at]
	it.fault, it.filled = fault, true
	if at == q.head {
		q.wakeConsumer()
	}
}

// close says that nothing more comes in.
func (q *queue) close() {
	q.shut = true
	q.wakeConsumer()
}

func (q *queue) wakeConsumer() {
	switch {
	case q.consumer != nil:
		q.consumer.kick()
	case q.n == 0: // it is closed
		q.stream.receiver.Broadcast()
	default:
		q.stream.receiver.Signal()
	}
}

// pop takes the first slot's value out. Its consumer owes the queue a done.
func (q *queue) pop() (value, int64) {
	it := q.front()
	v, size := it.value, it.size
	*it = slot{}
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	q.taken++
	return v, size
}

// done says that an item has been dealt with, which makes room.
func (q *queue) done(size int64) {
	q.taken--
	q.bytes -= size
	if q.producer == nil {
		q.stream.sender.Signal()
	} else {
		q.producer.hasRoom()
	}
}

// discard releases the slots from the given one on.
func (q *queue) discard(from int) {
	for i := from; i < q.n; i++ {
		it := &q.ring[(q.head+i)%len(q.ring)]
		it.value.release()
		*it = slot{}
	}
	q.n = min(q.n, from)
}

// ready counts the slots that can be taken one after the other, up to a fault.
func (q *queue) ready() int {
	for i := range q.n {
		switch it := q.ring[(q.head+i)%len(q.ring)]; {
		case !it.filled:
			return i
		case it.fault != nil:
			return i + 1
		}
	}
	return q.n
}

// haveRoom reports whether all queues have room for an item of the given size.
func haveRoom(queues []*queue, size int64) bool {
	for _, q := range queues {
		if !q.hasRoom(size) {
			return false
		}
	}
	return true
}

// push gives an item to all queues, which all have a hold on it.
func push(queues []*queue, v value) {
	size := int64(v.payload.Size())
	v.hold(len(queues) - 1)
	for _, q := range queues {
		q.fill(q.reserve(size), v, size)
	}
}

// shut closes all queues.
func shut(queues []*queue) {
	for _, q := range queues {
		q.close()
	}
}
