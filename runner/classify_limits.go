package runner

import (
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// limitError is a call that found no worker. There is no better kind for it: nothing
// has failed yet, and the node is not to blame. Where the line was full, another
// attempt after a delay may find room. Who has waited for as long as he may is not
// made to wait again.
func limitError(l *pool.LimitError) *Error {
	e := Wrap(l, KindOther, "")
	e.Limit = string(l.Breach.Limit)
	e.NotBegun, e.BreakerExempt = true, true
	if l.Breach.Limit == worker.LimitQueue {
		e.Verdict = VerdictTransient
	}
	e.Hint = limitHints[l.Breach.Limit]
	return e.WithOperation("wait for a worker")
}

// limitHints say what to do about limits that were passed.
var limitHints = map[worker.Limit]string{
	worker.LimitStart:     "if the node needs this long to load, raise its setup_timeout in the manifest",
	worker.LimitCall:      "if the work may take this long, raise the node's timeout in the manifest",
	worker.LimitMemory:    "raise the node's limits.memory in the manifest, or let the node use less",
	worker.LimitResident:  "raise the node's limits.resident in the manifest, or let the node use less",
	worker.LimitCPUTime:   "if the work may take this much, raise the node's limits.cpu_time in the manifest",
	worker.LimitResult:    "raise the node's limits.result in the manifest, or let it return less",
	worker.LimitQueue:     "call less at once, or raise the node's workers.max or limits.queue in the manifest",
	worker.LimitQueueWait: "call less at once, or raise the node's workers.max or limits.queue_wait in the manifest",
}

// hangHints say what to do about a worker that hung, beside raising its limit.
var hangHints = map[worker.Hang]string{
	worker.HangGIL:     "; a C extension can be interrupted only where it releases the GIL",
	worker.HangStopped: "; somebody stopped the process: SIGSTOP, a debugger, or a terminal",
}

// exitLimit is the limit that a worker was ended for, empty where that was not why.
func exitLimit(x *worker.Exit) worker.Limit {
	if x.Breach == nil {
		return ""
	}
	return x.Breach.Limit
}

// exitHint says what to do about a worker that was ended for a limit; it is empty for
// others.
func exitHint(x *worker.Exit) string {
	if x.Breach == nil {
		return ""
	}
	return limitHints[x.Breach.Limit] + hangHints[x.Hang]
}

// deathCause is what a worker's death is counted under.
func deathCause(x *worker.Exit) string {
	switch {
	case exitLimit(x) != "":
		return string(exitLimit(x))
	case x.Reason == worker.ReasonCancel:
		return "cancel"
	case x.Reason == worker.ReasonBroken:
		return "connection"
	case x.OutOfMemory, x.Remote != nil && x.Remote.Class == "MemoryError":
		return "out_of_memory"
	case x.Signal != 0:
		return "signal"
	}
	return "exit"
}

// passed adds the limit of a call that was passed without its worker's end.
func (e *Error) passed(b worker.Breach) *Error {
	return e.add(func(e *Error) {
		e.Limit, e.breach = string(b.Limit), &b
		known(&e.Hint, limitHints[b.Limit])
	})
}
