package runner_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// graph replaces STREAMING in a manifest, so that the node's code is in streams.py.
func graph(text string) string {
	return strings.ReplaceAll(text, "STREAMING", "python: streams.py, node_type")
}

func TestEachOutgoingConnectionGetsEachItem(t *testing.T) {
	t.Parallel()
	r := start(t, "nodes: [{id: a, node_type: echo}, {id: one, node_type: add}, {id: ten, node_type: add, params: {amount: 10}}, {id: same, node_type: same}]\n"+
		"connections: [{from: a, to: one}, {from: a, to: ten}, {from: a, to: same}]",
		goNode("same", func(_ context.Context, v any) (any, error) { return v, nil }))
	s := open(t, r, runner.WithWindow(3))
	feed(t, s, upTo(50)...)
	next := map[string]int64{"one": 1, "ten": 10, "same": 0}
	for item, err := range s.All() {
		require.NoError(t, err)
		assert.Equal(t, next[item.Node], item.Value, "the values of each sink are in order")
		next[item.Node]++
	}
	assert.Equal(t, map[string]int64{"one": 51, "ten": 60, "same": 50}, next)
}

func TestInputsAreTakenInStep(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, diamond))
	feed(t, s, upTo(100)...)
	got, err := values(s)
	require.NoError(t, err)
	require.Len(t, got, 100)
	for i, v := range got {
		require.InDelta(t, float64(2*i+11)/2, v, 0)
	}
}

// All of the stream waits for the next item each time, and must not be taken for stuck.
func TestBranchesWaitForTheNextItem(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, diamond), runner.WithWindow(1))
	for i := range 20 {
		require.NoError(t, s.Send(i))
		item, err := s.Recv()
		require.NoError(t, err)
		require.InDelta(t, float64(2*i+11)/2, item.Value, 0)
	}
}

func TestBranchesBlockBehindACallerThatDoesNotReceive(t *testing.T) {
	t.Parallel()
	const window = 4
	s := open(t, start(t, diamond), runner.WithWindow(window))
	var sent atomic.Int32
	done := make(chan error)
	go func() {
		for range 100 {
			if err := s.Send(1); err != nil {
				done <- err
				return
			}
			sent.Add(1)
		}
		s.CloseSend()
		done <- nil
	}()
	// One window is before each of the three nodes of a path, and one is behind the last.
	testkit.Eventually(t, func() bool { return sent.Load() == 4*window })
	got, err := values(s)
	require.NoError(t, err)
	assert.Len(t, got, 100)
	require.NoError(t, <-done)
}

func TestAFailureInOneBranchEndsTheOther(t *testing.T) {
	t.Parallel()
	r := start(t, `
nodes: [{id: bad, node_type: bad, retry: none}, {id: fine, node_type: echo}]
`, goNode("bad", func(_ context.Context, v any) (any, error) {
		if v == int64(30) {
			panic("no thirty")
		}
		return v, nil
	}))
	s := open(t, r)
	items := make([]any, 1000)
	for i := range items {
		items[i] = int64(i)
	}
	feed(t, s, items...)
	bad := 0
	var failed error
	for item, err := range s.All() {
		if failed = err; err == nil && item.Node == "bad" {
			bad++
		}
	}
	require.ErrorIs(t, failed, runner.KindExecution)
	assert.ErrorContains(t, failed, "no thirty")
	assert.Equal(t, 30, bad)
}

const uneven = `
nodes:
  - {id: all, node_type: echo}
  - {id: some, STREAMING: some, params: {every: EVERY}}
  - {id: mix, node_type: mix}
connections:
  - {from: all, to: mix.left}
  - {from: some, to: mix.right}
`

func TestAnInputThatEndsBeforeAnotherIsAnError(t *testing.T) {
	t.Parallel()
	r := start(t, strings.Replace(graph(uneven), "EVERY", "2", 1))
	s := open(t, r)
	feed(t, s, upTo(6)...)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, `"some" ended after 3 items and "all" has given`)
	assert.ErrorContains(t, err, `in node "mix"`)
	assert.Equal(t, []any{float64(0), float64(3), float64(6)}, got, "the values before the error")
}

// One branch withholds the value that the other one gave long ago. The stream cannot
// continue and fails, whether the input has ended or not.
func TestBranchesThatDriftTooFarApartAreAnError(t *testing.T) {
	t.Parallel()
	r := start(t, strings.Replace(graph(uneven), "EVERY", "100", 1))
	s := open(t, r, runner.WithWindow(8))
	feed(t, s, upTo(100)...)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, `in node "mix"`)
	assert.ErrorContains(t, err, `when "some" had given 1`)
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	assert.Contains(t, e.Hint, "WithWindow")
	assert.Equal(t, []any{float64(0)}, got)

	r = start(t, graph(`
nodes: [{id: first, STREAMING: some}, {id: lag, STREAMING: Lag}, {id: mix, node_type: mix}]
connections: [{from: first, to: lag}, {from: first, to: mix.left}, {from: lag, to: mix.right}]
`))
	s = open(t, r, runner.WithWindow(8))
	for i := range 8 {
		require.NoError(t, s.Send(i))
	}
	s.CloseSend()
	got, err = values(s)
	require.NoError(t, err, "a window of 8 is enough for a lag of 8")
	assert.Len(t, got, 8)
	s = open(t, r, runner.WithWindow(7))
	feed(t, s, upTo(100)...)
	_, err = values(s)
	require.ErrorContains(t, err, `"first" gave 7 items, of which no more may wait, when "lag" had given 0`)
}

func TestNodesWithoutInputAreCalledForEachItem(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, single("now")))
	feed(t, s, upTo(3)...)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{"now", "now", "now"}, got)
}
