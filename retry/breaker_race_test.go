package retry

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Many goroutines use one breaker, with every kind of outcome. The observer sees one
// change at a time, each from the state that the last one led to, and no more probes
// run than are allowed.
func TestBreakerUnderContention(t *testing.T) {
	const probes = 2
	clock := new(manualClock)
	last, observers := Closed, atomic.Int32{}
	b, err := NewBreaker(BreakerConfig{Failures: 3, CoolDown: 10, Probes: probes, Clock: clock.Now,
		OnChange: func(from, to State) {
			assert.EqualValues(t, 1, observers.Add(1), "one at a time")
			assert.Equal(t, last, from, "in order")
			last = to
			observers.Add(-1)
		}})
	require.NoError(t, err)

	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for n := range 3000 {
				clock.advance(1)
				permit, err := b.Allow()
				if err != nil {
					assert.ErrorIs(t, err, ErrOpen)
					continue
				}
				if now := b.load(); now.state() == HalfOpen {
					assert.LessOrEqual(t, now.count(), probes)
				}
				switch (worker*7 + n) % 5 {
				case 0:
					permit.Success()
				case 1:
					permit.Release()
				default:
					permit.Failure()
				}
				switch n % 500 {
				case 0:
					b.Reset()
				case 250:
					b.RecordSuccess()
				}
			}
		})
	}
	all.Wait()
	assert.Equal(t, b.State(), last, "the last change leads to the current state")

	// No slot was lost: a half-open breaker still admits all its probes.
	for b.State() != Closed {
		clock.advance(10)
		b.RecordSuccess()
	}
	for !b.IsOpen() {
		b.RecordFailure()
	}
	clock.advance(10)
	for range probes {
		_, err := b.Allow()
		require.NoError(t, err)
	}
}

func TestConcurrentFailuresAllCount(t *testing.T) {
	const n = 64
	b, err := NewBreaker(BreakerConfig{Failures: n})
	require.NoError(t, err)
	var all sync.WaitGroup
	for range n - 1 {
		all.Go(b.RecordFailure)
	}
	all.Wait()
	assert.Equal(t, n-1, b.Failures())
	assert.False(t, b.IsOpen())
	b.RecordFailure()
	assert.True(t, b.IsOpen())
}
