package pool

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

func TestTheStateFollowsFromTheCounts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var cause, died error = errors.New("it did not start"), &worker.Exit{PID: 7}
	back := func(n int) backoff { return backoff{count: n, cause: cause, next: now.Add(3 * time.Second)} }
	deaths := func(n int) backoff { return backoff{count: n, cause: died, next: now.Add(3 * time.Second)} }
	for name, row := range map[string]struct {
		pool   *Pool
		state  State
		reason string
		cause  error
	}{
		"new":         {&Pool{}, StateNew, "no worker has been needed yet", nil},
		"first start": {&Pool{starting: 1}, StateStarting, "a worker is starting", nil},
		"some are up": {&Pool{serving: 1, starting: 1, config: Config{Min: 2}}, StateStarting, "1 of 2 workers are ready", nil},
		"all are up":  {&Pool{serving: 2, config: Config{Min: 2}}, StateHealthy, "2 workers serve", nil},
		"scaled down": {&Pool{proven: true}, StateHealthy, "no worker is needed", nil},
		"below":       {&Pool{serving: 1, firstReady: now, config: Config{Min: 2}}, StateDegraded, "1 of 2 workers are ready", nil},
		"one less":    {&Pool{serving: 1, failures: back(1), config: Config{Min: 2}}, StateDegraded, "1 of 2 workers are ready", cause},
		"one failure": {&Pool{serving: 1, failures: back(1)}, StateHealthy, "1 worker serves", nil},
		"came back":   {&Pool{serving: 1, failures: back(4)}, StateDegraded, "1 worker serves after 4 consecutive failures", cause},
		"replaced":    {&Pool{starting: 1, failures: back(1)}, StateStarting, "a worker is starting in place of one that ended", cause},
		"tries again": {&Pool{starting: 1, failures: back(4)}, StateUnhealthy, "no worker is left after 4 consecutive failures; one is starting", cause},
		"waits": {&Pool{wanted: true, failures: back(4)}, StateUnhealthy,
			"no worker is left after 4 consecutive failures; the next call starts one at once, and without a call one is started in 3s", cause},
		"no caller":   {&Pool{failures: back(1)}, StateUnhealthy, "the last worker failed; the next call starts one at once", cause},
		"died, again": {&Pool{starting: 1, failures: deaths(4)}, StateStarting, "no worker is left after 4 consecutive failures; one is starting", died},
		"died, waits": {&Pool{wanted: true, failures: deaths(4)}, StateDegraded,
			"no worker is left after 4 consecutive failures; the next call starts one at once, and without a call one is started in 3s", died},
		"died, alone": {&Pool{failures: deaths(1)}, StateDegraded, "the last worker failed; the next call starts one at once", died},
		"spare lost":  {&Pool{serving: 1, spareFailures: back(1), config: Config{Spare: 1}}, StateDegraded, "spare workers die or do not start", cause},
		"next spare":  {&Pool{serving: 1, startingSpares: 1, spareFailures: back(1), config: Config{Spare: 1}}, StateHealthy, "1 worker serves", nil},
		"spares loop": {&Pool{serving: 1, startingSpares: 1, spareFailures: back(2), config: Config{Spare: 1}}, StateDegraded, "spare workers die or do not start", cause},
		"draining":    {&Pool{drained: make(chan struct{}), failures: back(4)}, StateDraining, "new calls are refused", nil},
		"closed":      {&Pool{closed: true, failures: back(4)}, StateClosed, "the pool has been closed", nil},
	} {
		state, reason, cause := row.pool.assessLocked(now)
		assert.Equal(t, row.state, state, name)
		assert.Equal(t, row.reason, reason, name)
		assert.Equal(t, row.cause, cause, name)
	}
}

func TestTheHealthOfAPoolOverItsLife(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 2, Spare: 1})
	clock := f.freeze()
	assert.Equal(t, StateNew, f.Health().State)
	f.warm()
	f.hasSpares(1)
	_, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	clock.pass(3 * time.Second)
	h := f.Health()
	assert.Equal(t, StateHealthy, h.State)
	assert.Equal(t, clock.Now().Add(-3*time.Second), h.Since)
	assert.Equal(t, 1, h.Min)
	assert.Equal(t, 2, h.Max)
	assert.Equal(t, 1, h.Generation)
	assert.EqualValues(t, 2, h.Counters.Started)
	require.Len(t, h.Workers, 2)
	for _, w := range h.Workers {
		assert.NotZero(t, w.PID)
		assert.Equal(t, 3*time.Second, w.Age)
		assert.Equal(t, 3*time.Second, w.Idle)
		assert.Equal(t, 1, w.Generation)
		assert.Equal(t, w.Role == RoleServing, w.Calls == 1)
	}
	f.Close(t.Context())
	h = f.Health()
	assert.Equal(t, StateClosed, h.State)
	assert.Empty(t, h.Workers)
	var states []State
	for _, e := range eventsOf[StateChanged](f) {
		states = append(states, e.To)
	}
	assert.Equal(t, []State{StateStarting, StateHealthy, StateClosed}, states)
}

func TestACrashLoopIsUnhealthyUntilTheNextSuccess(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	f.warm()
	put(t, f.broken)
	f.kill()
	f.until(func(h Health) bool { return h.State == StateUnhealthy && h.Starting == 0 })
	h := f.Health()
	assert.Equal(t, "no worker is left after 2 consecutive failures; the next call starts one at once, and without a call one is started in 100ms", h.Reason)
	require.ErrorContains(t, h.Cause, "the module is broken")
	assert.Equal(t, &CrashLoop{ConsecutiveFailures: 2, NextStart: clock.Now().Add(100 * time.Millisecond)}, h.CrashLoop)
	require.NotNil(t, h.LastDeath)
	assert.EqualValues(t, 1, h.Counters.Deaths)
	assert.EqualValues(t, 1, h.Counters.StartFailures)
	_, err := f.call(t.Context(), 1)
	var failed *worker.StartError
	require.ErrorAs(t, err, &failed, "a caller gets the error, and does not wait")
	remove(t, f.broken)
	_, err = f.call(t.Context(), 1)
	require.NoError(t, err)
	h = f.Health()
	assert.Equal(t, StateHealthy, h.State)
	assert.Nil(t, h.Cause)
	assert.Nil(t, h.CrashLoop)
	for _, e := range eventsOf[StateChanged](f) {
		if e.To == StateUnhealthy {
			assert.Error(t, e.Cause)
		}
	}
}

// A call starts a worker at once, however long the delay is after which one is started
// without a call.
func TestAPoolWhoseWorkersDieIsDegradedAndServesTheNextCall(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	clock := f.freeze()
	f.warm()
	for deaths := 1; deaths <= 9; deaths++ {
		f.kill()
		f.until(func(h Health) bool { return h.Counters.Deaths == uint64(deaths) })
		if deaths < 9 {
			clock.pass(lastDelay)
			f.until(func(h Health) bool { return h.Counters.Started == uint64(deaths)+1 })
		}
	}
	h := f.Health()
	assert.Equal(t, StateDegraded, h.State)
	assert.Equal(t, "no worker is left after 9 consecutive failures; the next call starts one at once, and without a call one is started in 12.8s", h.Reason)
	require.Error(t, h.Cause)
	got, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	assert.EqualValues(t, 1, got)
	assert.Equal(t, StateHealthy, f.Health().State)
	for _, e := range eventsOf[StateChanged](f) {
		assert.NotEqual(t, StateUnhealthy, e.To)
	}
}

func TestANodeThatExitsIsDegraded(t *testing.T) {
	t.Parallel()
	f := newPool(t, 0, 1)
	f.freeze()
	_, err := f.call(t.Context(), map[string]any{"exit": 0})
	var exit *worker.Exit
	require.ErrorAs(t, err, &exit)
	f.until(func(h Health) bool { return len(h.Workers) == 0 })
	h := f.Health()
	assert.Equal(t, StateDegraded, h.State)
	require.ErrorIs(t, h.Cause, exit)
	got, err := f.call(t.Context(), 1)
	require.NoError(t, err, "the next call is served")
	assert.EqualValues(t, 1, got)
}

func TestEventsAreDeliveredOneAtATimeAndInOrder(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1})
	f.freeze()
	f.warm()
	f.hasSpares(1)
	_, err := f.call(t.Context(), map[string]any{"die": true})
	require.Error(t, err)
	f.until(func(h Health) bool { return h.Counters.Promoted == 1 && h.Spares == 1 })
	f.Close(t.Context())
	var kinds []string
	for _, e := range f.events {
		switch e := e.(type) {
		case StateChanged:
			kinds = append(kinds, string(e.To))
		case WorkerStarted:
			kinds = append(kinds, "started")
		case SparePromoted:
			kinds = append(kinds, "promoted")
		case WorkerEnded:
			kinds = append(kinds, "ended")
			if len(kinds) < 7 {
				assert.False(t, e.Idle)
			} else {
				assert.True(t, e.Idle)
			}
		}
	}
	assert.Equal(t, []string{
		"starting", "started", "healthy", "started", "ended", "promoted", "started", "closed", "ended", "ended",
	}, kinds)
}
