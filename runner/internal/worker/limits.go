package worker

import (
	"errors"
	"fmt"
	"time"
)

// Limit names a supervision limit.
type Limit string

// The limits. [Config] and [Limits] hold those of one worker; package pool holds the
// others.
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
	LimitThreads      Limit = "threads"
	LimitResult       Limit = "result"
	LimitQueue        Limit = "queue"
	LimitQueueWait    Limit = "queue_wait"
	LimitMemory       Limit = "memory" // private writable memory: ipc.SetupLimits.Memory
)

// Limits bound a worker's use of the machine; 0 is no limit.
//
// Memory and CPU time are those of the process and of the other processes in its
// group, which are killed with it. The limits are checked ten times a second while the
// worker is busy, and more often when it is close to one. A single large allocation is
// refused only by ipc.SetupLimits.Memory, which also bounds the files that consist of
// memory.
type Limits struct {
	// ResidentSoft is a soft limit of resident memory in bytes; see
	// [Worker.SoftBreach].
	ResidentSoft int64
	// Resident is the memory, in bytes, beyond which the worker is ended: resident
	// memory, and files that consist of memory, also if they are not mapped. Memory that
	// several processes of the group share counts once.
	Resident int64
	// CPUTime is how much CPU time one call may use, or each item of a call that
	// yields items. Beyond it the worker is ended. If several calls are under way at
	// once, it counts from the last answer.
	CPUTime time.Duration
	// OpenFiles is how many descriptors the process may have open. Three quarters of
	// it are a soft limit; see [Worker.SoftBreach].
	OpenFiles int
	// Threads is how many threads the process, its group and its descendants may have
	// together. A worker with more is ended. Three quarters of it are a soft limit; see
	// [Worker.SoftBreach]. If the profile of an isolated worker bounds them with a cgroup,
	// the kernel refuses further ones instead.
	Threads int
	// Result is how many bytes one result may have. The call of a larger one fails
	// with a [LimitError], and the worker lives on.
	Result int64
}

// Breach is a limit that was passed. Value and Bound are formatted for people:
// "812 MiB", "750 MiB".
type Breach struct {
	Limit        Limit
	Value, Bound string
}

func (b Breach) String() string {
	return fmt.Sprintf("%s, more than the limit of %s (%s)", b.Value, b.Bound, b.Limit)
}

// LimitError says that a call failed because of a limit. The worker lives on.
type LimitError struct {
	Breach Breach
	// Cause is a *[ipc.RemoteError] if the worker enforced the limit, a
	// *[ipc.ValueError] if the supervisor did.
	Cause error
}

func (e *LimitError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Cause }

// ResultBreach returns the limit that the result of a call exceeded, nil if the error
// is another one.
func ResultBreach(err error) *Breach {
	if over, ok := errors.AsType[*LimitError](err); ok {
		return &over.Breach
	}
	return nil
}

// formatBytes formats a number of bytes for people.
func formatBytes(n int64) string {
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

// formatThreads formats a number of threads for people.
func formatThreads(n int) string { return fmt.Sprintf("%d threads", n) }

// formatQueued formats a number of descriptors that wait in sockets for people.
func formatQueued(n int) string { return fmt.Sprintf("%d descriptors in the queue of a socket", n) }

// formatDuration formats a duration for people.
func formatDuration(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(10 * time.Millisecond)
	}
	return d.String()
}
