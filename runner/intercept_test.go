package runner_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/runnertest"
)

// lines collects what interceptors saw.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, args...))
}

// tracing returns an interceptor that notes what goes in and out.
func (l *lines) tracing(name string) runner.Interceptor {
	return func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
		in, err := call.Input()
		l.add("%s %s in %v %v", name, call.Node, in, err)
		out, err := next(ctx, call)
		v, _ := out.Value()
		l.add("%s %s out %v %v", name, call.Node, v, err)
		return out, err
	}
}

func TestInterceptorsSurroundRunsAndCallsInTheirOrder(t *testing.T) {
	t.Parallel()
	var seen lines
	r := start(t, `
nodes: [{id: a, node_type: add}, {id: b, node_type: double}]
connections: [{from: a, to: b}]`,
		runner.WithNode("double", func(_ context.Context, in runner.Input) (any, error) { return 2 * in.Value.(int64), nil }),
		runner.WithCallInterceptor(seen.tracing("inner")),
		runner.WithRunInterceptor(seen.tracing("first")), runner.WithRunInterceptor(seen.tracing("second")),
		runner.WithCallInterceptor(seen.tracing("innermost")))
	got, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, int64(4), got)
	want := []string{
		"first  in 1 <nil>", "second  in 1 <nil>",
		"inner a in 1 <nil>", "innermost a in 1 <nil>", "innermost a out 2 <nil>", "inner a out 2 <nil>",
		"inner b in 2 <nil>", "innermost b in 2 <nil>", "innermost b out 4 <nil>", "inner b out 4 <nil>",
		"second  out 4 <nil>", "first  out 4 <nil>",
	}
	assert.Equal(t, want, seen.all)
	shared, err := r.RunShared(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, int64(4), shared.Value)
	shared.Release()
	assert.Equal(t, append(want, want...), seen.all)

	seen.all = nil
	got, err = r.Node("b").Call(t.Context(), 5)
	require.NoError(t, err)
	assert.Equal(t, int64(10), got)
	assert.Equal(t, []string{"inner b in 5 <nil>", "innermost b in 5 <nil>", "innermost b out 10 <nil>", "inner b out 10 <nil>"}, seen.all)
}

// changing returns an interceptor that adds one to what goes in, and ten to what comes out.
func changing(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
	v, err := call.Input()
	if err != nil {
		return runner.Outcome{}, err
	}
	n, err := runner.As[int](v)
	if err != nil {
		n = int(v.(int64))
	}
	out, err := next(ctx, call.WithInput(n+1))
	if err != nil {
		return out, err
	}
	v, err = out.Value()
	if err != nil {
		return out, err
	}
	return runner.NewOutcome(v.(int64) + 10), nil
}

func TestAnInterceptorChangesWhatGoesInAndOut(t *testing.T) {
	t.Parallel()
	for types, want := range map[string]int64{"echo": 11, "fake": 11, "echo, echo": 22, "fake, echo": 22, "echo, fake": 22} {
		fake := runner.WithNode("fake", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil })
		r := start(t, chainOf(types), fake, runner.WithCallInterceptor(changing))
		got, err := r.Run(t.Context(), 0)
		require.NoError(t, err)
		assert.Equal(t, want, got, types)

		around := start(t, chainOf(types), fake, runner.WithRunInterceptor(changing))
		got, err = around.Run(t.Context(), 0)
		require.NoError(t, err)
		assert.Equal(t, int64(11), got, types)
		shared, err := around.RunShared(t.Context(), 0)
		require.NoError(t, err)
		assert.Equal(t, int64(11), shared.Value, types)
		shared.Release()
	}
}

func TestAnInterceptorAnswersInsteadOfWhatItSurrounds(t *testing.T) {
	t.Parallel()
	fake := runnertest.NewNode(runnertest.Return("called"))
	var seen recorder
	r := start(t, chainOf("fake, echo"), runner.WithNode("fake", fake.Func), runner.WithEvents(seen.record),
		runner.WithCallInterceptor(func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
			if call.Node != "a" {
				return next(ctx, call)
			}
			return runner.NewOutcome([]int{1}), nil
		}))
	got, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, []any{int64(1)}, got, "it is converted like a value of the node")
	assert.Zero(t, fake.Calls())
	assert.Len(t, of[runner.NodeStarted](&seen), 1)
}

// An interceptor sees an operation once, with the error of its last attempt, and what it
// returns itself is neither retried nor counted.
func TestAnInterceptorSeesOperationsNotAttempts(t *testing.T) {
	t.Parallel()
	fake := runnertest.NewNode(runnertest.Raise("ValueError", "bad"))
	var seen lines
	refuse := errors.New("not today")
	r := start(t, single("fake", "retry: {fixed: 1ms, max_attempts: 2}", "breaker: {failures: 2}"), runner.WithNode("fake", fake.Func),
		runner.WithCallInterceptor(func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
			if v, _ := call.Input(); v == "refuse" {
				return runner.Outcome{}, refuse
			}
			out, err := next(ctx, call)
			seen.add("%d", asError(t, err).Attempt)
			return out, err
		}))
	for range 3 {
		_, err := r.Run(t.Context(), "refuse")
		require.ErrorIs(t, err, refuse)
		assert.Equal(t, "fake", asError(t, err).Node)
		assert.Equal(t, runner.KindOther, asError(t, err).Kind)
	}
	_, err := r.Run(t.Context(), nil)
	assert.ErrorIs(t, err, runner.KindExecution)
	assert.Equal(t, []string{"3"}, seen.all)
	assert.Equal(t, 3, fake.Calls())
	assert.Equal(t, 1, r.Scheduler().Breaker("fake").Failures())
}

func TestAPanicOfAnInterceptorIsAnError(t *testing.T) {
	t.Parallel()
	bad := func(context.Context, runner.Invocation, runner.Next) (runner.Outcome, error) { panic("oh") }
	for name, opt := range map[string]runner.Option{"run": runner.WithRunInterceptor(bad), "call": runner.WithCallInterceptor(bad)} {
		fake := runnertest.NewNode(runnertest.Return(1))
		r := start(t, single("fake"), runner.WithNode("fake", fake.Func), opt)
		_, err := r.Run(t.Context(), nil)
		require.ErrorContains(t, err, "an interceptor panicked: oh", name)
		assert.Contains(t, asError(t, err).Metadata["stack"], "intercept_test.go")
		_, err = r.RunShared(t.Context(), nil)
		assert.ErrorContains(t, err, "an interceptor panicked: oh", name)
		assert.Zero(t, fake.Calls())
	}
	_, err := load(t, single("echo"), runner.WithCallInterceptor(nil))
	assert.ErrorIs(t, err, runner.KindManifest)
}

// An interceptor may race two calls and leave the slower one behind.
func TestACallThatAnInterceptorLeavesBehindIsCanceledAndAwaited(t *testing.T) {
	t.Parallel()
	var late runner.Next
	var lateCall runner.Invocation
	var lateOut runner.Outcome
	var left atomic.Bool
	fake := runnertest.NewNode(func(ctx context.Context, _ runner.Input) (any, error) {
		<-ctx.Done()
		left.Store(true)
		return nil, ctx.Err()
	}).On(2, runnertest.Return("quick"))
	hung := make(chan error, 1)
	r := start(t, single("fake", "retry: none"), runner.WithNode("fake", fake.Func),
		runner.WithCallInterceptor(func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
			go func() {
				_, err := next(ctx, call)
				hung <- err
			}()
			<-fake.Began(1)
			late, lateCall = next, call
			var err error
			lateOut, err = next(ctx, call)
			return lateOut, err
		}))
	got, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "quick", got)
	assert.True(t, left.Load(), "nothing runs any more")
	assert.ErrorIs(t, <-hung, context.Canceled)
	_, err = late(t.Context(), lateCall)
	assert.ErrorContains(t, err, "is over")
	_, err = lateCall.Input()
	assert.ErrorContains(t, err, "is over")
	_, err = lateOut.Value()
	assert.ErrorContains(t, err, "is over")
	assert.Equal(t, 2, fake.Calls())
}

func TestTheOutcomeOfAnotherCallIsRefused(t *testing.T) {
	t.Parallel()
	var kept runner.Outcome
	r := start(t, single("echo"), runner.WithCallInterceptor(func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
		out, err := next(ctx, call)
		if v, _ := out.Value(); v == int64(2) {
			return kept, err
		}
		kept = out
		return out, err
	}))
	_, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	_, err = r.Run(t.Context(), 2)
	assert.ErrorContains(t, err, "the outcome of another call")
}

// Retries by an interceptor, and arrays in shared memory: all that is not returned is freed.
func TestWhatInterceptorsDropIsReleased(t *testing.T) {
	t.Parallel()
	twice := func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
		if _, err := next(ctx, call); err != nil {
			return runner.Outcome{}, err
		}
		return next(ctx, call)
	}
	tensor, err := ipc.NewTensor(make([]float32, 1<<17), 1<<17)
	require.NoError(t, err)
	// Three such arrays do not fit into the shared memory.
	r := start(t, chainOf("echo, echo"), runner.WithSharedMemory(1<<20), runner.WithCallInterceptor(twice))
	for range 10 {
		shared, err := r.RunShared(t.Context(), tensor)
		require.NoError(t, err)
		assert.Equal(t, tensor, shared.Value)
		shared.Release()
	}
	around := start(t, chainOf("echo"), runner.WithSharedMemory(1<<20), runner.WithRunInterceptor(twice))
	for range 10 {
		shared, err := around.RunShared(t.Context(), tensor)
		require.NoError(t, err)
		shared.Release()
	}
}

func TestInterceptorsSeeTheItemsOfStreams(t *testing.T) {
	t.Parallel()
	for id, c := range map[string]struct {
		text string
		want []any
	}{
		"plain":     {single("echo"), []any{int64(1), int64(2)}},
		"generator": {single("count"), []any{int64(0), int64(0), int64(1)}},
		"stateful":  {"nodes: [{id: total, python: streams.py, node_type: Total}]", []any{int64(1), int64(3), map[string]any{"total": int64(3)}}},
	} {
		var seen lines
		r := start(t, c.text, runner.WithCallInterceptor(func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
			v, err := call.Input()
			seen.add("%v %v", v, err)
			return next(ctx, call)
		}))
		assert.Equal(t, c.want, throughStream(t, r, 1, 2), id)
		assert.Equal(t, []string{"1 <nil>", "2 <nil>"}, seen.all, id)

		changed := start(t, c.text, runner.WithCallInterceptor(func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
			v, _ := call.Input()
			switch v {
			case "skip":
				if id == "plain" {
					return runner.NewOutcome("skipped"), nil
				}
				return runner.NewOutcome([]any{"skipped"}), nil
			case int64(9):
				return next(ctx, call.WithInput(1))
			}
			return next(ctx, call)
		}))
		want := append([]any{"skipped"}, c.want...)
		assert.Equal(t, want, throughStream(t, changed, "skip", 9, 2), id)
	}
}

// throughStream returns what a stream returns for some items.
func throughStream(t *testing.T, r *runner.Runner, items ...any) (all []any) {
	t.Helper()
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	for _, item := range items {
		require.NoError(t, s.Send(item))
	}
	s.CloseSend()
	for item, err := range s.All() {
		require.NoError(t, err)
		all = append(all, item.Value)
	}
	return all
}

func TestAnInterceptorOfANodeThatYieldsManyValuesCallsNextOnce(t *testing.T) {
	t.Parallel()
	twice := func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
		if _, err := next(ctx, call); err != nil {
			return runner.Outcome{}, err
		}
		if _, err := call.Input(); err == nil {
			t.Error("the input is gone")
		}
		return next(ctx, call)
	}
	for _, text := range []string{single("count"), "nodes: [{id: total, python: streams.py, node_type: Total}]"} {
		r := start(t, text, runner.WithCallInterceptor(twice))
		_, err := r.Run(t.Context(), 1)
		assert.ErrorContains(t, err, "called next twice")
		bad := start(t, text, runner.WithCallInterceptor(func(context.Context, runner.Invocation, runner.Next) (runner.Outcome, error) {
			return runner.NewOutcome(5), nil
		}))
		_, err = bad.Run(t.Context(), 1)
		assert.ErrorContains(t, err, "expected a []any with the values of the node from the interceptor, got a int")
	}
}

func TestAnInterceptorGetsTheInputsOfAllPorts(t *testing.T) {
	t.Parallel()
	r := start(t, diamond, runner.WithCallInterceptor(func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
		if call.Node != "mix" {
			return next(ctx, call)
		}
		v, err := call.Input()
		require.NoError(t, err)
		assert.Equal(t, map[string]any{"left": int64(2), "right": int64(11)}, v)
		return next(ctx, call.WithInput(map[string]any{"left": 1, "right": 1}))
	}))
	got, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, 1.0, got)
}
