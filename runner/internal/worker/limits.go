package worker

import (
	"errors"
	"fmt"
	"time"
)

// Limit names a supervision limit.
type Limit string

// The limits. Those of one worker are in [Config] and [Limits], the others are
// package pool's.
const (
	LimitStart        Limit = "start_timeout"
	LimitCall         Limit = "timeout"
	LimitIdle         Limit = "idle_timeout"
	LimitAge          Limit = "max_age"
	LimitCalls        Limit = "max_calls"
	LimitResidentSoft Limit = "resident_soft"
	LimitResident     Limit = "resident"
	LimitCPUTime      Limit = "cpu_time"
	LimitOpenFiles    Limit = "open_files"
	LimitResult       Limit = "result"
	LimitQueue        Limit = "queue"
	LimitQueueWait    Limit = "queue_wait"
	LimitMemory       Limit = "memory" // private writable memory: ipc.SetupLimits.Memory
)

// Limits bound a worker's use of the machine; 0 is no bound.
//
// Memory and CPU time are those of the process and of what is left in its process
// group: of all that goes when the worker is ended. They are looked at ten times a
// second while it works, and more often as it comes near a bound; what it takes at
// a stroke is for ipc.SetupLimits.Memory to refuse.
type Limits struct {
	// ResidentSoft, in bytes of resident memory, is where a worker is [Worker.Worn].
	ResidentSoft int64
	// Resident, in bytes of resident memory, is where a worker is ended. Of a group
	// of several processes, memory that they share counts once.
	Resident int64
	// CPUTime is how much of it one call may use, or of a call that gives many
	// values each of them; past it the worker is ended. Where a worker has several
	// calls under way at once it counts from the last answer.
	CPUTime time.Duration
	// OpenFiles is how many descriptors the process may have open. A worker that
	// holds more than three quarters of it is [Worker.Worn].
	OpenFiles int
	// Result is how many bytes one result may take; a larger one is a [LimitError]
	// of its call, and the worker lives on.
	Result int64
}

// areWatched reports whether somebody has to look whether they are kept.
func (l Limits) areWatched() bool {
	return l.ResidentSoft > 0 || l.Resident > 0 || l.CPUTime > 0 || l.OpenFiles > 0
}

// Breach is a limit that was passed. Its value and its bound are as people read
// them: "812 MiB", "750 MiB".
type Breach struct {
	Limit        Limit
	Value, Bound string
}

func (b Breach) String() string {
	return fmt.Sprintf("%s, more than the limit of %s (%s)", b.Value, b.Bound, b.Limit)
}

// LimitError says that a call was refused its answer over a limit, the worker
// living on.
type LimitError struct {
	Breach Breach
	// Cause is a *[ipc.RemoteError] where the worker kept the limit, a
	// *[ipc.ValueError] where the supervisor had to.
	Cause error
}

func (e *LimitError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Cause }

// ResultBreach returns the limit that a call's result was beyond, nil where its
// error is another.
func ResultBreach(err error) *Breach {
	if over, ok := errors.AsType[*LimitError](err); ok {
		return &over.Breach
	}
	return nil
}

// inBytes words a size.
func inBytes(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.4g GiB", float64(n)/(1<<30))
}

// inTime words a duration.
func inTime(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(10 * time.Millisecond)
	}
	return d.String()
}
