package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/builtin"
	"github.com/gophersnake/gophersnake/runner/internal/convert"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/wasm"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// classify converts an error of the packages below to an [*Error]. The kinds of all
// those errors are decided here. The outermost error in the chain that has a type of
// these packages decides; if there is none, one of their sentinels.
func classify(err error) *Error {
	if e := classifyChain(err); e != nil {
		return e
	}
	switch {
	case isContextEnd(err):
		return Wrap(err, KindOther, "")
	case errors.Is(err, pool.ErrDraining):
		return refusal(ErrDraining, fmt.Errorf("%w: %w", ErrDraining, err))
	case errors.Is(err, pool.ErrClosed), errors.Is(err, wasm.ErrClosed):
		return refusal(ErrClosed, fmt.Errorf("%w: %w", ErrClosed, err))
	case isSystemError(err):
		return Wrap(err, KindIO, "")
	}
	return AsError(err)
}

// classifyChain classifies the outermost error in the chain of err whose type is one of
// [classifyType], and returns nil if there is none. It walks the chain as [errors.As]
// does. The cause of the result includes all errors that wrap the one found.
func classifyChain(err error) *Error {
	if e := classifyType(err); e != nil {
		return e
	}
	var inner *Error
	switch wrapper := err.(type) { //nolint:errorlint // it walks the chain itself
	case interface{ Unwrap() error }:
		inner = classifyChain(wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		for _, each := range wrapper.Unwrap() {
			if inner = classifyChain(each); inner != nil {
				break
			}
		}
	}
	if inner == nil {
		return nil
	}
	return inner.wrappedBy(err)
}

// classifyType classifies an error by its own type, and returns nil if it is of none
// of the packages below.
func classifyType(err error) *Error {
	switch err := err.(type) { //nolint:errorlint // classifyChain unwraps
	case *Error:
		return err
	case *stageError:
		return err.classify()
	case *ipc.RemoteError:
		return remoteError(err)
	case *ipc.ValueError:
		e := Wrap(err, KindMarshaling, err.Reason)
		e.Path, e.Hint = err.Path, err.Hint
		return e
	case *convert.Error:
		e := Wrap(err.Cause, KindMarshaling, err.Reason)
		e.Path, e.Hint = err.Path, err.Hint
		return e
	case *builtin.InputError:
		e := Wrap(err, KindMarshaling, err.Reason)
		e.Path = "input" + err.Path
		return e
	case *builtin.ParamError:
		return Wrap(err, KindManifest, "").WithHint(err.Hint)
	case *ipc.FullError:
		e := Wrap(err, KindIO, "")
		e.BreakerExempt = true
		return e.WithHint("release results earlier, or raise the limit with runner.WithSharedMemory")
	case *worker.Exit:
		return exitError(err)
	case *worker.UnbegunError:
		return unbegunError(err)
	case *worker.SuspectError:
		return suspectError(err)
	case *worker.DeadlineError:
		e := NewError(KindPythonVM, fmt.Sprintf("no answer within %s; the call was canceled", err.Limit))
		e.PID, e.Traceback = err.PID, err.Remote.Frames
		return e.withBreach(worker.Breach{Limit: worker.LimitCall, Bound: err.Limit.String()}).WithOperation("call")
	case *worker.LimitError:
		return classify(err.Cause).withBreach(err.Breach).WithOperation("call")
	case *worker.StartError:
		return startError(err)
	case *worker.BrokenError:
		e := Wrap(err.Cause, KindTransport, "the connection to the worker broke")
		return withExit(e, err.Exit).WithOperation("call")
	case *worker.CanceledError:
		return canceledError(err)
	case *pool.LimitError:
		return limitError(err)
	case *engine.Error:
		return engineError(err)
	case *engineDeadline:
		return err.classify()
	case *manifest.Errors:
		return Wrap(err, KindManifest, "")
	case *pyenv.Error:
		return environmentError(err).WithOperation("prepare the environment")
	}
	return nil
}

func isContextEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isSystemError(err error) bool {
	var errno syscall.Errno
	var path *fs.PathError
	return errors.As(err, &errno) || errors.As(err, &path)
}

// remoteKinds maps the failure kinds that workers report.
var remoteKinds = map[string]Kind{
	ipc.FailureExecution:  KindExecution,
	ipc.FailurePythonVM:   KindPythonVM,
	ipc.FailureMarshaling: KindMarshaling,
	ipc.FailureManifest:   KindManifest,
	ipc.FailureIO:         KindIO,
	ipc.FailureTransport:  KindTransport,
}

// remoteError classifies a failure that a worker reported: an exception of the node's
// code, or a problem that the worker itself found.
func remoteError(r *ipc.RemoteError) *Error {
	e := Wrap(r, remoteKinds[r.Kind], r.Message) // an unknown kind is KindOther
	e.PythonClass, e.PythonBases = r.Class, r.Bases
	e.Traceback = r.Frames
	e.Notes = r.Notes
	e.Chained = r.Cause
	e.Path = r.Path
	e.Hint = cmp.Or(r.Hint, missingVariableHint(r))
	e.Operation = r.Stage
	e.ExitCode = r.ExitCode
	switch {
	case r.Retryable == nil:
	case *r.Retryable:
		e.Verdict = VerdictTransient
	default:
		// The node works, and rejects this input. A few invalid inputs in a row must not
		// open the breaker for valid ones.
		e.Verdict, e.BreakerExempt = VerdictPermanent, true
	}
	if after, ok := r.RetryAfter(); ok {
		e.After = &after
	}
	return e
}

// exitError classifies the end of an interpreter during a call.
func exitError(x *worker.Exit) *Error {
	e := withExit(NewError(KindPythonVM, x.Summary()), x)
	e.Hint = x.Hint()
	if e.Limit != "" {
		e.Hint = exitHint(x)
	}
	return e.WithOperation("call")
}

// unbegunError classifies the end of an interpreter that had not begun a call. Only the worker
// says so of a call that was sent, so that one is not repeated if it may not run twice. The
// breaker counts the death once, for the first of the calls that the worker had.
func unbegunError(u *worker.UnbegunError) *Error {
	e := exitError(u.Exit)
	if !u.Sent {
		e.NotBegun = true
		return e
	}
	return e.with(func(e *Error) {
		e.BreakerExempt = !u.First
		e.Message += "; by the worker's own count, it had not begun this call"
		e.Hint = "if the node's calls may run twice, let it be idempotent: such a call then moves to another worker"
	})
}

// suspectError classifies the end of an interpreter that ran this call and others, if the
// call was not made again alone. The breaker counts the death once, for the first of them.
func suspectError(s *worker.SuspectError) *Error {
	return classify(s.Err).with(func(e *Error) {
		e.BreakerExempt = !s.First
		if s.Over {
			e.Message += "; the node had finished this call, and only its answer is lost"
			e.BreakerExempt = true
			return
		}
		e.Message += fmt.Sprintf("; %s under way, and any of them may have caused it", others(s.Others))
		e.Hint = "if the node's calls may run twice, let it be idempotent: each of them is then made again alone, and only the one at fault fails"
	})
}

// others formats a number of other calls, with its verb.
func others(n int) string {
	if n == 1 {
		return "1 other call was"
	}
	return fmt.Sprintf("%d other calls were", n)
}

// withExit returns a copy of e with the evidence about how a worker ended. It returns
// e itself if x is nil.
func withExit(e *Error, x *worker.Exit) *Error {
	if x == nil {
		return e
	}
	more := *e
	e = &more
	e.PID = x.PID
	e.Traceback = x.Traceback
	e.StderrTail = x.Stderr
	if x.Code >= 0 {
		e.ExitCode = &x.Code
	}
	if x.Signal != 0 {
		e.Signal = worker.SignalName(x.Signal)
	}
	e.Limit, e.Hang = string(exitLimit(x)), string(x.Hang)
	if x.Remote != nil {
		e.Notes, e.Chained = x.Remote.Notes, x.Remote.Cause
	}
	return e.
		WithMetadata("uptime", x.Uptime.Round(1e6).String()).
		WithMetadata("max_rss", fmt.Sprintf("%d MiB", x.MaxRSS>>20))
}

// startError classifies the failed start of a worker. The call that waited for the
// worker had not begun.
func startError(s *worker.StartError) *Error {
	var e *Error
	if remote, ok := errors.AsType[*ipc.RemoteError](s.Cause); ok {
		e = remoteStartError(remote, s.Exit)
	} else if exit, ok := errors.AsType[*worker.Exit](s.Cause); ok {
		e = withExit(NewError(KindPythonVM, s.Summary()+": "+exit.Summary()), exit)
		e.Hint = exitHint(exit)
	} else if isProtocolError(s.Cause) {
		e = withExit(Wrap(s.Cause, KindTransport, s.Summary()), s.Exit)
	} else if e = isolationError(s.Cause); e == nil {
		e = systemStartError(s)
	}
	e = e.WithOperation("start")
	e.NotBegun = true
	return e
}

// remoteStartError classifies a failure that a worker reported during its start.
func remoteStartError(r *ipc.RemoteError, exit *worker.Exit) *Error {
	e := remoteError(r)
	if r.Stage == ipc.StageImport && e.Verdict == VerdictByKind {
		e.Verdict = VerdictPermanent // a retry would import the same code
	}
	if exit != nil {
		e.PID, e.StderrTail = exit.PID, exit.Stderr
		e.Limit = string(exitLimit(exit))
		setIfZero(&e.Hint, limitHints[exitLimit(exit)])
	}
	return e
}

// systemStartError classifies a start that failed with an error of the operating
// system, or by its timeout.
func systemStartError(s *worker.StartError) *Error {
	if folder, ok := errors.AsType[*worker.TemporaryFolderError](s.Cause); ok {
		e := Wrap(folder, KindIO, "")
		e.Verdict = VerdictPermanent
		e.Hint = "set TMPDIR to a folder that exists, can be written, and has free space and inodes, such as /tmp"
		return e
	}
	kind := KindPythonVM
	if s.Stage == worker.StageSetup && s.Exit != nil && s.Exit.Reason == worker.ReasonBroken {
		kind = KindTransport // the connection broke while the process lived
	}
	e := withExit(Wrap(s.Cause, kind, s.Summary()), s.Exit)
	if path, ok := errors.AsType[*fs.PathError](s.Cause); ok && path.Op == "chdir" {
		e.Verdict = VerdictPermanent
		e.Hint = "the pipeline's folder does not exist any more: load the pipeline from its new location"
	} else if errors.Is(s.Cause, fs.ErrNotExist) || errors.Is(s.Cause, fs.ErrPermission) {
		e.Verdict = VerdictPermanent
		e.Hint = "name another interpreter with --python; `gophersnake doctor` lists those on this machine"
	} else if errors.Is(s.Cause, syscall.EAGAIN) {
		e.Hint = "the user or the container has no process or thread left: raise the limit (ulimit -u, pids.max), " +
			"or bound those of the nodes with limits.threads in the manifest"
	}
	return e
}

func isProtocolError(err error) bool {
	var peer *ipc.PeerError
	var protocol *ipc.ProtocolError
	return errors.As(err, &peer) || errors.As(err, &protocol)
}

// canceledError classifies a call whose context ended.
func canceledError(c *worker.CanceledError) *Error {
	e := Wrap(c.Cause, KindOther, "")
	if c.Remote != nil {
		e.Traceback = c.Remote.Frames
	}
	if c.Exit != nil {
		e = withExit(Wrap(c.Cause, KindOther, c.Exit.Summary()), c.Exit)
	}
	return e.WithOperation("call")
}

// limitError classifies a call that got no worker. Nothing has failed, so its kind is
// KindOther. If the queue was full, a retry after a delay may find room. A call that
// waited for the longest time allowed is not retried.
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

// isolationError classifies the error of a process that was not started because it
// could not be isolated; it returns nil for other errors.
func isolationError(err error) *Error {
	if u, ok := errors.AsType[*isolation.UnsupportedError](err); ok {
		e := Wrap(u, KindIO, "")
		e.Verdict, e.Hint = VerdictPermanent, u.Hint
		return e
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok && path.Op == isolation.OpIsolate {
		e := Wrap(path, KindManifest, "the node's isolation names a file or folder that cannot be opened")
		e.Hint = "check read and write of isolation in the manifest; each path must exist when the node starts"
		return e
	}
	return nil
}

// limitHints say what to do if a limit was exceeded.
var limitHints = map[worker.Limit]string{
	worker.LimitStart:     "if the node needs this long to load, raise its setup_timeout in the manifest",
	worker.LimitCall:      "if the work may take this long, raise the node's timeout in the manifest",
	worker.LimitMemory:    "raise the node's limits.memory in the manifest, or make the node use less",
	worker.LimitResident:  "raise the node's limits.resident in the manifest, or make the node use less",
	worker.LimitCPUTime:   "if the work may take this much, raise the node's limits.cpu_time in the manifest",
	worker.LimitThreads:   "raise the node's limits.threads in the manifest, or make the node start fewer threads",
	worker.LimitResult:    "raise the node's limits.result in the manifest, or make the node return less",
	worker.LimitQueue:     "make fewer calls at once, or raise the node's workers.max or limits.queue in the manifest",
	worker.LimitQueueWait: "make fewer calls at once, or raise the node's workers.max or limits.queue_wait in the manifest",
}

// hangHints say what to do about a worker that hung, besides raising its limit.
var hangHints = map[worker.Hang]string{
	worker.HangGIL:     "; a C extension can be interrupted only while it releases the GIL",
	worker.HangStopped: "; the process was stopped, by SIGSTOP, a debugger or a terminal",
}

// exitLimit returns the limit that a worker was killed for, or "".
func exitLimit(x *worker.Exit) worker.Limit {
	if x.Breach == nil {
		return ""
	}
	return x.Breach.Limit
}

// exitHint returns the hint for a worker that was killed for a limit, or "".
func exitHint(x *worker.Exit) string {
	if x.Breach == nil {
		return ""
	}
	return limitHints[x.Breach.Limit] + hangHints[x.Hang]
}

// deathCause returns the name that a worker's death is counted under.
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

// withBreach returns a copy with a limit that a call exceeded while its worker lived
// on.
func (e *Error) withBreach(b worker.Breach) *Error {
	return e.with(func(e *Error) {
		e.Limit, e.breach = string(b.Limit), &b
		setIfZero(&e.Hint, limitHints[b.Limit])
	})
}

// engineDeadline is the cause of the end of a call that exceeded the node's timeout.
type engineDeadline struct {
	fault engine.Fault
	limit time.Duration
}

func (d *engineDeadline) Error() string { return "no answer within " + d.limit.String() }

// classify returns the error of a call that exceeded its deadline: it was interrupted.
func (d *engineDeadline) classify() *Error {
	e := NewError(faultKinds[d.fault], d.Error()+"; the call was interrupted")
	return e.withBreach(worker.Breach{Limit: worker.LimitCall, Bound: d.limit.String()}).WithOperation("call")
}

// faultKinds maps what went wrong in an engine.
var faultKinds = map[engine.Fault]Kind{
	engine.Wasm:       KindWasm,
	engine.Execution:  KindExecution,
	engine.Transport:  KindTransport,
	engine.Marshaling: KindMarshaling,
	engine.System:     KindIO,
	engine.Manifest:   KindManifest,
	engine.Busy:       KindOther,
}

// engineError classifies an error of an engine.
func engineError(err *engine.Error) *Error {
	if deadline, ok := errors.AsType[*engineDeadline](err.Cause); ok {
		return deadline.classify().with(func(e *Error) { e.Hint = err.Hint; e.fillFrom(err) })
	}
	e := Wrap(err.Cause, faultKinds[err.Fault], err.Reason)
	e.Hint, e.Path, e.ExitCode = err.Hint, err.Path, err.ExitCode
	e.Limit, e.NotBegun = err.Limit, err.NotBegun
	if err.Fault == engine.Busy {
		e.NotBegun, e.BreakerExempt = true, true
		if err.Limit == string(worker.LimitQueue) {
			e.Verdict = VerdictTransient
		}
	}
	setIfZero(&e.Hint, limitHints[worker.Limit(err.Limit)])
	e.fillFrom(err)
	return e
}

// fillFrom sets what is known of the process or the module.
func (e *Error) fillFrom(err *engine.Error) {
	e.PID, e.Signal, e.StderrTail, e.Traceback = err.PID, err.Signal, err.Stderr, err.Stack
}
