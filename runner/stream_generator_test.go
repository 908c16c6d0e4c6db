package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

func TestTheValuesOfAGeneratorAreReceivedOneByOne(t *testing.T) {
	t.Parallel()
	for _, nodeType := range []string{"count", "count_later"} {
		r := start(t, "nodes: [{id: count, node_type: "+nodeType+"}, {id: add, node_type: add}]\nconnections: [{from: count, to: add}]")
		s := open(t, r)
		feed(t, s, 3, 0, 100, 1)
		got, err := values(s)
		require.NoError(t, err)
		require.Len(t, got, 104)
		assert.Equal(t, []any{int64(1), int64(2), int64(3), int64(1), int64(2)}, got[:5])
		assert.Equal(t, []any{int64(100), int64(1)}, got[102:])
	}
}

// ahead bounds how many values a generator may be ahead of its consumer: the window of
// the queue, the credits of the call, the values that have arrived and wait for the
// queue, and the one that it is making.
const ahead = 16 + 16 + 16 + 1

func TestAGeneratorBlocksBehindASlowConsumer(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	s := open(t, start(t, streaming("endless")))
	require.NoError(t, s.Send(log))
	for want := range int64(500) {
		item, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, want, item.Value)
		made, err := os.Stat(log)
		require.NoError(t, err)
		require.LessOrEqual(t, made.Size(), want+1+ahead)
	}
	require.NoError(t, s.Close())
	assert.FileExists(t, log+".closed", "its finally block has run")
}

func TestCancelingARunEndsAGenerator(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	r := start(t, streaming("endless"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		assert.Eventually(t, func() bool { // it is in its try block
			made, err := os.Stat(log)
			return err == nil && made.Size() > 0
		}, long, time.Millisecond)
		cancel()
	}()
	_, err := r.Run(ctx, log)
	require.ErrorIs(t, err, context.Canceled)
	assert.FileExists(t, log+".closed")
	assert.Zero(t, r.Scheduler().Breaker("endless").Failures())
}

func TestAGeneratorThatFailsIsCalledAgain(t *testing.T) {
	t.Parallel()
	events := &recorder{}
	r := start(t, streaming("fails_after", quickRetry), runner.WithEvents(events.record))
	s := open(t, r)
	feed(t, s, 3, 3)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, "no more")
	assert.Equal(t, upTo(3), got, "repeated values are dropped")
	assert.Len(t, of[runner.CallRetried](events), 3)
	assert.Len(t, of[runner.NodeStarted](events), 1, "one event for an item, however many attempts it takes")
	finished := of[runner.NodeFinished](events)
	require.Len(t, finished, 1)
	assert.Error(t, finished[0].Err)
}

func TestARunReturnsTheValuesOfTheSinksInLists(t *testing.T) {
	t.Parallel()
	r := start(t, graph(`
nodes: [{id: thrice, STREAMING: thrice}, {id: one, node_type: echo}, {id: two, node_type: echo}, {id: other, node_type: echo}]
connections: [{from: thrice, to: one}, {from: thrice, to: two}]
`))
	got, err := r.Run(t.Context(), 7)
	require.NoError(t, err)
	three := []any{"7.0", "7.1", "7.2"}
	assert.Equal(t, map[string]any{"one": three, "two": three, "other": []any{int64(7)}}, got)

	got, err = start(t, streaming("some", "params: {every: 2}")).Run(t.Context(), 3)
	require.NoError(t, err)
	assert.Equal(t, []any{}, got, "no values are an empty list")

	_, err = r.Run(t.Context(), make(chan int))
	require.ErrorIs(t, err, runner.KindMarshaling)
	_, err = start(t, streaming("fails_after", "retry: none")).Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.NotContains(t, runner.AsError(err).Metadata, "delivered", "a run delivers all or nothing")
}

// The nodes go on only when eight calls are inside at once.
func TestEightCallsOfAnAsyncGeneratorAreInsideAtOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		nodeType string
		items    int
		want     func(stream, item int) []any
		end      []any
	}{
		"a generator": {"meets", 5, meets, nil},
		"a stateful class whose process is a generator": {"Meets", 5, meets, []any{[]any{"items", int64(5)}}},
		"a stateful class whose process returns a value": {"MeetsOnce", 5, func(stream, item int) []any {
			return []any{int64(100*stream + item)}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, streaming(test.nodeType))
			var streams sync.WaitGroup
			for i := range 8 {
				streams.Go(func() {
					var items, want []any
					for n := range test.items {
						items, want = append(items, 100*i+n), append(want, test.want(i, n)...)
					}
					var got []any
					for item, err := range r.Through(t.Context(), sequence(items, nil)) {
						if !assert.NoError(t, err) {
							return
						}
						got = append(got, item.Value)
					}
					assert.Equal(t, append(want, test.end...), got, "in the order of the items")
				})
			}
			streams.Wait()
			assert.Len(t, r.Health().Nodes[0].Pool.Workers, 1)
		})
	}
}

// meets returns the values of meets in streams.py for an item.
func meets(stream, item int) []any {
	n := int64(100*stream + item)
	return []any{[]any{n, int64(0)}, []any{n, int64(1)}, []any{n, int64(2)}}
}

func TestEightRunsOfAnAsyncGeneratorAreInsideAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("meets"))
	var runs sync.WaitGroup
	for i := range 8 {
		runs.Go(func() {
			got, err := r.Run(t.Context(), i)
			assert.NoError(t, err)
			assert.Equal(t, []any{[]any{int64(i), int64(0)}, []any{int64(i), int64(1)}, []any{int64(i), int64(2)}}, got)
		})
	}
	runs.Wait()
}

// A slow consumer holds up its own call only, and the failure, the deadline or the
// cancellation of a call does not affect the others.
func TestCallsOfAnAsyncGeneratorDoNotAffectEachOther(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("stays", "retry: none", "breaker: none"))
	slow := open(t, r, runner.WithWindow(1))
	feed(t, slow, upTo(50)[1:]...) // not received yet

	canceled := open(t, r)
	require.NoError(t, canceled.Send(-1))
	item, err := canceled.Recv()
	require.NoError(t, err)
	require.Equal(t, "begun", item.Value)

	for range 3 {
		_, err = r.Run(t.Context(), 0)
		require.ErrorContains(t, err, "only this call")
		got, err := r.Run(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, []any{"begun", "done"}, got)
	}
	require.NoError(t, canceled.Close())
	got, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, []any{"begun", "done"}, got)

	got, err = values(slow)
	require.NoError(t, err)
	assert.Len(t, got, 2*49)
	assert.EqualValues(t, 1, r.Health().Nodes[0].Pool.Started, "no worker was lost")

	hasty := start(t, streaming("stays", "retry: none", "timeout: 300ms"))
	late := make(chan error, 1)
	go func() {
		_, err := hasty.Run(context.Background(), -1)
		late <- err
	}()
	for range 3 {
		_, err := hasty.Run(t.Context(), 1)
		require.NoError(t, err)
	}
	err = <-late
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.ErrorContains(t, err, "no answer within 300ms; the call was canceled")
	assert.EqualValues(t, 1, hasty.Health().Nodes[0].Pool.Started, "no worker was lost")
}
