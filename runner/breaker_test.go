package runner_test

import (
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
