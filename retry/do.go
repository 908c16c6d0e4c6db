package retry

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Option changes how [Do] decides on retries, or observes them. The options are
// [If], [OnRetry], [MapError] and [PolicyOf]. If one of them is given more than once, the last one counts. The
// zero Option changes nothing.
type Option struct {
	retryable func(error) bool
	onRetry   func(attempt int, delay time.Duration, err error)
	mapError  func(attempt int, err error) error
	policyOf  func(error) Policy
}

// If makes [Do] retry an error if retryable returns true for it. The default is
// [Retryable].
func If(retryable func(error) bool) Option { return Option{retryable: retryable} }

// OnRetry makes [Do] call observe before the delay of each retry, with the number
// of the attempt that failed, counted from 1, the delay to come, and the attempt's
// error. Do waits for observe to return.
func OnRetry(observe func(attempt int, delay time.Duration, err error)) Option {
	return Option{onRetry: observe}
}

// MapError makes [Do] replace the error of each attempt by the one that fn returns for
// it, for instance to add context, before it decides on a retry. The number of the
// attempt is counted from 1. The error that fn returns must not be nil.
func MapError(fn func(attempt int, err error) error) Option { return Option{mapError: fn} }

// PolicyOf makes [Do] decide after each failed attempt by the policy that fn returns for its error,
// in place of its own: for an operation of several parts, each with a policy. All attempts count,
// whichever part has failed. The policy must be valid. Its budget has an effect only if Do's own
// policy has one, because otherwise Do does not read the clock.
func PolicyOf(fn func(error) Policy) Option { return Option{policyOf: fn} }

// Retryable reports whether another attempt may succeed after err: it calls the
// method Retryable() bool of the first error in err's chain that has one. Without
// such an error the answer is false.
func Retryable(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err)
	return ok && e.Retryable()
}

// Do runs op until it succeeds, fails with an error that is not retryable, or has
// no retries left. The package documentation lists the errors that Do returns. op
// receives ctx and the number of the attempt, counted from 1.
//
// Do runs op on the caller's goroutine and blocks between attempts. When ctx ends,
// a delay ends at once and op is not called again; an attempt that is running must
// watch ctx itself. Do returns the error of [Policy.Validate] for an invalid
// policy, without calling op. It may be called concurrently.
func Do(ctx context.Context, policy Policy, op func(ctx context.Context, attempt int) error, opts ...Option) error {
	if err := policy.Validate(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return interrupted(ctx, 0, nil, nil)
	}
	var start time.Time
	if policy.Budget > 0 {
		start = time.Now()
	}
	var failed error // of the attempt before
	for attempt := 1; ; attempt++ {
		err := op(ctx, attempt)
		if err == nil {
			return nil
		}
		chosen := combine(opts)
		if chosen.mapError != nil {
			err = chosen.mapError(attempt, err)
		}
		if ctx.Err() != nil {
			return interrupted(ctx, attempt, err, failed)
		}
		if chosen.policyOf != nil {
			policy = chosen.policyOf(err)
		}
		if policy.Retries == 0 || !chosen.retryable(err) {
			return err
		}
		if attempt > policy.Retries {
			return &Exhausted{Attempts: attempt, Err: err}
		}
		delay := delayAfter(err, policy, attempt)
		if policy.Budget > 0 && delay > policy.Budget-time.Since(start) { // a sum could overflow
			return &Exhausted{Attempts: attempt, Budget: policy.Budget, Err: err}
		}
		if chosen.onRetry != nil {
			chosen.onRetry(attempt, delay, err)
		}
		if !wait(ctx, delay) {
			return interrupted(ctx, attempt, err, err)
		}
		failed = err
	}
}

// combine returns the options as one, with the defaults.
func combine(opts []Option) Option {
	all := Option{retryable: Retryable}
	for _, o := range opts {
		if o.retryable != nil {
			all.retryable = o.retryable
		}
		if o.onRetry != nil {
			all.onRetry = o.onRetry
		}
		if o.mapError != nil {
			all.mapError = o.mapError
		}
		if o.policyOf != nil {
			all.policyOf = o.policyOf
		}
	}
	return all
}

// delayAfter returns the delay that err asks for, up to the policy's limit, or else the
// policy's delay. The error may come from a process that is not trusted.
func delayAfter(err error, policy Policy, retry int) time.Duration {
	e, ok := errors.AsType[interface {
		error
		RetryAfter() (time.Duration, bool)
	}](err)
	if ok {
		if delay, asked := e.RetryAfter(); asked {
			return min(max(delay, 0), cmp.Or(policy.MaxRetryAfter, DefaultMaxRetryAfter))
		}
	}
	return policy.jittered(retry)
}

// wait sleeps for the delay, and reports whether ctx outlived it.
func wait(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
