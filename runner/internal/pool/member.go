package pool

import (
	"context"
	"errors"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// The states of a worker in the pool, what records each, and what ends it:
//
//	state     recorded as                           ends with
//	starting  counted in starting or startingSpares ready: idle, spare, or retiring if a
//	                                                reload has overtaken it; failed: backoff
//	idle      role serving, load 0, in p.idle       assignLocked: busy or full
//	busy      role serving, 0 < load < capacity     another call: full; last release: idle
//	full      role serving, load = capacity         a release: busy or idle
//	spare     role spare, in p.spares               promoteLocked: idle, or busy if callers wait
//	alone     role quarantine; see quarantine.go    no suspect waits: idle, or retiring
//	retiring  role retiring; it gets no new call    the last call and session end: closing
//	          and no new session, and drains
//	closing   closing is set; Worker.Close runs     the process exits: dead
//	dead      Worker.Alive is false                 watch records it: ended, no longer in members
//
// From idle, busy, full and spare, retireLocked leads to retiring: because of a limit
// (retire.go), a reload (reload.go), or too many spares (spare.go). When the pool
// closes, a worker without a call is closing at once. From every state but
// starting, a crash leads to dead; diedLocked then counts the death, unless the worker
// was closing or the pool is closed.

// Role is the part that a worker plays in its pool.
type Role string

// The roles of a worker.
const (
	RoleServing  Role = "serving"  // calls are assigned to it
	RoleSpare    Role = "spare"    // it is ready, and replaces a worker that ends or retires
	RoleRetiring Role = "retiring" // it ends when its calls and sessions have ended
	// RoleQuarantine: it has one call or session at a time, which may end it.
	RoleQuarantine Role = "quarantine"
)

// member is a worker of the pool. Pool.mu guards all of it; worker, generation and
// readyAt do not change.
type member struct {
	worker      *worker.Worker
	generation  *generation
	readyAt     time.Time
	role        Role
	load        int            // calls that are assigned to it
	calls       uint64         // calls that were ever assigned to it
	sessions    int            // open sessions
	lastSession uint32         // the number of the last session that was opened
	lastActive  time.Time      // when it last answered, or got a call while idle
	exceeded    *worker.Breach // the limit for which it will be retired; nil if none
	consuming   time.Time      // since when the consumer of its suspect takes a value; zero if it takes none
	closing     bool           // Worker.Close has been called
	ended       bool           // watch has recorded its end
}

// unbegun returns err if it says that the worker ended before it began the call, and nil
// otherwise. An UnbegunError of another worker, which emit or the context's cause may have
// brought in, does not count.
func (m *member) unbegun(err error) *worker.UnbegunError {
	unbegun, ok := errors.AsType[*worker.UnbegunError](err)
	if !ok || unbegun.Exit != m.worker.Exit() {
		return nil
	}
	return unbegun
}

// addLocked adds a worker that has become ready, as a spare that is not yet listed.
func (p *Pool) addLocked(w *worker.Worker, g *generation) *member {
	now := p.clock.now()
	m := &member{worker: w, generation: g, role: RoleSpare, readyAt: now, lastActive: now}
	p.members = append(p.members, m)
	p.goLocked(g, func() { p.watch(m) })
	return m
}

// serveLocked makes a worker serve calls, beginning with those in the queue.
func (p *Pool) serveLocked(m *member) {
	m.role, m.lastActive = RoleServing, p.clock.now()
	p.proven = true
	p.serving++
	if p.serving == p.minServing() {
		p.lastReady = m.lastActive
		if p.firstReady.IsZero() {
			p.firstReady = m.lastActive
		}
	}
	p.dispatchLocked(m)
}

// parkLocked handles a worker that has no call: a serving one becomes idle, and one
// that is no longer needed is closed.
func (p *Pool) parkLocked(m *member) {
	switch {
	case p.closed, m.role == RoleRetiring && m.sessions == 0:
		p.closeLocked(m)
	case m.role == RoleServing:
		p.idle = append(p.idle, m)
	case m.role == RoleQuarantine && m.sessions == 0:
		p.endQuarantineLocked(m)
	}
}

// retireLocked makes a worker retire: it gets no further call and no further session,
// and is closed when those that it has are over. The reason is nil if it has reached no
// limit.
func (p *Pool) retireLocked(m *member, reason *worker.Breach) {
	p.dirty = true
	switch {
	case m.role == RoleServing:
		p.serving--
	case m == p.quarantine.member:
		p.quarantine = quarantine{}
	}
	m.role = RoleRetiring
	p.idle, p.spares = without(p.idle, m), without(p.spares, m)
	if reason != nil {
		p.counters.Retired[reason.Limit]++
		p.recordLocked(WorkerRetired{PID: m.worker.PID(), Breach: *reason})
	}
	p.unpinLocked(m)
	if m.load == 0 {
		p.parkLocked(m)
	}
}

// closeLocked starts the shutdown of a worker that has no call. The worker's watch is
// still running, so Close waits for the end of both.
func (p *Pool) closeLocked(m *member) {
	if m.closing {
		return
	}
	m.closing = true
	ctx := context.Background() // the worker's grace period bounds it
	if p.closed {
		ctx = p.closing
	}
	p.running.Go(func() { m.worker.Close(ctx) })
}

// minServing returns how many workers serve if all is well and there are calls.
func (p *Pool) minServing() int { return max(1, p.config.Min) }

// watch waits for the end of a worker, records it, and lets a spare replace it.
func (p *Pool) watch(m *member) {
	<-m.worker.Done()
	exit := m.worker.Exit()
	p.mu.Lock()
	defer p.unlock()
	p.dirty = true
	p.recordLocked(WorkerEnded{Exit: exit, Idle: m.load == 0})
	m.ended = true
	p.members, p.idle, p.spares = without(p.members, m), without(p.idle, m), without(p.spares, m)
	switch m.role {
	case RoleServing:
		p.serving--
	case RoleQuarantine:
		p.quarantine = quarantine{}
	}
	p.unpinLocked(m)
	p.failWaitersLocked(m, false, &worker.UnbegunError{Exit: exit})
	if p.closed || m.closing {
		return
	}
	p.diedLocked(m, exit)
}

// diedLocked counts the end of a worker that the pool had not asked to end.
func (p *Pool) diedLocked(m *member, exit *worker.Exit) {
	now := p.clock.now()
	p.counters.Deaths++
	p.lastDeath = &Death{Time: now, Exit: exit}
	switch {
	case m.generation != p.generation:
	case m.role == RoleSpare:
		p.spareFailures.add(exit, now, 0)
	case m.role == RoleServing:
		p.failures.add(exit, now, 0)
		p.urgent = true
		if p.serving+p.starting < p.config.Max {
			p.promoteLocked()
		}
	case m.role == RoleQuarantine:
		p.urgent = true // it ended by the call that it had, so no failure is counted
	case m.load > 0: // it was retiring, but died during a call
		p.failures.add(exit, now, 0)
	}
}
