package retry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Exhausted is the error of an operation that failed, could have been tried
// again, and may not be any more.
type Exhausted struct {
	// Attempts is the number of attempts made.
	Attempts int
	// Budget is the policy's time budget where that is what ran out, else 0.
	Budget time.Duration
	// Err is the last attempt's error.
	Err error
}

func (e *Exhausted) Error() string {
	spent := ""
	if e.Budget > 0 {
		spent = fmt.Sprintf(" because the budget of %v does not allow another", e.Budget)
	}
	return fmt.Sprintf("gave up after %s%s: %v", count(e.Attempts, "attempt", "attempts"), spent, e.Err)
}

// Unwrap returns the last attempt's error.
func (e *Exhausted) Unwrap() error { return e.Err }

// Retryable is false: the retrying is what failed. An outer [Do] does not begin
// it anew.
func (e *Exhausted) Retryable() bool { return false }

// Interrupted is the error of an operation that was ended by its context.
// [errors.Is] finds the last attempt's error, the context's error and its cause.
type Interrupted struct {
	// Attempts is the number of attempts made.
	Attempts int
	// Err is the last attempt's error, nil where there was no attempt.
	Err error
	// Cause is why the context ended: [context.Cause].
	Cause error

	ctxErr error
}

func interrupted(ctx context.Context, attempts int, err error) *Interrupted {
	return &Interrupted{Attempts: attempts, Err: err, Cause: context.Cause(ctx), ctxErr: ctx.Err()}
}

func (e *Interrupted) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("not attempted: %v", e.Cause)
	case errors.Is(e.Err, e.Cause), errors.Is(e.Err, e.ctxErr):
		// The operation noticed the end of its context; its words say it already.
		return fmt.Sprintf("interrupted in attempt %d: %v", e.Attempts, e.Err)
	default:
		return fmt.Sprintf("interrupted after %s: %v; the last error: %v",
			count(e.Attempts, "attempt", "attempts"), e.Cause, e.Err)
	}
}

// Unwrap returns the last attempt's error, the context's cause and its error.
func (e *Interrupted) Unwrap() []error {
	errs := make([]error, 0, 3)
	for _, err := range []error{e.Err, e.Cause, e.ctxErr} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Retryable is false: whoever ended the context does not want another attempt.
func (e *Interrupted) Retryable() bool { return false }

// ErrOpen is wrapped by every refusal of a [Breaker].
var ErrOpen = errors.New("the circuit breaker is open")

// OpenError is a [Breaker]'s refusal of an operation. It wraps [ErrOpen].
type OpenError struct {
	// State is Open, or HalfOpen where all probes are under way.
	State State
	// Since is when the breaker opened.
	Since time.Time
	// Failures is the number of failed operations in a row that opened it.
	Failures int
	// Wait is the time from the refusal until the next probe may go. It is 0
	// while half-open: then the outcome of the probes under way decides.
	Wait time.Duration
}

func (e *OpenError) Error() string {
	next := fmt.Sprintf("the next probe may go in %v", e.Wait.Round(time.Millisecond))
	if e.State == HalfOpen {
		next = "a probe is under way"
	}
	return fmt.Sprintf("%v after %s in a row; %s", ErrOpen, count(e.Failures, "failed operation", "failed operations"), next)
}

// Unwrap returns [ErrOpen].
func (e *OpenError) Unwrap() error { return ErrOpen }

// Retryable is false: a retry would be refused as well.
func (e *OpenError) Retryable() bool { return false }
