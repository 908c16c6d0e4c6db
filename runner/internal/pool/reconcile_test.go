package pool

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// manualClock is a clock that a test advances.
type manualClock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*manualTimer
}

type manualTimer struct {
	at time.Time
	f  func()
}

// freeze replaces the pool's clock by one that the test advances.
func (f *fixture) freeze() *manualClock {
	c := &manualClock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f.Pool.mu.Lock()
	defer f.Pool.mu.Unlock()
	f.clock = clock{c.Now, c.afterFunc}
	f.since = c.now
	return c
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) afterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &manualTimer{c.now.Add(d), f}
	c.timers = append(c.timers, t)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.timers, t)
		if i >= 0 {
			c.timers = slices.Delete(c.timers, i, i+1)
		}
		return i >= 0
	}
}

// pass advances the clock, and returns when all timers that were due have run.
func (c *manualClock) pass(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		var first *manualTimer
		for _, t := range c.timers {
			if !t.at.After(end) && (first == nil || t.at.Before(first.at)) {
				first = t
			}
		}
		if first == nil {
			break
		}
		c.timers = slices.DeleteFunc(c.timers, func(t *manualTimer) bool { return t == first })
		if first.at.After(c.now) {
			c.now = first.at
		}
		c.mu.Unlock()
		first.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}

// passes advances the clock, and requires that no worker starts before the last
// nanosecond.
func (f *fixture) passes(c *manualClock, d time.Duration) {
	f.t.Helper()
	c.pass(d - 1)
	require.Zero(f.t, f.Health().Starting, "before the time has passed")
	c.pass(1)
}

func TestTheManualClockRunsItsTimersInOrder(t *testing.T) {
	t.Parallel()
	c := &manualClock{}
	var at []time.Duration
	note := func() { at = append(at, c.Now().Sub(time.Time{})) }
	c.afterFunc(3, note)
	c.afterFunc(1, func() {
		note()
		c.afterFunc(1, note)
	})
	stop := c.afterFunc(2, note)
	require.True(t, stop())
	require.False(t, stop())
	c.afterFunc(5, note)
	c.pass(4)
	require.Equal(t, []time.Duration{1, 2, 3}, at)
}
