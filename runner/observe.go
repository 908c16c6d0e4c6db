package runner

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// counts are the counters of a node.
type counts struct {
	calls    atomic.Uint64 // operations, including refused ones
	retries  atomic.Uint64
	failed   [len(kindNames)]atomic.Uint64 // operations, by kind
	canceled atomic.Uint64                 // operations whose caller left, and that had not failed before

	deaths   counter // of workers, by cause
	breaches counter // by limit
}

// fail counts a failed operation, and returns its error.
func (c *counts) fail(failure *Error) *Error {
	c.failed[failure.Kind].Add(1)
	return failure
}

// cancel counts an operation whose caller has left, and returns its error.
func (c *counts) cancel(end *Error) *Error {
	c.canceled.Add(1)
	return end
}

// breach counts that a limit was exceeded. It does nothing if limit is empty.
func (c *counts) breach(limit string) {
	if limit != "" {
		c.breaches.add(limit)
	}
}

// failures returns the failed operations by kind, nil if there are none.
func (c *counts) failures() map[Kind]uint64 {
	var by map[Kind]uint64
	for kind := range c.failed {
		if n := c.failed[kind].Load(); n > 0 {
			if by == nil {
				by = make(map[Kind]uint64)
			}
			by[Kind(kind)] = n
		}
	}
	return by
}

// counter counts rare occurrences by name.
type counter struct {
	mu sync.Mutex
	by map[string]uint64
}

func (c *counter) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[string]uint64)
	}
	c.by[name]++
}

func (c *counter) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}

// reportBreach counts and reports a limit that a call exceeded while its worker lived
// on. Limits that end a worker are reported with its end; see observe.
func (e *entry) reportBreach(failure *Error) {
	b := failure.breach
	if b == nil {
		return
	}
	e.counts.breach(string(b.Limit))
	if b.Limit == worker.LimitResult {
		e.emit(CallRefused{Node: e.node, Time: time.Now(), Limit: string(b.Limit), Value: b.Value, Bound: b.Bound})
	}
}

// observe returns the function that a node's pool calls with its events. It counts
// them, logs them at debug level, and emits the runner's own events.
func (r *Runner) observe(n *node, logger hclog.Logger) func(pool.Event) {
	c := &n.entry.counts
	report := func(e Event, fields ...any) {
		logger.Debug(e.String(), fields...)
		r.emit(e)
	}
	return func(event pool.Event) {
		now := time.Now()
		switch e := event.(type) {
		case pool.WorkerStarted:
			started := WorkerStarted{Node: n.id, Time: now, PID: e.Worker.PID(), Took: e.Took, Spare: e.Spare}
			report(started, "worker", started.PID)
		case pool.WorkerStartFailed:
			failure := classify(e.Err).WithNode(n.id)
			c.breach(failure.Limit)
			report(WorkerStartFailed{Node: n.id, Time: now, Took: e.Took, Limit: failure.Limit, Err: failure})
		case pool.WorkerEnded:
			if e.Exit.Reason == worker.ReasonShutdown || e.Exit.Reason == worker.ReasonKilled {
				logger.Debug(fmt.Sprintf("node %q: worker %d ended", n.id, e.Exit.PID), "worker", e.Exit.PID)
				return
			}
			limit := string(exitLimit(e.Exit))
			c.deaths.add(deathCause(e.Exit))
			c.breach(limit)
			report(WorkerDied{
				Node: n.id, Time: now, PID: e.Exit.PID, Idle: e.Idle, Limit: limit, Err: classify(e.Exit).WithNode(n.id),
			}, "worker", e.Exit.PID)
		case pool.WorkerRetired:
			c.breach(string(e.Breach.Limit))
			report(WorkerRetired{
				Node: n.id, Time: now, PID: e.PID,
				Limit: string(e.Breach.Limit), Value: e.Breach.Value, Bound: e.Breach.Bound,
			}, "worker", e.PID)
		case pool.SparePromoted:
			report(SparePromoted{Node: n.id, Time: now, PID: e.PID}, "worker", e.PID)
		case pool.CallRefused:
			c.breach(string(e.Breach.Limit))
			report(CallRefused{
				Node: n.id, Time: now, Waiting: e.Waiting,
				Limit: string(e.Breach.Limit), Value: e.Breach.Value, Bound: e.Breach.Bound,
			})
		case pool.StateChanged:
			change := HealthChanged{
				Node: n.id, Time: now, From: HealthState(e.From), To: HealthState(e.To), Reason: e.Reason,
			}
			if e.Cause != nil {
				change.Err = classify(e.Cause).WithNode(n.id)
			}
			report(change)
		case pool.Reloaded:
			report(Reloaded{Node: n.id, Time: now, Workers: e.Workers, Took: e.Took})
		}
	}
}
