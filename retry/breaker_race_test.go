package retry

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Many goroutines use one breaker with outcomes of all sorts. Whatever they do,
// changes are told one at a time and each begins where the last one ended, and
// no more probes are out than may be.
func TestBreakerUnderContention(t *testing.T) {
	const probes = 2
	clock := new(hands)
	last, telling := Closed, atomic.Int32{}
	b, err := NewBreaker(BreakerConfig{Failures: 3, CoolDown: 10, Probes: probes, Clock: clock.Now,
		OnChange: func(from, to State) {
			assert.EqualValues(t, 1, telling.Add(1), "one at a time")
			assert.Equal(t, last, from, "in order")
			last = to
			telling.Add(-1)
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
				if n%500 == 0 {
					b.Reset()
				}
			}
		})
	}
	all.Wait()
	assert.Equal(t, b.State(), last, "the last change told is the state that is")

	// No slot was lost on the way: from half-open all probes can still go.
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
