package pool

import "time"

// The pool has no goroutine of its own for maintenance. A function that changes
// something which may require a start, a retirement or a refusal sets dirty, and
// unlock runs reconcile before it releases the lock. If nothing but time has passed,
// a timer does the same; each step of reconcile says when it must run again.

// unlock reconciles the pool if it is dirty, releases p.mu, and then delivers the
// events that were recorded.
func (p *Pool) unlock() {
	if !p.dirty {
		p.mu.Unlock()
		return
	}
	p.reconcileLocked()
	pending := len(p.undelivered) > 0
	p.mu.Unlock()
	if pending {
		p.deliver()
	}
}

// reconcileLocked brings the pool to the state that its configuration and its callers
// call for: it retires the workers that have reached a limit, refuses overdue
// callers, and starts the workers and spares that are missing.
func (p *Pool) reconcileLocked() {
	now := p.clock.now()
	for p.dirty && !p.closed { // a step may set dirty again
		p.dirty, p.timer.due = false, time.Time{}
		p.forgetFailuresLocked(now)
		p.retireIdleLocked(now)
		p.retireDueLocked(now)
		p.refuseOverdueLocked(now)
		p.growQuarantineLocked(now)
		p.growServingLocked(now)
		p.growSparesLocked(now)
		p.checkDrainedLocked()
	}
	if !p.closed {
		p.setTimerLocked(p.timer.due)
	}
	p.updateStateLocked(now)
	p.dirty, p.urgent = false, false
}

// timer reconciles the pool when time alone has made something due.
type timer struct {
	due  time.Time // the earliest time at which the current reconcile must run again
	at   time.Time // when the timer fires; zero if it is not set
	stop func() bool
}

// requireBy makes reconcile run again at the given time or earlier.
func (t *timer) requireBy(at time.Time) {
	if t.due.IsZero() || at.Before(t.due) {
		t.due = at
	}
}

func (t *timer) cancel() {
	if t.stop != nil {
		t.stop()
	}
}

// setTimerLocked sets the timer, unless it fires before that time anyway. A zero time
// sets nothing.
func (p *Pool) setTimerLocked(at time.Time) {
	if at.IsZero() || !p.timer.at.IsZero() && !at.Before(p.timer.at) {
		return
	}
	p.timer.cancel()
	p.timer.at = at
	p.timer.stop = p.clock.afterFunc(at.Sub(p.clock.now()), p.timerFired)
}

func (p *Pool) timerFired() {
	p.mu.Lock()
	defer p.unlock()
	p.timer.at = time.Time{}
	p.dirty = true
}

// clock is the time. Tests replace it.
type clock struct {
	now       func() time.Time
	afterFunc func(time.Duration, func()) (stop func() bool)
}

func realClock() clock {
	return clock{time.Now, func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }}
}
