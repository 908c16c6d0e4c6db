package runner

import (
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/retry"
)

// Event tells of something that happened while a pipeline runs. It is one of
// [WorkerStarted], [WorkerStartFailed], [WorkerDied], [WorkerRetired], [SparePromoted],
// [CallRetried], [CallRefused], [BreakerChanged], [HealthChanged], [Reloaded],
// [SetupProgress], [NodeStarted] and [NodeFinished]; a type switch tells which.
// String describes it in a line.
type Event interface {
	fmt.Stringer
	event()
}

// WorkerStarted says that a worker is ready for calls.
type WorkerStarted struct {
	Node string
	Time time.Time
	PID  int
	// Took is the time from its spawn until it was ready.
	Took time.Duration
	// Spare says that it stands by, and serves when another one is gone.
	Spare bool
}

// WorkerDied says that a worker ended without having been told to.
type WorkerDied struct {
	Node string
	Time time.Time
	PID  int
	// Idle says that it had no call: nobody is the worse for it.
	Idle bool
	// Limit is the limit that it was ended for, by its name in the manifest; empty
	// where that was not why.
	Limit string
	// Err says how it died.
	Err error
}

// CallRetried says that a call failed and will be tried again.
type CallRetried struct {
	Node string
	Time time.Time
	// Attempt is the number of the attempt that failed, counted from 1.
	Attempt int
	// Delay is the wait before the next attempt.
	Delay time.Duration
	// Err is the error of the attempt that failed.
	Err error
}

// BreakerChanged says that a node's circuit breaker went from one state to another.
type BreakerChanged struct {
	Node     string
	Time     time.Time
	From, To retry.State
}

// SetupProgress is a node's word on how far its set-up is.
type SetupProgress struct {
	Node    string
	Time    time.Time
	Message string
	// Fraction is between 0 and 1, nil where it is not known.
	Fraction *float64
}

// NodeStarted says that a node began to work on an input.
type NodeStarted struct {
	Node string
	Time time.Time
}

// NodeFinished says that a node is done with an input, its retries included.
type NodeFinished struct {
	Node string
	Time time.Time
	// Took is the time since it started.
	Took time.Duration
	// Err is nil where it succeeded.
	Err error
}

func (WorkerStarted) event()  {}
func (WorkerDied) event()     {}
func (CallRetried) event()    {}
func (BreakerChanged) event() {}
func (SetupProgress) event()  {}
func (NodeStarted) event()    {}
func (NodeFinished) event()   {}

// String describes the event.
func (e WorkerStarted) String() string {
	what := "worker"
	if e.Spare {
		what = "spare worker"
	}
	return fmt.Sprintf("node %q: %s %d is ready after %v", e.Node, what, e.PID, round(e.Took))
}

// String describes the event.
func (e WorkerDied) String() string {
	return fmt.Sprintf("node %q: worker %d died: %v", e.Node, e.PID, e.Err)
}

// String describes the event.
func (e CallRetried) String() string {
	return fmt.Sprintf("node %q: attempt %d failed, the next follows in %v: %v", e.Node, e.Attempt, e.Delay, e.Err)
}

// String describes the event.
func (e BreakerChanged) String() string {
	return fmt.Sprintf("node %q: the circuit breaker is %v, it was %v", e.Node, e.To, e.From)
}

// String describes the event.
func (e SetupProgress) String() string {
	if e.Fraction == nil {
		return fmt.Sprintf("node %q: %s", e.Node, e.Message)
	}
	return fmt.Sprintf("node %q: %s (%.0f%%)", e.Node, e.Message, *e.Fraction*100)
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

// round drops the digits that nobody reads.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d
}
