package pool

import (
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/runner/worker"
)

// The functions of this file that are not goroutines of their own are called
// with p.mu held.

// growForWaiters starts as many workers as callers wait for, within the limit.
func (p *Pool) growForWaiters() {
	for p.starting < p.unpinned() && len(p.alive)+p.starting < p.config.Max {
		p.grow()
	}
}

// growToMin starts what is missing to the minimum.
func (p *Pool) growToMin() {
	for !p.closed && len(p.alive)+p.starting < p.config.Min {
		p.grow()
	}
}

func (p *Pool) grow() {
	p.starting++
	p.running.Go(p.start)
}

// start starts one worker. It is nobody's call: a caller who gives up does not
// take back a start that is well under way.
func (p *Pool) start() {
	begun := time.Now()
	w, err := worker.Start(p.ctx, p.config.Worker)
	if err == nil && p.config.Started != nil {
		p.config.Started(w, time.Since(begun))
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	if err != nil {
		p.startFailed(err)
		return
	}
	p.proven = true
	p.description = w.Description()
	m := &member{worker: w}
	p.alive[m] = struct{}{}
	p.running.Go(func() { p.watch(m) })
	p.put(m)
}

// startFailed tells those in line, unless other workers can still serve them.
// Where a worker has come up before, another one may later on. Otherwise nobody
// starts again until somebody calls: what failed to start at first will most
// likely fail again.
func (p *Pool) startFailed(err error) {
	if p.closed {
		return
	}
	if len(p.alive)+p.starting == 0 {
		p.failWaiters(err)
	}
	p.setbacks++
	if p.proven {
		p.refillAfter(max(firstDelay, backoff(p.setbacks)))
	}
}

// watch waits for the end of a worker and replaces it.
func (p *Pool) watch(m *member) {
	<-m.worker.Done()
	if p.config.Ended != nil {
		p.config.Ended(m.worker.Exit())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.alive, m)
	p.idle = slices.DeleteFunc(p.idle, func(other *member) bool { return other == m })
	p.failPinned(m)
	if p.closed {
		return
	}
	p.setbacks++
	p.growForWaiters() // who waits has waited out a retry delay already
	p.refillAfter(backoff(p.setbacks))
}

// refillAfter brings the pool back to its minimum after a delay, and starts
// workers for those in line then. One delayed refill is enough.
func (p *Pool) refillAfter(delay time.Duration) {
	if delay == 0 {
		p.growToMin()
		return
	}
	missing := len(p.alive)+p.starting < p.config.Min || p.unpinned() > 0
	if p.refilling || !missing {
		return
	}
	p.refilling = true
	p.running.Go(func() {
		select {
		case <-p.after(delay):
		case <-p.ctx.Done():
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refilling = false
		if !p.closed {
			p.growForWaiters()
			p.growToMin()
		}
	})
}

// The delays of refills.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 30 * time.Second
)

// backoff is the delay before an unasked-for replacement: none after the first
// setback, then doubling, so that a node that dies when left alone does not keep
// the machine busy.
func backoff(setbacks int) time.Duration {
	if setbacks <= 1 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(setbacks-2, 16))
}
