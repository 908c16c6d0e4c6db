package pool

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// warm starts the pool's minimum and waits until it is ready.
func (f *fixture) warm() {
	f.t.Helper()
	_, err := f.Warm(f.t.Context())
	require.NoError(f.t, err)
	f.until(func(h Health) bool { return h.Idle == max(1, h.Min) && h.Starting == 0 })
}

func TestTheBackoffGrowsToALimit(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		0: 0, 1: 0, 2: 100 * time.Millisecond, 3: 200 * time.Millisecond, 4: 400 * time.Millisecond,
		10: 25600 * time.Millisecond, 11: 30 * time.Second, 1000: 30 * time.Second, 1 << 40: 30 * time.Second,
	} {
		assert.Equal(t, want, delayAfter(failures), failures)
	}
}

func TestFailuresAreForgottenAfterAMinuteWithoutOne(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	p := &Pool{serving: 1, lastReady: begun.Add(10 * time.Second)}
	p.failures.add(errors.New("died"), begun, 0)
	p.forgetFailuresLocked(begun.Add(69 * time.Second))
	assert.Equal(t, 1, p.failures.count, "it has served for 59 seconds")
	assert.Equal(t, begun.Add(70*time.Second), p.timer.due)
	p.serving = 0
	p.forgetFailuresLocked(begun.Add(time.Hour))
	assert.Equal(t, 1, p.failures.count, "nothing serves")
	p.serving = 1
	p.forgetFailuresLocked(begun.Add(70 * time.Second))
	assert.Zero(t, p.failures)
}

func TestACrashLoopDoesNotSpin(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	f.warm()
	f.kill() // the first death is followed by a start without delay
	testkit.Eventually(t, func() bool { return f.starts() == 2 && f.Stats() == Stats{Idle: 1} })
	for i, delay := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		f.kill()
		f.waitFor(Stats{})
		f.passes(clock, delay)
		f.waitFor(Stats{Idle: 1})
		assert.Equal(t, i+3, f.starts())
	}
	_, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	f.kill() // the answer has reset the backoff
	testkit.Eventually(t, func() bool { return f.starts() == 6 && f.Stats() == Stats{Idle: 1} })
}

func TestAMinuteWithoutADeathResetsTheBackoff(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	f.warm()
	f.kill()
	testkit.Eventually(t, func() bool { return f.starts() == 2 && f.Stats() == Stats{Idle: 1} })
	clock.pass(calmTime)
	f.kill()
	testkit.Eventually(t, func() bool { return f.starts() == 3 && f.Stats() == Stats{Idle: 1} })
}

func TestACallerDoesNotWaitForTheBackoff(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	f.warm()
	f.kill()
	testkit.Eventually(t, func() bool { return f.starts() == 2 && f.Stats() == Stats{Idle: 1} })
	f.kill()
	f.waitFor(Stats{})
	_, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	clock.pass(lastDelay)
	f.waitFor(Stats{Idle: 1})
	assert.Equal(t, 3, f.starts(), "the worker was there already when the backoff ended")
}

func TestAPoolThatCannotRecoverKeepsTryingWithGrowingDelays(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	f.warm()
	put(t, f.broken)
	f.kill()
	failures := func(n uint64) func(Health) bool {
		return func(h Health) bool { return h.Counters.StartFailures == n && h.Starting == 0 }
	}
	f.until(failures(1))
	f.passes(clock, 100*time.Millisecond)
	f.until(failures(2))
	f.passes(clock, 200*time.Millisecond)
	f.until(failures(3))
	remove(t, f.broken)
	f.passes(clock, 400*time.Millisecond)
	f.waitFor(Stats{Idle: 1})
}

func TestAPoolWhoseFirstStartFailedStartsNothingWithoutACaller(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	put(t, f.broken)
	for i := range 3 {
		_, err := f.Warm(t.Context())
		require.Error(t, err)
		clock.pass(lastDelay)
		assert.EqualValues(t, i+1, f.Health().Counters.StartFailures)
	}
	assert.Equal(t, Stats{}, f.Stats())
}

func TestCloseDoesNotWaitForTheBackoff(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	f.warm()
	put(t, f.broken)
	f.kill()
	f.until(func(h Health) bool { return h.Counters.StartFailures == 1 })
	f.Close(t.Context())
	assert.Empty(t, clock.timers)
	clock.pass(lastDelay)
	assert.Equal(t, Stats{}, f.Stats())
}
