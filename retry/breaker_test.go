package retry

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manualClock is a clock that only advance moves.
type manualClock struct{ now atomic.Int64 }

func (c *manualClock) Now() time.Time          { return time.Unix(0, c.now.Load()) }
func (c *manualClock) advance(d time.Duration) { c.now.Add(int64(d)) }

// testBreaker is a breaker with a manual clock and a record of its changes of state.
type testBreaker struct {
	*Breaker
	clock   *manualClock
	changes *[]string
}

func newTestBreaker(t *testing.T, config BreakerConfig) testBreaker {
	t.Helper()
	b := testBreaker{clock: new(manualClock), changes: new([]string)}
	b.clock.advance(time.Hour)
	config.Clock = b.clock.Now
	config.OnChange = func(from, to State) {
		*b.changes = append(*b.changes, fmt.Sprintf("%v → %v", from, to))
	}
	var err error
	b.Breaker, err = NewBreaker(config)
	require.NoError(t, err)
	return b
}

func (b testBreaker) failTimes(n int) {
	for range n {
		b.RecordFailure()
	}
}

// begin returns a permit that the breaker must grant.
func (b testBreaker) begin(t *testing.T) *Permit {
	t.Helper()
	permit, err := b.Allow()
	require.NoError(t, err)
	return &permit
}

func TestBreakerTripsAfterFiveFailures(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{})
	for n := 1; n <= 4; n++ {
		b.begin(t).Failure()
		assert.Equal(t, n, b.Failures())
		assert.Equal(t, Closed, b.State())
	}
	b.begin(t).Failure()
	assert.True(t, b.IsOpen())
	assert.Equal(t, 5, b.Failures())

	b.clock.advance(10 * time.Second)
	_, err := b.Allow()
	require.ErrorIs(t, err, ErrOpen)
	refusal, ok := errors.AsType[*OpenError](err)
	require.True(t, ok)
	assert.Equal(t, Open, refusal.State)
	assert.Equal(t, 5, refusal.Failures)
	assert.Equal(t, 20*time.Second, refusal.Wait)
	assert.Equal(t, b.clock.Now().Add(-10*time.Second), refusal.Since)
	assert.EqualError(t, err, "the circuit breaker is open after 5 failed operations in a row; the next probe is allowed in 20s")
	assert.False(t, Retryable(err))
	after, asked := refusal.RetryAfter()
	assert.True(t, asked)
	assert.Equal(t, refusal.Wait, after)
	_, asked = (&OpenError{State: HalfOpen}).RetryAfter()
	assert.False(t, asked, "the next state depends on the probe")
	assert.Equal(t, []string{"closed → open"}, *b.changes)
}

func TestSuccessResetsTheCount(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{})
	b.failTimes(4)
	b.begin(t).Success()
	assert.Zero(t, b.Failures())
	b.failTimes(4)
	assert.Equal(t, Closed, b.State(), "only failures in a row count")
	b.RecordSuccess()
	assert.Zero(t, b.Failures())
}

func TestHalfOpenProbeCloses(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 1})
	b.failTimes(1)
	b.clock.advance(30*time.Second - 1)
	assert.Equal(t, Open, b.State())
	b.clock.advance(1)
	assert.Equal(t, HalfOpen, b.State())
	assert.False(t, b.IsOpen())

	b.begin(t).Success()
	assert.Equal(t, Closed, b.State())
	assert.Zero(t, b.Failures())
	assert.Equal(t, []string{"closed → open", "open → half-open", "half-open → closed"}, *b.changes)
}

func TestHalfOpenProbeOpensAgain(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 2})
	b.failTimes(2)
	b.clock.advance(30 * time.Second)
	b.begin(t).Failure()
	assert.True(t, b.IsOpen())
	assert.Equal(t, 3, b.Failures())

	b.clock.advance(29 * time.Second)
	assert.True(t, b.IsOpen(), "the cool-down starts again")
	b.clock.advance(time.Second)
	assert.Equal(t, HalfOpen, b.State())
	assert.Equal(t, []string{"closed → open", "open → half-open", "half-open → open", "open → half-open"}, *b.changes)
}

func TestHalfOpenLimitsProbes(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 1, Probes: 2})
	b.failTimes(1)
	b.clock.advance(30 * time.Second)
	first := b.begin(t)
	second := b.begin(t)

	_, err := b.Allow()
	require.ErrorIs(t, err, ErrOpen)
	assert.EqualError(t, err, "the circuit breaker is open after 1 failed operation in a row; a probe is in progress")

	first.Release()
	third := b.begin(t)
	_, err = b.Allow()
	require.Error(t, err, "only one slot was released")

	third.Success()
	assert.Equal(t, Closed, b.State())
	second.Failure()
	assert.Zero(t, b.Failures(), "the slower probe began before the breaker closed")
}

func TestLateOutcomesAreIgnored(t *testing.T) {
	open := func(t *testing.T) (b testBreaker, late *Permit) {
		b = newTestBreaker(t, BreakerConfig{Failures: 1})
		late = b.begin(t)
		b.failTimes(1)
		return b, late
	}
	t.Run("a success does not close an open breaker", func(t *testing.T) {
		b, late := open(t)
		late.Success()
		assert.Equal(t, Open, b.State())
	})
	t.Run("a success does not close a half-open breaker", func(t *testing.T) {
		b, late := open(t)
		b.clock.advance(time.Minute)
		require.Equal(t, HalfOpen, b.State())
		late.Success()
		assert.Equal(t, HalfOpen, b.State())
	})
	t.Run("a failure does not open a half-open breaker", func(t *testing.T) {
		b, late := open(t)
		b.clock.advance(time.Minute)
		require.Equal(t, HalfOpen, b.State())
		late.Failure()
		assert.Equal(t, HalfOpen, b.State())
	})
	t.Run("a failure does not open a breaker that has closed since", func(t *testing.T) {
		b, late := open(t)
		b.clock.advance(time.Minute)
		b.begin(t).Success()
		late.Failure()
		assert.Equal(t, Closed, b.State())
	})
	t.Run("a failure does not prolong the cool-down", func(t *testing.T) {
		b, late := open(t)
		b.clock.advance(29 * time.Second)
		late.Failure()
		b.clock.advance(time.Second)
		assert.Equal(t, HalfOpen, b.State())
	})
	t.Run("a release does not free the slot of another probe", func(t *testing.T) {
		b, late := open(t)
		b.clock.advance(time.Minute)
		b.begin(t)
		late.Release()
		_, err := b.Allow()
		assert.ErrorIs(t, err, ErrOpen)
	})
	t.Run("a failure from before a reset does not count", func(t *testing.T) {
		b := newTestBreaker(t, BreakerConfig{Failures: 1})
		late := b.begin(t)
		b.Reset()
		late.Failure()
		assert.Equal(t, Closed, b.State())
	})
}

func TestPermitSettlesOnce(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 3, Probes: 2})
	permit := b.begin(t)
	permit.Failure()
	permit.Failure()
	permit.Success()
	permit.Release()
	assert.Equal(t, 1, b.Failures())

	b.failTimes(2)
	b.clock.advance(time.Minute)
	b.begin(t)
	probe := b.begin(t)
	probe.Release()
	probe.Release()
	b.begin(t)
	_, err := b.Allow()
	assert.ErrorIs(t, err, ErrOpen, "the slot was released once")
}

func TestRecordWithoutPermit(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 1})
	b.RecordFailure()
	require.True(t, b.IsOpen())
	b.RecordFailure()
	assert.True(t, b.IsOpen(), "open: a failure has no effect")
	assert.Equal(t, 1, b.Failures())

	b.clock.advance(time.Minute)
	b.RecordFailure()
	assert.True(t, b.IsOpen(), "half-open: a failure opens again")
	b.clock.advance(time.Minute)
	b.RecordSuccess()
	assert.Equal(t, Closed, b.State(), "half-open: a success closes")
}

func TestRecordSuccessClosesAnOpenBreaker(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 2})
	b.failTimes(2)
	b.clock.advance(time.Second)
	require.True(t, b.IsOpen())
	b.RecordSuccess()
	assert.Equal(t, Closed, b.State())
	assert.Zero(t, b.Failures())
	b.begin(t).Success()

	b.failTimes(1)
	assert.Equal(t, Closed, b.State(), "the count starts again at 0")
	b.failTimes(1)
	assert.True(t, b.IsOpen())
	b.clock.advance(30*time.Second - 1)
	assert.True(t, b.IsOpen(), "the new cool-down lasts as long as the first")
	assert.Equal(t, []string{"closed → open", "open → closed", "closed → open"}, *b.changes)
}

// A late success must not undo what later failures proved, whatever happened to the
// breaker since. The permit decides, not the state of the breaker.
func TestOnlyThePermitDecidesWhetherASuccessIsLate(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 2})
	late := [4]*Permit{b.begin(t), b.begin(t), b.begin(t), b.begin(t)}
	b.failTimes(2)
	late[0].Success()
	assert.True(t, b.IsOpen(), "the operation began before the breaker opened")

	b.clock.advance(30 * time.Second)
	probe := b.begin(t)
	late[1].Success()
	assert.Equal(t, HalfOpen, b.State(), "only the probe's success closes the breaker")
	probe.Failure()
	late[2].Success()
	assert.True(t, b.IsOpen())

	b.RecordSuccess()
	require.Equal(t, Closed, b.State())
	b.failTimes(1)
	late[3].Success()
	assert.Equal(t, 1, b.Failures(), "a success from before the breaker opened does not reset the count")
	b.begin(t).Success()
	assert.Zero(t, b.Failures(), "a permit given since does")
	assert.Equal(t, []string{
		"closed → open", "open → half-open", "half-open → open", "open → closed",
	}, *b.changes)
}

// A probe that was admitted before RecordSuccess closed the breaker has no say in
// what follows.
func TestRecordSuccessOutdatesProbes(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{Failures: 1})
	b.failTimes(1)
	b.clock.advance(30 * time.Second)
	probe := b.begin(t)
	b.RecordSuccess()
	probe.Failure()
	assert.Equal(t, Closed, b.State())
	assert.Zero(t, b.Failures())
}

func TestManualReset(t *testing.T) {
	b := newTestBreaker(t, BreakerConfig{})
	b.failTimes(5)
	require.True(t, b.IsOpen())
	b.Reset()
	assert.Equal(t, Closed, b.State())
	assert.Zero(t, b.Failures())
	b.begin(t).Success()

	b.failTimes(4)
	b.Reset()
	assert.Zero(t, b.Failures(), "a closed breaker forgets its failures too")
	assert.Equal(t, []string{"closed → open", "open → closed"}, *b.changes)
}

func TestNilBreakerNeverOpens(t *testing.T) {
	var b *Breaker
	for range 10 {
		permit, err := b.Allow()
		require.NoError(t, err)
		permit.Failure()
		b.RecordFailure()
	}
	b.RecordSuccess()
	b.Reset()
	assert.False(t, b.IsOpen())
	assert.Equal(t, Closed, b.State())
	assert.Zero(t, b.Failures())
}

func TestBreakerConfigValidate(t *testing.T) {
	_, err := NewBreaker(BreakerConfig{Failures: -1, CoolDown: -time.Second, Probes: 1 << 30})
	assert.EqualError(t, err, "Failures is -1; it must be between 1 and 1073741823 (0 means 5)\n"+
		"CoolDown is -1s; it must not be negative (0 means 30s)\n"+
		"Probes is 1073741824; it must be between 1 and 1073741823 (0 means 1)")
	_, ok := errors.AsType[*FieldError](err)
	assert.True(t, ok)
}

func TestDefaultClockAndCoolDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBreaker(BreakerConfig{Failures: 1})
		require.NoError(t, err)
		b.RecordFailure()
		time.Sleep(30*time.Second - 1)
		assert.Equal(t, Open, b.State())
		time.Sleep(time.Nanosecond)
		assert.Equal(t, HalfOpen, b.State())
	})
}

func TestStateText(t *testing.T) {
	for state, want := range map[State]string{Closed: "closed", Open: "open", HalfOpen: "half-open", 9: "State(9)"} {
		text, err := state.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
}

func TestOnChangeMayUseTheBreaker(t *testing.T) {
	var b *Breaker
	var seen []State
	b, err := NewBreaker(BreakerConfig{Failures: 1, OnChange: func(_, to State) {
		seen = append(seen, to)
		if to == Open {
			b.Reset()
			assert.Equal(t, Closed, b.State(), "the observer may change the breaker")
		}
	}})
	require.NoError(t, err)
	b.RecordFailure()
	assert.Equal(t, []State{Open, Closed}, seen, "in order, the second after the first")
}

func TestOnChangeContinuesAfterAPanic(t *testing.T) {
	var seen []State
	b, err := NewBreaker(BreakerConfig{Failures: 1, OnChange: func(_, to State) {
		seen = append(seen, to)
		if to == Open {
			panic("a bug in the observer")
		}
	}})
	require.NoError(t, err)
	assert.Panics(t, b.RecordFailure)
	b.Reset()
	assert.Equal(t, []State{Open, Closed}, seen)
}

func TestClosedBreakerAllocatesNothing(t *testing.T) {
	b, err := NewBreaker(BreakerConfig{})
	require.NoError(t, err)
	before := b.load()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		permit, _ := b.Allow()
		defer permit.Release()
		permit.Success()
	}))
	assert.Equal(t, before, b.load())
}

func BenchmarkBreakerClosed(b *testing.B) {
	breaker, err := NewBreaker(BreakerConfig{})
	require.NoError(b, err)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			permit, _ := breaker.Allow()
			permit.Success()
		}
	})
}
