package pool

import (
	"context"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// request says what a caller wants.
type request struct {
	pinned   *member // the only worker that will do; nil for any
	session  bool    // it is for a new session
	admitted bool    // it is part of something that was let in before: no limit keeps it out
	look     bool    // a worker is to be there, and no more
}

// waiter is a caller in line; it receives a worker or an error, once.
type waiter struct {
	request
	since  time.Time
	member *member
	err    error
	ready  chan struct{}
}

func (w *waiter) serve(m *member, err error) {
	w.member, w.err = m, err
	close(w.ready)
}

// acquire returns a worker that has room for a call, or the one asked for once it
// has.
func (p *Pool) acquire(ctx context.Context, want request) (*member, error) {
	p.mu.Lock()
	if p.refusal != nil && (p.closed || !want.admitted) {
		defer p.mu.Unlock()
		return nil, p.refusal
	}
	if want.session {
		want.pinned = p.forSession()
	}
	if m := p.withRoom(want); m != nil {
		if !want.look {
			p.take(m)
		}
		p.unlock()
		return m, nil
	}
	if want.pinned != nil && want.pinned.gone {
		p.mu.Unlock()
		<-want.pinned.worker.Done()
		return nil, &worker.UnbegunError{Exit: want.pinned.worker.Exit()}
	}
	if err := p.tooMany(want); err != nil {
		p.unlock()
		return nil, err
	}
	me := &waiter{request: want, since: p.clock.now(), ready: make(chan struct{})}
	p.join(me)
	p.unlock()

	select {
	case <-me.ready:
		return me.member, me.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.waiters, me)
	if i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
		p.stale = p.stale || p.drained != nil
	}
	p.unlock()
	if i < 0 { // served at the same moment
		<-me.ready
		if me.err == nil && !me.look {
			p.release(me.member, false)
		}
	}
	return nil, context.Cause(ctx)
}

// release takes a call back from a worker, after it was made or without.
func (p *Pool) release(m *member, called bool) {
	p.mu.Lock()
	if !m.worker.Alive() {
		p.mu.Unlock() // its watcher sees to the rest, and what it had
		return
	}
	m.load--
	if called {
		now := p.clock.now()
		p.pace.add(now.Sub(m.served))
		m.served = now
		if p.setbacks.count > 0 && m.generation == p.generation { // it has answered
			p.setbacks, p.stale = setbacks{}, true
		}
	}
	p.put(m)
	if p.drained != nil {
		p.stale = true
	}
	p.unlock()
}

// The functions below are called with p.mu held.

// withRoom finds the worker for a call: an idle one, or else the one that has most
// room.
func (p *Pool) withRoom(want request) *member {
	if pinned := want.pinned; pinned != nil {
		if !pinned.gone && pinned.worker.Alive() && pinned.load < p.room() {
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
	if want.look {
		room = anyRoom
	}
	if room == 1 {
		return nil
	}
	var best *member
	for _, m := range p.alive {
		if m.role == serving && m.load < room && m.worker.Alive() && (best == nil || m.load < best.load) {
			best = m
		}
	}
	return best
}

// anyRoom is more than any worker's load.
const anyRoom = 1 << 30

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
			p.idle = without(p.idle, m)
		}
		m.served = p.clock.now() // it has had nothing to do
	}
	m.load++
	m.calls++
	if p.config.MaxCalls > 0 {
		p.countDown(m)
	}
}

// put hands the room that a worker has to the callers in line, or keeps it.
func (p *Pool) put(m *member) {
	for at := 0; at < len(p.waiters) && m.load < p.room(); {
		w := p.waiters[at]
		if w.pinned != m && (w.pinned != nil || m.role != serving) {
			at++
			continue
		}
		if !w.look {
			p.take(m)
		}
		w.serve(m, nil)
		p.waiters = slices.Delete(p.waiters, at, at+1)
	}
	if m.load == 0 {
		p.rest(m)
	}
}

// join puts a caller in line.
func (p *Pool) join(w *waiter) {
	p.waiters = append(p.waiters, w)
	if p.serving+p.starting < p.config.Max {
		p.asked, p.stale, p.hurry = true, true, true
	}
	if p.config.QueueWait > 0 && p.bounds(w.request) {
		p.wakeBy(w.since.Add(p.config.QueueWait))
	}
}

// fail tells those in line whom it concerns that no worker will come.
func (p *Pool) fail(err error, concerns func(*waiter) bool) {
	p.waiters = slices.DeleteFunc(p.waiters, func(w *waiter) bool {
		if !concerns(w) {
			return false
		}
		w.serve(nil, err)
		return true
	})
}

// unpin lets those who wait for a worker that takes no more go to any other, but
// for those whose session it has.
func (p *Pool) unpin(m *member) {
	for _, w := range p.waiters {
		if w.pinned == m && w.session {
			w.pinned, p.stale = nil, true
		}
	}
}

// demand counts the callers in line whom any worker will do and who have waited
// long enough to be worth another one. Where there is none, one is worth it at
// once.
func (p *Pool) demand(now time.Time) int {
	n := 0
	for _, w := range p.waiters {
		if w.pinned != nil {
			continue
		}
		if worth := w.since.Add(p.config.ScaleAfter); now.Before(worth) && p.serving+p.starting > 0 {
			p.again(worth)
			break // the others came later
		}
		if n++; n >= p.config.Max {
			break
		}
	}
	return n
}

func without(members []*member, m *member) []*member {
	return slices.DeleteFunc(members, func(other *member) bool { return other == m })
}
