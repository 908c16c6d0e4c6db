package fair

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// full returns a queue with one slot, which is in use.
func full(t testing.TB, length int) *Queue {
	q := NewQueue(length, func() int { return 1 })
	require.True(t, q.TryAcquire())
	return q
}

// waits adds requests of a flow, which must wait.
func waits(t testing.TB, q *Queue, f Flow, n int) []*waiter {
	t.Helper()
	all := make([]*waiter, n)
	for i := range all {
		w, err := q.join(f)
		require.NoError(t, err)
		require.NotNil(t, w)
		all[i] = w
	}
	return all
}

// served returns how many of the requests have got a slot.
func served(all []*waiter) (n int) {
	for _, w := range all {
		if w.element == nil {
			n++
		}
	}
	return n
}

func TestFlowsGetSlotsByTheirWeights(t *testing.T) {
	t.Parallel()
	q := full(t, 1000)
	heavy := waits(t, q, Flow{"heavy", 3, Normal}, 400)
	light := waits(t, q, Flow{"light", 1, Normal}, 400)
	for n := 1; n <= 400; n++ {
		q.Release()
		assert.InDelta(t, float64(n)*3/4, served(heavy), 1.5)
		assert.Equal(t, n, served(heavy)+served(light))
	}
}

func TestOneRequestIsNotDelayedByAFloodOfAnotherFlow(t *testing.T) {
	t.Parallel()
	q := full(t, 1000)
	waits(t, q, Flow{"flood", 1, Normal}, 500)
	for range 20 {
		single := waits(t, q, Flow{"single", 1, Normal}, 1)
		calls := 0
		for ; served(single) == 0; calls++ {
			q.Release()
		}
		assert.LessOrEqual(t, calls, 3)
	}
}

func TestMoreUrgentClassesComeFirstAndTheOthersAreServed(t *testing.T) {
	t.Parallel()
	q := full(t, 10_000)
	low := waits(t, q, Flow{"a", 1, Low}, 100)
	normal := waits(t, q, Flow{"a", 1, Normal}, 100)
	high := waits(t, q, Flow{"a", 1, High}, 2000)
	for range Patience {
		q.Release()
	}
	assert.Equal(t, []int{Patience, 0, 0}, []int{served(high), served(normal), served(low)})
	for n := range 90 {
		before := served(low)
		for range Patience + 2 {
			q.Release()
		}
		require.Greater(t, served(low), before, "the lowest class gets a slot after %d others", Patience)
		require.Greater(t, served(normal), n, "and so does the one in the middle")
	}
}

func TestAFullQueueRefusesTheFlowThatHasTheMost(t *testing.T) {
	t.Parallel()
	q := full(t, 10)
	flood := waits(t, q, Flow{"flood", 1, Normal}, 10)
	_, err := q.join(Flow{"flood", 1, Normal})
	require.ErrorIs(t, err, ErrFull)
	other := waits(t, q, Flow{"other", 1, Normal}, 5)
	for i, w := range flood {
		if i < 5 {
			assert.NotNil(t, w.element, "the oldest ones wait on")
			continue
		}
		<-w.done
		require.ErrorIs(t, w.err, ErrFull)
	}
	_, err = q.join(Flow{"other", 1, Normal})
	require.ErrorIs(t, err, ErrFull)
	heavy := waits(t, q, Flow{"heavy", 4, Normal}, 6)
	assert.Equal(t, 0, served(heavy))
	assert.Equal(t, 10, q.Counts().Waiting)
	assert.Equal(t, uint64(13), q.Counts().Refused)
	assert.NotEqual(t, 0, served(other))
}

func TestARequestWhoseContextEndsLeavesAtOnce(t *testing.T) {
	t.Parallel()
	q := full(t, 10)
	ctx, cancel := context.WithCancelCause(t.Context())
	left := make(chan error)
	go func() { left <- q.Acquire(ctx, Flow{"a", 1, Normal}) }()
	for q.Counts().Waiting == 0 {
	}
	cause := fmt.Errorf("the client has left")
	cancel(cause)
	require.ErrorIs(t, <-left, cause)
	assert.Zero(t, q.Counts().Waiting)
	q.Release()
	assert.Zero(t, q.Counts().Used)
}

func TestMoreSlotsAreGivenToThoseThatWait(t *testing.T) {
	t.Parallel()
	slots := 1
	q := NewQueue(100, func() int { return slots })
	require.True(t, q.TryAcquire())
	all := waits(t, q, Flow{"a", 1, Normal}, 5)
	slots = 3
	for q.Counts().Slots < 3 { // the number is asked for after a while
	}
	q.Release()
	assert.Equal(t, 3, served(all))
}

func TestAQueueForgetsFlows(t *testing.T) {
	t.Parallel()
	q := full(t, 10)
	for i := range 10_000 {
		w := waits(t, q, Flow{fmt.Sprint(i), 1, Normal}, 1)
		q.Release()
		require.Equal(t, 1, served(w))
		require.Less(t, len(q.classes[Normal].flows), 200)
	}
	q.Release()
	assert.Empty(t, q.classes[Normal].flows)
}

func TestSlotsAreNeitherLostNorUsedTwice(t *testing.T) {
	t.Parallel()
	const slots = 3
	q := NewQueue(40, func() int { return slots })
	var used atomic.Int32
	var clients sync.WaitGroup
	for i := range 50 {
		clients.Go(func() {
			for n := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				if (n+i)%3 == 0 {
					go cancel()
				}
				if err := q.Acquire(ctx, Flow{fmt.Sprint(i % 7), 1 + i%3, Class(i % 3)}); err == nil {
					if used.Add(1) > slots {
						t.Error("more requests run than there are slots")
					}
					used.Add(-1)
					q.Release()
				}
				cancel()
			}
		})
	}
	clients.Wait()
	c := q.Counts()
	assert.Zero(t, c.Used)
	assert.Zero(t, c.Waiting)
}

func BenchmarkAFreeSlot(b *testing.B) {
	q := NewQueue(10, func() int { return 1000 })
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if q.TryAcquire() {
				q.Release()
			}
		}
	})
}

func BenchmarkAQueueOfManyFlows(b *testing.B) {
	q := full(b, 100_000)
	for i := range 10_000 {
		waits(b, q, Flow{fmt.Sprint(i), 1, Normal}, 1)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, _ = q.join(Flow{fmt.Sprint(i % 10_000), 1, Normal})
		q.Release()
	}
}
