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
		have := p.occupiedLocked()
		if p.isStarvedLocked(now) {
			have = 0
		}
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
// abort it. What its worker becomes is decided when it is ready: the first one that becomes
// ready is that for suspects, if some wait, and the next ones serve.
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
	role := RoleRetiring // a reload has overtaken it
	if g == p.generation {
		role = p.neededLocked()
	}
	p.counters.Started++
	p.recordLocked(WorkerStarted{Worker: w, Took: took, Spare: role == RoleSpare})
	if p.announceLocked(role) {
		// The event is delivered before a caller can get the worker.
		p.unlock()
		p.mu.Lock()
	}
	p.startedLocked(p.addLocked(w, g), role)
}

// neededLocked returns the role of a worker that has become ready.
func (p *Pool) neededLocked() Role {
	switch {
	case p.quarantine.starting && !p.quarantine.announced:
		return RoleQuarantine
	case p.starting > p.announced:
		return RoleServing
	}
	return RoleSpare
}

// announceLocked marks the start of a worker with that role as one whose event is being
// delivered, and reports whether callers may wait for it.
func (p *Pool) announceLocked(role Role) bool {
	switch role {
	case RoleQuarantine:
		p.quarantine.announced = true
	case RoleServing:
		p.announced++
	default:
		return false
	}
	return true
}

// startedLocked gives a worker that has become ready its role.
func (p *Pool) startedLocked(m *member, role Role) {
	p.dirty = true
	current := m.generation == p.generation
	if current {
		switch role {
		case RoleQuarantine:
			p.quarantine = quarantine{}
		case RoleServing:
			p.starting, p.announced = p.starting-1, p.announced-1
		case RoleSpare:
			p.startingSpares--
		}
	}
	switch {
	case p.closed:
		p.parkLocked(m)
	case !current: // a reload has overtaken it
		p.retireLocked(m, nil)
	case role == RoleQuarantine:
		p.beginQuarantineLocked(m)
	case role == RoleServing:
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
	switch {
	case isSpare:
		p.startingSpares--
		failures = &p.spareFailures
	case p.starting > p.announced:
		p.starting--
	default:
		p.quarantine.starting = false
		p.failWaitersLocked(nil, true, err)
	}
	if p.closed {
		return
	}
	p.counters.StartFailures++
	p.recordLocked(WorkerStartFailed{Err: err, Took: took, Spare: isSpare})
	failures.add(err, p.clock.now(), firstDelay)
	if p.serving+p.starting == 0 && !p.quarantine.exists() {
		p.failWaitersLocked(nil, false, err)
		p.wanted = p.wanted && p.proven
	}
}
