package runner

import (
	"errors"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Error is the error of everything that a pipeline does. It says what happened
// (Kind, Message), where (Node, Operation, Attempt, PID, Traceback) and what to
// do next (Hint). Fields that are not known are zero.
//
// Error returns one line; the verb %+v prints the whole story, with the Python
// traceback as Python prints it. Find an Error with [errors.As], test its kind
// with [errors.Is] and a [Kind].
//
// An Error may be shared, so it is not changed once it is made: the methods that
// add context (WithNode, WithOperation, …) return a copy. They add what is not known yet,
// because the place nearest to the fault knows best, and they never change the
// kind, the retryability or the cause.
type Error struct {
	// Kind is the sort of failure.
	Kind Kind
	// Message says what happened. For a Python exception it is the exception's own text.
	Message string
	// Cause is the error that this one stands for, nil where it is the first.
	Cause error

	// Node is the id of the node in the pipeline.
	Node string
	// Operation is what was being done, for instance "call" or "setup".
	Operation string
	// Attempt is the number of the attempt, counted from 1.
	Attempt int
	// Attempts is how many attempts the policy allows.
	Attempts int
	// PID is the worker's process id.
	PID int
	// Path leads to the place inside a value that cannot be carried, for
	// instance "result.items[3]".
	Path string
	// Hint says what to do next.
	Hint string
	// Metadata is free. It must not be changed; With returns a copy with more.
	Metadata map[string]string

	// PythonClass is the class of the Python exception, for instance "ValueError".
	PythonClass string
	// Traceback is where Python was, the innermost frame last: where an
	// exception was raised, or where an interpreter hung or died.
	Traceback []ipc.TracebackFrame
	// Notes are the notes added to the Python exception.
	Notes []string
	// Chained is the exception that this one was raised from, or while handling.
	Chained *ipc.Exception

	// ExitCode is the code that the worker exited with, nil where it did not exit.
	ExitCode *int
	// Signal is the name of the signal that ended the worker, for instance "SIGKILL".
	Signal string
	// Limit is the supervision limit that was passed, by its name in the manifest,
	// for instance "resident"; empty where none was.
	Limit string
	// Hang says in what way a worker hung that was ended for it: "blocked in
	// Python", "blocked in C code that holds the GIL" or "the process is stopped".
	Hang string
	// StderrTail is what the worker last wrote to its standard error.
	StderrTail string

	// Verdict overrules the kind on whether another attempt is worth it.
	Verdict Verdict
	// After is the delay that the node asks for before the next attempt, nil
	// where it does not.
	After *time.Duration
	// NotBegun says that the call never reached a worker, so that even a node
	// that is not idempotent can be tried again.
	NotBegun bool
	// BreakerExempt says that the node is not to blame: its input could not be
	// carried, or there was no room for the call. Such an error does not count
	// against the node's breaker.
	BreakerExempt bool

	// breach is the limit of a call that was passed without its worker's end.
	breach *worker.Breach
	// origin is the error that this one is a copy of, for errors.Is.
	origin *Error
}

// Verdict is a node's own word on whether another attempt is worth it.
type Verdict uint8

const (
	// VerdictByKind leaves it to the error's kind.
	VerdictByKind Verdict = iota
	// VerdictPermanent errors are not retried, whatever their kind.
	VerdictPermanent
	// VerdictTransient errors are retried, whatever their kind.
	VerdictTransient
)

// String returns "by kind", "permanent" or "transient".
func (v Verdict) String() string {
	switch v {
	case VerdictPermanent:
		return "permanent"
	case VerdictTransient:
		return "transient"
	}
	return "by kind"
}

// NewError returns an error of the given kind.
func NewError(kind Kind, message string) *Error {
	return &Error{Kind: kind, Message: message}
}

// Wrap returns an error of the given kind with err as its cause.
func Wrap(err error, kind Kind, message string) *Error {
	return &Error{Kind: kind, Message: message, Cause: err}
}

// AsError makes any error an [*Error], so that context can be added to it. An
// *Error comes back as it is. Of an error that wraps one, everything known is
// taken over. An ordinary error keeps what it says of itself: whether it is
// [retry.Retryable] and the kind that it wraps; without one it is [KindOther]. The
// original stays in the chain. AsError(nil) is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	if inner, ok := errors.AsType[*Error](err); ok {
		e := *inner
		e.Cause, e.origin = err, nil
		return &e
	}
	e := &Error{Kind: KindOf(err), Cause: err}
	if retryable := retry.Retryable(err); retryable != e.Kind.Retryable() {
		e.Verdict = VerdictPermanent
		if retryable {
			e.Verdict = VerdictTransient
		}
	}
	return e
}

// IsRetryable reports whether another attempt at what failed with err is worth it.
func IsRetryable(err error) bool { return retry.Retryable(err) }

// Retryable reports whether another attempt is worth it: by the node's own
// word, or else by the kind.
func (e *Error) Retryable() bool {
	switch e.Verdict {
	case VerdictPermanent:
		return false
	case VerdictTransient:
		return true
	}
	return e.Kind.Retryable()
}

// RetryAfter returns the delay asked for before the next attempt, and whether
// there is one: by the error or by its cause.
func (e *Error) RetryAfter() (time.Duration, bool) {
	if e.After != nil {
		return *e.After, true
	}
	cause, ok := errors.AsType[interface {
		error
		RetryAfter() (time.Duration, bool)
	}](e.Cause)
	if !ok {
		return 0, false
	}
	return cause.RetryAfter()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is the error's kind, or an error that this one was
// made of by adding context.
func (e *Error) Is(target error) bool {
	switch target := target.(type) {
	case Kind:
		return e.Kind == target
	case *Error:
		for from := e.origin; from != nil; from = from.origin {
			if from == target {
				return true
			}
		}
	}
	return false
}
