package retry

import (
	"context"
	"errors"
	"time"
)

// Option changes how [Do] decides, or watches it.
type Option func(*settings)

type settings struct {
	retryable func(error) bool
	onRetry   func(attempt int, delay time.Duration, err error)
}

// If makes decide say which errors are worth another attempt, in place of [Retryable].
func If(decide func(error) bool) Option {
	return func(s *settings) { s.retryable = decide }
}

// OnRetry makes Do call observe before it waits for a retry: the number of the
// attempt that failed, counted from 1, the delay to come, and the attempt's error.
func OnRetry(observe func(attempt int, delay time.Duration, err error)) Option {
	return func(s *settings) { s.onRetry = observe }
}

// Retryable reports whether err says that another attempt may succeed: whether
// the first error of its chain that has a method Retryable() bool answers true.
func Retryable(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err)
	return ok && e.Retryable()
}

// Do runs op until it succeeds, fails for good, or may not be tried again; the
// package documentation lists what it returns. op is given the context and the
// number of the attempt, counted from 1.
//
// A context that has ended stops everything: op is not called again, and a wait
// ends at once. A bad policy is an error, and op is not called at all.
func Do(ctx context.Context, policy Policy, op func(ctx context.Context, attempt int) error, opts ...Option) error {
	if err := policy.Validate(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return interrupted(ctx, 0, nil)
	}
	var start time.Time
	if policy.Budget > 0 {
		start = time.Now()
	}
	// The first attempt stands apart from the loop because nearly always it is
	// the only one, and then nothing else need exist.
	if err := op(ctx, 1); err != nil {
		return again(ctx, policy, op, opts, start, err)
	}
	return nil
}

// again goes on after a first attempt that failed with err.
func again(ctx context.Context, policy Policy, op func(context.Context, int) error, opts []Option, start time.Time, err error) error {
	s := settings{retryable: Retryable}
	for _, apply := range opts {
		apply(&s)
	}
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return interrupted(ctx, attempt, err)
		}
		if policy.Retries == 0 || !s.retryable(err) {
			return err
		}
		if attempt > policy.Retries {
			return &Exhausted{Attempts: attempt, Err: err}
		}
		delay := delayAfter(err, policy, attempt)
		if policy.Budget > 0 && time.Since(start)+delay > policy.Budget {
			return &Exhausted{Attempts: attempt, Budget: policy.Budget, Err: err}
		}
		if s.onRetry != nil {
			s.onRetry(attempt, delay, err)
		}
		if !wait(ctx, delay) {
			return interrupted(ctx, attempt, err)
		}
		if err = op(ctx, attempt+1); err == nil {
			return nil
		}
	}
}

// delayAfter returns the delay that the error asks for, or else the policy's.
func delayAfter(err error, policy Policy, retry int) time.Duration {
	e, ok := errors.AsType[interface {
		error
		RetryAfter() (time.Duration, bool)
	}](err)
	if ok {
		if delay, asked := e.RetryAfter(); asked {
			return max(delay, 0)
		}
	}
	return policy.spread(retry)
}

// wait waits, and reports whether the context lasted.
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
