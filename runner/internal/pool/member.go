package pool

import (
	"context"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Role is what a worker is there for.
type Role string

// The roles of a worker.
const (
	RoleServing  Role = "serving"
	RoleSpare    Role = "spare"    // it is ready, and takes over from one that goes
	RoleRetiring Role = "retiring" // it ends when its calls and sessions have
)

const (
	serving  = RoleServing
	spare    = RoleSpare
	retiring = RoleRetiring
)

// member is a worker of the pool. All of it is guarded by the pool's lock.
type member struct {
	worker      *worker.Worker
	generation  *generation
	role        Role
	born        time.Time      // when it became ready
	load        int            // calls that it has
	calls       uint64         // those that it was ever given
	sessions    int            // those that are open on it
	lastSession uint32         // the number of the last one
	served      time.Time      // when it answered last
	due         *worker.Breach // why it is to retire
	ending      bool           // it has been asked to end
	gone        bool           // its watcher has seen its end
}

// The functions below are called with p.mu held.

// enter takes a worker in that has become ready, for nothing yet.
func (p *Pool) enter(w *worker.Worker, g *generation) *member {
	now := p.clock.now()
	m := &member{worker: w, generation: g, role: spare, born: now, served: now}
	p.alive = append(p.alive, m)
	p.run(g, func() { p.watch(m) })
	return m
}

// serve has a worker take calls from now on.
func (p *Pool) serve(m *member) {
	m.role, m.served = serving, p.clock.now()
	p.proven = true
	p.serving++
	if p.serving == p.least() {
		p.full = m.served
		if p.ready.IsZero() {
			p.ready = m.served
		}
	}
	p.put(m)
}

// rest puts a worker that has no call where it belongs.
func (p *Pool) rest(m *member) {
	switch {
	case p.closed, m.role == retiring && m.sessions == 0:
		p.end(m)
	case m.role == serving:
		p.idle = append(p.idle, m)
	}
}

// retire lets a worker have no further call, and ends it when those that it has,
// and its sessions, are over.
func (p *Pool) retire(m *member, why *worker.Breach) {
	p.stale = true
	if m.role == serving {
		p.serving--
	}
	m.role = retiring
	p.idle, p.spares = without(p.idle, m), without(p.spares, m)
	if why != nil {
		p.counters.Retired[why.Limit]++
		p.tell(WorkerRetired{PID: m.worker.PID(), Breach: *why})
	}
	p.unpin(m)
	if m.load == 0 {
		p.rest(m)
	}
}

// end shuts a worker down that has nothing to do. Its watcher is still running,
// so a pool that closes waits for it.
func (p *Pool) end(m *member) {
	if m.ending {
		return
	}
	m.ending = true
	ctx := context.Background() // the grace time bounds it
	if p.closed {
		ctx = p.closing
	}
	p.running.Go(func() { m.worker.Close(ctx) })
}

// least is how many workers serve where all is well and there is work.
func (p *Pool) least() int { return max(1, p.config.Min) }
