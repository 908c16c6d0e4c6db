package pool

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// State is the condition of a pool.
type State string

// The states of a pool.
const (
	// StateNew: no worker has been needed yet.
	StateNew State = "new"
	// StateStarting: no worker serves yet, or fewer than Min for the first time.
	StateStarting State = "starting"
	// StateHealthy: all is as configured, which may be without a worker.
	StateHealthy State = "healthy"
	// StateDegraded: workers serve, but some are missing or fail; or none is left, and the
	// next call starts one, which can be expected to serve it.
	StateDegraded State = "degraded"
	// StateUnhealthy: no worker serves, and the last one did not start.
	StateUnhealthy State = "unhealthy"
	// StateDraining: new calls are refused.
	StateDraining State = "draining"
	// StateClosed: the pool is closed.
	StateClosed State = "closed"
)

// Health is the condition of a pool at one moment.
type Health struct {
	State State
	// Reason says why the pool is in that state. Cause is the error behind it; an
	// unhealthy pool always has one.
	Reason string
	Cause  error
	// Since is when the pool entered the state.
	Since time.Time

	Min, Max int
	Spares   int // that are ready
	Idle     int // workers that serve and have no call
	Busy     int // workers that serve and have one
	Starting int
	Waiting  int // queued callers
	// SpareNote says why there is no spare although nothing is wrong.
	SpareNote string
	// ForkNote says why workers are not forked although they should be.
	ForkNote string

	Workers    []WorkerHealth // the oldest first
	Counters   Counters
	LastDeath  *Death     // nil if none has died
	CrashLoop  *CrashLoop // nil if there is none
	Generation int        // 1, and one more after each Reload
}

// WorkerHealth is the condition of one worker.
type WorkerHealth struct {
	PID        int
	Role       Role
	Generation int
	Load       int // calls that it has
	Sessions   int // open sessions
	Calls      uint64
	Age        time.Duration
	Idle       time.Duration // since it last had a call; 0 if it has one
	Stats      worker.ProcessStats
}

// Counters count what has happened since the pool was made.
type Counters struct {
	Started       uint64
	StartFailures uint64
	Deaths        uint64 // of workers that the pool had not asked to end
	Retired       map[worker.Limit]uint64
	Refused       map[worker.Limit]uint64 // callers
	Promoted      uint64
	Reloads       uint64
	Suspects      uint64 // calls that were made again alone
}

func newCounters() Counters {
	return Counters{Retired: make(map[worker.Limit]uint64), Refused: make(map[worker.Limit]uint64)}
}

// Death is the end of a worker that the pool had not asked to end.
type Death struct {
	Time time.Time
	Exit *worker.Exit
}

// CrashLoop says that workers die, or do not start, again and again.
type CrashLoop struct {
	// ConsecutiveFailures is how often in a row.
	ConsecutiveFailures int
	// NextStart is when the next worker is started if there is no call before. A call
	// that finds no worker starts one at once.
	NextStart time.Time
}

// Health returns the pool's condition. It may be called at any time. It reads files of
// the workers' processes, without holding the pool's lock.
func (p *Pool) Health() Health {
	p.mu.Lock()
	now := p.clock.now()
	h := Health{
		Since: p.since, Min: p.config.Min, Max: p.config.Max,
		Spares: len(p.spares), Idle: len(p.idle), Busy: p.serving - len(p.idle),
		Starting: p.startsLocked(), Waiting: len(p.queue), SpareNote: p.spareNote,
		Counters: p.counters, LastDeath: p.lastDeath, Generation: p.generation.number,
	}
	h.State, h.Reason, h.Cause = p.assessLocked(now)
	h.Counters.Retired, h.Counters.Refused = maps.Clone(p.counters.Retired), maps.Clone(p.counters.Refused)
	if p.failures.isLoop() {
		h.CrashLoop = &CrashLoop{ConsecutiveFailures: p.failures.count, NextStart: p.failures.next}
	}
	var workers []*worker.Worker
	for _, m := range p.members {
		w := WorkerHealth{
			PID: m.worker.PID(), Role: m.role, Generation: m.generation.number, Load: m.load,
			Sessions: m.sessions, Calls: m.calls, Age: now.Sub(m.readyAt),
		}
		if m.load == 0 {
			w.Idle = now.Sub(m.lastActive)
		}
		h.Workers, workers = append(h.Workers, w), append(workers, m.worker)
	}
	template := p.generation.config.Template
	p.mu.Unlock()

	h.ForkNote = template.Note()
	for i, w := range workers {
		h.Workers[i].Stats = w.Stats()
	}
	slices.SortFunc(h.Workers, func(a, b WorkerHealth) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.PID, b.PID))
	})
	return h
}

// Capacity returns how many calls Max workers can have at a time.
func (p *Pool) Capacity() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config.Max * p.capacityLocked(nil)
}

// startsLocked returns how many workers are starting.
func (p *Pool) startsLocked() int {
	n := p.starting + p.startingSpares
	if p.quarantine.starting {
		n++
	}
	return n
}

// assessLocked returns the pool's state, its reason, and the error behind it.
func (p *Pool) assessLocked(now time.Time) (State, string, error) {
	failures := &p.failures
	switch {
	case p.closed:
		return StateClosed, "the pool has been closed", nil
	case p.drained != nil:
		return StateDraining, "new calls are refused", nil
	case p.serving == 0:
		return p.assessEmptyLocked(now)
	case failures.isLoop():
		return StateDegraded, fmt.Sprintf("%s after %d consecutive failures",
			workersText(p.serving, "serves", "serve"), failures.count), failures.cause
	case p.serving < p.minServing() && p.firstReady.IsZero() && failures.count == 0:
		return StateStarting, fmt.Sprintf("%d of %d workers are ready", p.serving, p.config.Min), nil
	case p.serving < p.minServing():
		return StateDegraded, fmt.Sprintf("%d of %d workers are ready", p.serving, p.config.Min), failures.cause
	case p.sparesFailLocked():
		return StateDegraded, "spare workers die or do not start", p.spareFailures.cause
	}
	return StateHealthy, workersText(p.serving, "serves", "serve"), nil
}

// assessEmptyLocked is assessLocked for a pool in which no worker serves. A caller starts a
// worker then. If the last worker died after it had been ready, the start can be expected
// to succeed; if the last start failed, it cannot.
func (p *Pool) assessEmptyLocked(now time.Time) (State, string, error) {
	failures := &p.failures
	switch {
	case p.quarantine.exists() && p.proven:
		return StateDegraded, "a call that may have ended the last worker runs alone", failures.cause
	case failures.count == 0 && p.starting > 0:
		return StateStarting, "a worker is starting", nil
	case failures.count == 0 && !p.proven:
		return StateNew, "no worker has been needed yet", nil
	case failures.count == 0:
		return StateHealthy, "no worker is needed", nil
	case failures.count == 1 && p.starting > 0:
		return StateStarting, "a worker is starting in place of one that ended", failures.cause
	}
	after := fmt.Sprintf("no worker is left after %d consecutive failures", failures.count)
	if failures.count == 1 {
		after = "the last worker failed"
	}
	starts := "the next call starts one at once"
	if wait := failures.next.Sub(now); p.wanted && wait > 0 {
		starts += ", and without a call one is started in " + durationText(wait)
	}
	switch {
	case p.starting > 0 && failures.isDeath():
		return StateStarting, after + "; one is starting", failures.cause
	case p.starting > 0:
		return StateUnhealthy, after + "; one is starting", failures.cause
	case failures.isDeath():
		return StateDegraded, after + "; " + starts, failures.cause
	}
	return StateUnhealthy, after + "; " + starts, failures.cause
}

// sparesFailLocked reports whether spares are missing because they fail.
func (p *Pool) sparesFailLocked() bool {
	failures := &p.spareFailures
	return failures.isLoop() || failures.count > 0 && len(p.spares)+p.startingSpares < max(1, p.config.Spare)
}

// updateStateLocked records a change of the state.
func (p *Pool) updateStateLocked(now time.Time) {
	s, reason, cause := p.assessLocked(now)
	if s == p.state {
		return
	}
	p.recordLocked(StateChanged{From: p.state, To: s, Reason: reason, Cause: cause})
	p.state, p.since = s, now
}
