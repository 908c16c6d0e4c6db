package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// open opens a stream that is closed when the test ends.
func open(t *testing.T, r *runner.Runner, opts ...runner.StreamOption) *runner.Stream {
	t.Helper()
	s, err := r.Stream(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// feed sends items from another goroutine, and ends the input.
func feed(t *testing.T, s *runner.Stream, items ...any) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, v := range items {
			if s.Send(v) != nil {
				return // Recv returns the reason
			}
		}
		s.CloseSend()
	}()
	t.Cleanup(func() { <-done })
}

// upTo returns the items 0 to n-1.
func upTo(n int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = int64(i)
	}
	return all
}

// values receives to the end, and returns the items before the error.
func values(s *runner.Stream) (all []any, err error) {
	for item, err := range s.All() {
		if err != nil {
			return all, err
		}
		all = append(all, item.Value)
	}
	return all, nil
}

// goNode makes a node of a Go function with one input.
func goNode(nodeType string, fn func(ctx context.Context, v any) (any, error)) runner.Option {
	return runner.WithNode(nodeType, func(ctx context.Context, in runner.Input) (any, error) { return fn(ctx, in.Value) })
}

func TestItemsComeOutInTheOrderInWhichTheyWentIn(t *testing.T) {
	t.Parallel()
	r := start(t, `
nodes:
  - {id: uneven, node_type: uneven}
  - {id: add, node_type: add, params: {amount: 1}, workers: {max: 3}}
connections: [{from: uneven, to: add}]
`, goNode("uneven", func(_ context.Context, v any) (any, error) {
		for range v.(int64) * 7919 % 5 * 1000 { // some take longer
			_ = fmt.Sprint(v)
		}
		return v, nil
	}))
	for _, window := range []int{1, 2, 16, 100} {
		s := open(t, r, runner.WithWindow(window))
		feed(t, s, upTo(200)...)
		got, err := values(s)
		require.NoError(t, err)
		require.Len(t, got, 200, window)
		for i, v := range got {
			require.Equal(t, int64(i+1), v)
		}
	}
}

func TestAnEmptyStreamEnds(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, single("echo")))
	s.CloseSend()
	s.CloseSend()
	_, err := s.Recv()
	require.Equal(t, io.EOF, err)
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
	assert.NoError(t, s.Close())
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
}

func TestItemsComeOutWhileOthersGoIn(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, single("echo")))
	for i := range 50 {
		require.NoError(t, s.Send(i))
		item, err := s.Recv()
		require.NoError(t, err)
		assert.Equal(t, runner.Item{Value: int64(i), Node: "echo"}, item)
	}
}

func TestManyCallsAreUnderWayAtOnce(t *testing.T) {
	t.Parallel()
	const window = 8
	var here atomic.Int32
	full := make(chan struct{})
	r := start(t, single("meet"), goNode("meet", func(ctx context.Context, v any) (any, error) {
		if here.Add(1) == window {
			close(full)
		}
		select {
		case <-full:
			return v, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	s := open(t, r, runner.WithWindow(window))
	feed(t, s, upTo(3*window)...)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, upTo(3*window), got)
}

func TestAStreamBlocksBehindACallerThatDoesNotReceive(t *testing.T) {
	t.Parallel()
	const window = 4
	var begun atomic.Int32
	r := start(t, "nodes: [{id: a, node_type: count}, {id: b, node_type: count}]\nconnections: [{from: a, to: b}]",
		goNode("count", func(_ context.Context, v any) (any, error) { begun.Add(1); return v, nil }))
	s := open(t, r, runner.WithWindow(window))
	var sent atomic.Int32
	blocked := make(chan error)
	go func() {
		for ; ; sent.Add(1) {
			if err := s.Send(0); err != nil {
				blocked <- err
				return
			}
		}
	}()
	// Each queue fills up. Send is the last that blocks.
	testkit.Eventually(t, func() bool { return sent.Load() == 3*window })
	assert.EqualValues(t, 3*window, begun.Load(), "each of the two nodes began as many calls as have room for their values")
	for range window {
		_, err := s.Recv()
		require.NoError(t, err)
	}
	testkit.Eventually(t, func() bool { return sent.Load() == 4*window })
	require.NoError(t, s.Close())
	assert.ErrorContains(t, <-blocked, "the stream is closed")
}

func TestTheItemsBeforeAFailureComeOutBeforeIt(t *testing.T) {
	t.Parallel()
	for _, window := range []int{1, 16} {
		r := start(t, `
nodes: [{id: before, node_type: add}, {id: bad, node_type: bad, retry: none}, {id: after, node_type: add}]
connections: [{from: before, to: bad}, {from: bad, to: after}]
`, goNode("bad", func(_ context.Context, v any) (any, error) {
			if v == int64(20) {
				return nil, errors.New("bad luck")
			}
			return v, nil
		}))
		s := open(t, r, runner.WithWindow(window))
		feed(t, s, upTo(100)...)
		got, err := values(s)
		require.ErrorIs(t, err, runner.KindExecution)
		assert.ErrorContains(t, err, "bad luck")
		assert.Len(t, got, 19)
		var e *runner.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "bad", e.Node)
		assert.Equal(t, "19", e.Metadata["delivered"])
		_, err = s.Recv()
		assert.ErrorContains(t, err, "bad luck", "it stays the stream's error")
		assert.ErrorContains(t, s.Send(1), "bad luck")
		assert.NoError(t, s.Close())
	}
}

func TestAnItemThatCannotBeEncodedDoesNotEndTheStream(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, single("echo")))
	err := s.Send(map[string]any{"c": make(chan int)})
	require.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, "input.c")
	feed(t, s, "fine")
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{"fine"}, got)
}

func TestSendAfterCloseSendIsAnError(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, single("echo")))
	s.CloseSend()
	assert.ErrorContains(t, s.Send(1), "Send after CloseSend")
	_, err := s.Recv()
	assert.Equal(t, io.EOF, err)
}

func TestAWindowHasItsBounds(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	for _, n := range []int{-1, 0, 4097} {
		_, err := r.Stream(t.Context(), runner.WithWindow(n))
		require.ErrorIs(t, err, runner.KindManifest)
	}
}

func TestOneItemProbesANodeWhoseBreakerWasOpen(t *testing.T) {
	t.Parallel()
	ill := true
	r := start(t, single("moody", "retry: none", "breaker: {failures: 1, cool_down: 1ms}"), goNode("moody", func(_ context.Context, v any) (any, error) {
		if ill {
			return nil, errors.New("not today")
		}
		return v, nil
	}))
	_, err := r.Run(t.Context(), 1)
	require.ErrorContains(t, err, "not today")
	ill = false
	breaker := r.Scheduler().Breaker("moody")
	testkit.Eventually(t, func() bool { return breaker.State() == retry.HalfOpen })
	s := open(t, r)
	feed(t, s, upTo(50)...)
	got, err := values(s)
	require.NoError(t, err, "the other items waited for it")
	assert.Equal(t, upTo(50), got)
}

func TestABatchNodeGetsAsManyItemsAsTheWindowHolds(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("together"))
	s := open(t, r)
	feed(t, s, upTo(64)...)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, slices.Repeat([]any{int64(32)}, 64), got, "the default window is as large as a batch")
}
