package pool

import (
	"fmt"
	"time"
)

// State sums up how a pool is doing.
type State string

// The states of a pool.
const (
	// StateNew: nobody has wanted a worker yet.
	StateNew State = "new"
	// StateStarting: nothing serves yet, or not as many as are to.
	StateStarting State = "starting"
	// StateHealthy: all is as it is to be, which may be without a worker.
	StateHealthy State = "healthy"
	// StateDegraded: it serves, but with less than it should have.
	StateDegraded State = "degraded"
	// StateUnhealthy: it has no worker, and the last one died or did not start.
	StateUnhealthy State = "unhealthy"
	// StateDraining: it lets no new call in.
	StateDraining State = "draining"
	// StateClosed: it is over.
	StateClosed State = "closed"
)

// judge says how the pool is doing, and why. The caller holds p.mu.
func (p *Pool) judge(now time.Time) (s State, reason string, cause error) {
	back := &p.setbacks
	cause = back.cause
	switch {
	case p.closed:
		return StateClosed, "it has been closed", nil
	case p.drained != nil:
		return StateDraining, "it lets no new call in", nil
	case p.serving == 0:
		return p.judgeEmpty(now)
	case back.looping():
		return StateDegraded, fmt.Sprintf("%s; %d setbacks in a row before that", workers(p.serving, "serves", "serve"), back.count), cause
	case p.serving < p.least() && p.ready.IsZero() && back.count == 0:
		return StateStarting, fmt.Sprintf("%d of %d workers are up", p.serving, p.config.Min), nil
	case p.serving < p.least():
		return StateDegraded, fmt.Sprintf("%d of %d workers are up", p.serving, p.config.Min), cause
	case p.lacksSpare():
		return StateDegraded, "spare workers die or do not start", p.spareSetbacks.cause
	}
	return StateHealthy, workers(p.serving, "serves", "serve"), nil
}

// judgeEmpty is judge where no worker serves.
func (p *Pool) judgeEmpty(now time.Time) (State, string, error) {
	back := &p.setbacks
	switch wait := back.next.Sub(now); {
	case back.count == 0 && p.starting > 0:
		return StateStarting, "a worker is being started", nil
	case back.count == 0 && !p.proven:
		return StateNew, "nobody has wanted a worker yet", nil
	case back.count == 0:
		return StateHealthy, "no worker is needed", nil
	case back.count == 1 && p.starting > 0:
		return StateStarting, "a worker is being started in place of one that ended", back.cause
	case p.starting > 0:
		return StateUnhealthy, fmt.Sprintf("%d setbacks in a row; a worker is being started", back.count), back.cause
	case p.asked && wait > 0:
		return StateUnhealthy, fmt.Sprintf("%d setbacks in a row; the next start is in %s", back.count, shown(wait)), back.cause
	}
	return StateUnhealthy, "there is no worker; the next call starts one", back.cause
}

// lacksSpare reports whether something is wrong with the spares.
func (p *Pool) lacksSpare() bool {
	back := &p.spareSetbacks
	return back.looping() || back.count > 0 && len(p.spares)+p.sparing < max(1, p.config.Spare)
}

// settle tells of a change of the state. The caller holds p.mu.
func (p *Pool) settle(now time.Time) {
	s, reason, cause := p.judge(now)
	if s == p.state {
		return
	}
	p.tell(StateChanged{From: p.state, To: s, Reason: reason, Cause: cause})
	p.state, p.since = s, now
}
