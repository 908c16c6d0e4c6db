package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// In a synctest bubble, time stands still while any goroutine runs, so times are exact.

// attempted runs an operation that always fails, and returns the time of each attempt.
func attempted(ctx context.Context, policy Policy, takes time.Duration, opts ...Option) (at []time.Duration, err error) {
	start := time.Now()
	err = Do(ctx, policy, func(context.Context, int) error {
		at = append(at, time.Since(start))
		time.Sleep(takes)
		return transient
	}, opts...)
	return at, err
}

func TestAnyPolicyWaitsExactlyItsDelays(t *testing.T) {
	chance := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		policy := Policy{
			Retries:    chance.IntN(12),
			Base:       time.Duration(chance.Int64N(int64(time.Minute))),
			Multiplier: []float64{0, 1, 1.5, 2, 10}[chance.IntN(5)],
		}
		if policy.Multiplier > 2 || chance.IntN(2) == 0 { // otherwise the bubble's clock would overflow
			policy.Max = policy.Base + time.Duration(chance.Int64N(int64(time.Hour)))
		}
		takes := time.Duration(chance.Int64N(int64(time.Second)))
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			at, err := attempted(t.Context(), policy, takes)
			require.ErrorIs(t, err, transient)
			next := time.Duration(0)
			for i, when := range at {
				require.Equal(t, next, when, "attempt %d of %v", i+1, policy)
				next += takes + policy.Delay(i+1)
			}
			require.Len(t, at, policy.Attempts())
			require.Equal(t, next, time.Since(start), "no wait after the last attempt")
		})
	}
}

func TestJitterSpreadsDelaysEvenlyWithinItsBounds(t *testing.T) {
	for _, jitter := range []float64{0.01, 0.5, 1} {
		synctest.Test(t, func(t *testing.T) {
			const delay = 100 * ms
			var announced []time.Duration
			policy := Fixed(2000, delay)
			policy.Jitter = jitter
			at, err := attempted(t.Context(), policy, 0, OnRetry(func(_ int, next time.Duration, _ error) { announced = append(announced, next) }))
			require.Error(t, err)
			spread := time.Duration(jitter * float64(delay))
			var early, late int
			for i, next := range announced {
				require.Equal(t, next, at[i+1]-at[i], "the announced delay is the real one")
				require.GreaterOrEqual(t, next, delay-spread)
				require.LessOrEqual(t, next, delay+spread)
				if next < delay {
					early++
				} else {
					late++
				}
			}
			// The probability of fewer than 800 on one side of 2000 is about 10^-18.
			assert.Greater(t, early, 800)
			assert.Greater(t, late, 800)
		})
	}
}

func TestJitterDoesNotExceedMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := Policy{Retries: 500, Base: 100 * ms, Max: 100 * ms, Jitter: 1}
		at, err := attempted(t.Context(), policy, 0)
		require.Error(t, err)
		for i := range at[1:] {
			require.LessOrEqual(t, at[i+1]-at[i], 100*ms)
		}
	})
}

func TestNoRetryStartsBeyondTheBudget(t *testing.T) {
	chance := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		policy := Policy{Retries: 50, Base: 1 + time.Duration(chance.Int64N(int64(time.Second))), Multiplier: 1.3,
			Budget: 1 + time.Duration(chance.Int64N(int64(time.Minute)))}
		takes := time.Duration(chance.Int64N(int64(time.Second)))
		synctest.Test(t, func(t *testing.T) {
			at, err := attempted(t.Context(), policy, takes)
			last := at[len(at)-1]
			require.LessOrEqual(t, last, policy.Budget)
			exhausted, ok := errors.AsType[*Exhausted](err)
			require.True(t, ok)
			require.Equal(t, len(at), exhausted.Attempts)
			if exhausted.Budget > 0 {
				require.Greater(t, last+takes+policy.Delay(len(at)), policy.Budget, "the next attempt would have started beyond it")
			}
		})
	}
}

func TestTheEndOfTheContextEndsAnyDelayAtOnce(t *testing.T) {
	for _, when := range []time.Duration{1, 50 * ms, 100*ms - 1, 100 * ms, 100*ms + 1, 250 * ms, 699 * ms} {
		synctest.Test(t, func(t *testing.T) {
			why := errors.New("the host shuts down")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(when, func() { cancel(why) })
			start := time.Now()
			at, err := attempted(ctx, Default(), 0)
			assert.Equal(t, when, time.Since(start), "at once")
			require.ErrorIs(t, err, why)
			require.ErrorIs(t, err, transient)
			for _, attempt := range at {
				assert.LessOrEqual(t, attempt, when)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), when)
			defer cancel()
			start := time.Now()
			_, err := attempted(ctx, Default(), 0)
			assert.Equal(t, when, time.Since(start))
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// race lets many goroutines ask for a permit at the same moment.
func race(b *Breaker, callers int) (permits []Permit, refusals []*OpenError) {
	var mu sync.Mutex
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range callers {
		all.Go(func() {
			<-begin
			permit, err := b.Allow()
			mu.Lock()
			defer mu.Unlock()
			if refusal, ok := errors.AsType[*OpenError](err); ok {
				refusals = append(refusals, refusal)
			} else {
				permits = append(permits, permit)
			}
		})
	}
	close(begin)
	all.Wait()
	return permits, refusals
}

// An open breaker refuses every operation until its cool-down is over, and then admits
// its probes only, however many callers ask at that moment.
func TestExactlyTheProbesPassAHalfOpenBreaker(t *testing.T) {
	const callers = 64
	for probes := 1; probes <= 5; probes++ {
		synctest.Test(t, func(t *testing.T) {
			b, err := NewBreaker(BreakerConfig{Failures: 1, CoolDown: time.Minute, Probes: probes})
			require.NoError(t, err)
			for range 3 { // each time the breaker opens
				b.RecordFailure()
				time.Sleep(time.Minute - 1)
				permits, refusals := race(b, callers)
				require.Empty(t, permits)
				for _, refusal := range refusals {
					require.Equal(t, Open, refusal.State)
					require.Equal(t, time.Duration(1), refusal.Wait)
				}

				time.Sleep(time.Nanosecond)
				permits, refusals = race(b, callers)
				require.Len(t, permits, probes)
				require.Len(t, refusals, callers-probes)
				for _, refusal := range refusals {
					require.Equal(t, HalfOpen, refusal.State)
				}

				permits[0].Release()
				again, _ := race(b, callers)
				require.Len(t, again, 1, "one slot was released")
				again[0].Failure()
				require.True(t, b.IsOpen())
				for i := range permits {
					permits[i].Success() // too late
				}
				require.True(t, b.IsOpen())

				time.Sleep(time.Minute)
				permits, _ = race(b, callers)
				require.Len(t, permits, probes)
				permits[0].Success()
				require.Equal(t, Closed, b.State())
			}
		})
	}
}

// Probes that end in different ways at the same time neither lose a slot nor add one.
func TestProbesThatEndTogetherKeepTheSlots(t *testing.T) {
	const probes = 4
	for round := range 20 {
		synctest.Test(t, func(t *testing.T) {
			b, err := NewBreaker(BreakerConfig{Failures: 1, CoolDown: time.Second, Probes: probes})
			require.NoError(t, err)
			b.RecordFailure()
			time.Sleep(time.Second)
			permits, _ := race(b, 16)
			require.Len(t, permits, probes)
			var all sync.WaitGroup
			for i := range permits {
				all.Go(func() {
					switch (i + round) % 3 {
					case 0:
						permits[i].Success()
					case 1:
						permits[i].Failure()
					default:
						permits[i].Release()
					}
					permits[i].Release()
				})
			}
			all.Wait()
			if b.IsOpen() {
				time.Sleep(time.Second)
			} else {
				require.Equal(t, Closed, b.State(), "the first outcome decides")
				b.RecordFailure()
				time.Sleep(time.Second)
			}
			permits, _ = race(b, 16)
			require.Len(t, permits, probes)
		})
	}
}

// Concurrent operations wait for their own delays.
func TestConcurrentOperationsKeepTheirOwnDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		var done atomic.Int32
		start := time.Now()
		for i := range 200 {
			all.Go(func() {
				at, err := attempted(t.Context(), Fixed(3, time.Duration(i)*time.Second), time.Second)
				assert.Error(t, err)
				assert.Equal(t, 3*time.Duration(i+1)*time.Second, at[3])
				done.Add(1)
			})
		}
		synctest.Wait()
		assert.Zero(t, done.Load(), "all of them are waiting")
		all.Wait()
		assert.Equal(t, (3*199+4)*time.Second, time.Since(start))
	})
}

// Callers that wait for a breaker are admitted as its slots become free.
func TestAwaitEndsWhenTheBreakerMayAdmitAnOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBreaker(BreakerConfig{Failures: 1, CoolDown: time.Minute})
		require.NoError(t, err)
		require.NoError(t, b.Await(t.Context()), "it is closed")
		var none *Breaker
		require.NoError(t, none.Await(t.Context()))

		start := time.Now()
		b.RecordFailure()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("too late"))
		defer cancel()
		require.EqualError(t, b.Await(ctx), "too late")
		require.NoError(t, b.Await(t.Context()))
		assert.Equal(t, time.Minute, time.Since(start), "the cool-down is over")

		for name, settle := range map[string]func(p *Permit){
			"released": (*Permit).Release, "failed": (*Permit).Failure, "succeeded": (*Permit).Success,
		} {
			b.Reset()
			b.RecordFailure()
			time.Sleep(time.Minute)
			require.NoError(t, b.Await(t.Context()), "a probe may begin")
			probe, err := b.Allow()
			require.NoError(t, err)
			ended := make(chan error)
			for range 3 {
				go func() { ended <- b.Await(t.Context()) }()
			}
			synctest.Wait()
			require.Empty(t, ended)
			before := time.Now()
			settle(&probe)
			for range 3 {
				require.NoError(t, <-ended)
			}
			assert.Equal(t, before, time.Now(), name)
		}
	})
}

func TestAnyNumberOfWaitingCallersPassInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBreaker(BreakerConfig{Failures: 1, CoolDown: time.Second, Probes: 2})
		require.NoError(t, err)
		b.RecordFailure()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				for {
					permit, err := b.Allow()
					if err != nil {
						assert.NoError(t, b.Await(t.Context()))
						continue
					}
					time.Sleep(time.Millisecond)
					switch {
					case i%3 == 0:
						permit.Release()
					case i%7 == 0:
						permit.Failure()
					default:
						permit.Success()
					}
					return
				}
			})
		}
		all.Wait()
	})
}
