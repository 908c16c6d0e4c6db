package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheDelayOfAReplacementGrowsToALimit(t *testing.T) {
	for setbacks, want := range map[int]time.Duration{
		0: 0, 1: 0, 2: 100 * time.Millisecond, 3: 200 * time.Millisecond, 4: 400 * time.Millisecond,
		10: 25600 * time.Millisecond, 11: 30 * time.Second, 1000: 30 * time.Second, 1 << 40: 30 * time.Second,
	} {
		assert.Equal(t, want, backoff(setbacks), setbacks)
	}
}

func TestACrashLoopDoesNotSpin(t *testing.T) {
	f := newPool(t, 1, 1)
	refills := f.hold()
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	f.kill() // the first one is replaced at once
	require.Eventually(t, func() bool { return f.starts() == 2 && f.Stats() == Stats{Idle: 1} }, long, time.Millisecond)
	for i, want := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		f.kill()
		r := <-refills
		assert.Equal(t, want, r.delay)
		assert.Equal(t, Stats{}, f.Stats(), "nobody starts before it is time")
		r.letGo()
		f.waitFor(Stats{Idle: 1})
		assert.Equal(t, i+3, f.starts())
	}
	_, err = f.call(t.Context(), 1)
	require.NoError(t, err)
	f.kill() // an answer has made it a first one again
	require.Eventually(t, func() bool { return f.starts() == 6 && f.Stats() == Stats{Idle: 1} }, long, time.Millisecond)
}

func TestACallerDoesNotWaitOutTheDelayOfAReplacement(t *testing.T) {
	f := newPool(t, 1, 1)
	refills := f.hold()
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	f.kill()
	require.Eventually(t, func() bool { return f.starts() == 2 && f.Stats() == Stats{Idle: 1} }, long, time.Millisecond)
	f.kill()
	r := <-refills
	_, err = f.call(t.Context(), 1)
	require.NoError(t, err)
	r.letGo()
	f.waitFor(Stats{Idle: 1})
	assert.Equal(t, 3, f.starts(), "there is one already when it is time")
}

func TestAPoolThatCannotComeBackKeepsTryingMoreAndMoreSeldom(t *testing.T) {
	f := newPool(t, 1, 1)
	refills := f.hold()
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	put(t, f.broken)
	f.kill()
	for _, want := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond} {
		r := <-refills
		assert.Equal(t, want, r.delay)
		assert.Equal(t, Stats{}, f.Stats())
		r.letGo()
	}
	r := <-refills
	remove(t, f.broken)
	r.letGo()
	f.waitFor(Stats{Idle: 1})
}

func TestAPoolThatNeverCameUpDoesNotTryUnasked(t *testing.T) {
	f := newPool(t, 1, 1)
	refills := f.hold()
	put(t, f.broken)
	for range 3 {
		_, err := f.Warm(t.Context())
		require.Error(t, err)
	}
	assert.Empty(t, refills)
	assert.Equal(t, Stats{}, f.Stats())
}

func TestCloseDoesNotWaitForADelayedReplacement(t *testing.T) {
	f := newPool(t, 1, 1)
	refills := f.hold()
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	put(t, f.broken)
	f.kill()
	<-refills
	f.Close(t.Context())
	assert.Equal(t, Stats{}, f.Stats())
}
