package runner

import (
	"fmt"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
)

// Health tells how the runner, its nodes and their workers are. It can be asked at
// any time, and costs the calls under way nothing.
func (r *Runner) Health() Health {
	r.mu.RLock()
	own := r.own()
	pools := make(map[string]*pool.Pool, len(r.nodes))
	for id, n := range r.nodes {
		pools[id] = n.pool
	}
	r.mu.RUnlock()
	h := Health{State: StateHealthy}
	for i := range r.plan.steps {
		n := r.plan.steps[i].node
		nh := n.health(pools[n.id])
		if nh.State.worse(h.State) {
			h.State, h.Reason, h.Err = nh.State, fmt.Sprintf("node %q", n.id), nh.Err
			if nh.Reason != "" {
				h.Reason += ": " + nh.Reason
			}
		}
		h.Nodes = append(h.Nodes, nh)
	}
	if own.State != StateHealthy {
		h.State, h.Reason, h.Err = own.State, own.Reason, own.Err
	}
	return h
}

// own is the state of the runner where that is not the one of its nodes. It is called
// with r.mu held.
func (r *Runner) own() Health {
	switch {
	case r.closed:
		return Health{State: StateClosed, Reason: "the runner is closed"}
	case r.draining:
		return Health{State: StateDraining, Reason: "what is under way is finished, and nothing more is taken"}
	case r.started:
		return Health{State: StateHealthy}
	case r.isStarting:
		return Health{State: StateStarting, Reason: "the environment and the workers are made ready"}
	case r.startFailure != nil:
		return Health{State: StateUnhealthy, Reason: "it could not be started", Err: r.startFailure}
	}
	return Health{State: StateNew, Reason: "nothing has been started yet"}
}

// health is how one node is. Its pool is nil where it has none, or none yet.
func (n *node) health(p *pool.Pool) NodeHealth {
	c, s := &n.entry.counts, n.entry.settings.Load()
	h := NodeHealth{
		Node: n.id, State: StateHealthy,
		Breaker: s.breaker.State(), Failures: s.breaker.Failures(), LastError: s.last.Load(),
		Calls: c.calls.Load(), Retries: c.retries.Load(), Failed: c.failures(),
	}
	switch {
	case p != nil:
		n.takePool(&h, p.Health())
	case n.isPython():
		h.State = StateNew
	}
	switch {
	case h.State.worse(StateUnhealthy):
	case h.Breaker == retry.Open:
		h.State, h.Reason, h.Err = StateUnhealthy, "its circuit breaker is open", h.LastError
		if h.Err == nil { // somebody has counted failures by hand
			h.Err = NewError(KindOther, fmt.Sprintf("%d operations in a row have failed", h.Failures)).WithNode(n.id)
		}
	case h.Breaker == retry.HalfOpen && !h.State.worse(StateDegraded):
		h.State, h.Reason, h.Err = StateDegraded, "its circuit breaker is half-open: the next call is a probe", h.LastError
	}
	return h
}

// takePool adds how a node's workers are.
func (n *node) takePool(h *NodeHealth, p pool.Health) {
	c := &n.entry.counts
	h.State, h.Reason, h.Since = HealthState(p.State), p.Reason, p.Since
	if p.Cause != nil {
		h.Err = classify(p.Cause).WithNode(n.id)
	}
	h.Pool = &PoolHealth{
		Min: p.Min, Max: p.Max, Idle: p.Idle, Busy: p.Busy, Spares: p.Spares, Starting: p.Starting, Waiting: p.Waiting,
		SpareNote: p.SpareNote, ForkNote: p.ForkNote, Generation: p.Generation,
		Started: p.Counters.Started, StartFailures: p.Counters.StartFailures, Promoted: p.Counters.Promoted,
		Deaths: c.deaths.all(), Breaches: c.breaches.all(),
		Retired: byName(p.Counters.Retired), Refused: byName(p.Counters.Refused),
		Workers: make([]WorkerHealth, 0, len(p.Workers)),
	}
	if p.CrashLoop != nil {
		h.Pool.ConsecutiveFailures, h.Pool.NextStart = p.CrashLoop.ConsecutiveFailures, p.CrashLoop.NextStart
	}
	if p.LastDeath != nil {
		h.Pool.LastDeath = &WorkerDeath{Time: p.LastDeath.Time, Err: classify(p.LastDeath.Exit).WithNode(n.id)}
	}
	for _, w := range p.Workers {
		h.Pool.Workers = append(h.Pool.Workers, WorkerHealth{
			PID: w.PID, Role: string(w.Role), Load: w.Load, Sessions: w.Sessions, Calls: w.Calls,
			Age: Seconds(w.Age), Idle: Seconds(w.Idle),
			Resident: w.Stats.Resident, CPU: Seconds(w.Stats.CPU), OpenFiles: w.Stats.OpenFiles,
		})
	}
}

func byName[K ~string](counted map[K]uint64) map[string]uint64 {
	if len(counted) == 0 {
		return nil
	}
	by := make(map[string]uint64, len(counted))
	for name, n := range counted {
		by[string(name)] = n
	}
	return by
}
