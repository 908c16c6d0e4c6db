// Package failure describes how a command fails: the errors that are not those of
// package runner, the exit codes, and the form of an error in JSON.
package failure

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// ErrTimeout is the cause of a context that ended because its --timeout expired.
var ErrTimeout = errors.New("the --timeout expired")

// Timeout returns an [ErrTimeout] that names the duration.
func Timeout(after time.Duration) error { return fmt.Errorf("%w (%v)", ErrTimeout, after) }

// Interrupted is the cause of a context that a signal ended.
type Interrupted struct{ Signal syscall.Signal }

func (i Interrupted) Error() string {
	switch i.Signal {
	case syscall.SIGTERM:
		return "terminated"
	case syscall.SIGHUP:
		return "the terminal was closed"
	}
	return "interrupted"
}

// ExitCode returns the code that a shell reports for a process that the signal ended.
func (i Interrupted) ExitCode() int { return 128 + int(i.Signal) }

// Interruption returns the signal that ended the context, if a signal did.
func Interruption(ctx context.Context) (Interrupted, bool) {
	return errors.AsType[Interrupted](context.Cause(ctx))
}

// IsContextEnd reports whether an error only says that the context has ended.
func IsContextEnd(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}

// Cause returns the cause of the context's end if err only says that the context has
// ended, else err.
func Cause(ctx context.Context, err error) error {
	if IsContextEnd(ctx, err) {
		return context.Cause(ctx)
	}
	return err
}

// Reported wraps an error that has been printed already.
type Reported struct{ Err error }

func (e Reported) Error() string { return e.Err.Error() }
func (e Reported) Unwrap() error { return e.Err }

// Silent ends a command that has already printed what is wrong as its output.
type Silent struct{ Code int }

func (e Silent) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// Document returns the form of an error for [encoding/json]: the error itself if it is a
// *runner.Error, else a map of its kind and message.
func Document(err error) any {
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return e
	}
	kind := "other"
	switch {
	case errors.Is(err, ErrTimeout):
		kind = "timeout"
	case errors.As(err, new(Interrupted)):
		kind = "interrupted"
	case errors.As(err, new(*UsageError)):
		kind = "usage"
	}
	return map[string]string{"kind": kind, "message": err.Error(), "text": err.Error()}
}
