package pool

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// This file assigns calls to workers. A call passes through it like this:
//
//	Call      acquires a worker, makes the call on it, and releases the worker
//	acquire   measures obtain, if the caller wants a report; see report.go
//	obtain    returns a worker that has capacity; if none has, the caller queues as a
//	          waiter, and blocks until dispatchLocked or failWaitersLocked resolves it
//	          or its context ends
//	release   takes the call off the worker's load, and assigns the freed capacity to
//	          waiters
//	moveOn    decides whether Call starts over with another worker
//
// A worker's load is the number of calls assigned to it that are not yet released,
// and its capacity is the largest load that it may have; see capacityLocked.

// Operation is what the attempts of an operation have in common. The zero value is one
// without attempts. It must not be used concurrently.
type Operation struct {
	// Alone means that the next attempt gets a worker without another call, if the node's
	// workers run several calls at a time; see quarantine.go.
	Alone bool
	// Member is the number of the member of a fused chain that runs alone, counted from 1; 0 for a
	// call of all of them, and of a node that is not in one.
	Member uint32
	// Report takes what is measured of its attempts; nil measures nothing.
	Report *Report
	// turn is its number in the order of first attempts, 0 before the first. A retry queues
	// in this order: behind what began before its operation, and ahead of what began later.
	turn uint64
}

// Call runs one call on a worker of the pool. It blocks while no worker has capacity.
// Its errors are those of [worker.Start] and [worker.Worker.Call], a *[LimitError],
// [ErrClosed], [ErrDraining], and the context's cause if that ends while it is queued.
func (p *Pool) Call(ctx context.Context, args ipc.Args, op *Operation) (ipc.Payload, error) {
	want := request{alone: op.Alone, turn: op.turn, report: op.Report}
	for {
		m, err := p.acquire(ctx, &want)
		op.turn = want.turn
		if err != nil {
			return ipc.Payload{}, want.failure(err)
		}
		result, err := m.worker.Call(ctx, worker.Op{Kind: ipc.FrameCall, Session: op.Member}, args)
		op.Report.served(err)
		p.release(m)
		if !p.moveOn(&want, m, err) {
			return result, err
		}
	}
}

// Items is Call for a node that returns many values. It passes each of them to a function
// that emit returns; see [worker.Worker.Items]. If the call is made again on another worker,
// emit is called again, and that worker yields all values again.
func (p *Pool) Items(ctx context.Context, args ipc.Args, op *Operation, emit func() func(ipc.Payload) error) error {
	want := request{alone: op.Alone, turn: op.turn, report: op.Report}
	for {
		m, err := p.acquire(ctx, &want)
		op.turn = want.turn
		if err != nil {
			return want.failure(err)
		}
		take := emit()
		if want.alone {
			take = p.noteConsumer(m, take)
		}
		err = m.worker.Items(ctx, worker.Op{Kind: ipc.FrameCall}, args, take)
		op.Report.served(err)
		p.release(m)
		if !p.moveOn(&want, m, err) {
			return err
		}
	}
}

// request is the worker that a caller asks for. The zero request asks for any worker.
type request struct {
	turn     uint64  // see Operation; acquire sets it
	pinned   *member // the only worker that will do; nil for any
	session  bool    // the caller opens a session; acquire chooses the pinned worker
	warm     bool    // a worker must exist, but no call is assigned to it
	alone    bool    // the worker must be in quarantine: the call may have ended another one
	repeated bool    // the call has been made again alone
	admitted bool    // part of something that was accepted before, so no limit refuses it
	moves    int8    // how many workers have ended before they began the call
	believed int8    // how many of these may have begun it, and had no other call to end by
	lost     error   // how the last of them ended
	report   *Report // nil if nothing is measured
}

const (
	// maxMoves bounds how often a call is moved to another worker because its worker
	// ended before it began the call. A move costs the caller no attempt of its retry
	// policy: most likely, an earlier call of that worker ended it.
	maxMoves = 16
	// maxBelieved bounds the moves of a call that was sent, and that was the worker's only
	// or first one. Such a worker ended while it was idle, or it denies that it began the
	// call. A call that ends each of its workers must not run many times.
	maxBelieved = 3
)

// moveOn reports whether the call that ended with err on m should be made again on
// another worker, and prepares the request for that. A call that was sent moves only if
// it may run twice: the worker's word that it did not begin the call proves nothing. Nor
// does its word that it had begun others, so a suspect moves once.
func (p *Pool) moveOn(r *request, m *member, err error) bool {
	if err == nil || r.moves >= maxMoves {
		return false
	}
	unbegun, suspect := m.unbegun(err), m.suspect(err)
	switch {
	case suspect != nil && !p.mayRepeat():
		return false
	case suspect != nil && suspect.Over:
	case suspect != nil && !r.alone && !r.repeated:
		r.alone, r.repeated = true, true
		p.NoteSuspect()
	case unbegun == nil, unbegun.Sent && !p.mayRepeat():
		return false
	case unbegun.Sent && !unbegun.Behind:
		if r.believed >= maxBelieved {
			return false
		}
		r.believed++
	}
	r.moves++
	r.admitted, r.lost = true, err
	r.report.moved(err)
	return true
}

// failure returns the error of a call for which acquire returned err. If the pool was
// closed after a worker had ended under the call, that worker's end says more.
func (r *request) failure(err error) error {
	if r.lost != nil && errors.Is(err, ErrClosed) {
		return r.lost
	}
	return err
}

// limited reports whether the limits of the queue apply to the request.
func (r *request) limited() bool { return !r.admitted && !r.warm }

// waiter is a queued caller. It is resolved once, with a worker or an error.
type waiter struct {
	request
	again  bool // it has had a worker before, and may stand before others that wait for longer
	since  time.Time
	member *member
	err    error
	ready  chan struct{} // closed when member or err is set
}

// resolve wakes the queued caller with a worker or an error.
func (w *waiter) resolve(m *member, err error) {
	w.member, w.err = m, err
	close(w.ready)
}

// obtain returns a worker that has capacity and assigns the call to it; the caller
// must release it afterwards. If the request is warm, nothing is assigned. It blocks
// while no worker has capacity. Its errors are the pool's refusal, a *[LimitError], a
// *[worker.UnbegunError] if the pinned worker has ended, the error of a failed start,
// and the context's cause.
func (p *Pool) obtain(ctx context.Context, from *request) (*member, error) {
	p.mu.Lock()
	if err := p.refusal; err != nil && (p.closed || !from.admitted) {
		p.mu.Unlock()
		return nil, err
	}
	again := from.turn != 0
	if !again {
		p.turns++
		from.turn = p.turns
	}
	want := *from
	want.alone = want.alone && p.sharesWorkersLocked()
	if want.session && !want.alone {
		want.pinned = p.sessionWorkerLocked()
	}
	if m := p.pickLocked(want); m != nil {
		if !want.warm {
			p.assignLocked(m)
		}
		p.unlock()
		return m, nil
	}
	if m := want.pinned; m != nil && m.ended {
		p.mu.Unlock()
		return nil, &worker.UnbegunError{Exit: m.worker.Exit()}
	}
	if err := p.refuseFullLocked(want); err != nil {
		p.unlock()
		return nil, err
	}
	w := &waiter{request: want, again: again, since: p.clock.now(), ready: make(chan struct{})}
	p.enqueueLocked(w)
	p.unlock()

	select {
	case <-w.ready:
		return w.member, w.err
	case <-ctx.Done():
		p.leave(w)
		return nil, context.Cause(ctx)
	}
}

// leave withdraws a waiter whose context has ended. If a worker was assigned to it at
// the same moment, the assignment is undone.
func (p *Pool) leave(w *waiter) {
	p.mu.Lock()
	defer p.unlock()
	i := slices.Index(p.queue, w)
	switch {
	case i >= 0:
		p.queue = slices.Delete(p.queue, i, i+1)
		p.dirty = p.dirty || p.drained != nil
	case w.err == nil && !w.warm && w.member.worker.Alive():
		p.unassignLocked(w.member)
	}
}

// release takes a call that has returned off its worker's load.
func (p *Pool) release(m *member) {
	p.mu.Lock()
	defer p.unlock()
	if !m.worker.Alive() {
		return // watch handles the worker's end
	}
	now := p.clock.now()
	p.latency.add(now.Sub(m.lastActive))
	m.lastActive = now
	if p.failures.count > 0 && m.generation == p.generation { // an answer ends the backoff
		p.failures, p.dirty = backoff{}, true
	}
	p.unassignLocked(m)
}

// unassignLocked takes a call off a worker's load and assigns the freed capacity to
// waiters.
func (p *Pool) unassignLocked(m *member) {
	m.load--
	p.dispatchLocked(m)
	p.dirty = p.dirty || p.drained != nil
}

// pickLocked returns a worker with capacity for the request, nil if there is none: an
// idle one, or else the one with the smallest load.
func (p *Pool) pickLocked(want request) *member {
	if m := want.pinned; m != nil {
		if !m.ended && m.worker.Alive() && m.load < p.capacityLocked(m) {
			return m
		}
		return nil
	}
	if want.alone {
		return p.quarantineLocked()
	}
	for i := len(p.idle) - 1; i >= 0; i-- {
		if m := p.idle[i]; m.worker.Alive() {
			return m
		}
	}
	capacity := p.capacityLocked(nil)
	if want.warm {
		capacity = math.MaxInt // no call is assigned
	}
	if capacity == 1 {
		return nil
	}
	var best *member
	for _, m := range p.members {
		if m.role == RoleServing && m.load < capacity && m.worker.Alive() && (best == nil || m.load < best.load) {
			best = m
		}
	}
	return best
}

// capacityLocked returns how many calls a worker may have at a time; nil stands for one that
// serves.
func (p *Pool) capacityLocked(m *member) int {
	d := &p.description
	switch {
	case m != nil && m.role == RoleQuarantine:
		return 1
	case d.Batch > 0:
		return 2 * d.Batch // the next batch is gathered while the worker runs one
	case d.Concurrency > 1:
		return d.Concurrency
	case d.Many || d.Stateful:
		return 1 // a call takes as long as its consumer does, so none should wait behind it
	case p.config.Max == 1 && p.mayRepeat():
		return p.latency.ahead()
	}
	// With several workers, no call should wait behind a slow one. A call that may not run
	// twice should not be lost with the worker because of another call.
	return 1
}

// mayRepeat reports whether a call may run twice.
func (p *Pool) mayRepeat() bool { return p.config.MayRepeat != nil && p.config.MayRepeat() }

// assignLocked adds a call to a worker's load.
func (p *Pool) assignLocked(m *member) {
	if m.load == 0 {
		if i := len(p.idle) - 1; i >= 0 && p.idle[i] == m {
			p.idle = p.idle[:i]
		} else {
			p.idle = without(p.idle, m)
		}
		m.lastActive = p.clock.now() // the latency of its next call counts from here
	}
	m.load++
	m.calls++
	if p.config.MaxCalls > 0 {
		p.checkCallsLocked(m)
	}
}

// dispatchLocked assigns queued calls to a worker while it has capacity. A worker that
// has no call then is parked.
func (p *Pool) dispatchLocked(m *member) {
	for i := 0; i < len(p.queue) && m.load < p.capacityLocked(m); {
		w := p.queue[i]
		if !m.takes(w) {
			i++
			continue
		}
		if !w.warm {
			p.assignLocked(m)
		}
		w.resolve(m, nil)
		p.dequeueLocked(i)
	}
	if m.load == 0 {
		p.parkLocked(m)
	}
}

// enqueueLocked adds a waiter to the queue in the order of turns, and requires a reconcile if
// the pool can start a worker for it.
func (p *Pool) enqueueLocked(w *waiter) {
	i := len(p.queue)
	for i > 0 && p.queue[i-1].turn > w.turn {
		i--
	}
	p.queue = slices.Insert(p.queue, i, w)
	if p.serving+p.starting < p.config.Max {
		p.wanted, p.dirty, p.urgent = true, true, true
	}
	p.dirty = p.dirty || w.alone
	if p.config.QueueWait > 0 && w.limited() {
		p.setTimerLocked(w.since.Add(p.config.QueueWait))
	}
}

// shiftedQueue is the length up to which the queue is shifted if its first waiter leaves, so
// that a short one needs no further memory. To shift a long one would take a time that grows
// with it.
const shiftedQueue = 64

// dequeueLocked removes a waiter from the queue.
func (p *Pool) dequeueLocked(i int) {
	if i == 0 && len(p.queue) > shiftedQueue {
		p.queue[0] = nil
		p.queue = p.queue[1:]
		return
	}
	p.queue = slices.Delete(p.queue, i, i+1)
}

// waitsSinceLocked returns since when a waiter that is pinned to no worker, and need not be
// alone, has waited for longest. It is the zero time if there is none.
func (p *Pool) waitsSinceLocked() (since time.Time) {
	for _, w := range p.queue {
		if w.pinned != nil || w.alone {
			continue
		}
		if since.IsZero() || w.since.Before(since) {
			since = w.since
		}
		if !w.again {
			break // the others queued later, or have waited before
		}
	}
	return since
}

// failWaitersLocked resolves the waiters that are pinned to m with an error. If m is
// nil, these are the waiters that are pinned to no worker: those that must be alone, or
// the others.
func (p *Pool) failWaitersLocked(m *member, alone bool, err error) {
	p.queue = slices.DeleteFunc(p.queue, func(w *waiter) bool {
		if w.pinned != m || m == nil && w.alone != alone {
			return false
		}
		w.resolve(nil, err)
		return true
	})
}

// unpinLocked unpins the waiters that are to open a session on a worker that takes no
// further ones, so that any worker may have them. The calls of its open sessions stay
// pinned.
func (p *Pool) unpinLocked(m *member) {
	for _, w := range p.queue {
		if w.pinned == m && w.session {
			w.pinned, p.dirty = nil, true
		}
	}
}

// demandLocked counts, up to Max, the waiters that are pinned to no worker and have
// waited for ScaleAfter. If no worker serves or starts, they count at once.
func (p *Pool) demandLocked(now time.Time) int {
	n := 0
	for _, w := range p.queue {
		if w.pinned != nil || w.alone {
			continue
		}
		if at := w.since.Add(p.config.ScaleAfter); now.Before(at) && p.serving+p.starting > 0 {
			p.timer.requireBy(at)
			if w.again {
				continue
			}
			break // the others queued later
		}
		if n++; n >= p.config.Max {
			break
		}
	}
	return n
}

// latency estimates how long a call of the node takes, and from that how many calls
// its only worker may have at a time. A node with short calls gains most of its speed
// this way: its next call has already arrived when it sends an answer, and several calls
// pass through the socket together. A node with long calls would gain nothing, and its
// callers can leave the pool's queue at no cost.
type latency struct {
	mean time.Duration // exponential moving average over about 16 calls
}

const (
	// workAhead is how much work, by the estimate, may be assigned to a worker.
	workAhead = 2 * time.Millisecond
	// maxAhead bounds the number of calls in it, to what both sockets' buffers hold.
	maxAhead = 64
)

// newLatency returns an estimate that allows one call at a time, until calls turn out
// to be short.
func newLatency() latency { return latency{mean: workAhead} }

// add takes a call's latency into account. For a call that was assigned ahead, it
// counts from the answer to the call before it.
func (l *latency) add(took time.Duration) { l.mean += (took - l.mean) / 16 }

// ahead returns how many calls a worker may have at a time.
func (l *latency) ahead() int {
	return int(min(maxAhead, max(1, workAhead/max(l.mean, 1))))
}

// without removes a worker from a list, in place.
func without(members []*member, m *member) []*member {
	return slices.DeleteFunc(members, func(other *member) bool { return other == m })
}
