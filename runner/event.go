package runner

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Event reports something that happened while a pipeline runs; see [WithEvents]. Its
// concrete type is one of
//
//   - [WorkerStarted], [WorkerStartFailed], [WorkerDied], [WorkerRetired],
//     [SparePromoted]: the workers of a node;
//   - [SetupProgress], [Reloaded]: the code of a node;
//   - [NodeStarted], [NodeFinished], [CallRetried], [CallRefused]: the calls of a node;
//   - [BreakerChanged], [HealthChanged]: the state of a node.
//
// More types may be added. String describes the event in one line. In all types, Node
// is the id of the node in the pipeline, and Time is when the event happened.
type Event interface {
	fmt.Stringer
	event()
}

// WorkerStarted reports that a worker is ready for calls.
type WorkerStarted struct {
	Node string
	Time time.Time
	PID  int
	// Took is the time from the start of the process until the worker was ready.
	Took time.Duration
	// Spare is true if the worker is a spare. It gets calls once it is promoted; see
	// [SparePromoted].
	Spare bool
}

// WorkerStartFailed reports that a worker could not be started.
type WorkerStartFailed struct {
	Node string
	Time time.Time
	// Took is the time from the start of the process until the failure.
	Took time.Duration
	// Limit is "start_timeout" if the worker was not ready in time.
	Limit string
	// Err is the reason; it is an [*Error].
	Err error
}

// WorkerDied reports that a worker ended although the runner had not asked it to.
type WorkerDied struct {
	Node string
	Time time.Time
	PID  int
	// Idle is true if the worker had no call, so that no call failed.
	Idle bool
	// Limit is the limit that the worker was killed for, by its name in the manifest,
	// or empty.
	Limit string
	// Err says how the worker ended; it is an [*Error].
	Err error
}

// WorkerRetired reports that a worker gets no further calls because it exceeded a soft
// limit, or one of idle time, age or calls. It ends after its calls under way.
type WorkerRetired struct {
	Node string
	Time time.Time
	PID  int
	// Limit is the name of the limit in the manifest.
	Limit string
	// Value and Bound are formatted for display, for instance "812 MiB" and "750 MiB".
	Value, Bound string
}

// SparePromoted reports that a spare replaced another worker.
type SparePromoted struct {
	Node string
	Time time.Time
	PID  int
}

// Progress is what a node reports of a call; see [WithProgress].
type Progress struct {
	// Node is the id of the node in the pipeline.
	Node string
	// Message says what the node does. It has at most 8 KiB and any characters;
	// [PrintableLine] makes it fit for a terminal.
	Message string
	// Fraction is how much is done, from 0 to 1, nil if that is unknown.
	Fraction *float64
}

// WithProgress returns a context whose runs, calls and streams report their progress: what their
// Python nodes report by gophersnake.progress, and their Go nodes by [ReportProgress], also on
// other machines. It calls fn on a goroutine of its own, one call after the other. Each node's
// latest report counts: fn gets the first one at once, and later ones at most ten times a
// second. An attempt after a failed one reports from the beginning again. The function of an
// outer context gets the same reports.
//
// Stop passes the last reports on, and returns when fn has returned; later reports are dropped.
// Call it when the work has returned, and not from fn:
//
//	ctx, stop := runner.WithProgress(ctx, func(p runner.Progress) { log.Print(p.Node, ": ", p.Message) })
//	defer stop()
//	out, err := r.Run(ctx, input)
func WithProgress(ctx context.Context, fn func(Progress)) (_ context.Context, stop func()) {
	return progress.With(ctx, func(r progress.Report) { fn(Progress(r)) })
}

// ReportProgress reports the progress of a node in Go; ctx is that of its call. It does not
// block. The node's id is added if p has none. Without [WithProgress] it does nothing.
func ReportProgress(ctx context.Context, p Progress) {
	sink := progress.Of(ctx)
	if sink == nil {
		return
	}
	if p.Node == "" {
		p.Node = progress.Node(ctx)
	}
	sink.Add(progress.Report(p))
}

// SetupProgress reports progress that a node reported from its setup, or from code that works for
// no call. That of a call goes to its caller; see [WithProgress].
type SetupProgress struct {
	Node    string
	Time    time.Time
	Message string
	// Fraction is between 0 and 1, nil if the node did not report it.
	Fraction *float64
}

// Reloaded reports that new workers, which loaded the node's code again, have replaced
// the former ones.
type Reloaded struct {
	Node string
	Time time.Time
	// Workers is the number of new workers.
	Workers int
	// Took is the time that it took to start them.
	Took time.Duration
}

// NodeStarted reports that a node began to process an input.
type NodeStarted struct {
	Node string
	Time time.Time
}

// NodeFinished reports that a node has processed an input, including retries.
type NodeFinished struct {
	Node string
	Time time.Time
	// Took is the time since the node started.
	Took time.Duration
	// Err is nil if the node succeeded.
	Err error
}

// CallRetried reports that an attempt failed and that a retry follows.
type CallRetried struct {
	Node string
	Time time.Time
	// Attempt is the number of the attempt that failed, counted from 1.
	Attempt int
	// Delay is the time until the next attempt.
	Delay time.Duration
	// Err is the error of the attempt that failed.
	Err error
}

// CallRefused reports that a limit prevented a call, or discarded its result.
type CallRefused struct {
	Node string
	Time time.Time
	// Limit is "queue", "queue_wait" or "result".
	Limit string
	// Value and Bound are formatted for display.
	Value, Bound string
	// Waiting is the number of calls that wait for a worker.
	Waiting int
}

// BreakerChanged reports that a node's circuit breaker changed its state.
type BreakerChanged struct {
	Node     string
	Time     time.Time
	From, To retry.State
	// CallsWait means that calls wait for the next probe; see [WithBreakerWait].
	CallsWait bool
}

// HealthChanged reports that the state of a node's workers changed.
type HealthChanged struct {
	Node     string
	Time     time.Time
	From, To HealthState
	// Reason says why, in words.
	Reason string
	// Err is the error that caused the change. It is never nil if To is
	// [StateUnhealthy].
	Err error
}

func (WorkerStarted) event()     {}
func (WorkerStartFailed) event() {}
func (WorkerDied) event()        {}
func (WorkerRetired) event()     {}
func (SparePromoted) event()     {}
func (SetupProgress) event()     {}
func (Reloaded) event()          {}
func (NodeStarted) event()       {}
func (NodeFinished) event()      {}
func (CallRetried) event()       {}
func (CallRefused) event()       {}
func (BreakerChanged) event()    {}
func (HealthChanged) event()     {}

// String describes the event.
func (e WorkerStarted) String() string {
	role := "worker"
	if e.Spare {
		role = "spare worker"
	}
	return fmt.Sprintf("node %q: %s %d is ready after %v", e.Node, role, e.PID, round(e.Took))
}

// String describes the event.
func (e WorkerStartFailed) String() string {
	return fmt.Sprintf("node %q: a worker could not be started: %v", e.Node, e.Err)
}

// String describes the event.
func (e WorkerDied) String() string {
	return fmt.Sprintf("node %q: worker %d died: %v", e.Node, e.PID, e.Err)
}

// String describes the event.
func (e WorkerRetired) String() string {
	return fmt.Sprintf("node %q: worker %d retires: %s is %s, the limit is %s", e.Node, e.PID, e.Limit, e.Value, e.Bound)
}

// String describes the event.
func (e SparePromoted) String() string {
	return fmt.Sprintf("node %q: spare worker %d was promoted and now serves calls", e.Node, e.PID)
}

// String describes the event.
func (e SetupProgress) String() string {
	return Progress{Node: e.Node, Message: e.Message, Fraction: e.Fraction}.String()
}

// String describes the report in one line, which is fit for a terminal.
func (p Progress) String() string {
	if p.Fraction == nil {
		return fmt.Sprintf("node %q: %s", p.Node, PrintableLine(p.Message))
	}
	return fmt.Sprintf("node %q: %s (%.0f%%)", p.Node, PrintableLine(p.Message), *p.Fraction*100)
}

// String describes the event.
func (e Reloaded) String() string {
	workers := "workers"
	if e.Workers == 1 {
		workers = "worker"
	}
	return fmt.Sprintf("node %q: reloaded, %d new %s after %v", e.Node, e.Workers, workers, round(e.Took))
}

// String describes the event.
func (e NodeStarted) String() string { return fmt.Sprintf("node %q: started", e.Node) }

// String describes the event.
func (e NodeFinished) String() string {
	if e.Err != nil {
		return fmt.Sprintf("node %q: failed after %v: %v", e.Node, round(e.Took), e.Err)
	}
	return fmt.Sprintf("node %q: finished after %v", e.Node, round(e.Took))
}

// String describes the event.
func (e CallRetried) String() string {
	return fmt.Sprintf("node %q: attempt %d failed, the next follows in %v: %v", e.Node, e.Attempt, e.Delay, e.Err)
}

// String describes the event.
func (e CallRefused) String() string {
	return fmt.Sprintf("node %q: a call was refused: %s is %s, the limit is %s", e.Node, e.Limit, e.Value, e.Bound)
}

// String describes the event.
func (e BreakerChanged) String() string {
	return fmt.Sprintf("node %q: the circuit breaker is %v, it was %v", e.Node, e.To, e.From)
}

// String describes the event.
func (e HealthChanged) String() string {
	text := fmt.Sprintf("node %q is %s, it was %s", e.Node, e.To, e.From)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.Err != nil {
		text += fmt.Sprintf(": %v", e.Err)
	}
	return PrintableLine(text)
}

// round rounds a duration to the precision that is worth displaying.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d
}

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
			if measure := r.options.measure; measure != nil {
				measure(context.Background(), Measurement{Node: n.id, Quantity: StartTime, Took: e.Took})
			}
		case pool.WorkerStartFailed:
			failure := classify(e.Err).WithNode(n.memberOf(e.Err).id)
			c.breach(failure.Limit)
			report(WorkerStartFailed{Node: failure.Node, Time: now, Took: e.Took, Limit: failure.Limit, Err: failure})
		case pool.WorkerEnded:
			if e.Exit.Reason == worker.ReasonShutdown || e.Exit.Reason == worker.ReasonKilled {
				logger.Debug(fmt.Sprintf("node %q: worker %d ended", n.id, e.Exit.PID), "worker", e.Exit.PID)
				return
			}
			limit, in := string(exitLimit(e.Exit)), n
			if !e.Idle {
				in = n.memberOf(e.Exit)
			}
			c.deaths.add(deathCause(e.Exit))
			c.breach(limit)
			report(WorkerDied{
				Node: in.id, Time: now, PID: e.Exit.PID, Idle: e.Idle, Limit: limit, Err: classify(e.Exit).WithNode(in.id),
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
