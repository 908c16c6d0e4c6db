package pool

import (
	"errors"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// A worker that dies while it runs several calls makes each of them a suspect: one of them
// has most likely ended it, and the others would fail for its fault. Each suspect that may
// run twice is made again, once, alone in a worker, at no cost to its caller's retry policy.
// The ones that did no harm succeed. The one that ends its worker again fails with that, and
// its next attempts run alone as well; see the parameter alone of [Pool.Call].
//
// The worker for suspects is in quarantine: it has one call or one session at a time. There is
// at most one, and it counts among Max; there is one more only if Max workers serve already, or
// if another caller has waited for starvedAfter and none serves. It is started without the
// backoff's delay. When no suspect waits any more, it serves, or retires if enough others do.

// quarantine is the state of the worker for suspects. Pool.mu guards it.
type quarantine struct {
	member    *member // nil if there is none
	starting  bool
	announced bool // it is ready, and its event is being delivered
}

// exists reports whether a worker is in quarantine or starts for it.
func (q *quarantine) exists() bool { return q.member != nil || q.starting }

// starvedAfter is how long a caller waits while the worker in quarantine is the only one.
const starvedAfter = 5 * time.Second

// consumedWithin is how long the consumer of a suspect may take for a value while other suspects
// wait.
const consumedWithin = time.Second

// occupiedLocked returns how many workers count among Max.
func (p *Pool) occupiedLocked() int {
	n := p.serving + p.starting
	if p.quarantine.exists() {
		n++
	}
	return n
}

// isStarvedLocked reports whether suspects have taken the only worker from another caller for
// too long. Each of them may hang until its timeout.
func (p *Pool) isStarvedLocked(now time.Time) bool {
	if p.serving+p.starting > 0 || !p.quarantine.exists() {
		return false
	}
	since := p.waitsSinceLocked()
	if since.IsZero() {
		return false
	}
	at := since.Add(starvedAfter)
	if now.Before(at) {
		p.timer.requireBy(at)
		return false
	}
	return true
}

// sharesWorkersLocked reports whether a worker has several calls or sessions at a time, all of
// which end with it.
func (p *Pool) sharesWorkersLocked() bool {
	d := &p.description
	return d.Batch > 0 || d.Concurrency > 1 || d.Stateful
}

// suspect returns err if it says that m ended while it ran this call and others, and nil
// otherwise.
func (m *member) suspect(err error) *worker.SuspectError {
	suspect, ok := errors.AsType[*worker.SuspectError](err)
	if !ok || suspect.Exit != m.worker.Exit() {
		return nil
	}
	return suspect
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
// would be one more than Max, and a worker is starting, that one is it. A worker whose suspect
// waits for its consumer for too long retires with that suspect: the consumer may wait for one
// of the others.
func (p *Pool) growQuarantineLocked(now time.Time) {
	if !slices.ContainsFunc(p.queue, func(w *waiter) bool { return w.alone && w.pinned == nil }) {
		return
	}
	if m := p.quarantine.member; m != nil && !m.consuming.IsZero() {
		if at := m.consuming.Add(consumedWithin); now.Before(at) {
			p.timer.requireBy(at)
		} else {
			p.retireLocked(m, nil)
		}
	}
	if p.quarantine.exists() {
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
	if p.serving+p.starting < p.config.Max {
		p.serveLocked(m)
	} else {
		p.retireLocked(m, nil)
	}
}

// noteConsumer returns emit for a call that runs alone on m. It makes known that the call waits
// for its consumer.
func (p *Pool) noteConsumer(m *member, emit func(ipc.Payload) error) func(ipc.Payload) error {
	note := func(since time.Time) {
		p.mu.Lock()
		defer p.unlock()
		m.consuming = since
		p.dirty = p.dirty || !since.IsZero()
	}
	return func(value ipc.Payload) error {
		note(p.clock.now())
		defer note(time.Time{})
		return emit(value)
	}
}

// NoteSuspect counts a call, or an operation of a session, that is made again alone.
func (p *Pool) NoteSuspect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counters.Suspects++
}

// Fate says how the end of a worker concerns a call that failed.
type Fate int

// The fates of a call.
const (
	// FateOther: the call failed for another reason.
	FateOther Fate = iota
	// FateInnocent: the worker ended before it began the call, or after the call had come to
	// its end and before its answer was sent.
	FateInnocent
	// FateAlone: the worker ended while it ran the call, and no other one.
	FateAlone
	// FateTogether: the worker ended while it ran the call and others.
	FateTogether
)

// EndedWorker reports whether a worker ended while it ran the call. The next attempt of such
// a call should run alone.
func (f Fate) EndedWorker() bool { return f == FateAlone || f == FateTogether }

// FateOf returns the fate of a call that returned err.
func FateOf(err error) Fate {
	fate, _ := fateOf(err)
	return fate
}

// fateOf also returns how the worker ended.
func fateOf(err error) (Fate, *worker.Exit) {
	if _, start := errors.AsType[*worker.StartError](err); start {
		return FateOther, nil // no call ran
	}
	if suspect, ok := errors.AsType[*worker.SuspectError](err); ok {
		if suspect.Over {
			return FateInnocent, suspect.Exit
		}
		return FateTogether, suspect.Exit
	}
	if unbegun, ok := errors.AsType[*worker.UnbegunError](err); ok {
		return FateInnocent, unbegun.Exit
	}
	if broken, ok := errors.AsType[*worker.BrokenError](err); ok {
		return FateAlone, broken.Exit
	}
	if exit, ok := errors.AsType[*worker.Exit](err); ok {
		return FateAlone, exit
	}
	return FateOther, nil
}

// Fate returns the fate of an operation of the session that returned err. The end of another
// worker, which emit's error may have brought in, does not concern the session.
func (s *Session) Fate(err error) Fate {
	if fate, exit := fateOf(err); s.member != nil && exit == s.member.worker.Exit() {
		return fate
	}
	return FateOther
}
