package runner

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
)

// probed returns a scheduler whose node "n" has failed and has cooled down since.
func probed(t *testing.T, policy NodePolicy) *Scheduler {
	s, err := NewScheduler(policy, nil)
	require.NoError(t, err)
	failing, _ := outcomes(NewError(KindPythonVM, "died"))
	require.Error(t, s.Execute(t.Context(), "n", failing))
	require.True(t, s.Breaker("n").IsOpen())
	time.Sleep(time.Minute)
	return s
}

// onceOpen returns a policy whose breaker opens at the first failure, for a minute.
func onceOpen(probes int) NodePolicy {
	return NodePolicy{Breaker: &retry.BreakerConfig{Failures: 1, CoolDown: time.Minute, Probes: probes}, Idempotent: true}
}

// Many callers call a node that has cooled down. The allowed number of probes reaches
// it; the others are refused at once, and none waits for the outcome.
func TestOnlyTheProbesOfManyCallersReachANodeThatHasCooledDown(t *testing.T) {
	const callers = 100
	for _, probes := range []int{1, 3} {
		for _, outcome := range []error{nil, NewError(KindPythonVM, "died again")} {
			synctest.Test(t, func(t *testing.T) {
				s := probed(t, onceOpen(probes))
				start := time.Now()
				var reached, refused atomic.Int32
				var all sync.WaitGroup
				for range callers {
					all.Go(func() {
						err := s.Execute(t.Context(), "n", func(context.Context) error {
							reached.Add(1)
							time.Sleep(time.Second)
							return outcome
						})
						if errors.Is(err, retry.ErrOpen) {
							refused.Add(1)
							assert.Equal(t, time.Duration(0), time.Since(start))
						} else {
							assert.ErrorIs(t, err, outcome)
						}
					})
				}
				synctest.Wait()
				assert.EqualValues(t, probes, reached.Load())
				assert.EqualValues(t, callers-probes, refused.Load())
				all.Wait()
				want := retry.Closed
				if outcome != nil {
					want = retry.Open
				}
				assert.Equal(t, want, s.Breaker("n").State())
			})
		}
	}
}

// A probe is an operation with all its retries: while it waits for the next retry, no
// other operation is allowed, and it counts once.
func TestAProbeThatIsRetriedIsStillOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := onceOpen(1)
		s := probed(t, policy)
		policy.Policy = retry.Default()
		require.NoError(t, s.Configure("n", policy)) // a new breaker, closed
		failing, _ := outcomes(NewError(KindPythonVM, "died"))
		require.Error(t, s.Execute(t.Context(), "n", failing))
		time.Sleep(time.Minute)

		op, attempts := outcomes(NewError(KindPythonVM, "died"), NewError(KindPythonVM, "died"), nil)
		ended := make(chan error, 1)
		go func() { ended <- s.Execute(t.Context(), "n", op) }()
		for range 2 {
			synctest.Wait()
			err := s.Execute(t.Context(), "n", func(context.Context) error { return nil })
			require.ErrorIs(t, err, retry.ErrOpen, "a probe is under way")
			time.Sleep(100 * ms)
		}
		require.NoError(t, <-ended)
		assert.Equal(t, 3, *attempts)
		assert.Equal(t, retry.Closed, s.Breaker("n").State())
	})
}

// A probe whose caller cancels it before an attempt has failed has no outcome: the next
// call is the probe.
func TestAProbeThatIsCanceledLeavesItsSlotToTheNextCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewScheduler(onceOpen(1), nil)
		require.NoError(t, err)
		failing, _ := outcomes(NewError(KindPythonVM, "died"))
		require.Error(t, s.Execute(t.Context(), "n", failing))
		time.Sleep(time.Minute)

		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		start := time.Now()
		err = s.Execute(ctx, "n", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		assert.Equal(t, 30*time.Minute, time.Since(start))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, retry.HalfOpen, s.Breaker("n").State())

		succeeding, attempts := outcomes(nil)
		require.NoError(t, s.Execute(t.Context(), "n", succeeding))
		assert.Equal(t, 1, *attempts)
		assert.Equal(t, retry.Closed, s.Breaker("n").State())
	})
}

// Nodes do not wait for each other: each keeps the delays of its own policy.
func TestManyNodesKeepTheirOwnDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewScheduler(NodePolicy{Policy: retry.Fixed(2, time.Second), Idempotent: true}, nil)
		require.NoError(t, err)
		names := []string{"a", "b", "c", "d", "e", "f"}
		for i, name := range names {
			policy := NodePolicy{Policy: retry.Exponential(2, time.Duration(i+1)*time.Second, 3, 0), Idempotent: true}
			require.NoError(t, s.Configure(name, policy))
		}
		start := time.Now()
		var all sync.WaitGroup
		for i, name := range append(names, "unconfigured") {
			want := time.Duration(i+1) * 4 * time.Second // 1 + 3
			if name == "unconfigured" {
				want = 2 * time.Second
			}
			for range 20 {
				all.Go(func() {
					err := s.Execute(t.Context(), name, func(context.Context) error { return NewError(KindTransport, "broke") })
					assert.ErrorIs(t, err, KindTransport)
					assert.Equal(t, want, time.Since(start))
				})
			}
		}
		all.Wait()
	})
}

// The budget of one operation does not reduce that of the next one.
func TestEachOperationHasTheWholeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := NodePolicy{Policy: retry.Fixed(100, time.Second), Idempotent: true}
		policy.Policy.Budget = 5 * time.Second
		s, err := NewScheduler(policy, nil)
		require.NoError(t, err)
		for range 3 {
			start, attempts := time.Now(), 0
			err := s.Execute(t.Context(), "n", func(context.Context) error { attempts++; return NewError(KindTransport, "broke") })
			require.ErrorIs(t, err, KindTransport)
			assert.Equal(t, 5*time.Second, time.Since(start))
			assert.Equal(t, 6, attempts)
		}
	})
}
