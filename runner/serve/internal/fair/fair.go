// Package fair shares a limited number of slots between flows: between the requests of several
// clients that wait for the same workers.
//
// A waiting request belongs to a flow, and a flow to a class. Of several classes, the most
// urgent one is served first, except that a class whose requests wait gets every slot after
// the other classes got [Patience] slots. Within a class, each flow gets slots in proportion
// to its weight (weighted fair queueing), and within a flow the oldest request comes first.
// Slots are counted, not the time for which they are used. While there are free slots,
// nothing waits and nothing is counted.
package fair

import (
	"container/heap"
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// Class is a class of requests.
type Class int

// The classes, the most urgent one first.
const (
	High Class = iota
	Normal
	Low
	classes
)

// Patience is how many slots other classes get while a class waits, before it gets one.
const Patience = 16

// ErrFull is the error of a request for which there is no room in the queue.
var ErrFull = errors.New("the queue is full")

// Flow says whose request it is.
type Flow struct {
	ID     string
	Weight int // at least 1; that of the flow's last request counts
	Class  Class
}

// Queue is a number of slots and a queue of requests for them. It is safe for concurrent use.
// A request that gets a slot at once costs one lock, and one that waits O(log n) for n flows.
type Queue struct {
	length   int
	capacity func() int

	mu       sync.Mutex
	slots    int       // what capacity returned
	asked    time.Time // when it did
	used     int
	waiting  int
	arrivals uint64
	classes  [classes]class
	longest  flowHeap // the flows that have waiters, the one with the most for its weight first
	counts   Counts
}

// Counts are the figures of a [Queue].
type Counts struct {
	// Slots is the number of slots, Used that of those in use, and Waiting that of the
	// requests that wait.
	Slots, Used, Waiting int
	// Waited is the number of requests that had to wait, and Refused that of those for
	// which there was no room.
	Waited, Refused uint64
}

// class is the state of a class.
type class struct {
	now    float64          // virtual time: the mean progress of the flows that wait
	weight float64          // of all flows that wait
	flows  map[string]*flow // those that wait, and those whose start is yet to come
	ready  flowHeap         // those that wait, the next one first
	passed int              // the slots that other classes got while this one waited
	sweep  int              // the number of flows at which old ones are forgotten
}

// flow is a flow with a place in virtual time. A flow that does not wait is kept while its start
// is later than now, so that it gets no more than its share by waiting with few requests.
type flow struct {
	id      string
	class   *class
	weight  float64
	start   float64   // when its next request starts, in virtual time
	waiters list.List // of *waiter

	readyIndex, longestIndex int // in the heaps
}

// waiter is a request that waits.
type waiter struct {
	flow    *flow
	element *list.Element // nil when it does not wait any more
	arrival uint64
	err     error // valid when done is closed: nil if it got a slot
	done    chan struct{}
}

// capacityAge is how long a queue relies on the number of slots that it was told.
const capacityAge = 100 * time.Millisecond

// NewQueue returns a queue in which at most length requests wait. The function capacity returns
// the number of slots, which may change. It is called when there is no free slot, at most
// once in 100 ms, with the queue locked, so it must neither block nor use the queue.
func NewQueue(length int, capacity func() int) *Queue {
	q := &Queue{length: length, capacity: capacity}
	for i := range q.classes {
		q.classes[i].flows = make(map[string]*flow)
		q.classes[i].ready.less = startsBefore
		q.classes[i].ready.index = func(f *flow) *int { return &f.readyIndex }
	}
	q.longest.less = isLonger
	q.longest.index = func(f *flow) *int { return &f.longestIndex }
	return q
}

// TryAcquire takes a slot if one is free and nothing waits. The caller calls [Queue.Release].
func (q *Queue) TryAcquire() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tryLocked()
}

func (q *Queue) tryLocked() bool {
	if q.waiting > 0 || q.used >= q.slots && q.used >= q.askLocked() {
		return false
	}
	q.used++
	return true
}

// askLocked returns the number of slots.
func (q *Queue) askLocked() int {
	if now := time.Now(); now.Sub(q.asked) >= capacityAge {
		q.slots, q.asked = max(q.capacity(), 1), now
	}
	return q.slots
}

// Acquire waits for a slot. The caller calls [Queue.Release], unless there is an error: ErrFull, or
// the cause of the end of the context.
func (q *Queue) Acquire(ctx context.Context, of Flow) error {
	w, err := q.join(of)
	if w == nil || err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		q.leave(w)
		return context.Cause(ctx)
	}
}

// join takes a slot, or returns the waiter that waits for one.
func (q *Queue) join(of Flow) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.tryLocked() {
		return nil, nil
	}
	if q.waiting >= q.length && !q.makeRoomLocked(of) {
		q.counts.Refused++
		return nil, ErrFull
	}
	w := q.enqueueLocked(of)
	q.grantLocked() // the number of slots may have grown
	return w, nil
}

// makeRoomLocked refuses the youngest request of the flow that has the most requests for its
// weight, unless that is the flow of the new request.
func (q *Queue) makeRoomLocked(of Flow) bool {
	longest := q.longest.flows
	if len(longest) == 0 {
		return false
	}
	own := 1
	if f := q.classes[of.Class].flows[of.ID]; f != nil {
		own += f.waiters.Len()
	}
	if float64(own)/float64(max(of.Weight, 1)) >= longest[0].length() {
		return false
	}
	youngest := longest[0].youngest()
	q.removeLocked(youngest)
	q.counts.Refused++
	youngest.resolve(ErrFull)
	return true
}

func (q *Queue) enqueueLocked(of Flow) *waiter {
	c := &q.classes[of.Class]
	f := c.flows[of.ID]
	if f == nil {
		c.forgetLocked()
		f = &flow{id: of.ID, class: c, readyIndex: -1, longestIndex: -1}
		c.flows[of.ID] = f
	}
	if f.waiters.Len() > 0 {
		c.weight -= f.weight
	}
	f.weight = float64(max(of.Weight, 1))
	c.weight += f.weight
	q.arrivals++
	w := &waiter{flow: f, arrival: q.arrivals, done: make(chan struct{})}
	w.element = f.waiters.PushBack(w)
	q.waiting++
	q.counts.Waited++
	if f.waiters.Len() > 1 {
		q.longest.fix(f)
		return w
	}
	if len(c.ready.flows) == 0 {
		c.passed = 0
	}
	f.start = max(f.start, c.now)
	heap.Push(&c.ready, f)
	heap.Push(&q.longest, f)
	return w
}

// forgetLocked forgets the flows whose start is in the past. It does so when their number has
// doubled, so that a new flow costs O(1).
func (c *class) forgetLocked() {
	if len(c.flows) < max(c.sweep, 64) {
		return
	}
	for id, f := range c.flows {
		if f.waiters.Len() == 0 && f.start <= c.now {
			delete(c.flows, id)
		}
	}
	c.sweep = 2 * len(c.flows)
}

// Release gives a slot back.
func (q *Queue) Release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.releaseLocked()
}

func (q *Queue) releaseLocked() {
	q.used--
	if q.waiting > 0 {
		q.askLocked()
		q.grantLocked()
	} else if q.used == 0 {
		q.resetLocked()
	}
}

// resetLocked forgets the past of a queue that nothing uses.
func (q *Queue) resetLocked() {
	for i := range q.classes {
		c := &q.classes[i]
		if len(c.flows) > 0 {
			clear(c.flows)
		}
		c.now, c.sweep = 0, 0
	}
}

// grantLocked gives the free slots to waiters.
func (q *Queue) grantLocked() {
	for q.waiting > 0 && q.used < q.slots {
		c := q.nextClassLocked()
		f := c.ready.flows[0]
		w := f.oldest()
		c.now = max(c.now, f.start) + 1/c.weight
		f.start += 1 / f.weight
		q.removeLocked(w)
		q.used++
		w.resolve(nil)
	}
}

// nextClassLocked returns the class that gets the next slot. Some class waits.
func (q *Queue) nextClassLocked() *class {
	next := -1
	for i := range q.classes {
		c := &q.classes[i]
		if len(c.ready.flows) > 0 && (next < 0 || c.passed >= Patience) {
			next = i
		}
	}
	for i := range q.classes {
		if c := &q.classes[i]; len(c.ready.flows) > 0 {
			c.passed++
		}
	}
	q.classes[next].passed = 0
	return &q.classes[next]
}

// removeLocked takes a waiter out of the queue, and corrects the place of its flow.
func (q *Queue) removeLocked(w *waiter) {
	f := w.flow
	f.waiters.Remove(w.element)
	w.element = nil
	q.waiting--
	if f.waiters.Len() > 0 {
		f.class.ready.fix(f)
		q.longest.fix(f)
		return
	}
	f.class.weight -= f.weight
	heap.Remove(&f.class.ready, f.readyIndex)
	heap.Remove(&q.longest, f.longestIndex)
}

// leave takes a waiter whose context has ended out of the queue. If it got a slot at the same
// moment, the slot is given back.
func (q *Queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case w.element != nil:
		q.removeLocked(w)
	case w.err == nil:
		q.releaseLocked()
	}
}

func (w *waiter) resolve(err error) {
	w.err = err
	close(w.done)
}

// Counts returns the figures of the queue.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.counts
	c.Slots, c.Used, c.Waiting = q.askLocked(), q.used, q.waiting
	return c
}
