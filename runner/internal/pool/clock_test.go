package pool

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// handClock is a time that passes when a test says so.
type handClock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*handTimer
}

type handTimer struct {
	at time.Time
	f  func()
}

// freeze takes a pool's time into the test's hand.
func (f *fixture) freeze() *handClock {
	c := &handClock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f.Pool.mu.Lock()
	defer f.Pool.mu.Unlock()
	f.clock = clock{c.Now, c.afterFunc}
	f.since = c.now
	return c
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) afterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &handTimer{c.now.Add(d), f}
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

// pass lets time pass, and returns when all that was due by then has been done.
func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		var first *handTimer
		for _, t := range c.timers {
			if !t.at.After(end) && (first == nil || t.at.Before(first.at)) {
				first = t
			}
		}
		if first == nil {
			break
		}
		c.timers = slices.DeleteFunc(c.timers, func(t *handTimer) bool { return t == first })
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

// passes lets time pass, and sees to it that before the last moment of it nothing
// had been started.
func (f *fixture) passes(c *handClock, d time.Duration) {
	f.t.Helper()
	c.pass(d - 1)
	require.Zero(f.t, f.Health().Starting, "before it is time")
	c.pass(1)
}

func TestTheHandClockGoesOffInOrder(t *testing.T) {
	c := &handClock{}
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
