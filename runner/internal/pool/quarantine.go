package pool

import (
	"errors"
	"slices"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// A worker that dies while it runs several calls makes each of them a suspect: one of them
// has most likely ended it, and the others would fail for its fault. Each suspect that may
// run twice is made again, once, alone in a worker, at no cost to its caller's retry policy.
// The ones that did no harm succeed. The one that ends its worker again fails with that, and
// its next attempts run alone as well; see the parameter alone of [Pool.Call].
//
// The worker for suspects is in quarantine: it has one call or one session at a time. There is
// at most one, and it counts among Max; only if Max workers serve already, there is one more.
// It is started without the backoff's delay. When no suspect waits any more, it serves, or
// retires if enough others do.

// quarantine is the state of the worker for suspects. Pool.mu guards it.
type quarantine struct {
	member    *member // nil if there is none
	starting  bool
	announced bool // it is ready, and its event is being delivered
}

// exists reports whether a worker is in quarantine or starts for it.
func (q *quarantine) exists() bool { return q.member != nil || q.starting }

// runsTogetherLocked reports whether a worker runs several calls at a time.
func (p *Pool) runsTogetherLocked() bool {
	return p.description.Batch > 0 || p.description.Concurrency > 1
}

// suspects reports whether err says that m ended while it ran this call and others.
func (m *member) suspects(err error) bool {
	suspect, ok := errors.AsType[*worker.SuspectError](err)
	return ok && suspect.Exit == m.worker.Exit()
}

// takes reports whether a worker is of the kind that a waiter needs.
func (m *member) takes(w *waiter) bool {
	switch {
	case w.pinned != nil:
		return w.pinned == m
	case w.alone:
		return m.role == RoleQuarantine && m.sessions == 0
	}
	return m.role == RoleServing
}

// quarantineLocked returns the worker for suspects if it is free, and nil otherwise.
func (p *Pool) quarantineLocked() *member {
	if m := p.quarantine.member; m != nil && m.load == 0 && m.sessions == 0 && m.worker.Alive() {
		return m
	}
	return nil
}

// growQuarantineLocked starts a worker for suspects if some wait and there is none. If that
// would be one more than Max, and a worker is starting, that one is it.
func (p *Pool) growQuarantineLocked() {
	if p.quarantine.exists() || !slices.ContainsFunc(p.queue, func(w *waiter) bool { return w.alone && w.pinned == nil }) {
		return
	}
	p.quarantine.starting = true
	if p.serving+p.starting >= p.config.Max && p.starting > p.announced {
		p.starting--
	} else {
		p.launchLocked(false)
	}
}

// beginQuarantineLocked makes a worker that has become ready take suspects.
func (p *Pool) beginQuarantineLocked(m *member) {
	p.quarantine.member = m
	m.role, m.lastActive = RoleQuarantine, p.clock.now()
	p.proven = true
	p.dispatchLocked(m)
}

// endQuarantineLocked lets the worker for suspects serve, or retires it if enough others do.
func (p *Pool) endQuarantineLocked(m *member) {
	p.quarantine, p.dirty = quarantine{}, true
	if p.drained == nil && p.serving+p.starting < p.config.Max {
		p.serveLocked(m)
	} else {
		p.retireLocked(m, nil)
	}
}

// noteSuspect counts a call that is made again alone.
func (p *Pool) noteSuspect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counters.Suspects++
}

// Ended reports whether an error of a call says that a worker ended while it ran that call,
// and whether it ran others at that time. The next attempt of the call should run alone.
func Ended(err error) (ended, together bool) {
	if suspect, ok := errors.AsType[*worker.SuspectError](err); ok {
		return true, suspect.Others > 0
	}
	if _, unbegun := errors.AsType[*worker.UnbegunError](err); unbegun {
		return false, false
	}
	if _, start := errors.AsType[*worker.StartError](err); start {
		return false, false
	}
	if _, broken := errors.AsType[*worker.BrokenError](err); broken {
		return true, false
	}
	_, ended = errors.AsType[*worker.Exit](err)
	return ended, false
}
