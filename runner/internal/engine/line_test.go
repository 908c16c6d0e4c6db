package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// entering calls Enter in the background.
func entering(l *Line, turn *Turn) <-chan error {
	entered := make(chan error, 1)
	go func() { entered <- l.Enter(context.Background(), turn) }()
	synctest.Wait()
	return entered
}

func TestARetryStandsAheadOfCallsThatBeganLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Places: 1})
		var retried, other Turn
		require.NoError(t, l.Enter(t.Context(), &retried))
		l.Leave() // the attempt has failed
		require.NoError(t, l.Enter(t.Context(), &other))
		third, fourth := entering(l, nil), entering(l, nil)
		again := entering(l, &retried)
		assert.Equal(t, 3, l.Waiting())
		for _, next := range []<-chan error{again, third, fourth} {
			assert.Empty(t, next)
			l.Leave()
			synctest.Wait()
			require.NoError(t, <-next)
			assert.Equal(t, 1, l.Used())
		}
		l.Leave()
		assert.Zero(t, l.Used())
	})
}

func TestTheLineHasLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Places: 1, Queue: 2, Wait: time.Minute, Place: "a process"})
		require.True(t, l.TryEnter())
		assert.False(t, l.TryEnter())
		first, second := entering(l, nil), entering(l, nil)
		var e *Error
		require.ErrorAs(t, l.Enter(t.Context(), nil), &e)
		assert.Equal(t, "queue", e.Limit)
		assert.Equal(t, "2 calls are already waiting for a process: workers.max is 1, and all are busy", e.Error())
		l.Leave()
		require.NoError(t, <-first)
		require.ErrorAs(t, <-second, &e) // after a minute
		assert.Equal(t, "queue_wait", e.Limit)
		assert.Equal(t, "a process did not become free within 1m0s: workers.max is 1, and all are busy", e.Error())

		ctx, cancel := context.WithCancelCause(t.Context())
		own := errors.New("its own reason")
		time.AfterFunc(time.Second, func() { cancel(own) })
		require.ErrorIs(t, l.Enter(ctx, nil), own)
		assert.Zero(t, l.Waiting())
		l.Leave()
		require.True(t, l.TryEnter(), "those that left have no place")
	})
}

func TestAClosedLineIsEmptyWhenTheLastCallHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(LineConfig{Places: 2})
		require.True(t, l.TryEnter())
		require.True(t, l.TryEnter())
		waits := entering(l, nil)
		empty := l.Close()
		require.ErrorIs(t, <-waits, ErrLineClosed)
		require.ErrorIs(t, l.Enter(t.Context(), nil), ErrLineClosed)
		assert.False(t, l.TryEnter())
		l.Leave()
		select {
		case <-empty:
			t.Error("a place is taken")
		default:
		}
		l.Leave()
		<-empty
		<-l.Close()
		<-NewLine(LineConfig{Places: 1}).Close()
	})
}

func TestNoMoreCallsRunThanThereArePlaces(t *testing.T) {
	const places, calls = 3, 2000
	l := NewLine(LineConfig{Places: places})
	var running, served atomic.Int32
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%3 == 0 {
				go cancel()
			}
			if l.Enter(ctx, nil) != nil {
				return
			}
			assert.LessOrEqual(t, running.Add(1), int32(places))
			served.Add(1)
			running.Add(-1)
			l.Leave()
		})
	}
	all.Wait()
	assert.GreaterOrEqual(t, served.Load(), int32(calls*2/3))
	assert.Zero(t, l.Used())
	assert.Zero(t, l.Waiting())
}
