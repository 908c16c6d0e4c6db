package runner_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// Without backpressure, 200 MiB would not fit into 16.
func TestLargeArraysFlowThroughLittleSharedMemory(t *testing.T) {
	r := start(t, arrays(`
nodes: [{id: a, TYPE: double}, {id: b, python: stream_arrays.py, node_type: pieces, params: {n: 2}}, {id: c, python: stream_arrays.py, node_type: Smooth}, {id: d, TYPE: double, workers: {max: 2}}]
connections: [{from: a, to: b}, {from: b, to: c}, {from: c, to: d}]`), runner.WithSharedMemory(16<<20))
	s := open(t, r)
	items := make([]any, 50)
	for i := range items {
		items[i] = floats(t, 1<<20) // of 4 MiB
	}
	feed(t, s, items...)
	n := 0
	for item, err := range s.All() {
		require.NoError(t, err)
		n++
		got, err := ipc.Elements[float32](item.Value.(*ipc.Tensor))
		require.NoError(t, err)
		require.Len(t, got, 1<<19)
	}
	assert.Equal(t, 100, n)
	require.NoError(t, r.Close(t.Context()))
	assert.Zero(t, segments(t, os.Getpid()))
}

func TestAnArrayThatIsTooLargeDoesNotEndTheStream(t *testing.T) {
	s := open(t, start(t, arrays(`nodes: [{id: a, TYPE: same}]`), runner.WithSharedMemory(16<<20)))
	err := s.Send(floats(t, 8<<20))
	require.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, "more than the limit of 16 MiB")
	feed(t, s, floats(t, 1<<20))
	got, err := values(s)
	require.NoError(t, err)
	assert.Len(t, got, 1)
}

func TestLargeArraysFlowThroughTheSocket(t *testing.T) {
	before := segments(t, os.Getpid())
	s := open(t, start(t, arrays(`nodes: [{id: a, TYPE: double}, {id: b, TYPE: same}]
connections: [{from: a, to: b}]`), runner.WithSharedMemory(0)))
	feed(t, s, floats(t, 1<<20), floats(t, 1<<20), floats(t, 1<<20))
	got, err := values(s)
	require.NoError(t, err)
	assert.Len(t, got, 3)
	assert.Equal(t, before, segments(t, os.Getpid()))
}

// Send has found room in the stream, and waits for room in shared memory.
func TestAStreamMayEndWhileSendWaitsForSharedMemory(t *testing.T) {
	for name, end := range map[string]func(*runner.Stream){
		"Send after CloseSend": (*runner.Stream).CloseSend,
		"the stream is closed": func(s *runner.Stream) { assert.NoError(t, s.Close()) },
	} {
		r := start(t, arrays(`nodes: [{id: a, TYPE: same}]`), runner.WithSharedMemory(16<<20))
		s, other := open(t, r), open(t, r, runner.WithWindow(2))
		require.NoError(t, other.Send(floats(t, 3<<20)))
		_, err := other.Recv()
		require.NoError(t, err)
		shared, err := r.RunShared(t.Context(), floats(t, 3<<20)) // the node returns its input
		require.NoError(t, err)
		sent := make(chan error)
		go func() { sent <- s.Send(floats(t, 3<<20)) }()
		testkit.Eventually(t, isIn("ipc.(*Arena).take"))
		end(s)
		shared.Release()
		require.ErrorContains(t, <-sent, name)
	}
}

// isIn returns a check whether a goroutine is in the function.
func isIn(function string) func() bool {
	return func() bool {
		stacks := make([]byte, 1<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), function)
	}
}

func TestAClosedStreamLeavesNoSharedMemory(t *testing.T) {
	r := start(t, arrays(`
nodes: [{id: a, TYPE: double}, {id: b, python: stream_arrays.py, node_type: Smooth}, {id: c, TYPE: double}]
connections: [{from: a, to: b}, {from: a, to: c}]`))
	for range 5 {
		s := open(t, r)
		for range 5 {
			require.NoError(t, s.Send(floats(t, 1<<18)))
		}
		_, err := s.Recv()
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	require.NoError(t, r.Close(t.Context()))
	assert.Zero(t, segments(t, os.Getpid()))
}

func TestSharedValuesOfAGeneratorStayValidUntilTheirRelease(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, python: stream_arrays.py, node_type: pieces, params: {n: 4}}]`))
	shared, err := r.RunShared(t.Context(), floats(t, 1<<20))
	require.NoError(t, err)
	all := shared.Value.([]any)
	require.Len(t, all, 4)
	for range 3 { // other calls do not overwrite the values
		other, err := r.RunShared(t.Context(), floats(t, 1<<20))
		require.NoError(t, err)
		other.Release()
	}
	for i, v := range all {
		got, err := ipc.Elements[float32](v.(*ipc.Tensor))
		require.NoError(t, err)
		require.Len(t, got, 1<<18)
		assert.InDelta(t, float32((i<<18)%1000), got[0], 0)
	}
	shared.Release()
	_, err = r.RunShared(t.Context(), []any{})
	require.ErrorIs(t, err, runner.KindExecution)
	require.NoError(t, r.Close(t.Context()))
	assert.Zero(t, segments(t, os.Getpid()))
}

func TestAReplayHasTheSameArrays(t *testing.T) {
	t.Setenv("GOPHERSNAKE_TEST_MARKER", t.TempDir()+"/once")
	r := start(t, arrays(`
nodes: [{id: a, TYPE: double}, {id: b, python: stream_arrays.py, node_type: Smooth, params: {mortal: true}, pass_env: [GOPHERSNAKE_TEST_MARKER], retry: {fixed: 1ms, max_attempts: 2}}]
connections: [{from: a, to: b}]`))
	s := open(t, r)
	feed(t, s, floats(t, 1<<18), floats(t, 1<<18), floats(t, 1<<18), floats(t, 1<<18))
	n := 0
	for item, err := range s.All() {
		require.NoError(t, err)
		got, err := ipc.Elements[float32](item.Value.(*ipc.Tensor))
		require.NoError(t, err)
		n++
		assert.InDelta(t, 2*999*n, got[999], 0, "the sum of all so far")
	}
	assert.Equal(t, 4, n)
	require.NoError(t, r.Close(t.Context()))
	assert.Zero(t, segments(t, os.Getpid()))
}
