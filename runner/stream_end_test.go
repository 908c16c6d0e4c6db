package runner_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// held is a Go node that sends each item to begun, and blocks until its context ends.
func held(begun chan<- any) runner.Option {
	return goNode("held", func(ctx context.Context, v any) (any, error) {
		begun <- v
		<-ctx.Done()
		return nil, ctx.Err()
	})
}

func TestCloseCancelsTheCallsInProgress(t *testing.T) {
	t.Parallel()
	begun := make(chan any, 16)
	r := start(t, "nodes: [{id: echo, node_type: echo}, {id: held, node_type: held}]\nconnections: [{from: echo, to: held}]", held(begun))
	s := open(t, r)
	for range 5 {
		require.NoError(t, s.Send("v"))
	}
	for range 5 {
		<-begun
	}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "twice")
	_, err := s.Recv()
	require.ErrorIs(t, err, runner.KindOther)
	assert.ErrorContains(t, err, "the stream is closed")
	assert.ErrorContains(t, s.Send(1), "the stream is closed")
	s.CloseSend()
	assert.Zero(t, r.Scheduler().Breaker("held").Failures(), "a cancellation does not count against the node")
}

func TestCloseDropsItemsThatWereNotReceived(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, single("echo")))
	feed(t, s, upTo(3)...)
	_, err := s.Recv()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = s.Recv()
	assert.ErrorContains(t, err, "the stream is closed")
}

func TestAStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	begun := make(chan any, 16)
	r := start(t, single("held"), held(begun))
	cause := errors.New("the user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := r.Stream(ctx)
	require.NoError(t, err)
	require.NoError(t, s.Send(1))
	<-begun
	cancel(cause)
	_, err = s.Recv()
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, err, runner.KindOther)
	require.ErrorIs(t, s.Send(2), cause)
	_, err = r.Stream(ctx)
	require.ErrorIs(t, err, cause, "no other stream begins either")
}

func TestItemsFromBeforeTheEndOfTheContextAreReceived(t *testing.T) {
	t.Parallel()
	begun := make(chan any, 1)
	r := start(t, single("some"), goNode("some", func(ctx context.Context, v any) (any, error) {
		if v.(int64) < 3 {
			return v, nil
		}
		begun <- v
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := r.Stream(ctx, runner.WithWindow(4))
	require.NoError(t, err)
	for i := range 4 {
		require.NoError(t, s.Send(i))
	}
	<-begun
	item, err := s.Recv() // the other values may not have arrived yet
	require.NoError(t, err)
	assert.Equal(t, int64(0), item.Value)
	cancel()
	got, err := values(s)
	require.ErrorIs(t, err, context.Canceled)
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, fmt.Sprint(1+len(got)), e.Metadata["delivered"])
}

func TestBreakingOutOfTheLoopClosesTheStream(t *testing.T) {
	t.Parallel()
	s := open(t, start(t, single("echo")))
	feed(t, s, upTo(100)...)
	for item, err := range s.All() {
		require.NoError(t, err)
		if item.Value == int64(2) {
			break
		}
	}
	_, err := s.Recv()
	assert.ErrorContains(t, err, "the stream is closed")
}

// sequence yields items, and then an error if it is not nil.
func sequence(items []any, end error) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for _, v := range items {
			if !yield(v, nil) {
				return
			}
		}
		if end != nil {
			yield(nil, end)
		}
	}
}

func TestASequenceGoesThroughAPipeline(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	var got []any
	for item, err := range r.Through(t.Context(), sequence(upTo(100), nil)) {
		require.NoError(t, err)
		got = append(got, item.Value)
	}
	assert.Equal(t, upTo(100), got)
}

func TestAnErrorInTheSequenceFollowsTheItemsBeforeIt(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	for _, end := range []error{errors.New("the tape ended"), runner.NewError(runner.KindIO, "the tape ended")} {
		var got []any
		var failed error
		for item, err := range r.Through(t.Context(), sequence(upTo(40), end)) {
			if err != nil {
				failed = err
				break
			}
			got = append(got, item.Value)
		}
		assert.ErrorContains(t, failed, "the tape ended")
		assert.ErrorIs(t, failed, end)
		assert.Equal(t, runner.KindOf(end), runner.KindOf(failed))
		assert.Equal(t, upTo(40), got)
	}
}

func TestAnItemOfTheSequenceThatCannotBeEncodedEndsTheStream(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	var failed error
	for _, err := range r.Through(t.Context(), sequence([]any{1, func() {}, 3}, nil)) {
		failed = err
	}
	assert.ErrorIs(t, failed, runner.KindMarshaling)
}

func TestBreakingOutOfTheLoopStopsTheSequence(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	stopped := make(chan struct{})
	endless := func(yield func(any, error) bool) {
		defer close(stopped)
		for yield("v", nil) {
		}
	}
	for _, err := range r.Through(t.Context(), endless) {
		require.NoError(t, err)
		break
	}
	<-stopped
	_, err := r.Run(t.Context(), "v")
	require.NoError(t, err, "the runner still works")
}

func TestThroughYieldsTheErrorOfAStreamThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	var all []error
	for _, err := range r.Through(t.Context(), sequence(upTo(1), nil), runner.WithWindow(-1)) {
		all = append(all, err)
	}
	require.Len(t, all, 1)
	assert.ErrorIs(t, all[0], runner.KindManifest)
}

func TestCloseOfTheRunnerWaitsForStreams(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	s := open(t, r)
	require.NoError(t, s.Send(1))
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		assert.NoError(t, r.Close(context.Background()))
	}()
	testkit.Eventually(t, func() bool {
		probe, err := r.Stream(t.Context())
		if err == nil {
			assert.NoError(t, probe.Close())
		}
		return err != nil // the runner is closing
	})
	require.NoError(t, s.Send(2))
	s.CloseSend()
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{int64(1), int64(2)}, got)
	<-closed
}

func TestCloseOfTheRunnerEndsStreamsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	begun := make(chan any, 1)
	r := start(t, "nodes: [{id: echo, node_type: echo}, {id: held, node_type: held}]\nconnections: [{from: echo, to: held}]", held(begun))
	idle, busy := open(t, r), open(t, r)
	require.NoError(t, busy.Send(1))
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, r.Close(ctx))
	for _, s := range []*runner.Stream{idle, busy} {
		_, err := s.Recv()
		assert.ErrorContains(t, err, "the runner is closed")
	}
}

func TestManyStreamsAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, single("add", "workers: {max: 2}"))
	var total atomic.Int64
	done := make(chan struct{})
	const streams = 10
	for range streams {
		go func() {
			defer func() { done <- struct{}{} }()
			for item, err := range r.Through(t.Context(), sequence(upTo(50), nil)) {
				if assert.NoError(t, err) {
					total.Add(item.Value.(int64))
				}
			}
		}()
	}
	for range streams {
		<-done
	}
	assert.EqualValues(t, streams*50*51/2, total.Load())
}
