package wire

import (
	"context"
	"errors"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// Failure is a [runner.Error] on the wire, with all of its fields and its causes.
type Failure struct {
	Kind          string               `msgpack:"kind"`
	Message       string               `msgpack:"message,omitempty"`
	Node          string               `msgpack:"node,omitempty"`
	Operation     string               `msgpack:"operation,omitempty"`
	Attempt       int                  `msgpack:"attempt,omitempty"`
	Attempts      int                  `msgpack:"attempts,omitempty"`
	PID           int                  `msgpack:"pid,omitempty"`
	Path          string               `msgpack:"path,omitempty"`
	Hint          string               `msgpack:"hint,omitempty"`
	Metadata      map[string]string    `msgpack:"metadata,omitempty"`
	PythonClass   string               `msgpack:"python_class,omitempty"`
	PythonBases   []string             `msgpack:"python_bases,omitempty"`
	Traceback     []ipc.TracebackFrame `msgpack:"traceback,omitempty"`
	Notes         []string             `msgpack:"notes,omitempty"`
	Chained       *ipc.Exception       `msgpack:"chained,omitempty"`
	ExitCode      *int                 `msgpack:"exit_code,omitempty"`
	Signal        string               `msgpack:"signal,omitempty"`
	Limit         string               `msgpack:"limit,omitempty"`
	Hang          string               `msgpack:"hang,omitempty"`
	StderrTail    string               `msgpack:"stderr_tail,omitempty"`
	Verdict       uint8                `msgpack:"verdict,omitempty"`
	After         *time.Duration       `msgpack:"after,omitempty"`
	NotBegun      bool                 `msgpack:"not_begun,omitempty"`
	BreakerExempt bool                 `msgpack:"breaker_exempt,omitempty"`
	Cause         *wireCause           `msgpack:"cause,omitempty"`
}

// wireCause is the cause of an error on the wire: an error of the runner, what a worker
// reported, or the text of any other error.
type wireCause struct {
	Failure *Failure         `msgpack:"failure,omitempty"`
	Remote  *ipc.RemoteError `msgpack:"remote,omitempty"`
	Text    string           `msgpack:"text,omitempty"`
	// Is names the errors that the cause wraps, of those that callers compare with.
	Is []string `msgpack:"is,omitempty"`
}

// sentinels are the errors that keep their identity on the wire.
var sentinels = map[string]error{
	"canceled":          context.Canceled,
	"deadline exceeded": context.DeadlineExceeded,
	"breaker open":      retry.ErrOpen,
	"runner closed":     runner.ErrClosed,
	"runner draining":   runner.ErrDraining,
}

// deepestCause bounds the chain of causes that is carried.
const deepestCause = 32

// NewFailure returns the form of an error on the wire.
func NewFailure(err error) *Failure { return failureAt(runner.AsError(err), 0) }

func failureAt(e *runner.Error, depth int) *Failure {
	f := &Failure{
		Kind: e.Kind.String(), Message: e.Message,
		Node: e.Node, Operation: e.Operation, Attempt: e.Attempt, Attempts: e.Attempts, PID: e.PID,
		Path: e.Path, Hint: e.Hint, Metadata: e.Metadata,
		PythonClass: e.PythonClass, PythonBases: e.PythonBases, Traceback: e.Traceback, Notes: e.Notes, Chained: e.Chained,
		ExitCode: e.ExitCode, Signal: e.Signal, Limit: e.Limit, Hang: e.Hang, StderrTail: e.StderrTail,
		Verdict: uint8(e.Verdict), NotBegun: e.NotBegun, BreakerExempt: e.BreakerExempt,
	}
	if after, ok := e.RetryAfter(); ok {
		f.After = &after
	}
	if e.Cause != nil {
		f.Cause = newCause(e.Cause, depth)
	}
	return f
}

func newCause(err error, depth int) *wireCause {
	// The outermost error decides; an error that wraps one of these types has a text of its own.
	switch direct := err.(type) { //nolint:errorlint // see above
	case *runner.Error:
		if depth < deepestCause {
			return &wireCause{Failure: failureAt(direct, depth+1)}
		}
	case *ipc.RemoteError:
		return &wireCause{Remote: direct}
	}
	c := &wireCause{Text: err.Error()}
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			c.Is = append(c.Is, name)
		}
	}
	if remote, ok := errors.AsType[*ipc.RemoteError](err); ok {
		c.Remote = remote
	}
	return c
}

// Err returns the error as the machine's runner has returned it.
func (f *Failure) Err() *runner.Error {
	kind, err := runner.ParseKind(f.Kind)
	if err != nil { // of a newer version
		kind = runner.KindOther
	}
	e := &runner.Error{
		Kind: kind, Message: f.Message,
		Node: f.Node, Operation: f.Operation, Attempt: f.Attempt, Attempts: f.Attempts, PID: f.PID,
		Path: f.Path, Hint: f.Hint, Metadata: f.Metadata,
		PythonClass: f.PythonClass, PythonBases: f.PythonBases, Traceback: f.Traceback, Notes: f.Notes, Chained: f.Chained,
		ExitCode: f.ExitCode, Signal: f.Signal, Limit: f.Limit, Hang: f.Hang, StderrTail: f.StderrTail,
		Verdict: runner.Verdict(f.Verdict), After: f.After, NotBegun: f.NotBegun, BreakerExempt: f.BreakerExempt,
	}
	if f.Cause != nil {
		e.Cause = f.Cause.err()
	}
	return e
}

func (c *wireCause) err() error {
	switch {
	case c.Failure != nil:
		return c.Failure.Err()
	case c.Remote != nil && c.Text == "":
		return c.Remote
	}
	e := &causeError{text: c.Text}
	for _, name := range c.Is {
		if sentinel := sentinels[name]; sentinel != nil {
			e.wrapped = append(e.wrapped, sentinel)
		}
	}
	if c.Remote != nil {
		e.wrapped = append(e.wrapped, c.Remote)
	}
	return e
}

// causeError is a cause that was an error of another type on the machine.
type causeError struct {
	text    string
	wrapped []error
}

func (e *causeError) Error() string { return e.text }

func (e *causeError) Unwrap() []error { return e.wrapped }

// EncodeError is the error of an input that cannot be carried, as that of a local runner.
func EncodeError(err error) error {
	e := runner.Wrap(err, runner.KindMarshaling, "")
	if value, ok := err.(*ipc.ValueError); ok { //nolint:errorlint // ipc returns it as it is
		e.Message, e.Path, e.Hint = value.Reason, value.Path, value.Hint
	}
	return e
}
