package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// classify turns the errors of the packages below into an [*Error] with its
// kind. It is the one place where kinds are decided.
func classify(err error) *Error {
	switch err := err.(type) {
	case *Error:
		return err
	case *ipc.RemoteError:
		return remoteError(err)
	case *ipc.ValueError:
		e := Wrap(err, KindMarshaling, "cannot carry the value: "+err.Reason)
		e.Path = err.Path
		return e
	case *ipc.FullError:
		e := Wrap(err, KindIO, "")
		e.BreakerExempt = true
		return e.WithHint("release results earlier, or raise the limit with runner.WithSharedMemory")
	case *worker.Exit:
		return exitError(err)
	case *worker.UnbegunError:
		e := exitError(err.Exit)
		e.NotBegun = true
		return e
	case *worker.DeadlineError:
		e := NewError(KindPythonVM, fmt.Sprintf("no answer within %s; the call was canceled", err.Limit))
		e.PID, e.Traceback = err.PID, err.Remote.Frames
		return e.passed(worker.Breach{Limit: worker.LimitCall, Bound: err.Limit.String()}).WithOperation("call")
	case *worker.LimitError:
		return classify(err.Cause).passed(err.Breach).WithOperation("call")
	case *worker.StartError:
		return startError(err)
	case *worker.BrokenError:
		e := Wrap(err.Cause, KindTransport, "the connection to the worker broke")
		return withExit(e, err.Exit).WithOperation("call")
	case *worker.CanceledError:
		return canceledError(err)
	case *pool.LimitError:
		return limitError(err)
	case *manifest.Errors:
		return Wrap(err, KindManifest, "")
	case *pyenv.Error:
		return environmentError(err).WithOperation("prepare the environment")
	}
	switch {
	case isContextEnd(err):
		return Wrap(err, KindOther, "")
	case errors.Is(err, pool.ErrDraining):
		e := Wrap(err, KindOther, errDraining().Message)
		e.BreakerExempt = true
		return e
	case errors.Is(err, pool.ErrClosed):
		e := Wrap(err, KindOther, "the runner is closed")
		e.BreakerExempt = true
		return e
	case isSystemError(err):
		return Wrap(err, KindIO, "")
	}
	return AsError(err)
}

func isContextEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isSystemError(err error) bool {
	var errno syscall.Errno
	var path *fs.PathError
	return errors.As(err, &errno) || errors.As(err, &path)
}

// remoteKinds are the kinds of what a worker reports.
var remoteKinds = map[string]Kind{
	ipc.FailureExecution:  KindExecution,
	ipc.FailurePythonVM:   KindPythonVM,
	ipc.FailureMarshaling: KindMarshaling,
	ipc.FailureManifest:   KindManifest,
	ipc.FailureIO:         KindIO,
	ipc.FailureTransport:  KindTransport,
}

// remoteError is what Python code raised, or what the worker found wrong.
func remoteError(r *ipc.RemoteError) *Error {
	e := Wrap(r, remoteKinds[r.Kind], r.Message) // an unknown kind is Other
	e.PythonClass = r.Class
	e.Traceback = r.Frames
	e.Notes = r.Notes
	e.Chained = r.Cause
	e.Path = r.Path
	e.Hint = cmp.Or(r.Hint, missedVariable(r))
	e.Operation = r.Stage
	e.ExitCode = r.ExitCode
	// What an input cannot be decoded for is not this node's doing.
	e.BreakerExempt = r.Kind == ipc.FailureMarshaling && r.Stage == ipc.StageDecode
	switch {
	case r.Retryable == nil:
	case *r.Retryable:
		e.Verdict = VerdictTransient
	default:
		// The node is well and refuses this input. A few bad inputs in a row must
		// not close it to the good ones.
		e.Verdict, e.BreakerExempt = VerdictPermanent, true
	}
	if after, ok := r.RetryAfter(); ok {
		e.After = &after
	}
	return e
}

// exitError is the end of an interpreter during a call.
func exitError(x *worker.Exit) *Error {
	e := withExit(NewError(KindPythonVM, x.Summary()), x)
	switch {
	case e.Limit != "":
		e.Hint = exitHint(x)
	case x.Remote != nil && x.Remote.Class == "MemoryError":
		e.Hint = "give the machine more memory, or let the node use less"
	case x.Remote != nil && x.Remote.ExitCode != nil:
		e.Hint = "a node must not exit: let it return, or raise an exception"
	case x.OutOfMemory:
		e.Hint = "give the machine or the cgroup more memory, bound the node's with limits.memory, or run fewer workers"
	case x.Signal == syscall.SIGKILL:
		e.Hint = "see whether the machine, or the memory cgroup, ran out of memory"
	}
	return e.WithOperation("call")
}

// withExit adds what an autopsy found.
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

// startError is a worker that did not get ready. No call had reached it.
func startError(s *worker.StartError) *Error {
	var e *Error
	switch cause := s.Cause.(type) {
	case *ipc.RemoteError:
		e = remoteError(cause)
		if cause.Stage == ipc.StageImport && e.Verdict == VerdictByKind {
			e.Verdict = VerdictPermanent // the code will not change by itself
		}
		if s.Exit != nil {
			e.PID, e.StderrTail = s.Exit.PID, s.Exit.Stderr
			e.Limit = string(exitLimit(s.Exit))
			known(&e.Hint, limitHints[exitLimit(s.Exit)])
		}
	case *worker.Exit:
		e = withExit(NewError(KindPythonVM, s.Summary()+": "+cause.Summary()), cause)
		e.Hint = exitHint(cause)
	case *ipc.PeerError, *ipc.ProtocolError:
		e = withExit(Wrap(s.Cause, KindTransport, s.Summary()), s.Exit)
	default:
		if e = isolationError(s.Cause); e != nil {
			break
		}
		kind := KindPythonVM
		if s.Stage == worker.StageSetup && s.Exit != nil && s.Exit.Reason == worker.ReasonBroken {
			kind = KindTransport // its process lived
		}
		e = withExit(Wrap(s.Cause, kind, s.Summary()), s.Exit)
		if path, ok := errors.AsType[*fs.PathError](s.Cause); ok && path.Op == "chdir" {
			e.Verdict = VerdictPermanent
			e.Hint = "the pipeline's folder is gone: run it from where it is now"
		} else if errors.Is(s.Cause, fs.ErrNotExist) || errors.Is(s.Cause, fs.ErrPermission) {
			e.Verdict = VerdictPermanent
			e.Hint = "name another interpreter with --python, or run `gophersnake doctor` to see which there are"
		}
	}
	e = e.WithOperation("start")
	e.NotBegun = true
	return e
}

// canceledError is a call that its caller gave up.
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
