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

// hands is a clock that is set by hand.
type hands struct{ now atomic.Int64 }

func (h *hands) Now() time.Time          { return time.Unix(0, h.now.Load()) }
func (h *hands) advance(d time.Duration) { h.now.Add(int64(d)) }

// watched is a breaker with a clock set by hand and a record of its changes.
type watched struct {
	*Breaker
	clock   *hands
	changes *[]string
}

func newWatched(t *testing.T, config BreakerConfig) watched {
	t.Helper()
	w := watched{clock: new(hands), changes: new([]string)}
	w.clock.advance(time.Hour)
	config.Clock = w.clock.Now
	config.OnChange = func(from, to State) {
		*w.changes = append(*w.changes, fmt.Sprintf("%v → %v", from, to))
	}
	var err error
	w.Breaker, err = NewBreaker(config)
	require.NoError(t, err)
	return w
}

func (w watched) failTimes(n int) {
	for range n {
		w.RecordFailure()
	}
}

// begin takes a permit that must be granted.
func (w watched) begin(t *testing.T) *Permit {
	t.Helper()
	permit, err := w.Allow()
	require.NoError(t, err)
	return &permit
}

func TestBreakerTripsAfterFiveFailures(t *testing.T) {
	b := newWatched(t, BreakerConfig{})
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
	assert.EqualError(t, err, "the circuit breaker is open after 5 failed operations in a row; the next probe may go in 20s")
	assert.False(t, Retryable(err))
	assert.Equal(t, []string{"closed → open"}, *b.changes)
}

func TestSuccessResetsTheCount(t *testing.T) {
	b := newWatched(t, BreakerConfig{})
	b.failTimes(4)
	b.begin(t).Success()
	assert.Zero(t, b.Failures())
	b.failTimes(4)
	assert.Equal(t, Closed, b.State(), "only failures in a row count")
	b.RecordSuccess()
	assert.Zero(t, b.Failures())
}

func TestHalfOpenProbeCloses(t *testing.T) {
	b := newWatched(t, BreakerConfig{Failures: 1})
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
	b := newWatched(t, BreakerConfig{Failures: 2})
	b.failTimes(2)
	b.clock.advance(30 * time.Second)
	b.begin(t).Failure()
	assert.True(t, b.IsOpen())
	assert.Equal(t, 3, b.Failures())

	b.clock.advance(29 * time.Second)
	assert.True(t, b.IsOpen(), "the cool-down begins anew")
	b.clock.advance(time.Second)
	assert.Equal(t, HalfOpen, b.State())
	assert.Equal(t, []string{"closed → open", "open → half-open", "half-open → open", "open → half-open"}, *b.changes)
}

func TestHalfOpenLimitsProbes(t *testing.T) {
	b := newWatched(t, BreakerConfig{Failures: 1, Probes: 2})
	b.failTimes(1)
	b.clock.advance(30 * time.Second)
	first := b.begin(t)
	second := b.begin(t)

	_, err := b.Allow()
	require.ErrorIs(t, err, ErrOpen)
	assert.EqualError(t, err, "the circuit breaker is open after 1 failed operation in a row; a probe is under way")

	first.Release()
	third := b.begin(t)
	_, err = b.Allow()
	require.Error(t, err, "one slot was given back, and one only")

	third.Success()
	assert.Equal(t, Closed, b.State())
	second.Failure()
	assert.Zero(t, b.Failures(), "the slower probe is of the time before the breaker closed")
}

func TestLateOutcomesAreIgnored(t *testing.T) {
	open := func(t *testing.T) (b watched, late *Permit) {
		b = newWatched(t, BreakerConfig{Failures: 1})
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
	t.Run("a release frees no slot of another's probe", func(t *testing.T) {
		b, late := open(t)
		b.clock.advance(time.Minute)
		b.begin(t)
		late.Release()
		_, err := b.Allow()
		assert.ErrorIs(t, err, ErrOpen)
	})
	t.Run("a failure from before a reset does not count", func(t *testing.T) {
		b := newWatched(t, BreakerConfig{Failures: 1})
		late := b.begin(t)
		b.Reset()
		late.Failure()
		assert.Equal(t, Closed, b.State())
	})
}

func TestPermitSettlesOnce(t *testing.T) {
	b := newWatched(t, BreakerConfig{Failures: 3, Probes: 2})
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
	assert.ErrorIs(t, err, ErrOpen, "the slot came back once")
}

func TestRecordWithoutPermit(t *testing.T) {
	b := newWatched(t, BreakerConfig{Failures: 1})
	b.RecordFailure()
	require.True(t, b.IsOpen())
	b.RecordSuccess()
	b.RecordFailure()
	assert.True(t, b.IsOpen(), "no effect while open")
	assert.Equal(t, 1, b.Failures())

	b.clock.advance(time.Minute)
	b.RecordFailure()
	assert.True(t, b.IsOpen(), "half-open: a failure opens again")
	b.clock.advance(time.Minute)
	b.RecordSuccess()
	assert.Equal(t, Closed, b.State(), "half-open: a success closes")
}

func TestManualReset(t *testing.T) {
	b := newWatched(t, BreakerConfig{})
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
	assert.EqualError(t, err, "Failures is -1; it must be between 1 and 1073741823 (0 stands for 5)\n"+
		"CoolDown is -1s; it must not be negative (0 stands for 30s)\n"+
		"Probes is 1073741824; it must be between 1 and 1073741823 (0 stands for 1)")
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
	var told []State
	b, err := NewBreaker(BreakerConfig{Failures: 1, OnChange: func(_, to State) {
		told = append(told, to)
		if to == Open {
			b.Reset()
			assert.Equal(t, Closed, b.State(), "the breaker has changed while its observer runs")
		}
	}})
	require.NoError(t, err)
	b.RecordFailure()
	assert.Equal(t, []State{Open, Closed}, told, "told in order, the second after the first")
}

func TestOnChangePanicDoesNotSilenceTheRest(t *testing.T) {
	var told []State
	b, err := NewBreaker(BreakerConfig{Failures: 1, OnChange: func(_, to State) {
		told = append(told, to)
		if to == Open {
			panic("an observer's fault")
		}
	}})
	require.NoError(t, err)
	assert.Panics(t, b.RecordFailure)
	b.Reset()
	assert.Equal(t, []State{Open, Closed}, told)
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
