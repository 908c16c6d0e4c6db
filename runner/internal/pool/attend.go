package pool

import "time"

// The pool has no goroutine of its own that looks after it. Whoever changes
// something that matters marks it as stale, and sets it right before the lock is
// free again; one timer does when only time has passed.

// unlock frees p.mu.
func (p *Pool) unlock() {
	if !p.stale {
		p.mu.Unlock()
		return
	}
	p.attend()
	told := len(p.untold) == 0
	p.mu.Unlock()
	if !told {
		p.flush()
	}
}

// attend does what is due: who has reached a limit goes, and what is missing is
// started.
func (p *Pool) attend() {
	now := p.clock.now()
	for p.stale && !p.closed {
		p.stale, p.next = false, time.Time{}
		p.calm(now)
		p.retireIdle(now)
		p.retireDue(now)
		p.refuseOverdue(now)
		p.growServing(now)
		p.growSpares(now)
		p.seeDrained()
	}
	if !p.closed {
		p.wakeBy(p.next)
	}
	p.settle(now)
	p.stale, p.hurry = false, false
}

// again has the pool attended to at a time, or before.
func (p *Pool) again(at time.Time) {
	if p.next.IsZero() || at.Before(p.next) {
		p.next = at
	}
}

// wakeBy sets the timer, unless it goes off before that anyway.
func (p *Pool) wakeBy(at time.Time) {
	if at.IsZero() || !p.wakes.IsZero() && !at.Before(p.wakes) {
		return
	}
	p.stopTimer()
	p.wakes = at
	p.stopTimer = p.clock.afterFunc(at.Sub(p.clock.now()), p.wake)
}

func (p *Pool) wake() {
	p.mu.Lock()
	p.wakes = time.Time{}
	p.stale = true
	p.unlock()
}
