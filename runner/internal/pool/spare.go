package pool

import (
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// The functions below are called with p.mu held, but for isShort.

// hasSpare reports whether a spare could serve at once.
func (p *Pool) hasSpare() bool {
	for _, m := range p.spares {
		if m.worker.Alive() {
			return true
		}
	}
	return false
}

// promote has a spare serve, where there is one.
func (p *Pool) promote() bool {
	for _, m := range p.spares {
		if !m.worker.Alive() {
			continue // its watcher is about to say so
		}
		p.spares, p.stale = without(p.spares, m), true
		p.spareSetbacks = setbacks{}
		p.counters.Promoted++
		p.tell(SparePromoted{PID: m.worker.PID()})
		p.serve(m)
		return true
	}
	return false
}

// growSpares starts the spares that are missing, and ends those that nobody needs.
func (p *Pool) growSpares(now time.Time) {
	want := p.sparesWanted(now)
	if want == 0 && p.serving >= p.least() {
		p.spareSetbacks = setbacks{} // they stand in nobody's way
	}
	for len(p.spares) > want {
		p.retire(p.spares[0], nil)
	}
	for len(p.spares)+p.sparing < want {
		if !p.canReplace(now) || now.Before(p.spareSetbacks.next) || now.Before(p.setbacks.next) {
			p.again(latest(p.spareLater, p.spareSetbacks.next, p.setbacks.next))
			return
		}
		p.sparing++
		p.launch(true)
	}
}

// sparesWanted is how many spares there are to be: none where nothing serves
// because nobody calls, and one more where a worker is to be replaced.
func (p *Pool) sparesWanted(now time.Time) int {
	here := len(p.spares) + p.sparing
	switch {
	case p.serving+p.starting == 0 && p.config.Min == 0:
		return 0
	case p.drained != nil || p.serving < p.least():
		return here
	}
	want := 0
	if at := p.ready.Add(p.config.SpareAfter); p.config.Spare > 0 && now.Before(at) {
		p.again(at)
	} else {
		want = p.config.Spare
	}
	if p.leavesGap() {
		for _, m := range p.alive {
			if p.isLeaving(m) {
				return want + 1 // one after the other
			}
		}
	}
	return want
}

// spareRetry is how long a machine that is short of memory is left alone.
const spareRetry = 30 * time.Second

// canReplace reports whether a worker beyond the maximum may be started.
func (p *Pool) canReplace(now time.Time) bool {
	return p.drained == nil && !now.Before(p.spareLater)
}

// isShort gives the start of a spare up where the machine has not twice the
// memory that a worker takes.
func (p *Pool) isShort(g *generation) bool {
	p.mu.Lock()
	var workers []*worker.Worker
	for _, m := range p.alive {
		workers = append(workers, m.worker)
	}
	p.mu.Unlock()
	var needs int64
	for _, w := range workers { // which may read files
		needs = max(needs, w.Stats().Resident)
	}
	has := p.available()

	p.mu.Lock()
	defer p.unlock()
	if g != p.generation || p.sparing == 0 { // it is to serve by now
		return false
	}
	p.spareNote = ""
	if needs == 0 || has == 0 || has >= 2*needs {
		return false
	}
	p.sparing--
	p.stale = true
	p.spareLater = p.clock.now().Add(spareRetry)
	p.spareNote = fmt.Sprintf("no spare: a worker takes %d MiB, and %d MiB of memory are available",
		needs>>20, has>>20)
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
