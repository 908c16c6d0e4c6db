package runner

import (
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// observe returns what is told of the events of a node's pool: it counts them, and
// tells of them in the runner's own words.
func (r *Runner) observe(n *node, logger hclog.Logger) func(pool.Event) {
	c := &n.entry.counts
	tell := func(e Event) {
		logger.Debug(e.String())
		r.emit(e)
	}
	return func(event pool.Event) {
		now := time.Now()
		switch e := event.(type) {
		case pool.WorkerStarted:
			logger.Debug("worker started", "pid", e.Worker.PID(), "took", e.Took, "spare", e.Spare)
			r.emit(WorkerStarted{Node: n.id, Time: now, PID: e.Worker.PID(), Took: e.Took, Spare: e.Spare})
		case pool.WorkerFailed:
			failure := classify(e.Err).WithNode(n.id)
			c.breach(failure.Limit)
			tell(WorkerStartFailed{Node: n.id, Time: now, Took: e.Took, Limit: failure.Limit, Err: failure})
		case pool.WorkerEnded:
			if e.Exit.Reason == worker.ReasonShutdown || e.Exit.Reason == worker.ReasonKilled {
				logger.Debug("worker ended", "pid", e.Exit.PID)
				return
			}
			limit := string(exitLimit(e.Exit))
			c.deaths.add(deathCause(e.Exit))
			c.breach(limit)
			logger.Debug("worker died", "pid", e.Exit.PID, "error", e.Exit)
			r.emit(WorkerDied{
				Node: n.id, Time: now, PID: e.Exit.PID, Idle: e.Idle, Limit: limit, Err: classify(e.Exit).WithNode(n.id),
			})
		case pool.WorkerRetired:
			c.breach(string(e.Breach.Limit))
			tell(WorkerRetired{
				Node: n.id, Time: now, PID: e.PID,
				Limit: string(e.Breach.Limit), Value: e.Breach.Value, Bound: e.Breach.Bound,
			})
		case pool.SparePromoted:
			tell(SparePromoted{Node: n.id, Time: now, PID: e.PID})
		case pool.CallRefused:
			c.breach(string(e.Breach.Limit))
			tell(CallRefused{
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
			tell(change)
		case pool.Reloaded:
			tell(Reloaded{Node: n.id, Time: now, Workers: e.Workers, Took: e.Took})
		}
	}
}

// breach counts a limit that was passed, if one was.
func (c *counts) breach(limit string) {
	if limit != "" {
		c.breaches.add(limit)
	}
}
