package pool

import (
	"context"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/runner/worker"
)

// member is a worker of the pool. All of it is guarded by the pool's lock.
type member struct {
	worker      *worker.Worker
	load        int       // calls that it has
	sessions    int       // those that are open on it
	lastSession uint32    // the number of the last one
	served      time.Time // when it answered last
}

// waiter is a caller in line; it receives a worker or an error, once.
type waiter struct {
	pinned *member // the only worker that will do; nil for any
	member *member
	err    error
	ready  chan struct{}
}

func (w *waiter) serve(m *member, err error) {
	w.member, w.err = m, err
	close(w.ready)
}

// acquire returns a worker that has room for a call, or the one given once it has.
func (p *Pool) acquire(ctx context.Context, pinned *member) (*member, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if m := p.withRoom(pinned); m != nil {
		p.take(m)
		p.mu.Unlock()
		return m, nil
	}
	if _, alive := p.alive[pinned]; pinned != nil && !alive {
		p.mu.Unlock()
		<-pinned.worker.Done()
		return nil, &worker.UnbegunError{Exit: pinned.worker.Exit()}
	}
	me := &waiter{pinned: pinned, ready: make(chan struct{})}
	p.waiters = append(p.waiters, me)
	p.growForWaiters()
	p.mu.Unlock()

	select {
	case <-me.ready:
		return me.member, me.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.waiters, me)
	if i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	}
	p.mu.Unlock()
	if i < 0 { // served at the same moment
		<-me.ready
		if me.err == nil {
			p.release(me.member, false)
		}
	}
	return nil, context.Cause(ctx)
}

// The functions below are called with p.mu held, but for release.

// withRoom finds the worker for a call: an idle one, or else the one that has most
// room.
func (p *Pool) withRoom(pinned *member) *member {
	if pinned != nil {
		if _, alive := p.alive[pinned]; alive && pinned.worker.Alive() && pinned.load < p.room() {
			return pinned
		}
		return nil
	}
	for i := len(p.idle) - 1; i >= 0; i-- {
		if m := p.idle[i]; m.worker.Alive() {
			return m
		} // else its watcher is about to say so
	}
	room := p.room()
	if room == 1 {
		return nil
	}
	var best *member
	for m := range p.alive {
		if m.load < room && m.worker.Alive() && (best == nil || m.load < best.load) {
			best = m
		}
	}
	return best
}

// room is how many calls a worker may have.
func (p *Pool) room() int {
	d := &p.description
	switch {
	case d.Many || d.Stateful:
		return 1
	case d.Batch > 0:
		return 2 * d.Batch // the next one is gathered while one is worked on
	case d.Concurrency > 1:
		return d.Concurrency
	case p.config.Max == 1:
		return p.pace.ahead()
	}
	return 1 // where there are several workers, a slow call is to hold nobody up
}

// take gives a worker a call.
func (p *Pool) take(m *member) {
	if m.load == 0 {
		if i := len(p.idle) - 1; i >= 0 && p.idle[i] == m {
			p.idle = p.idle[:i]
		} else {
			p.idle = slices.DeleteFunc(p.idle, func(other *member) bool { return other == m })
		}
		m.served = time.Now() // it has had nothing to do
	}
	m.load++
}

// release takes a call back from a worker, after it was made or without.
func (p *Pool) release(m *member, called bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.load--
	if _, here := p.alive[m]; !here || !m.worker.Alive() {
		return // its watcher sees to the rest
	}
	if called {
		p.setbacks = 0 // it has answered
		now := time.Now()
		p.pace.add(now.Sub(m.served))
		m.served = now
	}
	p.put(m)
}

// put hands the room that a worker has to the callers in line, or keeps it.
func (p *Pool) put(m *member) {
	for at := 0; at < len(p.waiters) && m.load < p.room(); {
		w := p.waiters[at]
		if w.pinned != nil && w.pinned != m {
			at++
			continue
		}
		p.take(m)
		w.serve(m, nil)
		p.waiters = slices.Delete(p.waiters, at, at+1)
	}
	if m.load > 0 {
		return
	}
	if p.closed {
		p.shutDown(m)
		return
	}
	p.idle = append(p.idle, m)
}

func (p *Pool) failWaiters(err error) {
	for _, waiter := range p.waiters {
		waiter.serve(nil, err)
	}
	p.waiters = nil
}

// failPinned tells those who wait for a worker that it has ended.
func (p *Pool) failPinned(m *member) {
	p.waiters = slices.DeleteFunc(p.waiters, func(w *waiter) bool {
		if w.pinned == m {
			w.serve(nil, &worker.UnbegunError{Exit: m.worker.Exit()})
		}
		return w.pinned == m
	})
}

// unpinned counts the callers in line whom any worker will do.
func (p *Pool) unpinned() int {
	n := 0
	for _, w := range p.waiters {
		if w.pinned == nil {
			n++
		}
	}
	return n
}
