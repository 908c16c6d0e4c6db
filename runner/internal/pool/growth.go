package pool

import (
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// growServingLocked starts workers until Min serve or start, and one is starting for
// each waiter that demandLocked counts, within Max. A spare is promoted instead of a
// start. The backoff delays a start, unless callers wait and no worker serves or
// starts: they have waited for a retry delay already.
func (p *Pool) growServingLocked(now time.Time) {
	if !p.wanted {
		return
	}
	for {
		have := p.serving + p.starting
		if have >= p.config.Max || have >= p.config.Min && p.starting >= p.demandLocked(now) {
			return
		}
		if p.promoteLocked() {
			continue
		}
		if now.Before(p.failures.next) && !(p.urgent && have == 0 && p.demandLocked(now) > 0) {
			p.timer.requireBy(p.failures.next)
			return
		}
		p.growLocked()
	}
}

// growLocked starts one more serving worker. If a spare is starting, it will serve
// instead.
func (p *Pool) growLocked() {
	p.starting++
	if p.startingSpares > 0 {
		p.startingSpares--
		return
	}
	p.launchLocked(false)
}

// launchLocked starts a worker of the current generation in the background.
func (p *Pool) launchLocked(asSpare bool) {
	g := p.generation
	p.goLocked(g, func() { p.start(g, asSpare) })
}

// start starts one worker. It belongs to no call, so a caller that leaves does not
// abort it. Whether its worker serves or becomes a spare is decided when it is ready:
// the first ones that become ready serve.
func (p *Pool) start(g *generation, asSpare bool) {
	if asSpare && p.lacksMemory(g) {
		return
	}
	began := time.Now()
	w, err := worker.Start(g.ctx, g.config)
	took := time.Since(began)

	p.mu.Lock()
	defer p.unlock()
	if err != nil {
		p.startFailedLocked(g, err, took)
		return
	}
	current := g == p.generation
	serves := current && p.starting > p.announced
	p.counters.Started++
	p.recordLocked(WorkerStarted{Worker: w, Took: took, Spare: current && !serves})
	if serves {
		// The event is delivered before a caller can get the worker.
		p.announced++
		p.unlock()
		p.mu.Lock()
	}
	p.startedLocked(p.addLocked(w, g), serves)
}

// startedLocked decides the role of a worker that has become ready.
func (p *Pool) startedLocked(m *member, serves bool) {
	p.dirty = true
	current := m.generation == p.generation
	switch {
	case current && serves:
		p.starting, p.announced = p.starting-1, p.announced-1
	case current:
		p.startingSpares--
	}
	switch {
	case p.closed:
		p.parkLocked(m)
	case !current: // a reload has overtaken it
		p.retireLocked(m, nil)
	case serves:
		p.description = m.worker.Description()
		p.serveLocked(m)
	default:
		p.spares = append(p.spares, m)
	}
}

// startFailedLocked counts a failed start, and fails the waiters if no other worker
// can serve them. If a worker has been ready before, the pool keeps trying.
// Otherwise it starts no worker until the next caller queues, since a first start that
// failed will most likely fail again.
func (p *Pool) startFailedLocked(g *generation, err error, took time.Duration) {
	p.dirty = true
	if g != p.generation {
		return
	}
	isSpare := p.startingSpares > 0
	failures := &p.failures
	if isSpare {
		p.startingSpares--
		failures = &p.spareFailures
	} else {
		p.starting--
	}
	if p.closed {
		return
	}
	p.counters.StartFailures++
	p.recordLocked(WorkerStartFailed{Err: err, Took: took, Spare: isSpare})
	failures.add(err, p.clock.now(), firstDelay)
	if p.serving+p.starting == 0 {
		p.failWaitersLocked(nil, err)
		p.wanted = p.wanted && p.proven
	}
}
