package runner_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

func TestEachStreamHasAStateOfItsOwn(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("Total", "workers: {max: 2}"))
	var all []*runner.Stream
	for range 5 {
		all = append(all, open(t, r))
	}
	for n := range 10 {
		for i, s := range all {
			require.NoError(t, s.Send(i*n))
			item, err := s.Recv()
			require.NoError(t, err)
			require.Equal(t, int64(i*n*(n+1)/2), item.Value)
		}
	}
	for i, s := range all {
		s.CloseSend()
		got, err := values(s)
		require.NoError(t, err)
		assert.Equal(t, []any{map[string]any{"total": int64(45 * i)}}, got)
	}
}

func TestAStatefulNodeYieldsAnyNumberOfValues(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("Pairs"))
	s := open(t, r)
	feed(t, s, upTo(5)...)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{[]any{int64(0), int64(1)}, []any{int64(2), int64(3)}}, got)

	s = open(t, start(t, streaming("Lag")))
	feed(t, s, upTo(100)...)
	got, err = values(s)
	require.NoError(t, err)
	assert.Equal(t, upTo(100), got)
}

func TestAnEmptyStreamIsFinishedToo(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, streaming("Total")))
	s.CloseSend()
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{map[string]any{"total": int64(0)}}, got)
}

func TestARunIsAStreamOfOneItem(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("Total"))
	for range 2 {
		got, err := r.Run(t.Context(), 7)
		require.NoError(t, err)
		assert.Equal(t, []any{int64(7), map[string]any{"total": int64(7)}}, got)
	}
}

func TestAnExceptionInAStatefulNodeEndsTheStream(t *testing.T) {
	t.Parallel()
	events := &recorder{}
	r := start(t, streaming("Total", quickRetry), runner.WithEvents(events.record))
	s := open(t, r)
	feed(t, s, 1, 2, -1, 3)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, "a negative number")
	assert.NotContains(t, err.Error(), "the state of the stream is lost")
	assert.Equal(t, []any{int64(1), int64(3)}, got)
	assert.Empty(t, of[runner.CallRetried](events), "its state may have changed")
	assert.Empty(t, of[runner.WorkerDied](events))
}

func TestAnOpenBreakerRefusesAStatefulNode(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("Total", "retry: none", "breaker: {failures: 1, cool_down: 1h}"))
	first, second := open(t, r), open(t, r)
	require.NoError(t, second.Send(1))
	_, err := second.Recv()
	require.NoError(t, err)
	require.NoError(t, first.Send(-1))
	_, err = first.Recv()
	require.ErrorContains(t, err, "a negative number")
	require.NoError(t, second.Send(1))
	_, err = second.Recv()
	require.ErrorContains(t, err, "circuit breaker is open")
	third := open(t, r)
	require.NoError(t, third.Send(1))
	_, err = third.Recv()
	require.ErrorContains(t, err, "circuit breaker is open")
}

const dyingBegin = `
import os
import signal

from gophersnake import node


@node(stateful=True)
class Dies:
    def begin(self):
        if not os.path.exists("begun"):
            open("begun", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

    def process(self, value):
        return value
`

// No state is lost if the beginning of a stream fails, so it is retried, also if the state could
// not be restored.
func TestAStreamWhoseBeginEndsTheInterpreterIsOpenedAgain(t *testing.T) {
	t.Parallel()
	for _, lines := range [][]string{{once}, {"retry: none"}} {
		base := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(dyingBegin), 0o600))
		r := crashing(t, base, "nodes.py", "Dies", lines)
		got, err := r.Run(t.Context(), 1)
		if lines[0] == once {
			require.NoError(t, err)
			assert.Equal(t, []any{int64(1)}, got)
		} else {
			require.ErrorIs(t, err, runner.KindPythonVM)
		}
	}
}

func TestItemsThatAreMadeAgainAloneAreCounted(t *testing.T) {
	t.Parallel()
	r := crashing(t, "testdata", "poison.py", "ConcurrentStateful", []string{"retry: none", "breaker: none"})
	var streams sync.WaitGroup
	for i := range 16 {
		streams.Go(func() {
			var input any = i
			if i == 0 {
				input = "kills the interpreter"
			}
			_, err := r.Run(t.Context(), input)
			assert.Equal(t, i == 0, err != nil, "%v", err)
		})
	}
	streams.Wait()
	assert.NotZero(t, r.Health().Nodes[0].Pool.Suspects)
}
