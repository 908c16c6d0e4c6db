package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
)

const ms = time.Millisecond

// bench is a scheduler that records its events.
type bench struct {
	*Scheduler
	events *[]Event
}

func newBench(t *testing.T, defaults NodePolicy) bench {
	t.Helper()
	events := new([]Event)
	s, err := NewScheduler(defaults, func(e Event) { *events = append(*events, e) })
	require.NoError(t, err)
	return bench{s, events}
}

func texts(events []Event) (lines []string) {
	for _, e := range events {
		lines = append(lines, e.String())
	}
	return lines
}

// noRetries returns a policy with a breaker and without retries.
func noRetries() NodePolicy {
	return NodePolicy{Breaker: &retry.BreakerConfig{}, Idempotent: true}
}

// outcomes returns an operation whose attempts have the given outcomes, the last one
// repeatedly, and the number of attempts so far.
func outcomes(errs ...error) (op func(context.Context) error, attempts *int) {
	attempts = new(int)
	return func(context.Context) error {
		*attempts++
		return errs[min(*attempts, len(errs))-1]
	}, attempts
}

func TestSchedulerRetriesTransientErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, DefaultNodePolicy())
		start := time.Now()
		op, attempts := outcomes(NewError(KindPythonVM, "died"), NewError(KindTransport, "broke"), nil)
		require.NoError(t, s.Execute(t.Context(), "vad", op))
		assert.Equal(t, 3, *attempts)
		assert.Equal(t, 300*ms, time.Since(start))
		assert.Zero(t, s.Breaker("vad").Failures(), "the operation succeeded")

		require.Len(t, *s.events, 2)
		retried := (*s.events)[1].(CallRetried)
		assert.Equal(t, start.Add(100*ms), retried.Time)
		assert.Equal(t, 2, retried.Attempt)
		assert.Equal(t, 200*ms, retried.Delay)
		assert.EqualError(t, retried.Err, `transport error in node "vad": broke; attempt 2 of 4`)
	})
}

func TestSchedulerFailsAtOnceOnANonRetryableError(t *testing.T) {
	for _, kind := range []Kind{KindManifest, KindMarshaling, KindSerialization, KindOther} {
		s := newBench(t, DefaultNodePolicy())
		op, attempts := outcomes(NewError(kind, "wrong"))
		err := s.Execute(t.Context(), "vad", op)
		assert.ErrorIs(t, err, kind)
		assert.Equal(t, 1, *attempts)
		assert.Empty(t, *s.events)
	}
}

func TestSchedulerExhaustion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, DefaultNodePolicy())
		cause := errors.New("segmentation fault")
		shared := Wrap(cause, KindPythonVM, "died")
		op, attempts := outcomes(NewError(KindExecution, "raised"), shared)
		err := s.Execute(t.Context(), "vad", op)
		assert.Equal(t, 4, *attempts)

		require.IsType(t, (*Error)(nil), err)
		e := AsError(err)
		assert.Equal(t, KindPythonVM, e.Kind, "the kind of the last error")
		assert.Equal(t, "vad", e.Node)
		assert.Equal(t, []int{4, 4}, []int{e.Attempt, e.Attempts})
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, err, shared)
		assert.NotErrorIs(t, err, KindExecution)
		assert.EqualError(t, err, `python_vm error in node "vad": died: segmentation fault; attempt 4 of 4`)
		assert.Empty(t, shared.Node, "the operation's own error is left alone")
		assert.Equal(t, 1, s.Breaker("vad").Failures(), "one failure an operation, not an attempt")
	})
}

func TestSchedulerMixedKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, DefaultNodePolicy())
		op, attempts := outcomes(NewError(KindExecution, "raised"), NewError(KindIO, "no disk"), NewError(KindMarshaling, "a socket"))
		err := s.Execute(t.Context(), "vad", op)
		assert.Equal(t, 3, *attempts)
		assert.ErrorIs(t, err, KindMarshaling)
		assert.EqualError(t, err, `marshaling error in node "vad": a socket; attempt 3 of 4`)
	})
}

func TestSchedulerHonorsVerdictAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, DefaultNodePolicy())
		permanent := NewError(KindExecution, "no such voice")
		permanent.Verdict = VerdictPermanent
		op, attempts := outcomes(permanent)
		require.Error(t, s.Execute(t.Context(), "tts", op))
		assert.Equal(t, 1, *attempts)

		start := time.Now()
		transient := NewError(KindOther, "warming up")
		transient.Verdict, transient.After = VerdictTransient, new(3*time.Second)
		op, attempts = outcomes(transient, nil)
		require.NoError(t, s.Execute(t.Context(), "tts", op))
		assert.Equal(t, 2, *attempts)
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestSchedulerBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := DefaultNodePolicy()
		policy.Policy.Budget = 250 * ms
		s := newBench(t, policy)
		op, _ := outcomes(NewError(KindExecution, "raised"))
		err := s.Execute(t.Context(), "vad", op)
		assert.EqualError(t, err, `execution error in node "vad": raised; attempt 2 of 4`)
		assert.Equal(t, map[string]string{"retry budget": "250ms, spent after 2 attempts"}, AsError(err).Metadata)
	})
}

func TestSchedulerWithBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, noRetries())
		failing, attempts := outcomes(NewError(KindPythonVM, "died"))
		for range 5 {
			assert.ErrorIs(t, s.Execute(t.Context(), "vad", failing), KindPythonVM)
		}
		assert.Equal(t, retry.Open, s.Breaker("vad").State())

		time.Sleep(10 * time.Second)
		err := s.Execute(t.Context(), "vad", failing)
		assert.Equal(t, 5, *attempts, "an open breaker does not run the operation")
		require.ErrorIs(t, err, retry.ErrOpen)
		assert.Equal(t, KindOther, KindOf(err))
		assert.False(t, IsRetryable(err))
		assert.EqualError(t, err, `error in node "vad": the circuit breaker is open after 5 failed operations in a row; the next probe is allowed in 20s`)
		assert.Equal(t, `python_vm error in node "vad": died`, AsError(err).Metadata["last failure"])
		assert.NotEmpty(t, AsError(err).Hint)

		succeeding, _ := outcomes(nil)
		require.NoError(t, s.Execute(t.Context(), "other", succeeding), "each node has its own breaker")

		time.Sleep(20 * time.Second)
		require.NoError(t, s.Execute(t.Context(), "vad", succeeding), "the probe")
		assert.Equal(t, retry.Closed, s.Breaker("vad").State())

		assert.Equal(t, []string{
			`node "vad": the circuit breaker is open, it was closed`,
			`node "vad": the circuit breaker is half-open, it was open`,
			`node "vad": the circuit breaker is closed, it was half-open`,
		}, texts(*s.events))
	})
}

func TestSchedulerManualBreakerReset(t *testing.T) {
	s := newBench(t, noRetries())
	failing, _ := outcomes(NewError(KindExecution, "raised"))
	for range 5 {
		require.Error(t, s.Execute(t.Context(), "vad", failing))
	}
	require.True(t, s.Breaker("vad").IsOpen())
	s.Breaker("vad").Reset()
	succeeding, attempts := outcomes(nil)
	require.NoError(t, s.Execute(t.Context(), "vad", succeeding))
	assert.Equal(t, 1, *attempts)
}

func TestFailuresThatCountAgainstTheNode(t *testing.T) {
	blameless := NewError(KindExecution, "the input is a picture of nothing")
	blameless.BreakerExempt = true
	for name, test := range map[string]struct {
		err    error
		counts bool
	}{
		"execution":                 {NewError(KindExecution, "x"), true},
		"marshaling":                {NewError(KindMarshaling, "x"), false},
		"an ordinary error":         {errors.New("x"), true},
		"an exempt error":           {blameless, false},
		"the same, wrapped":         {fmt.Errorf("w: %w", blameless), false},
		"manifest":                  {NewError(KindManifest, "x"), false},
		"a cancellation of its own": {context.Canceled, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBench(t, noRetries())
			op, _ := outcomes(test.err)
			require.ErrorIs(t, s.Execute(t.Context(), "n", op), test.err)
			want := 0
			if test.counts {
				want = 1
			}
			assert.Equal(t, want, s.Breaker("n").Failures())
		})
	}
}

// raisedBy returns the error of a Python exception.
func raisedBy(class string, bases ...string) *Error {
	e := NewError(KindExecution, "x")
	e.PythonClass, e.PythonBases = class, bases
	return e
}

func TestNamesOfExceptionsStandForTheirSubclasses(t *testing.T) {
	decode := raisedBy("json.decoder.JSONDecodeError", "ValueError", "Exception", "BaseException")
	for name, want := range map[string]bool{
		"ValueError": true, "Exception": true, "JSONDecodeError": true,
		"json.JSONDecodeError": true, "decoder.JSONDecodeError": true, "json.decoder.JSONDecodeError": true,
		"Error": false, "json": false, "json.decoder": false, "TypeError": false, "json.ValueError": false,
		"other.JSONDecodeError": false, "decoder.json.JSONDecodeError": false, "a.json.decoder.JSONDecodeError": false,
	} {
		assert.Equal(t, want, decode.isRaisedAs([]string{"KeyError", name}), name)
	}
	assert.False(t, NewError(KindPythonVM, "died").isRaisedAs([]string{"Exception"}), "no exception of Python")
}

func TestAnExceptionThatThePolicyIgnoresDoesNotCount(t *testing.T) {
	policy := noRetries()
	policy.Ignore = []string{"ValueError"}
	s := newBench(t, policy)
	for range 20 {
		op, _ := outcomes(raisedBy("UnicodeDecodeError", "UnicodeError", "ValueError", "Exception"))
		require.ErrorIs(t, s.Execute(t.Context(), "n", op), KindExecution)
	}
	assert.Zero(t, s.Breaker("n").Failures())

	op, _ := outcomes(raisedBy("TypeError", "Exception"))
	require.Error(t, s.Execute(t.Context(), "n", op))
	assert.Equal(t, 1, s.Breaker("n").Failures(), "others count")

	start := raisedBy("ValueError", "Exception")
	start.NotBegun = true
	op, _ = outcomes(start)
	require.Error(t, s.Execute(t.Context(), "n", op))
	assert.Equal(t, 2, s.Breaker("n").Failures(), "setup has no input that could be at fault")

}

func TestAnExceptionThatIsNeverRetriedFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := DefaultNodePolicy()
		policy.Never = []string{"TypeError", "LookupError"}
		s := newBench(t, policy)
		transient := raisedBy("KeyError", "LookupError", "Exception")
		transient.Verdict = VerdictTransient
		for _, never := range []*Error{raisedBy("TypeError"), transient} {
			op, attempts := outcomes(never)
			require.ErrorIs(t, s.Execute(t.Context(), "n", op), KindExecution)
			assert.Equal(t, 1, *attempts)
		}
		assert.Equal(t, 2, s.Breaker("n").Failures(), "it counts all the same")

		op, attempts := outcomes(raisedBy("ValueError"), NewError(KindPythonVM, "died"), nil)
		require.NoError(t, s.Execute(t.Context(), "n", op))
		assert.Equal(t, 3, *attempts)
	})
}

func TestOperationsWaitForTheProbesOfAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := noRetries()
		policy.WaitWhenOpen = true
		s := newBench(t, policy)
		failing, _ := outcomes(NewError(KindExecution, "raised"))
		for range 5 {
			require.ErrorIs(t, s.Execute(t.Context(), "vad", failing), KindExecution)
		}

		// A probe fails, the next one succeeds, and 20 others pass together with it.
		start := time.Now()
		op, attempts := outcomes(NewError(KindExecution, "raised"), nil)
		var lock sync.Mutex
		var all sync.WaitGroup
		var failed atomic.Int32
		for range 22 {
			all.Go(func() {
				if s.Execute(t.Context(), "vad", func(ctx context.Context) error {
					lock.Lock()
					defer lock.Unlock()
					return op(ctx)
				}) != nil {
					failed.Add(1)
				}
			})
		}
		all.Wait()
		assert.EqualValues(t, 1, failed.Load(), "only the first probe")
		assert.Equal(t, 22, *attempts)
		assert.Equal(t, time.Minute, time.Since(start))

		// After five failed probes, operations fail at once.
		for range 10 {
			require.ErrorIs(t, s.Execute(t.Context(), "vad", failing), KindExecution)
		}
		assert.Equal(t, 3*time.Minute+30*time.Second, time.Since(start))
		require.ErrorIs(t, s.Execute(t.Context(), "vad", failing), retry.ErrOpen)
		assert.Equal(t, 3*time.Minute+30*time.Second, time.Since(start))
		var waits []bool
		for _, e := range *s.events {
			if e, ok := e.(BreakerChanged); ok && e.To == retry.Open {
				waits = append(waits, e.CallsWait)
			}
		}
		assert.Equal(t, []bool{true, true, true, true, true, true, true, false}, waits)
	})
}

func TestAnOperationThatWaitsForTheBreakerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := noRetries()
		policy.WaitWhenOpen = true
		s := newBench(t, policy)
		failing, attempts := outcomes(NewError(KindExecution, "raised"))
		for range 5 {
			require.Error(t, s.Execute(t.Context(), "vad", failing))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.Execute(ctx, "vad", failing)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, retry.ErrOpen)
		assert.EqualError(t, err, `error in node "vad": context deadline exceeded, while the circuit breaker is open after 5 failed operations in a row; the next probe is allowed in 30s`)
		assert.Equal(t, 5, *attempts)
		assert.Equal(t, 5, s.Breaker("vad").Failures())
		assert.Equal(t, retry.Open, s.Breaker("vad").State())

		done := make(chan error)
		go func() { done <- s.Execute(t.Context(), "vad", func(context.Context) error { return nil }) }()
		synctest.Wait()
		s.Breaker("vad").Reset()
		require.NoError(t, <-done, "Reset ends the wait")
	})
}

func TestAPolicyWithNamesThatNoExceptionHasIsInvalid(t *testing.T) {
	policy := DefaultNodePolicy()
	policy.Never, policy.Ignore = []string{"Value Error"}, []string{"MemoryError"}
	err := policy.Validate()
	assert.ErrorContains(t, err, `"Value Error" is not the name of a Python exception`)
	assert.ErrorContains(t, err, "MemoryError ends the interpreter")
}

func TestCallersThatGiveUpAfterAFailureOpenTheBreaker(t *testing.T) {
	for name, patience := range map[string]time.Duration{
		"in the delay before a retry": 150 * ms, // the node fails after 100 ms
		"during a retry":              250 * ms,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newBench(t, DefaultNodePolicy())
				for n := range 5 {
					assert.Equal(t, n, s.Breaker("vad").Failures())
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					err := s.Execute(ctx, "vad", func(ctx context.Context) error {
						select {
						case <-time.After(100 * ms):
							return raised()
						case <-ctx.Done():
							return ctx.Err()
						}
					})
					cancel()
					require.ErrorIs(t, err, context.DeadlineExceeded)
					assert.Equal(t, KindOther, KindOf(err))
				}
				err := s.Execute(t.Context(), "vad", func(context.Context) error { return nil })
				require.ErrorIs(t, err, retry.ErrOpen)
				assert.Contains(t, AsError(err).Metadata["last failure"], "ValueError: negative rate")
			})
		})
	}
}

func TestAProbeWhoseCallerGivesUpAfterAFailureOpensTheBreakerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, DefaultNodePolicy())
		for range 5 {
			s.Breaker("vad").RecordFailure()
		}
		time.Sleep(30 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		op, _ := outcomes(raised())
		require.ErrorIs(t, s.Execute(ctx, "vad", op), context.DeadlineExceeded)
		assert.Equal(t, retry.Open, s.Breaker("vad").State())
	})
}

func TestCancellationByTheCallerDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, DefaultNodePolicy())
		why := errors.New("the host shuts down")

		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(150*ms, func() { cancel(why) }) // in the delay after the second attempt
		op, attempts := outcomes(raised())
		err := s.Execute(ctx, "vad", op)
		assert.Equal(t, 2, *attempts)
		assert.Equal(t, KindOther, KindOf(err))
		assert.False(t, IsRetryable(err))
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorIs(t, err, why)
		assert.ErrorIs(t, err, KindExecution, "the last error is kept")
		assert.Equal(t, raised().Traceback, AsError(err).Traceback, "and what is known of it")
		assert.EqualError(t, err, `interrupted after 2 attempts: the host shuts down; last error: `+
			`execution error in node "vad": ValueError: negative rate (nodes.py:12 in check); attempt 2 of 4`)

		err = s.Execute(ctx, "vad", op)
		assert.Equal(t, 2, *attempts, "nothing begins any more")
		assert.EqualError(t, err, `error in node "vad": not attempted: the host shuts down`)

		ctx, cancelNow := context.WithTimeout(t.Context(), time.Second)
		defer cancelNow()
		err = s.Execute(ctx, "vad", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.EqualError(t, err, `interrupted in attempt 1: error in node "vad": context deadline exceeded`)
		assert.Equal(t, 1, s.Breaker("vad").Failures(), "only the operation that had failed before counts")
	})
}

func TestANodeThatIsNotIdempotentIsRetriedOnlyIfTheCallHadNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := DefaultNodePolicy()
		policy.Idempotent = false
		s := newBench(t, policy)

		undelivered := NewError(KindPythonVM, "no worker started")
		undelivered.NotBegun = true
		op, attempts := outcomes(undelivered, undelivered, NewError(KindPythonVM, "died in the call"), nil)
		err := s.Execute(t.Context(), "mail", op)
		assert.Equal(t, 3, *attempts)
		assert.EqualError(t, err, `python_vm error in node "mail": died in the call; attempt 3 of 4`)
		assert.Equal(t, 1, s.Breaker("mail").Failures())
	})
}

func TestOnNarrowsTheKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := DefaultNodePolicy()
		policy.On = []Kind{KindPythonVM, KindTransport}
		s := newBench(t, policy)
		op, attempts := outcomes(NewError(KindPythonVM, "died"), NewError(KindTransport, "broke"), NewError(KindExecution, "raised"), nil)
		assert.ErrorIs(t, s.Execute(t.Context(), "vad", op), KindExecution)
		assert.Equal(t, 3, *attempts)

		policy.On = []Kind{KindManifest}
		require.NoError(t, s.Configure("vad", policy))
		op, attempts = outcomes(NewError(KindManifest, "wrong"))
		assert.ErrorIs(t, s.Execute(t.Context(), "vad", op), KindManifest)
		assert.Equal(t, 1, *attempts, "it narrows, it does not widen")
	})
}

func TestConfigure(t *testing.T) {
	var seen []retry.State
	s := newBench(t, DefaultNodePolicy())
	require.NoError(t, s.Configure("once", NodePolicy{}))
	require.NoError(t, s.Configure("touchy", NodePolicy{Breaker: &retry.BreakerConfig{
		Failures: 1, OnChange: func(_, to retry.State) { seen = append(seen, to) }}}))

	failing, attempts := outcomes(NewError(KindExecution, "raised"))
	for range 10 {
		assert.EqualError(t, s.Execute(t.Context(), "once", failing), `execution error in node "once": raised`)
	}
	assert.Equal(t, 10, *attempts, "neither retries nor a breaker")
	assert.Nil(t, s.Breaker("once"))

	require.Error(t, s.Execute(t.Context(), "touchy", failing))
	assert.True(t, s.Breaker("touchy").IsOpen())
	assert.Equal(t, []retry.State{retry.Open}, seen, "an observer of the caller's own is told too")
	assert.Len(t, *s.events, 1)

	require.NoError(t, s.Configure("touchy", DefaultNodePolicy()))
	assert.False(t, s.Breaker("touchy").IsOpen(), "a new policy begins with a new breaker")
}

func TestConfigureReplacesThePolicyOfANodeInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, DefaultNodePolicy())
		kept := s.node("vad") // as the runner keeps it
		fails, attempts := outcomes(NewError(KindExecution, "raised"))
		failing := func(ctx context.Context, _ int) error { return fails(ctx) }
		require.Error(t, kept.execute(t.Context(), nil, failing))
		assert.Equal(t, 4, *attempts)

		require.NoError(t, s.Configure("vad", NodePolicy{Breaker: &retry.BreakerConfig{Failures: 1}}))
		require.Error(t, kept.execute(t.Context(), nil, failing))
		assert.Equal(t, 5, *attempts, "the new policy has no retries")
		assert.True(t, s.Breaker("vad").IsOpen(), "Breaker returns the one that the node uses")
		assert.ErrorIs(t, kept.execute(t.Context(), nil, failing), retry.ErrOpen)
		assert.EqualValues(t, 3, kept.counts.calls.Load(), "the counters continue")

		*s.events = nil
		require.NoError(t, s.Configure("vad", noRetries()))
		assert.Equal(t, []string{`node "vad": the circuit breaker is closed, it was open`}, texts(*s.events))
		assert.ErrorIs(t, kept.execute(t.Context(), nil, failing), KindExecution, "the new breaker is closed")
		assert.Equal(t, 1, s.Breaker("vad").Failures())
	})
}

func TestAnOperationEndsUnderThePolicyThatItBeganWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := NodePolicy{Policy: retry.Fixed(3, time.Second), Breaker: &retry.BreakerConfig{Failures: 1}, Idempotent: true}
		s := newBench(t, policy)
		failing, attempts := outcomes(NewError(KindExecution, "raised"))
		ended := make(chan error, 1)
		go func() { ended <- s.Execute(t.Context(), "vad", failing) }()
		synctest.Wait()
		require.NoError(t, s.Configure("vad", noRetries()))
		assert.ErrorIs(t, <-ended, KindExecution)
		assert.Equal(t, 4, *attempts)
		assert.Zero(t, s.Breaker("vad").Failures(), "it does not count on the new breaker")
		for _, e := range *s.events {
			assert.IsType(t, CallRetried{}, e, "the former breaker is no longer reported")
		}
	})
}

// The outer operation's context has not ended, so its failure counts.
func TestAnInterruptedOperationInsideAnotherCountsAgainstTheOuterNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, noRetries())
		err := s.Execute(t.Context(), "outer", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return s.Execute(ctx, "inner", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Zero(t, s.Breaker("inner").Failures())
		assert.Equal(t, 1, s.Breaker("outer").Failures())
	})
}

func TestInvalidPoliciesAreRefused(t *testing.T) {
	bad := NodePolicy{Policy: retry.Policy{Retries: -1}, Breaker: &retry.BreakerConfig{Probes: -1}, On: []Kind{99}}
	s, err := NewScheduler(bad, nil)
	assert.Nil(t, s)
	assert.ErrorIs(t, err, KindManifest)

	s, err = NewScheduler(DefaultNodePolicy(), nil)
	require.NoError(t, err)
	err = s.Configure("vad", bad)
	assert.ErrorIs(t, err, KindManifest)
	assert.ErrorContains(t, err, `manifest error in node "vad": invalid policy`)
	for _, fault := range []string{"Retries is -1", "Probes is -1", "Kind(99) is not an error kind"} {
		assert.ErrorContains(t, errors.Unwrap(err), fault)
	}
	field, ok := errors.AsType[*retry.FieldError](err)
	require.True(t, ok)
	assert.Equal(t, "Retries", field.Field)
}

func TestAPanicReleasesTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t, NodePolicy{Breaker: &retry.BreakerConfig{Failures: 1}})
		failing, _ := outcomes(NewError(KindExecution, "raised"))
		require.Error(t, s.Execute(t.Context(), "n", failing))
		time.Sleep(30 * time.Second)
		assert.Panics(t, func() {
			_ = s.Execute(t.Context(), "n", func(context.Context) error { panic("a Go operation's fault") })
		})
		succeeding, _ := outcomes(nil)
		assert.NoError(t, s.Execute(t.Context(), "n", succeeding), "the next probe is let through")
	})
}

func TestSchedulerConcurrently(t *testing.T) {
	var opened atomic.Int32
	s, err := NewScheduler(NodePolicy{Breaker: &retry.BreakerConfig{Failures: 3}, Idempotent: true}, func(e Event) {
		if change, ok := e.(BreakerChanged); ok && change.To == retry.Open {
			opened.Add(1)
		}
	})
	require.NoError(t, err)

	const nodes = 4
	var all sync.WaitGroup
	for caller := range 8 {
		all.Go(func() {
			for n := range 200 {
				node := fmt.Sprintf("node %d", (caller+n)%nodes)
				err := s.Execute(t.Context(), node, func(context.Context) error { return NewError(KindExecution, "raised") })
				if !errors.Is(err, retry.ErrOpen) {
					assert.ErrorIs(t, err, KindExecution)
				}
				assert.Equal(t, node, AsError(err).Node)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, nodes, opened.Load(), "each breaker opened once")
	assert.Len(t, *s.entries.Load(), nodes, "one entry a node, whoever asked first")
}

func TestWarmExecuteAllocatesNothing(t *testing.T) {
	s := newBench(t, DefaultNodePolicy())
	ctx, calls := t.Context(), 0
	op := func(context.Context) error { calls++; return nil }
	require.NoError(t, s.Execute(ctx, "vad", op))
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = s.Execute(ctx, "vad", op) }))
	assert.Greater(t, calls, 100)
}

func BenchmarkExecute(b *testing.B) {
	s, err := NewScheduler(DefaultNodePolicy(), nil)
	require.NoError(b, err)
	ctx := b.Context()
	entry := s.node("vad")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = entry.execute(ctx, nil, func(context.Context, int) error { return nil })
		}
	})
}
