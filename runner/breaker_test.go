package runner_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// Six bad inputs in a row do not refuse the good one after them.
func TestBadInputsDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		input, setting string
		kind           runner.Kind
		opens          bool
	}{
		"an exception":                     {"{", "breaker: {failures: 5}", runner.KindExecution, true},
		"an exception that is ignored":     {"{", "breaker: {ignore: [json.JSONDecodeError]}", runner.KindExecution, false},
		"a base class that is ignored":     {"{", "breaker: {ignore: [KeyError, ValueError]}", runner.KindExecution, false},
		"another exception is ignored":     {"{", "breaker: {ignore: [TypeError]}", runner.KindExecution, true},
		"a result that cannot be sent":     {"object", "breaker: {failures: 5}", runner.KindMarshaling, false},
		"what is never retried does count": {"{", "retry: {never: [ValueError], base: 1h}", runner.KindExecution, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setting := "retry: none"
			if test.setting[:5] == "retry" {
				setting = test.setting
			} else {
				setting += "\n    " + test.setting
			}
			r := start(t, single("parse", setting))
			for range 6 {
				_, err := r.Run(t.Context(), test.input)
				if test.opens && r.Scheduler().Breaker("parse").IsOpen() {
					return
				}
				require.ErrorIs(t, err, test.kind)
				if test.kind == runner.KindExecution {
					assert.Equal(t, "json.decoder.JSONDecodeError", asError(t, err).PythonClass)
					assert.Equal(t, []string{"ValueError", "Exception", "BaseException"}, asError(t, err).PythonBases)
				}
			}
			require.False(t, test.opens, "the breaker should have opened")
			got, err := r.Run(t.Context(), "[1]")
			require.NoError(t, err)
			assert.Equal(t, []any{int64(1)}, got)
			assert.Zero(t, r.Health().Nodes[0].Failures)
			assert.Equal(t, retry.Closed, r.Health().Nodes[0].Breaker)
		})
	}
}

func TestExceptionsThatTheNodeDeclaresAsPermanentDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	r := start(t, single("parse_strictly", "retry: {fixed: 1h}", "breaker: {failures: 1}"))
	for range 3 {
		_, err := r.Run(t.Context(), "{")
		require.ErrorIs(t, err, runner.KindExecution)
		assert.Equal(t, runner.VerdictPermanent, asError(t, err).Verdict)
	}
	got, err := r.Run(t.Context(), "[1]")
	require.NoError(t, err)
	assert.Equal(t, []any{int64(1)}, got)
}

func TestBadInputsOfAStatefulNodeDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("Total", "breaker: {failures: 1, ignore: [ValueError]}"))
	for range 3 {
		s := open(t, r)
		require.NoError(t, s.Send(-1))
		_, err := s.Recv()
		require.ErrorContains(t, err, "a negative number")
	}
	got, err := r.Run(t.Context(), 7)
	require.NoError(t, err)
	assert.Len(t, got, 2)
}

// A consumer that leaves a stream is no failure of the nodes.
func TestCallsOfAStreamWhoseConsumerLeavesAreCanceledAndNotFailed(t *testing.T) {
	t.Parallel()
	for nodeType, input := range map[string]any{"stays": -1, "Stays": -1, "endless": filepath.Join(t.TempDir(), "log")} {
		for name, leave := range map[string]func(s *runner.Stream, cancel context.CancelFunc){
			"by Close":       func(s *runner.Stream, _ context.CancelFunc) { _ = s.Close() },
			"by its context": func(_ *runner.Stream, cancel context.CancelFunc) { cancel() },
			"by leaving the loop": func(s *runner.Stream, _ context.CancelFunc) {
				for _, err := range s.All() {
					assert.NoError(t, err)
					break
				}
			},
		} {
			if name == "by leaving the loop" && nodeType != "endless" {
				continue // there is no further item
			}
			t.Run(nodeType+" "+name, func(t *testing.T) {
				t.Parallel()
				r := start(t, streaming(nodeType))
				for range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					s, err := r.Stream(ctx)
					require.NoError(t, err)
					require.NoError(t, s.Send(input))
					_, err = s.Recv()
					require.NoError(t, err)
					leave(s, cancel)
					require.NoError(t, s.Close())
					cancel()
				}
				h := r.Health().Nodes[0]
				assert.Empty(t, h.Failed)
				assert.EqualValues(t, 3, h.Canceled)
				assert.Zero(t, h.Failures)
				assert.InDelta(t, 3, figures(scraped(t, r), "gophersnake_calls_canceled_total")[nodeType], 0)
			})
		}
	}
}

func TestAnOperationThatFailedBeforeItsCallerLeftIsAFailure(t *testing.T) {
	t.Parallel()
	retried := make(chan struct{}, 1)
	r := start(t, single("parse", "retry: {fixed: 1h}"), runner.WithEvents(func(e runner.Event) {
		if _, ok := e.(runner.CallRetried); ok {
			retried <- struct{}{}
		}
	}))
	for n := 1; n <= 5; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-retried
			cancel()
		}()
		_, err := r.Run(ctx, "{")
		require.ErrorIs(t, err, context.Canceled)
		h := r.Health().Nodes[0]
		assert.EqualValues(t, n, h.Failed[runner.KindOther])
		assert.Zero(t, h.Canceled)
		assert.Equal(t, n, h.Failures)
	}
	_, err := r.Run(t.Context(), "[1]")
	require.ErrorIs(t, err, retry.ErrOpen)
}
