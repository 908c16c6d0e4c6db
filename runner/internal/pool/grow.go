package pool

import (
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// growServing brings the workers that serve to the minimum, and to what those in
// line are worth, within the limit. What callers wait for while there is no worker
// at all does not wait out the delay after a setback: they have waited out a retry
// delay already.
func (p *Pool) growServing(now time.Time) {
	if !p.asked {
		return
	}
	for {
		have := p.serving + p.starting
		if have >= p.config.Max || have >= p.config.Min && p.starting >= p.demand(now) {
			return
		}
		if p.promote() {
			continue
		}
		if now.Before(p.setbacks.next) && !(p.hurry && have == 0 && p.demand(now) > 0) {
			p.again(p.setbacks.next)
			return
		}
		p.grow()
	}
}

// grow has a further worker serve. A spare that is being started will do.
func (p *Pool) grow() {
	p.starting++
	if p.sparing > 0 {
		p.sparing--
		return
	}
	p.launch(false)
}

func (p *Pool) launch(asSpare bool) {
	g := p.generation
	p.run(g, func() { p.start(g, asSpare) })
}

// start starts one worker. It is nobody's call: a caller who gives up does not
// take back a start that is well under way. Of those under way the first ones that
// come up serve, and the others are the spares.
func (p *Pool) start(g *generation, asSpare bool) {
	if asSpare && p.isShort(g) {
		return
	}
	begun := time.Now()
	w, err := worker.Start(g.ctx, g.config)
	took := time.Since(begun)

	p.mu.Lock()
	if err != nil {
		p.startFailed(g, err, took)
		p.unlock()
		return
	}
	current := g == p.generation
	serves := current && p.starting > p.arriving
	p.counters.Started++
	p.tell(WorkerStarted{Worker: w, Took: took, Spare: current && !serves})
	if serves {
		p.arriving++
		p.unlock() // nobody gets it before it was told of
		p.mu.Lock()
	}
	p.arrive(p.enter(w, g), serves)
	p.unlock()
}

// arrive gives a worker that has come up its place.
func (p *Pool) arrive(m *member, serves bool) {
	p.stale = true
	current := m.generation == p.generation
	switch {
	case current && serves:
		p.starting, p.arriving = p.starting-1, p.arriving-1
	case current:
		p.sparing--
	}
	switch {
	case p.closed:
		p.rest(m)
	case !current: // it is too late: the pool has been reloaded meanwhile
		p.retire(m, nil)
	case serves:
		p.description = m.worker.Description()
		p.serve(m)
	default:
		p.spares = append(p.spares, m)
	}
}

// startFailed tells those in line, unless other workers can still serve them.
// Where a worker has come up before, another one may later on. Otherwise nobody
// starts again until somebody calls: what failed to start at first will most
// likely fail again.
func (p *Pool) startFailed(g *generation, err error, took time.Duration) {
	p.stale = true
	if g != p.generation {
		return
	}
	now := p.clock.now()
	isSpare := p.sparing > 0
	back := &p.setbacks
	if isSpare {
		p.sparing--
		back = &p.spareSetbacks
	} else {
		p.starting--
	}
	if p.closed {
		return
	}
	p.counters.StartFailures++
	p.tell(WorkerFailed{Err: err, Took: took, Spare: isSpare})
	back.add(err, now, firstDelay)
	if p.serving+p.starting == 0 {
		p.fail(err, func(w *waiter) bool { return w.pinned == nil })
		p.asked = p.asked && p.proven
	}
}

// watch waits for the end of a worker and replaces it.
func (p *Pool) watch(m *member) {
	<-m.worker.Done()
	exit := m.worker.Exit()
	p.mu.Lock()
	defer p.unlock()
	p.stale = true
	p.tell(WorkerEnded{Exit: exit, Idle: m.load == 0})
	m.gone = true
	p.alive, p.idle, p.spares = without(p.alive, m), without(p.idle, m), without(p.spares, m)
	if m.role == serving {
		p.serving--
	}
	p.unpin(m)
	p.fail(&worker.UnbegunError{Exit: exit}, func(w *waiter) bool { return w.pinned == m })
	if p.closed || m.ending {
		return
	}
	now := p.clock.now()
	p.counters.Deaths++
	p.lastDeath = &Death{Time: now, Exit: exit}
	switch {
	case m.generation != p.generation:
	case m.role == spare:
		p.spareSetbacks.add(exit, now, 0)
	case m.role == serving:
		p.setbacks.add(exit, now, 0)
		p.hurry = true
		if p.serving+p.starting < p.config.Max {
			p.promote()
		}
	case m.load > 0: // it was to go, but not like that
		p.setbacks.add(exit, now, 0)
	}
}
