package temporal

import (
	"context"
	"encoding/json"
	"errors"

	"go.temporal.io/sdk/temporal"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// Failure is the detail of an activity's error. Workflow code finds it so:
//
//	var e *temporal.ApplicationError // of Temporal's SDK
//	var failure gophersnake.Failure  // of this package
//	if errors.As(err, &e) && e.HasDetails() {
//		err := e.Details(&failure)
//	}
type Failure struct {
	// Kind is the name of the [runner.Kind].
	Kind string `json:"kind"`
	// Node is the id of the node that failed.
	Node string `json:"node,omitempty"`
	// Hint says what to do about the failure.
	Hint string `json:"hint,omitempty"`
	// MayHaveRun means that a node that is not idempotent may have run.
	MayHaveRun bool `json:"may_have_run,omitempty"`
	// Report is the error as [runner.Error.MarshalJSON] encodes it, with the traceback, the
	// exit of the worker and the attempts.
	Report json.RawMessage `json:"report"`
}

// failed returns the error of an activity whose call failed.
func failed(ctx context.Context, target target, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // Temporal knows why it has ended the context
	}
	e := runner.AsError(err)
	report, encoding := e.MarshalJSON()
	if encoding != nil {
		return errors.Join(err, encoding)
	}
	f := Failure{Kind: e.Kind.String(), Node: e.Node, Hint: e.Hint, Report: report}
	f.MayHaveRun = !target.repeatable && (!target.single || !notBegun(e))
	options := temporal.ApplicationErrorOptions{Details: []any{f}}
	options.NonRetryable = f.MayHaveRun || !retryable(e)
	if after, ok := e.RetryAfter(); ok && !options.NonRetryable {
		options.NextRetryDelay = after
	}
	return temporal.NewApplicationErrorWithOptions(e.Error(), f.Kind, options)
}

// notBegun reports whether no code of the node that failed has run. A circuit breaker
// refuses an operation as a whole, and a runner that drains as well.
func notBegun(e *runner.Error) bool {
	return e.NotBegun || errors.Is(e, retry.ErrOpen) || errors.Is(e, runner.ErrDraining)
}

// retryable reports whether another attempt of the activity is worth it. What this machine
// refuses without having begun, another one may take, or this one later.
func retryable(e *runner.Error) bool {
	return e.Retryable() || e.Kind == runner.KindOther && notBegun(e) || errors.Is(e, runner.ErrClosed)
}
