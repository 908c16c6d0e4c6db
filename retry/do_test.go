package retry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fault is an error that declares whether to retry it, and when.
type fault struct {
	text      string
	retryable bool
	after     time.Duration
	asks      bool
}

func (f *fault) Error() string                     { return f.text }
func (f *fault) Retryable() bool                   { return f.retryable }
func (f *fault) RetryAfter() (time.Duration, bool) { return f.after, f.asks }

var (
	transient = &fault{text: "the connection broke", retryable: true}
	permanent = &fault{text: "no such model", retryable: false}
)

// failing returns an operation that fails with the given errors, one per attempt,
// and then succeeds, and a count of its attempts.
func failing(errs ...error) (op func(context.Context, int) error, attempts *int) {
	attempts = new(int)
	return func(_ context.Context, attempt int) error {
		*attempts++
		if attempt != *attempts {
			return fmt.Errorf("attempt %d is numbered %d", *attempts, attempt)
		}
		if attempt <= len(errs) {
			return errs[attempt-1]
		}
		return nil
	}, attempts
}

// always returns an operation that never succeeds, and a count of its attempts.
func always(err error) (op func(context.Context, int) error, attempts *int) {
	attempts = new(int)
	return func(context.Context, int) error { *attempts++; return err }, attempts
}

func TestSuccessfulRetryAfterTransientErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, attempts := failing(transient)
		require.NoError(t, Do(t.Context(), Default(), op))
		assert.Equal(t, 2, *attempts)
	})
}

func TestSuccessAfterTwoFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		op, attempts := failing(transient, fmt.Errorf("worker 7: %w", transient))
		require.NoError(t, Do(t.Context(), Default(), op))
		assert.Equal(t, 3, *attempts)
		assert.Equal(t, 300*ms, time.Since(start))
	})
}

func TestErrorThatIsNotRetryableFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		for _, err := range []error{permanent, errors.New("declares nothing")} {
			op, attempts := always(err)
			assert.Same(t, err, Do(t.Context(), Default(), op), "the error is returned unchanged")
			assert.Equal(t, 1, *attempts)
		}
		assert.Zero(t, time.Since(start))
	})
}

func TestExponentialTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		err := Do(t.Context(), Default(), func(context.Context, int) error {
			at = append(at, time.Since(start))
			return transient
		})
		require.Error(t, err)
		assert.Equal(t, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms}, at, "delays of 100, 200 and 400 ms")
		assert.Equal(t, 700*ms, time.Since(start), "no wait after the last attempt")
	})
}

func TestRetryExhaustion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, attempts := always(transient)
		err := Do(t.Context(), Fixed(2, time.Second), op)
		exhausted, ok := errors.AsType[*Exhausted](err)
		require.True(t, ok)
		assert.Equal(t, 3, exhausted.Attempts)
		assert.Equal(t, 3, *attempts)
		assert.ErrorIs(t, err, transient, "the last error is the cause")
		assert.EqualError(t, err, "failed after 3 attempts: the connection broke")
		assert.False(t, Retryable(err), "an outer Do must not start again")
	})
}

func TestMixedErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, attempts := failing(transient, permanent)
		assert.Same(t, permanent, Do(t.Context(), Default(), op), "retried up to the first error that is not retryable")
		assert.Equal(t, 2, *attempts)
	})
}

func TestNoneReturnsTheErrorItself(t *testing.T) {
	op, attempts := always(transient)
	assert.Same(t, transient, Do(t.Context(), None(), op))
	assert.Equal(t, 1, *attempts)
}

func TestBadPolicyRunsNothing(t *testing.T) {
	op, attempts := always(transient)
	assert.ErrorContains(t, Do(t.Context(), Policy{Retries: -1}, op), "Retries is -1")
	assert.Zero(t, *attempts)
}

func TestIfDecidesInPlaceOfTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := errors.New("busy")
		onBusy := If(func(err error) bool { return errors.Is(err, busy) })

		op, attempts := failing(busy)
		require.NoError(t, Do(t.Context(), Default(), op, onBusy))
		assert.Equal(t, 2, *attempts)

		op, attempts = always(transient)
		assert.Same(t, transient, Do(t.Context(), Default(), op, onBusy))
		assert.Equal(t, 1, *attempts)
	})
}

func TestOnRetryIsCalledBeforeEachDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var calls []string
		op, _ := always(transient)
		_ = Do(t.Context(), Default(), op, OnRetry(func(attempt int, delay time.Duration, err error) {
			calls = append(calls, fmt.Sprintf("at %v: attempt %d: %v, next in %v", time.Since(start), attempt, err, delay))
		}))
		assert.Equal(t, []string{
			"at 0s: attempt 1: the connection broke, next in 100ms",
			"at 100ms: attempt 2: the connection broke, next in 200ms",
			"at 300ms: attempt 3: the connection broke, next in 400ms",
		}, calls)
	})
}

func TestMapErrorReplacesTheErrorOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, attempts := failing(transient, transient, permanent)
		number := func(attempt int, err error) error { return fmt.Errorf("attempt %d: %w", attempt, err) }
		err := Do(t.Context(), Default(), op, MapError(number))
		require.EqualError(t, err, "attempt 3: no such model")
		require.ErrorIs(t, err, permanent)
		assert.Equal(t, 3, *attempts, "the decision is made on the new error")
	})
}

func TestPolicyOfDecidesByTheErrorOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errFirst, errSecond := &fault{text: "first", retryable: true}, &fault{text: "second", retryable: true}
		policies := map[error]Policy{errFirst: Fixed(1, time.Second), errSecond: Fixed(3, time.Minute)}
		of := PolicyOf(func(err error) Policy { return policies[err] })
		began, failures := time.Now(), []error{errFirst, errSecond, errSecond, errSecond}
		err := Do(t.Context(), None(), func(_ context.Context, attempt int) error { return failures[attempt-1] }, of)
		var exhausted *Exhausted
		require.ErrorAs(t, err, &exhausted)
		assert.Equal(t, Exhausted{Attempts: 4, Err: errSecond}, *exhausted, "all attempts count")
		assert.Equal(t, time.Second+2*time.Minute, time.Since(began))

		failures = []error{errSecond, errFirst}
		err = Do(t.Context(), None(), func(_ context.Context, attempt int) error { return failures[attempt-1] }, of)
		require.ErrorAs(t, err, &exhausted)
		assert.Equal(t, Exhausted{Attempts: 2, Err: errFirst}, *exhausted)

		policies[errFirst] = Policy{Retries: 9, Base: time.Minute, Budget: time.Second}
		err = Do(t.Context(), Policy{Budget: time.Hour}, func(context.Context, int) error { return errFirst }, of)
		require.ErrorAs(t, err, &exhausted)
		assert.Equal(t, time.Second, exhausted.Budget)
	})
}

func TestRetryAfterSetsTheDelay(t *testing.T) {
	for name, test := range map[string]struct {
		err  *fault
		want time.Duration
	}{
		"longer":   {&fault{retryable: true, asks: true, after: 7 * time.Second}, 7 * time.Second},
		"at once":  {&fault{retryable: true, asks: true, after: 0}, 0},
		"negative": {&fault{retryable: true, asks: true, after: -time.Second}, 0},
		"unset":    {&fault{retryable: true, after: 7 * time.Second}, 100 * ms},
		"too long": {&fault{retryable: true, asks: true, after: time.Hour}, time.Minute},
		"for ever": {&fault{retryable: true, asks: true, after: math.MaxInt64}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				op, _ := failing(fmt.Errorf("node: %w", test.err))
				require.NoError(t, Do(t.Context(), Default(), op))
				assert.Equal(t, test.want, time.Since(start))
			})
		})
	}
}

func TestTheDelayThatAnErrorAsksForIsBounded(t *testing.T) {
	forever := &fault{text: "overloaded", retryable: true, asks: true, after: math.MaxInt64}

	t.Run("by the policy's own limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			policy := Default()
			policy.MaxRetryAfter = 3 * time.Second
			start := time.Now()
			op, _ := failing(forever, forever)
			require.NoError(t, Do(t.Context(), policy, op))
			assert.Equal(t, 6*time.Second, time.Since(start))
		})
	})
	t.Run("by the budget", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			policy := Default()
			policy.Budget, policy.MaxRetryAfter = time.Hour, math.MaxInt64
			start := time.Now()
			attempts := new(int)
			op := func(context.Context, int) error {
				*attempts++
				time.Sleep(time.Second) // with the delay, that exceeds the range of a Duration
				return forever
			}
			assert.ErrorContains(t, Do(t.Context(), policy, op), "another would exceed the budget of 1h0m0s")
			assert.Equal(t, 1, *attempts)
			assert.Equal(t, time.Second, time.Since(start))
		})
	})
	t.Run("by the context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			start := time.Now()
			op, attempts := always(forever)
			assert.ErrorIs(t, Do(ctx, Default(), op), context.DeadlineExceeded)
			assert.Equal(t, 1, *attempts)
			assert.Equal(t, 5*time.Second, time.Since(start))
		})
	})
}

func TestBudget(t *testing.T) {
	budget := Policy{Retries: 10, Base: time.Second, Budget: 2500 * ms}

	t.Run("ends the retries", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			op, attempts := always(transient)
			err := Do(t.Context(), budget, op)
			assert.EqualError(t, err, "failed after 3 attempts (another would exceed the budget of 2.5s): the connection broke")
			assert.ErrorIs(t, err, transient)
			assert.Equal(t, 3, *attempts)
			assert.Equal(t, 2*time.Second, time.Since(start), "no delay before a retry that cannot start")
		})
	})
	t.Run("counts the attempts' own time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			attempts := 0
			err := Do(t.Context(), budget, func(context.Context, int) error {
				attempts++
				time.Sleep(2 * time.Second)
				return transient
			})
			require.Error(t, err)
			assert.Equal(t, 1, attempts)
		})
	})
	t.Run("limits the delay that an error asks for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			op, attempts := always(&fault{text: "overloaded", retryable: true, asks: true, after: time.Hour})
			assert.ErrorContains(t, Do(t.Context(), budget, op), "failed after 1 attempt (another would exceed the budget of 2.5s)")
			assert.Equal(t, 1, *attempts)
			assert.Zero(t, time.Since(start))
		})
	})
}

func TestContextEndedBeforeTheFirstAttempt(t *testing.T) {
	why := errors.New("the host shuts down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	op, attempts := failing()
	err := Do(ctx, Default(), op)
	assert.Zero(t, *attempts)
	assert.ErrorIs(t, err, why)
	assert.ErrorIs(t, err, context.Canceled)
	assert.EqualError(t, err, "not attempted: the host shuts down")
}

func TestContextEndsTheWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		why := errors.New("the host shuts down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(150*ms, func() { cancel(why) })
		op, attempts := always(transient)
		err := Do(ctx, Default(), op)

		assert.Equal(t, 150*ms, time.Since(start))
		assert.Equal(t, 2, *attempts)
		assert.ErrorIs(t, err, transient, "the last error is kept")
		assert.ErrorIs(t, err, why, "and the cause")
		assert.ErrorIs(t, err, context.Canceled, "and the context's error")
		assert.EqualError(t, err, "interrupted after 2 attempts: the host shuts down; last error: the connection broke")
		interrupted, ok := errors.AsType[*Interrupted](err)
		require.True(t, ok)
		assert.Equal(t, transient, interrupted.Failed)
		assert.False(t, Retryable(err))
	})
}

func TestContextEndsDuringAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		attempts := 0
		err := Do(ctx, Default(), func(ctx context.Context, _ int) error {
			attempts++
			<-ctx.Done()
			return &fault{text: "stopped: " + ctx.Err().Error(), retryable: true}
		})
		assert.Equal(t, 1, attempts, "an attempt that failed because the context ended is not retried")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		interrupted, ok := errors.AsType[*Interrupted](err)
		require.True(t, ok)
		assert.Equal(t, 1, interrupted.Attempts)
		assert.NoError(t, interrupted.Failed, "no attempt has failed by itself")

		err = Do(ctx, Default(), func(context.Context, int) error { return nil })
		assert.EqualError(t, err, "not attempted: context deadline exceeded")
	})
}

func TestInterruptedHasTheFailureBeforeTheAttemptThatWasInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := Do(ctx, Default(), func(ctx context.Context, attempt int) error {
			if attempt == 1 {
				return transient
			}
			<-ctx.Done()
			return ctx.Err()
		})
		interrupted, ok := errors.AsType[*Interrupted](err)
		require.True(t, ok)
		assert.Equal(t, 2, interrupted.Attempts)
		assert.Equal(t, transient, interrupted.Failed)
		assert.ErrorIs(t, interrupted.Err, context.DeadlineExceeded)
	})
}

func TestInterruptedDoesNotRepeatTheCause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := Do(ctx, Default(), func(ctx context.Context, _ int) error {
		cancel()
		return fmt.Errorf("read: %w", ctx.Err())
	})
	assert.EqualError(t, err, "interrupted in attempt 1: read: context canceled")
}

func TestSuccessWinsOverTheEndOfTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	assert.NoError(t, Do(ctx, Default(), func(context.Context, int) error { cancel(); return nil }))
}

func TestSuccessAtTheFirstAttemptAllocatesNothing(t *testing.T) {
	ctx := t.Context()
	opts := []Option{OnRetry(func(int, time.Duration, error) {})}
	calls := 0
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_ = Do(ctx, Default(), func(context.Context, int) error { calls++; return nil }, opts...)
	}))
	assert.NotZero(t, calls)
}

func BenchmarkDoSuccess(b *testing.B) {
	ctx := b.Context()
	policy := Default()
	b.ReportAllocs()
	for b.Loop() {
		_ = Do(ctx, policy, func(context.Context, int) error { return nil })
	}
}
