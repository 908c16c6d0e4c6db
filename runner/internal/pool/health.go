package pool

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Health is how a pool is doing at one moment.
type Health struct {
	State State
	// Reason says why that is its state, and Cause is the error behind it. An
	// unhealthy pool always has one.
	Reason string
	Cause  error
	// Since is when it became that.
	Since time.Time

	Min, Max int
	Spares   int // that are ready
	Idle     int // workers that serve and have nothing to do
	Busy     int
	Starting int
	Waiting  int // callers in line
	// SpareNote says why there is no spare although nothing is wrong.
	SpareNote string
	// ForkNote says why workers are not forked although they are to be.
	ForkNote string

	Workers    []WorkerHealth // the eldest first
	Counters   Counters
	LastDeath  *Death     // nil where none has died
	CrashLoop  *CrashLoop // nil where there is none
	Generation int        // 1, and one more after each Reload
}

// WorkerHealth is how one worker is doing.
type WorkerHealth struct {
	PID        int
	Role       Role
	Generation int
	Load       int // calls that it has
	Sessions   int // open ones
	Calls      uint64
	Age        time.Duration
	Idle       time.Duration // since it had something to do
	Vitals     worker.ProcessStats
}

// Counters count what has happened since the pool was made.
type Counters struct {
	Started       uint64
	StartFailures uint64
	Deaths        uint64 // of workers that were not told to end
	Retired       map[worker.Limit]uint64
	Refused       map[worker.Limit]uint64 // callers
	Promoted      uint64
	Reloads       uint64
}

func newCounters() Counters {
	return Counters{Retired: make(map[worker.Limit]uint64), Refused: make(map[worker.Limit]uint64)}
}

// Death is the end of a worker that was not told to.
type Death struct {
	Time time.Time
	Exit *worker.Exit
}

// CrashLoop says that workers die, or do not start, again and again.
type CrashLoop struct {
	// Setbacks is how often in a row.
	Setbacks int
	// NextStart is when the next one is started unasked; a caller who finds no
	// worker does not wait for it.
	NextStart time.Time
}

// Health returns how the pool is doing. It may be asked at any time.
func (p *Pool) Health() Health {
	p.mu.Lock()
	now := p.clock.now()
	h := Health{
		Since: p.since, Min: p.config.Min, Max: p.config.Max,
		Spares: len(p.spares), Idle: len(p.idle), Busy: p.serving - len(p.idle),
		Starting: p.starting + p.sparing, Waiting: len(p.waiters), SpareNote: p.spareNote,
		Counters: p.counters, LastDeath: p.lastDeath, Generation: p.generation.number,
	}
	h.State, h.Reason, h.Cause = p.judge(now)
	h.Counters.Retired, h.Counters.Refused = maps.Clone(p.counters.Retired), maps.Clone(p.counters.Refused)
	if p.setbacks.looping() {
		h.CrashLoop = &CrashLoop{Setbacks: p.setbacks.count, NextStart: p.setbacks.next}
	}
	var of []*worker.Worker
	for _, m := range p.alive {
		w := WorkerHealth{
			PID: m.worker.PID(), Role: m.role, Generation: m.generation.number, Load: m.load,
			Sessions: m.sessions, Calls: m.calls, Age: now.Sub(m.born),
		}
		if m.load == 0 {
			w.Idle = now.Sub(m.served)
		}
		h.Workers, of = append(h.Workers, w), append(of, m.worker)
	}
	template := p.generation.config.Template
	p.mu.Unlock()

	h.ForkNote = template.Note()
	for i := range of { // which may read files
		h.Workers[i].Vitals = of[i].Stats()
	}
	slices.SortFunc(h.Workers, func(a, b WorkerHealth) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.PID, b.PID))
	})
	return h
}
