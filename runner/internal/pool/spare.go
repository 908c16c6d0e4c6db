package pool

import (
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// A spare is ready before it is needed, so that no caller waits for a start when a
// serving worker dies or retires. Config.Spare of them are kept while the pool has
// its minimum. One more is started when a worker needs a replacement.

// hasSpareLocked reports whether a spare could serve at once.
func (p *Pool) hasSpareLocked() bool {
	for _, m := range p.spares {
		if m.worker.Alive() {
			return true
		}
	}
	return false
}

// promoteLocked makes a spare serve, and reports whether there was one.
func (p *Pool) promoteLocked() bool {
	for _, m := range p.spares {
		if !m.worker.Alive() {
			continue // watch is about to record its end
		}
		p.spares, p.dirty = without(p.spares, m), true
		p.spareFailures = backoff{}
		p.counters.Promoted++
		p.recordLocked(SparePromoted{PID: m.worker.PID()})
		p.serveLocked(m)
		return true
	}
	return false
}

// growSparesLocked starts the spares that are missing, and retires those that are too
// many.
func (p *Pool) growSparesLocked(now time.Time) {
	want := p.sparesWantedLocked(now)
	if want == 0 && p.serving >= p.minServing() {
		p.spareFailures = backoff{} // no spare is needed, so none is missing
	}
	for len(p.spares) > want {
		p.retireLocked(p.spares[0], nil)
	}
	for len(p.spares)+p.startingSpares < want {
		if !p.canReplaceLocked(now) || now.Before(p.spareFailures.next) || now.Before(p.failures.next) {
			p.timer.requireBy(latest(p.spareRetry, p.spareFailures.next, p.failures.next))
			return
		}
		p.startingSpares++
		p.launchLocked(true)
	}
}

// sparesWantedLocked returns how many spares the pool should have: none if it has
// scaled to zero, and one more than configured while a worker needs a replacement.
// While workers are missing or the pool drains, it keeps those that it has.
func (p *Pool) sparesWantedLocked(now time.Time) int {
	switch {
	case p.serving+p.starting == 0 && p.config.Min == 0:
		return 0
	case p.drained != nil || p.serving < p.minServing():
		return len(p.spares) + p.startingSpares
	}
	want := 0
	if at := p.firstReady.Add(p.config.SpareAfter); p.config.Spare > 0 && now.Before(at) {
		p.timer.requireBy(at)
	} else {
		want = p.config.Spare
	}
	if p.wouldMissLocked() {
		for _, m := range p.members {
			if p.needsReplacementLocked(m) {
				return want + 1 // they are replaced one after the other
			}
		}
	}
	return want
}

// memoryRetry is how long no spare is started after the machine lacked memory for one.
const memoryRetry = 30 * time.Second

// canReplaceLocked reports whether a worker beyond Max may be started.
func (p *Pool) canReplaceLocked(now time.Time) bool {
	return p.drained == nil && !now.Before(p.spareRetry)
}

// lacksMemory cancels the start of a spare, and reports that it did, if the machine
// has less than twice the memory of the pool's largest worker. It reads files, so it
// must be called without p.mu.
func (p *Pool) lacksMemory(g *generation) bool {
	p.mu.Lock()
	var workers []*worker.Worker
	for _, m := range p.members {
		workers = append(workers, m.worker)
	}
	p.mu.Unlock()
	var needed int64
	for _, w := range workers {
		needed = max(needed, w.Stats().Resident)
	}
	available := p.available()

	p.mu.Lock()
	defer p.unlock()
	if g != p.generation || p.startingSpares == 0 { // or the start now counts as that of a serving worker
		return false
	}
	p.spareNote = ""
	if needed == 0 || available == 0 || available >= 2*needed {
		return false
	}
	p.startingSpares--
	p.dirty = true
	p.spareRetry = p.clock.now().Add(memoryRetry)
	p.spareNote = fmt.Sprintf("no spare: a worker uses %d MiB, and only %d MiB of memory are available",
		needed>>20, available>>20)
	return true
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
