package pool

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

func TestAFullQueueRefusesCallers(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Queue: 2})
	gate := newGate(t)
	calls := []<-chan answer{f.calling(map[string]any{"gate": gate, "value": 0})}
	f.waitFor(Stats{Busy: 1})
	for i := 1; i <= 2; i++ {
		calls = append(calls, f.calling(i))
		f.waitFor(Stats{Busy: 1, Waiting: i})
	}
	_, err := f.call(t.Context(), 3)
	var limit *LimitError
	require.ErrorAs(t, err, &limit)
	assert.Equal(t, worker.Breach{Limit: worker.LimitQueue, Value: "3", Bound: "2"}, limit.Breach)
	assert.EqualError(t, limit, "2 calls are already waiting for a worker: 1 worker is busy")
	assert.Equal(t, []CallRefused{{Breach: limit.Breach, Waiting: 2}}, eventsOf[CallRefused](f))
	assert.EqualValues(t, 1, f.Health().Counters.Refused[worker.LimitQueue])
	_, err = f.Warm(t.Context())
	require.NoError(t, err, "Warm is no call")
	remove(t, gate)
	for i, c := range calls {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
}

func TestAQueueOfOneIsNamedInTheSingular(t *testing.T) {
	err := &LimitError{Breach: worker.Breach{Limit: worker.LimitQueue}, Waiting: 1, Reason: "1 worker is busy"}
	assert.EqualError(t, err, "1 call is already waiting for a worker: 1 worker is busy")
}

func TestACallerThatHasWaitedForTooLongIsRefused(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, QueueWait: 10 * time.Second})
	clock := f.freeze()
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "value": "first"})
	f.waitFor(Stats{Busy: 1})
	second := f.calling("second")
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	clock.pass(6 * time.Second)
	third := f.calling("third")
	f.waitFor(Stats{Busy: 1, Waiting: 2})
	clock.pass(4*time.Second - 1)
	f.waitFor(Stats{Busy: 1, Waiting: 2})
	clock.pass(1)
	var limit *LimitError
	require.ErrorAs(t, (<-second).err, &limit)
	assert.Equal(t, worker.Breach{Limit: worker.LimitQueueWait, Value: "10s", Bound: "10s"}, limit.Breach)
	assert.EqualError(t, limit, "no worker had capacity within 10s: 1 worker is busy")
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	remove(t, gate)
	assert.Equal(t, answer{value: "first"}, <-first)
	assert.Equal(t, answer{value: "third"}, <-third)
	assert.Len(t, eventsOf[CallRefused](f), 1)
	clock.pass(time.Hour)
	assert.EqualValues(t, 1, f.Health().Counters.Refused[worker.LimitQueueWait])
}

func TestARefusalSaysWhyThereIsNoWorker(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, QueueWait: 10 * time.Second})
	clock := f.freeze()
	f.warm()
	put(t, f.held)
	f.kill()
	f.until(func(h Health) bool { return h.Starting == 1 })
	waiting := f.calling(1)
	f.waitFor(Stats{Starting: 1, Waiting: 1})
	clock.pass(10 * time.Second)
	var limit *LimitError
	require.ErrorAs(t, (<-waiting).err, &limit)
	assert.ErrorContains(t, limit, "no worker had capacity within 10s: a worker is starting in place of one that ended: the interpreter was killed by SIGKILL")
	var exit *worker.Exit
	require.ErrorAs(t, limit, &exit)
	remove(t, f.held)
	f.waitFor(Stats{Idle: 1})
}

func TestWarmIsNotBoundByQueueWait(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, QueueWait: time.Second})
	clock := f.freeze()
	put(t, f.held)
	warm := make(chan error, 1)
	go func() {
		_, err := f.Warm(context.Background())
		warm <- err
	}()
	f.waitFor(Stats{Starting: 1, Waiting: 1})
	clock.pass(time.Hour)
	f.waitFor(Stats{Starting: 1, Waiting: 1})
	remove(t, f.held)
	require.NoError(t, <-warm)
}

func TestAWorkerBeyondTheMinimumIsStartedAfterACallerHasWaited(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 0, Max: 3, ScaleAfter: 100 * time.Millisecond})
	clock := f.freeze()
	gate := newGate(t)
	calls := []<-chan answer{f.calling(map[string]any{"gate": gate})} // no worker serves, so the start is immediate
	f.waitFor(Stats{Busy: 1})
	calls = append(calls, f.calling(map[string]any{"gate": gate}))
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	clock.pass(50 * time.Millisecond)
	calls = append(calls, f.calling(map[string]any{"gate": gate}))
	f.waitFor(Stats{Busy: 1, Waiting: 2})
	f.passes(clock, 50*time.Millisecond)
	f.waitFor(Stats{Busy: 2, Waiting: 1})
	f.passes(clock, 50*time.Millisecond)
	f.waitFor(Stats{Busy: 3})
	calls = append(calls, f.calling(1))
	f.waitFor(Stats{Busy: 3, Waiting: 1})
	clock.pass(time.Hour)
	assert.Zero(t, f.Health().Starting, "the maximum is reached")
	remove(t, gate)
	for _, c := range calls {
		require.NoError(t, (<-c).err)
	}
}

func TestALimitErrorNamesItsReasonAndCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("it broke")
	err := &LimitError{Breach: worker.Breach{Limit: worker.LimitQueueWait, Bound: "2s"}, Reason: "nothing serves", Cause: cause}
	assert.EqualError(t, err, "no worker had capacity within 2s: nothing serves: it broke")
	assert.ErrorIs(t, err, cause)
	assert.Equal(t, "1m0s", durationText(time.Minute+time.Millisecond))
	assert.Equal(t, "3ms", durationText(3*time.Millisecond))
}
