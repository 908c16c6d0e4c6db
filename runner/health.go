package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
)

// HealthState says whether a node, or the whole runner, can serve calls.
type HealthState string

// The states, best first.
const (
	// StateHealthy means that calls are served and nothing is missing.
	StateHealthy HealthState = "healthy"
	// StateDegraded means that calls are served, but workers or a spare are missing,
	// or a circuit breaker is half-open. If no worker is left, a call waits until it has
	// started one.
	StateDegraded HealthState = "degraded"
	// StateNew means that nothing has been started yet.
	StateNew HealthState = "new"
	// StateStarting means that the environment or the first workers are being
	// prepared.
	StateStarting HealthState = "starting"
	// StateDraining means that work under way finishes and new work is refused.
	StateDraining HealthState = "draining"
	// StateUnhealthy means that a call would fail: the circuit breaker is open, or there
	// is no worker and the last start failed. There is always an error that says why.
	StateUnhealthy HealthState = "unhealthy"
	// StateClosed means that the runner was closed.
	StateClosed HealthState = "closed"
)

// serves reports whether calls can be expected to succeed.
func (s HealthState) serves() bool { return s == StateHealthy || s == StateDegraded }

// worse reports whether s is worse than another state.
func (s HealthState) worse(than HealthState) bool { return healthRank[s] > healthRank[than] }

var healthRank = map[HealthState]int{
	StateHealthy: 0, StateDegraded: 1, StateNew: 2, StateStarting: 3, StateDraining: 4, StateUnhealthy: 5, StateClosed: 6,
}

// Health is a snapshot of the state of a runner, its nodes and their workers. String
// formats it as tables for display; its JSON keys are stable.
type Health struct {
	// State is the worst of the nodes' states, or the runner's own if it is not
	// serving.
	State HealthState `json:"state"`
	// Reason says why, in words. It is empty if State is [StateHealthy].
	Reason string `json:"reason,omitempty"`
	// Err is the error behind the state. It is never nil if State is
	// [StateUnhealthy].
	Err *Error `json:"error,omitempty"`
	// Nodes are the nodes in the order in which they run.
	Nodes []NodeHealth `json:"nodes"`

	// takesCalls says that the runner has been started, and neither drains nor is closed.
	takesCalls bool
}

// OK reports whether the runner serves calls: whether State is [StateHealthy] or
// [StateDegraded].
func (h Health) OK() bool { return h.State.serves() }

// Ready reports whether a call that is made now can be expected to be served: the runner has
// been started and neither drains nor is closed, and each node is ready. Unlike [Health.OK], it
// is true while a node without workers starts one in place of one that ended, for which the
// call waits.
func (h Health) Ready() bool {
	return h.takesCalls && !slices.ContainsFunc(h.Nodes, func(n NodeHealth) bool { return !n.Ready() })
}

// NodeHealth is the state of a node.
type NodeHealth struct {
	Node  string      `json:"node"`
	State HealthState `json:"state"`
	// Reason says why, and Err is the error behind it, as in [Health].
	Reason string `json:"reason,omitempty"`
	Err    *Error `json:"error,omitempty"`
	// Since is when the node entered the state, zero if that is not known.
	Since time.Time `json:"since,omitzero"`

	// Breaker is the state of the node's circuit breaker. It is closed if the node
	// has none.
	Breaker retry.State `json:"breaker"`
	// Failures is the number of consecutive operations that failed.
	Failures int `json:"failures"`
	// LastError is the last error that the breaker counted, or nil.
	LastError *Error `json:"last_error,omitempty"`
	// Machines are the circuit breakers for other machines on which the last calls of the
	// node have failed.
	Machines []MachineHealth `json:"machines,omitempty"`

	// Calls is the number of operations since the runner was created.
	Calls uint64 `json:"calls"`
	// Retries is the number of attempts that failed and were retried.
	Retries uint64 `json:"retries"`
	// Failed is the number of operations that failed, by the kind of their error.
	Failed map[Kind]uint64 `json:"failed,omitempty"`
	// Canceled is the number of operations whose caller left before an attempt had failed,
	// for instance because the consumer of a stream closed it. They did not fail.
	Canceled uint64 `json:"canceled,omitempty"`

	// FusedWith is the node whose workers run this one, if they are fused and it is not the
	// first; else it is empty.
	FusedWith string `json:"fused_with,omitempty"`
	// Pool is the state of the node's workers, nil for a node written in Go, for one that was not
	// started, and for one with FusedWith.
	Pool *PoolHealth `json:"pool,omitempty"`
}

// MachineHealth is the circuit breaker that a node has for another machine.
type MachineHealth struct {
	Machine string      `json:"machine"`
	Breaker retry.State `json:"breaker"`
	// Failures and LastError are as in [NodeHealth].
	Failures  int    `json:"failures"`
	LastError *Error `json:"last_error,omitempty"`
}

// Ready reports whether a started node can be expected to serve a call that is made now; see
// [Health.Ready].
func (n NodeHealth) Ready() bool { return !n.State.worse(StateStarting) }

// PoolHealth is the state of the workers of a node.
type PoolHealth struct {
	// Min and Max are the bounds of the number of workers, without spares.
	Min int `json:"min"`
	Max int `json:"max"`
	// Idle and Busy are the workers that serve calls, Spares the ready spares, and
	// Starting the workers that are not ready yet.
	Idle     int `json:"idle"`
	Busy     int `json:"busy"`
	Spares   int `json:"spares"`
	Starting int `json:"starting"`
	// Waiting is the number of calls that wait for a worker.
	Waiting int `json:"waiting"`
	// SpareNote says why there is no spare, if the node should have one.
	SpareNote string `json:"spare_note,omitempty"`
	// ForkNote says why workers are not forked, if the fork server is enabled.
	ForkNote string `json:"fork_note,omitempty"`
	// ConsecutiveFailures is the number of workers in a row that died or failed to
	// start, 0 if there is no crash loop. NextStart is when the next one is started if
	// no call needs one before.
	ConsecutiveFailures int       `json:"consecutive_failures,omitempty"`
	NextStart           time.Time `json:"next_start,omitzero"`
	// Generation is 1, plus 1 for each reload.
	Generation int `json:"generation"`

	// Started is the number of workers that became ready, StartFailures the number of
	// those that could not be started, and Promoted the number of promoted spares.
	Started       uint64 `json:"started"`
	StartFailures uint64 `json:"start_failures"`
	Promoted      uint64 `json:"promoted"`
	// Suspects is the number of calls that were made again alone, because a worker ended
	// while it ran them and others.
	Suspects uint64 `json:"suspects"`
	// Deaths counts workers that ended without having been asked to, by cause.
	Deaths map[string]uint64 `json:"deaths,omitempty"`
	// Retired, Refused and Breaches count retired workers, refused calls, and all
	// cases in which a limit was exceeded, by the name of the limit in the manifest.
	Retired  map[string]uint64 `json:"retired,omitempty"`
	Refused  map[string]uint64 `json:"refused,omitempty"`
	Breaches map[string]uint64 `json:"breaches,omitempty"`

	// LastDeath is the last death of a worker, or nil.
	LastDeath *WorkerDeath `json:"last_death,omitempty"`
	// Workers are the live workers.
	Workers []WorkerHealth `json:"workers"`
}

// WorkerDeath is the death of a worker: when and how it ended.
type WorkerDeath struct {
	Time time.Time `json:"time"`
	Err  *Error    `json:"error"`
}

// WorkerHealth is the state of one worker. A figure that is not known is 0.
type WorkerHealth struct {
	PID int `json:"pid"`
	// Role is "serving", "spare", "retiring" or, for one that runs the calls one at a time
	// that may have ended another worker, "quarantine".
	Role string `json:"role"`
	// Load is the number of calls under way, and Sessions the number of streams that
	// have their state in this worker.
	Load     int `json:"load"`
	Sessions int `json:"sessions"`
	// Calls is the number of calls that the worker was given so far.
	Calls uint64 `json:"calls"`
	// Age is the time since the worker became ready, and Idle the time since it last
	// had a call.
	Age  Seconds `json:"age"`
	Idle Seconds `json:"idle"`
	// Resident is the resident memory in bytes, CPU the processor time used so far,
	// and OpenFiles the number of open file descriptors.
	Resident  int64   `json:"resident"`
	CPU       Seconds `json:"cpu"`
	OpenFiles int     `json:"open_files"`
}

// Seconds is a duration that JSON represents as a number of seconds.
type Seconds time.Duration

// MarshalJSON returns the number of seconds.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// String formats it as a [time.Duration].
func (s Seconds) String() string { return round(time.Duration(s)).String() }

// Health returns the state of the runner, its nodes and their workers. It may be
// called at any time, also before Start and after Close, and does not delay calls.
func (r *Runner) Health() Health {
	r.mu.RLock()
	own := r.ownHealthLocked()
	pools := make(map[string]*pool.Pool, len(r.nodes))
	for id, n := range r.nodes {
		pools[id] = n.pool
	}
	r.mu.RUnlock()
	h := Health{State: StateHealthy, takesCalls: own.State == StateHealthy}
	for _, n := range r.order {
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

// ownHealthLocked returns the state of the runner itself. If it is healthy, the nodes
// decide.
func (r *Runner) ownHealthLocked() Health {
	switch {
	case r.closed:
		return Health{State: StateClosed, Reason: "the runner is closed"}
	case r.draining:
		return Health{State: StateDraining, Reason: "work under way finishes, and new work is refused"}
	case r.started:
		return Health{State: StateHealthy}
	case r.isStarting:
		return Health{State: StateStarting, Reason: "the environment and the workers are being prepared"}
	case r.startFailure != nil:
		return Health{State: StateUnhealthy, Reason: "the start failed", Err: r.startFailure}
	}
	return Health{State: StateNew, Reason: "nothing has been started yet"}
}

// health returns the state of a node. The pool is nil if the node has none yet.
func (n *node) health(p *pool.Pool) NodeHealth {
	c, s := &n.entry.counts, n.entry.settings.Load()
	h := NodeHealth{
		Node: n.id, State: StateHealthy,
		Breaker: s.breaker.State(), Failures: s.breaker.Failures(), LastError: s.last.Load(),
		Calls: c.calls.Load(), Retries: c.retries.Load(), Failed: c.failures(),
		Canceled: c.canceled.Load(), Machines: n.machines.health(),
	}
	switch {
	case p != nil:
		n.addPool(&h, p.Health())
		if !n.leads() {
			h.Pool, h.FusedWith = nil, n.chain.id
		}
	case n.isPython():
		h.State = StateNew
	}
	switch {
	case h.State.worse(StateUnhealthy):
	case h.Breaker == retry.Open:
		h.State, h.Reason, h.Err = StateUnhealthy, "its circuit breaker is open", h.LastError
		if h.Err == nil { // failures were recorded on the breaker directly
			h.Err = NewError(KindOther, fmt.Sprintf("%d operations in a row have failed", h.Failures)).WithNode(n.id)
		}
	case h.Breaker == retry.HalfOpen && !h.State.worse(StateDegraded):
		h.State, h.Reason, h.Err = StateDegraded, "its circuit breaker is half-open: the next call is a probe", h.LastError
	case !h.State.worse(StateDegraded):
		for _, m := range h.Machines {
			if m.Breaker == retry.Open {
				h.State, h.Reason, h.Err = StateDegraded, "its circuit breaker for the machine "+m.Machine+" is open", m.LastError
			}
		}
	}
	return h
}

// addPool adds the state of a node's workers.
func (n *node) addPool(h *NodeHealth, p pool.Health) {
	c := &n.entry.counts
	h.State, h.Reason, h.Since = HealthState(p.State), p.Reason, p.Since
	if p.Cause != nil {
		h.Err = classify(p.Cause).WithNode(n.id)
	}
	h.Pool = &PoolHealth{
		Min: p.Min, Max: p.Max, Idle: p.Idle, Busy: p.Busy, Spares: p.Spares, Starting: p.Starting, Waiting: p.Waiting,
		SpareNote: p.SpareNote, ForkNote: p.ForkNote, Generation: p.Generation,
		Started: p.Counters.Started, StartFailures: p.Counters.StartFailures, Promoted: p.Counters.Promoted,
		Suspects: p.Counters.Suspects, Deaths: c.deaths.all(), Breaches: c.breaches.all(),
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

// byName converts counts by limit; it returns nil if there are none.
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

// String formats the state as tables: the nodes, what is wrong with them, and their
// workers.
func (h Health) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, stateLine(h.State, h.Reason, h.Err))
	if len(h.Nodes) == 0 {
		return b.String()
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tSTATE\tWORKERS\tSPARES\tWAITING\tCALLS\tFAILED\tBREAKER")
	for _, n := range h.Nodes {
		fmt.Fprintln(table, strings.Join(n.columns(), "\t"))
	}
	_ = table.Flush() // into memory
	for _, n := range h.Nodes {
		n.writeProblems(&b)
	}
	h.writeWorkers(&b)
	return b.String()
}

// stateLine returns a state with its reason and error in one line.
func stateLine(state HealthState, reason string, err *Error) string {
	text := string(state)
	if reason != "" {
		text += ": " + reason
	}
	if err != nil && !strings.Contains(reason, err.Error()) {
		text += ": " + err.Error()
	}
	return text
}

// columns returns the node's row of the table.
func (n *NodeHealth) columns() []string {
	workers, spares, waiting := "-", "-", "-"
	if n.FusedWith != "" {
		workers = "those of " + n.FusedWith
	}
	if p := n.Pool; p != nil {
		size := fmt.Sprint(p.Max)
		if p.Min != p.Max {
			size = fmt.Sprintf("%d to %d", p.Min, p.Max)
		}
		workers = fmt.Sprintf("%d busy, %d idle of %s", p.Busy, p.Idle, size)
		if p.Starting > 0 {
			workers += fmt.Sprintf(", %d starting", p.Starting)
		}
		spares, waiting = fmt.Sprint(p.Spares), fmt.Sprint(p.Waiting)
	}
	var failed uint64
	for _, count := range n.Failed {
		failed += count
	}
	return []string{
		n.Node, string(n.State), workers, spares, waiting,
		fmt.Sprint(n.Calls), fmt.Sprint(failed), n.Breaker.String(),
	}
}

// writeProblems writes what is wrong with a node, and its last failures.
func (n *NodeHealth) writeProblems(b *strings.Builder) {
	var lines []string
	if n.State != StateHealthy && (n.Reason != "" || n.Err != nil) {
		lines = append(lines, stateLine(n.State, n.Reason, n.Err))
	}
	if n.Breaker != retry.Closed || n.Failures > 0 {
		lines = append(lines, fmt.Sprintf("circuit breaker %s, %d failed in a row", n.Breaker, n.Failures))
	}
	for _, m := range n.Machines {
		lines = append(lines, fmt.Sprintf("circuit breaker for the machine %s %s, %d failed in a row", m.Machine, m.Breaker, m.Failures))
	}
	if n.Pool != nil {
		lines = append(lines, n.Pool.problems()...)
	}
	if n.LastError != nil && n.LastError != n.Err {
		lines = append(lines, fmt.Sprintf("last error: %v", n.LastError))
	}
	for i, line := range lines {
		if i == 0 {
			fmt.Fprintf(b, "\n%s:\n", n.Node)
		}
		fmt.Fprintf(b, "  %s\n", strings.ReplaceAll(line, "\n", "\n  "))
	}
}

// problems returns a line for each problem of the workers.
func (p *PoolHealth) problems() []string {
	var lines []string
	if p.ConsecutiveFailures > 0 {
		text := fmt.Sprintf("%d worker failures in a row", p.ConsecutiveFailures)
		if !p.NextStart.IsZero() {
			text += ", the next start without a call is at " + p.NextStart.Format(time.TimeOnly)
		}
		lines = append(lines, text)
	}
	if p.SpareNote != "" {
		lines = append(lines, p.SpareNote)
	}
	if p.ForkNote != "" {
		lines = append(lines, "fork server: "+p.ForkNote)
	}
	if d := p.LastDeath; d != nil {
		lines = append(lines, fmt.Sprintf("last death at %s: %v", d.Time.Format(time.TimeOnly), d.Err))
	}
	return lines
}

func (h Health) writeWorkers(b *strings.Builder) {
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	first := true
	for _, n := range h.Nodes {
		if n.Pool == nil {
			continue
		}
		for _, w := range n.Pool.Workers {
			if first {
				fmt.Fprintln(table, "\nWORKER\tNODE\tROLE\tLOAD\tSTREAMS\tCALLS\tAGE\tIDLE\tMEMORY\tCPU\tFILES")
				first = false
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", w.PID, n.Node, w.Role, w.Load, w.Sessions,
				w.Calls, durationText(w.Age), durationText(w.Idle), orDash(w.Resident, fmt.Sprintf("%d MiB", w.Resident>>20)),
				durationText(w.CPU), orDash(w.OpenFiles, fmt.Sprint(w.OpenFiles)))
		}
	}
	_ = table.Flush() // into memory
}

// durationText formats a duration to the precision of a table.
func durationText(s Seconds) string {
	d := time.Duration(s)
	precision := time.Millisecond
	if d >= time.Minute {
		precision = time.Second
	}
	return orDash(d, d.Round(precision).String())
}

// orDash returns text, or a dash if the value is not known, that is, 0.
func orDash[T int | int64 | time.Duration](value T, text string) string {
	if value == 0 {
		return "-"
	}
	return text
}
