package runner

import (
	"fmt"
	"time"
)

// WorkerStartFailed says that a worker could not be started.
type WorkerStartFailed struct {
	Node string
	Time time.Time
	// Took is the time since its spawn.
	Took time.Duration
	// Limit is start_timeout where it was not ready in time.
	Limit string
	// Err says why.
	Err error
}

// WorkerRetired says that a worker gets no further calls, for it has passed a limit:
// of idleness, age or calls, or a soft one. It ends when its calls have.
type WorkerRetired struct {
	Node string
	Time time.Time
	PID  int
	// Limit is the limit's name, as in the manifest.
	Limit string
	// Value and Bound are for people, for instance "812 MiB" and "750 MiB".
	Value, Bound string
}

// SparePromoted says that a spare has taken the place of another worker.
type SparePromoted struct {
	Node string
	Time time.Time
	PID  int
}

// CallRefused says that a limit kept a call from being made, or its result from
// being taken.
type CallRefused struct {
	Node string
	Time time.Time
	// Limit is queue, queue_wait or result.
	Limit string
	// Value and Bound are for people.
	Value, Bound string
	// Waiting is how many calls are in line.
	Waiting int
}

// HealthChanged says that a node's workers went from one state to another.
type HealthChanged struct {
	Node     string
	Time     time.Time
	From, To HealthState
	// Reason says why, in words.
	Reason string
	// Err is the error behind it, never nil where To is [StateUnhealthy].
	Err error
}

// Reloaded says that a node's workers have been replaced by new ones, which have
// read its code again.
type Reloaded struct {
	Node string
	Time time.Time
	// Workers is how many are new.
	Workers int
	// Took is how long it took to start them.
	Took time.Duration
}

func (WorkerStartFailed) event() {}
func (WorkerRetired) event()     {}
func (SparePromoted) event()     {}
func (CallRefused) event()       {}
func (HealthChanged) event()     {}
func (Reloaded) event()          {}

// String describes the event.
func (e WorkerStartFailed) String() string {
	return fmt.Sprintf("node %q: a worker could not be started: %v", e.Node, e.Err)
}

// String describes the event.
func (e WorkerRetired) String() string {
	return fmt.Sprintf("node %q: worker %d retires: %s of %s, the limit is %s", e.Node, e.PID, e.Limit, e.Value, e.Bound)
}

// String describes the event.
func (e SparePromoted) String() string {
	return fmt.Sprintf("node %q: worker %d was a spare and serves now", e.Node, e.PID)
}

// String describes the event.
func (e CallRefused) String() string {
	return fmt.Sprintf("node %q: a call was refused: %s of %s, the limit is %s", e.Node, e.Limit, e.Value, e.Bound)
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
	return text
}

// String describes the event.
func (e Reloaded) String() string {
	workers := "workers"
	if e.Workers == 1 {
		workers = "worker"
	}
	return fmt.Sprintf("node %q: reloaded, %d new %s after %v", e.Node, e.Workers, workers, round(e.Took))
}
