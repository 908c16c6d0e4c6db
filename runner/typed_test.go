package runner_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/runnertest"
)

type invoice struct {
	ID    uint64               `json:"id"`
	Lines []line               `json:"lines"`
	By    map[string][]float32 `json:"by"`
	Paid  *time.Time           `json:"paid"`
	Delay time.Duration        `json:"delay"`
	Image []byte               `json:"image"`
}

type line struct {
	Text  string  `json:"text"`
	Price float64 `json:"price"`
	Count int8    `json:"count"`
}

func TestAStructThatGoesThroughPythonIsTheSame(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	paid := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	in := invoice{ID: 1 << 63, Lines: []line{{"tea", 2.5, -3}}, By: map[string][]float32{"a": {1, 2}}, Paid: &paid, Delay: time.Minute, Image: []byte{1}}
	out, err := runner.Call[invoice, invoice](t.Context(), r, in)
	require.NoError(t, err)
	assert.Equal(t, in, out)

	tensor, err := ipc.NewTensor([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	require.NoError(t, err)
	matrix, err := runner.Call[*ipc.Tensor, [][]float32](t.Context(), r, tensor)
	require.NoError(t, err)
	assert.Equal(t, [][]float32{{1, 2, 3}, {4, 5, 6}}, matrix)
}

func TestAResultOfAnotherTypeIsAMarshalingErrorWithItsPath(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	_, err := runner.Call[any, invoice](t.Context(), r, map[string]any{"lines": []any{map[string]any{"price": "five"}}})
	assert.EqualError(t, err, `marshaling error during decode the result: result.lines[0].price: expected a number, got "five"`)
	e, ok := errors.AsType[*runner.Error](err)
	require.True(t, ok)
	assert.Equal(t, "result.lines[0].price", e.Path)
	assert.False(t, e.Retryable())

	_, err = runner.CallNode[any, int](t.Context(), r, "echo", nil)
	assert.ErrorContains(t, err, `in node "echo"`)
	assert.ErrorContains(t, err, "expected an integer, got nil")
	e, ok = errors.AsType[*runner.Error](err)
	require.True(t, ok)
	assert.NotEmpty(t, e.Hint)

	var out int
	assert.ErrorIs(t, runner.Decode(1.5, &out), runner.KindMarshaling)
	assert.ErrorIs(t, runner.Decode(int64(1), out), runner.KindMarshaling)
	_, err = runner.As[line](runner.Input{})
	assert.ErrorIs(t, err, runner.KindMarshaling)
}

func TestATypedStreamSendsAndReceivesItsTypes(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	s, err := runner.OpenStream[line, line](t.Context(), r, runner.WithWindow(4))
	require.NoError(t, err)
	require.NoError(t, s.Send(line{Text: "a"}))
	require.NoError(t, s.Send(line{Text: "b"}))
	s.CloseSend()
	var all []line
	for out, err := range s.All() {
		require.NoError(t, err)
		all = append(all, out)
	}
	assert.Equal(t, []line{{Text: "a"}, {Text: "b"}}, all)
	_, err = s.Recv()
	assert.ErrorIs(t, err, io.EOF)

	wrong, err := runner.OpenStream[any, line](t.Context(), r)
	require.NoError(t, err)
	require.NoError(t, wrong.Send(line{Text: "a"}))
	require.NoError(t, wrong.Send("b"))
	out, err := wrong.Recv()
	require.NoError(t, err)
	assert.Equal(t, "a", out.Text)
	_, err = wrong.Recv()
	require.ErrorContains(t, err, `in node "echo" during decode the result: result: expected a map, got "b"`)
	_, err = wrong.Recv()
	assert.ErrorIs(t, err, runner.KindMarshaling, "it has ended the stream")
	assert.NoError(t, wrong.Close())
}

const allKinds = `
nodes:
  - {id: one, node_type: add}
  - {id: two, node_type: add}
  - {id: mix, node_type: mix, params: {scale: 2}}
  - {id: count, node_type: count}
  - {id: total, python: streams.py, node_type: Total}
  - {id: now, node_type: now}
  - {id: shout, node_type: shout}
connections: [{from: one, to: mix.left}, {from: two, to: mix.right}]
`

func TestANodeIsCalledByItsID(t *testing.T) {
	t.Parallel()
	var seen recorder
	r := start(t, allKinds, runner.WithEvents(seen.record), runner.WithNode("shout", func(_ context.Context, in runner.Input) (any, error) {
		return in.Value.(string) + "!", nil
	}))
	type ports struct {
		Left  int `json:"left"`
		Right int `json:"right"`
	}
	for id, c := range map[string]struct{ in, want any }{
		"one":   {41, int64(42)},
		"mix":   {map[string]any{"left": 1, "right": 2}, 6.0},
		"count": {3, []any{int64(0), int64(1), int64(2)}},
		"now":   {"ignored", "now"},
		"shout": {"hey", "hey!"},
	} {
		got, err := r.Node(id).Call(t.Context(), c.in)
		require.NoError(t, err, id)
		assert.Equal(t, c.want, got, id)
	}
	scaled, err := runner.CallNode[ports, float32](t.Context(), r, "mix", ports{2, 3})
	require.NoError(t, err)
	assert.InDelta(t, 10, scaled, 0)
	assert.Len(t, of[runner.NodeStarted](&seen), 6)
	assert.Len(t, of[runner.NodeFinished](&seen), 6)

	first, err := r.Node("total").Call(t.Context(), 5)
	require.NoError(t, err)
	second, err := r.Node("total").Call(t.Context(), 5)
	require.NoError(t, err)
	assert.Equal(t, first, second, "each call has a session of its own")
	assert.IsType(t, []any{}, first)

	_, err = r.Node("three").Call(t.Context(), nil)
	assert.EqualError(t, err, `manifest error: there is no node "three"; the nodes are count, mix, now, one, shout, total, two`)
	for _, in := range []any{1, nil, map[string]any{"left": 1}, map[string]any{"left": 1, "right": 2, "top": 3}} {
		_, err = r.Node("mix").Call(t.Context(), in)
		require.ErrorIs(t, err, runner.KindMarshaling)
		assert.ErrorContains(t, err, "input: expected a map with the keys left, right, one for each port of the node")
	}
	_, err = r.Node("one").Call(t.Context(), make(chan int))
	assert.ErrorContains(t, err, `in node "one" during encode the input`)
}

func TestACallOfANodeIsSubjectToItsPolicyAndBreaker(t *testing.T) {
	t.Parallel()
	flaky := runnertest.NewNode(runnertest.Raise("ValueError", "bad")).On(1, runnertest.Die(syscall.SIGSEGV)).On(2, runnertest.Return("x"))
	r := start(t, single("flaky", "retry: {fixed: 1ms, max_attempts: 1}", "breaker: {failures: 1}"), runner.WithNode("flaky", flaky.Func))
	got, err := r.Node("flaky").Call(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "x", got)
	_, err = r.Node("flaky").Call(t.Context(), nil)
	assert.ErrorContains(t, err, "ValueError: bad")
	_, err = r.Node("flaky").Call(t.Context(), nil)
	assert.ErrorIs(t, err, retry.ErrOpen)
	assert.Equal(t, 4, flaky.Calls())
}

func TestDrainAndCloseWaitForTheCallOfANode(t *testing.T) {
	t.Parallel()
	slow := runnertest.NewNode(runnertest.Hang())
	r := start(t, single("slow", "retry: none"), runner.WithNode("slow", slow.Func))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := r.Node("slow").Call(ctx, nil)
		failed <- err
	}()
	<-slow.Began(1)
	drained := make(chan error, 1)
	go func() { drained <- r.Drain(t.Context()) }()
	gone, leave := context.WithCancel(t.Context())
	leave()
	testkit.Eventually(t, func() bool {
		_, err := r.Node("slow").Call(gone, nil)
		return strings.Contains(err.Error(), "the runner drains")
	})
	assert.Empty(t, drained, "Drain waits")
	cancel()
	assert.ErrorIs(t, <-failed, context.Canceled)
	assert.NoError(t, <-drained)
	require.NoError(t, r.Close(t.Context()))
	_, err := r.Node("slow").Call(t.Context(), nil)
	assert.ErrorContains(t, err, "the runner is closed")
}

// A Go function sees what a Python node sees, whether the value comes from the caller, from
// Python or from another Go function.
func TestAGoNodeSeesAndReturnsTheTypesOfAPythonNode(t *testing.T) {
	t.Parallel()
	type celsius float32
	type reading struct {
		At   celsius `json:"at"`
		Tags []string
		Skip int `json:"-"`
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	tensor, err := ipc.NewTensor(make([]float64, 1<<15), 1<<15) // in shared memory
	require.NoError(t, err)
	values := []struct{ in, want any }{
		{1, int64(1)}, {uint8(2), int64(2)}, {uint64(1 << 63), uint64(1 << 63)}, {celsius(1.5), 1.5}, {time.Second, int64(time.Second)},
		{reading{At: 1, Tags: []string{"x"}}, map[string]any{"at": 1.0, "Tags": []any{"x"}}}, {&reading{}, map[string]any{"at": 0.0, "Tags": []any{}}},
		{[]int{1}, []any{int64(1)}}, {map[string]int{"a": 1}, map[string]any{"a": int64(1)}}, {ipc.Object{{Key: "a", Value: 1}}, map[string]any{"a": int64(1)}},
		{*tensor, tensor}, {nil, nil}, {at, at}, {&at, at}, {(*reading)(nil), nil}, {[3]byte{1, 2, 3}, []byte{1, 2, 3}},
	}
	for _, order := range []string{"fake", "echo, fake", "fake, echo", "fake, fake", "fake, echo, fake"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			var in any
			seen := make(chan any, 2)
			r := start(t, chainOf(order), runner.WithNode("fake", func(_ context.Context, got runner.Input) (any, error) {
				seen <- got.Value
				assert.Equal(t, map[string]any{"limit": int64(3)}, got.Params)
				return in, nil // not what it got: also what it returns is converted
			}))
			for _, v := range values {
				in = v.in
				got, err := r.Run(t.Context(), in)
				require.NoError(t, err)
				assert.Equal(t, v.want, got)
				for len(seen) > 0 {
					assert.Equal(t, v.want, <-seen)
				}
			}
		})
	}
}

// The ways to call a node have the conversion in common.
func TestAGoNodeReturnsTheTypesOfAPythonNodeHoweverItIsCalled(t *testing.T) {
	t.Parallel()
	type reading struct {
		At   float32   `json:"at"`
		Tags [2]string `json:"tags"`
	}
	fake := func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }
	python, program := start(t, single("echo")), start(t, single("echo"), runner.WithNode("echo", fake))
	tensor, err := ipc.NewTensor(make([]int16, 1<<17), 1<<10, 1<<7)
	require.NoError(t, err)
	for _, in := range []any{nil, 1, float32(0.5), "x", []byte("x"), reading{At: 1}, []reading{{}}, map[string]*reading{"a": nil}, tensor, ipc.JSON(`[1]`), time.Unix(5, 0).UTC()} {
		want := everyWay(t, python, in)
		assert.Equal(t, want, everyWay(t, program, in))
		for _, each := range want[1:] {
			assert.Equal(t, want[0], each)
		}
	}
}

// everyWay returns what each way to call the only node of a runner returns.
func everyWay(t *testing.T, r *runner.Runner, in any) []any {
	t.Helper()
	ran, err := r.Run(t.Context(), in)
	require.NoError(t, err)
	called, err := r.Node("echo").Call(t.Context(), in)
	require.NoError(t, err)
	h, err := runner.Bind[any, any](t.Context(), r)
	require.NoError(t, err)
	bound, err := h.Call(t.Context(), in)
	require.NoError(t, err)
	shared, err := r.RunShared(t.Context(), in)
	require.NoError(t, err)
	t.Cleanup(shared.Release)
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Send(in))
	item, err := s.Recv()
	require.NoError(t, err)
	return []any{ran, called, bound, shared.Value, item.Value}
}

// chainOf returns the manifest of a chain of nodes.
func chainOf(types string) string {
	nodes, connections, before := "nodes:\n", "connections:\n", ""
	for i, nodeType := range strings.Split(types, ", ") {
		id := string(rune('a' + i))
		nodes += "  - {id: " + id + ", node_type: " + nodeType
		if nodeType == "fake" {
			nodes += ", params: {limit: 3}"
		}
		nodes += "}\n"
		if before != "" {
			connections += "  - {from: " + before + ", to: " + id + "}\n"
		}
		before = id
	}
	if len(strings.Split(types, ", ")) == 1 {
		return nodes
	}
	return nodes + connections
}

func TestAGoNodeCannotReturnWhatAPythonNodeCannot(t *testing.T) {
	t.Parallel()
	fake := runnertest.NewNode(runnertest.Return(map[string]any{"f": []any{make(chan int)}}))
	r := start(t, single("fake"), runner.WithNode("fake", fake.Func))
	_, err := r.Run(t.Context(), nil)
	assert.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, `in node "fake" during encode the result`)
	assert.Equal(t, "result.f[0]", asError(t, err).Path)
	assert.Equal(t, 1, fake.Calls(), "it is not retried")
	_, err = r.Run(t.Context(), make(chan int))
	assert.ErrorContains(t, err, "during encode the input")
}

// What a program sees of a fault that a test injects is what it sees of a real one.
func TestInjectedFaultsLookLikeRealOnes(t *testing.T) {
	t.Parallel()
	for nodeType, c := range map[string]struct {
		in   any
		fake runner.NodeFunc
	}{
		"fail":      {map[string]any{"with": "plain"}, runnertest.Raise("ValueError", "the answer is not 42")},
		"misbehave": {map[string]any{"way": "kill_segv"}, runnertest.Die(syscall.SIGSEGV)},
	} {
		python := start(t, single(nodeType, "retry: none"))
		fake := start(t, single(nodeType, "retry: none"), runner.WithNode(nodeType, c.fake))
		_, wantErr := python.Run(t.Context(), c.in)
		_, gotErr := fake.Run(t.Context(), c.in)
		want, got := *asError(t, wantErr), *asError(t, gotErr)
		for _, e := range []*runner.Error{&want, &got} { // what depends on the process
			*e = runner.Error{Kind: e.Kind, Message: e.Message, Node: e.Node, Operation: e.Operation, Attempt: e.Attempt, Attempts: e.Attempts,
				PythonClass: e.PythonClass, PythonBases: e.PythonBases, Signal: e.Signal, Verdict: e.Verdict, NotBegun: e.NotBegun,
				BreakerExempt: e.BreakerExempt, Hint: e.Hint, Limit: e.Limit}
		}
		assert.Equal(t, want, got)
	}
}
