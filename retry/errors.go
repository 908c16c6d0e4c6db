package retry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Exhausted is the error of an operation that failed with a retryable error and had
// no retries or no time budget left.
type Exhausted struct {
	// Attempts is the number of attempts made.
	Attempts int
	// Budget is the policy's time budget if another retry would have exceeded it.
	// It is 0 if the retries ran out.
	Budget time.Duration
	// Err is the error of the last attempt.
	Err error
}

// Error returns the number of attempts, the budget if it was spent, and the error
// of the last attempt.
func (e *Exhausted) Error() string {
	spent := ""
	if e.Budget > 0 {
		spent = fmt.Sprintf(" (another would exceed the budget of %v)", e.Budget)
	}
	return fmt.Sprintf("failed after %s%s: %v", plural(e.Attempts, "attempt", "attempts"), spent, e.Err)
}

// Unwrap returns the error of the last attempt.
func (e *Exhausted) Unwrap() error { return e.Err }

// Retryable returns false, so that an outer [Do] does not start the retries again.
func (e *Exhausted) Retryable() bool { return false }

// Interrupted is the error of an operation that its context ended. [errors.Is]
// finds the last attempt's error, the context's error and the context's cause.
type Interrupted struct {
	// Attempts is the number of attempts made.
	Attempts int
	// Err is the error of the last attempt, or nil if there was none.
	Err error
	// Failed is the error of the last attempt that ended before the context did, or nil if
	// there was none. It is a failure of the operation, which a breaker should count. If
	// the context ended in the delay after an attempt, Failed is the same as Err.
	Failed error
	// Cause is why the context ended, as [context.Cause] returns it.
	Cause error

	ctxErr error
}

func interrupted(ctx context.Context, attempts int, err, failed error) *Interrupted {
	return &Interrupted{Attempts: attempts, Err: err, Failed: failed, Cause: context.Cause(ctx), ctxErr: ctx.Err()}
}

// Error returns the number of attempts, the cause, and the last attempt's error.
func (e *Interrupted) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("not attempted: %v", e.Cause)
	case errors.Is(e.Err, e.Cause), errors.Is(e.Err, e.ctxErr):
		// The attempt's error names the cause already.
		return fmt.Sprintf("interrupted in attempt %d: %v", e.Attempts, e.Err)
	default:
		return fmt.Sprintf("interrupted after %s: %v; last error: %v",
			plural(e.Attempts, "attempt", "attempts"), e.Cause, e.Err)
	}
}

// Unwrap returns the last attempt's error, the context's cause and the context's
// error, without those that are nil.
func (e *Interrupted) Unwrap() []error {
	errs := make([]error, 0, 3)
	for _, err := range []error{e.Err, e.Cause, e.ctxErr} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Retryable returns false: the context that ended ends further attempts too.
func (e *Interrupted) Retryable() bool { return false }

// ErrOpen is the error that each refusal of a [Breaker] wraps. Match it with
// [errors.Is].
var ErrOpen = errors.New("the circuit breaker is open")

// OpenError is a [Breaker]'s refusal of an operation. It wraps [ErrOpen].
type OpenError struct {
	// State is Open, or HalfOpen if as many probes run as are allowed.
	State State
	// Since is when the breaker opened.
	Since time.Time
	// Failures is the number of failed operations in a row that opened it.
	Failures int
	// Wait is the time from the refusal until the breaker admits a probe. It is 0
	// while the breaker is half-open: its next state depends on the probes.
	Wait time.Duration
}

// Error returns how many failures opened the breaker, and when it admits a probe.
func (e *OpenError) Error() string {
	next := fmt.Sprintf("the next probe is allowed in %v", e.Wait.Round(time.Millisecond))
	if e.State == HalfOpen {
		next = "a probe is in progress"
	}
	return fmt.Sprintf("%v after %s in a row; %s", ErrOpen, plural(e.Failures, "failed operation", "failed operations"), next)
}

// Unwrap returns [ErrOpen].
func (e *OpenError) Unwrap() error { return ErrOpen }

// Retryable returns false: the breaker would refuse a retry as well.
func (e *OpenError) Retryable() bool { return false }

// RetryAfter returns Wait, for a caller that comes again later. It returns false while the breaker
// is half-open.
func (e *OpenError) RetryAfter() (time.Duration, bool) { return e.Wait, e.Wait > 0 }

// FieldError is an invalid field of a [Policy] or a [BreakerConfig].
type FieldError struct {
	// Field is the name of the struct's field.
	Field string
	// Value is the field's value, as text.
	Value string
	// Reason is the rule that the value breaks, such as "must be 0 or more".
	Reason string
}

// Error returns the field, its value and the rule in one line.
func (e *FieldError) Error() string {
	return fmt.Sprintf("%s is %s; it %s", e.Field, e.Value, e.Reason)
}
