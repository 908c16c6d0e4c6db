package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// pids returns the process IDs of the workers in a role.
func (f *fixture) pids(role Role) (pids []int) {
	for _, w := range f.Health().Workers {
		if w.Role == role {
			pids = append(pids, w.PID)
		}
	}
	return pids
}

// hasSpares waits until n spares are ready and no worker is starting.
func (f *fixture) hasSpares(n int) {
	f.t.Helper()
	f.until(func(h Health) bool { return h.Spares == n && h.Starting == 0 }, "%d spares", n)
}

// eventsOf returns the events of one kind.
func eventsOf[E Event](f *fixture) (events []E) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e, ok := e.(E); ok {
			events = append(events, e)
		}
	}
	return events
}

func TestASpareIsReadyAndServesNoCall(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, Spare: 1})
	f.warm()
	f.hasSpares(1)
	serving, spare := f.pids(RoleServing), f.pids(RoleSpare)
	require.Len(t, serving, 1)
	require.Len(t, spare, 1)
	for range 10 {
		pid, err := f.call(t.Context(), nil)
		require.NoError(t, err)
		assert.EqualValues(t, serving[0], pid)
	}
	started := eventsOf[WorkerStarted](f)
	assert.False(t, started[0].Spare)
	assert.True(t, started[1].Spare)
}

// While the module cannot be imported, only the spare can serve.
func TestASpareReplacesAWorkerThatDies(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, Spare: 1})
	f.warm()
	f.hasSpares(1)
	spare := f.pids(RoleSpare)[0]
	put(t, f.held)
	_, err := f.call(t.Context(), "die")
	var exit *worker.Exit
	require.ErrorAs(t, err, &exit)
	pid, err := f.call(t.Context(), nil)
	require.NoError(t, err)
	assert.EqualValues(t, spare, pid)
	assert.Equal(t, []SparePromoted{{PID: spare}}, eventsOf[SparePromoted](f))
	assert.EqualValues(t, 1, f.Health().Counters.Promoted)
	remove(t, f.held)
	f.hasSpares(1)
	assert.NotEqual(t, spare, f.pids(RoleSpare)[0], "the next spare is ready")
}

func TestASpareReplacesADeadWorkerWithoutACaller(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 0, Max: 1, Spare: 1})
	f.warm()
	f.hasSpares(1)
	spare := f.pids(RoleSpare)
	_, err := f.call(t.Context(), "die")
	require.Error(t, err)
	f.until(func(h Health) bool { return h.Counters.Promoted == 1 && h.Spares == 1 })
	assert.Equal(t, spare, f.pids(RoleServing))
}

func TestASpareTakesTheCallsThatTheDeadWorkerHadNotBegun(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1})
	f.quick()
	f.hasSpares(1)
	gate, log := newGate(t), t.TempDir()+"/log"
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": 0, "die": true})
	f.begins(log)
	var rest []<-chan answer
	for i := range 10 {
		rest = append(rest, f.calling(i))
	}
	f.until(func(h Health) bool { return h.Workers[0].Load == 11 })
	put(t, f.held)
	remove(t, gate)
	require.Error(t, (<-first).err)
	for i, c := range rest {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
	assert.Equal(t, 2, f.starts())
	remove(t, f.held)
}

func TestASpareIsPromotedIfCallersWait(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 2, Spare: 1})
	f.warm()
	f.hasSpares(1)
	put(t, f.held)
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate})
	f.waitFor(Stats{Busy: 1})
	got, err := f.call(t.Context(), 2)
	require.NoError(t, err)
	assert.Equal(t, int64(2), got)
	remove(t, gate)
	require.NoError(t, (<-first).err)
	remove(t, f.held)
	f.hasSpares(1)
	assert.Equal(t, 3, f.starts())
}

func TestTheFirstSpareStartsAfterSpareAfter(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1, SpareAfter: 2 * time.Second})
	clock := f.freeze()
	f.warm()
	assert.Equal(t, StateHealthy, f.Health().State)
	f.passes(clock, 2*time.Second)
	f.hasSpares(1)
	f.kill() // the worker that was started last is the spare
	f.until(func(h Health) bool { return f.starts() == 3 && h.Spares == 1 })
}

func TestASpareThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1})
	clock := f.freeze()
	f.warm()
	f.hasSpares(1)
	serving := f.pids(RoleServing)
	f.kill()
	f.until(func(h Health) bool { return f.starts() == 3 && h.Spares == 1 })
	assert.Equal(t, StateHealthy, f.Health().State, "one failure is no loop")
	f.kill() // two failures in a row are a loop
	f.until(func(h Health) bool { return h.Spares == 0 && h.Counters.Deaths == 2 })
	for range 3 {
		_, err := f.call(t.Context(), 1) // an answer does not reset the backoff of the spares
		require.NoError(t, err)
	}
	h := f.Health()
	assert.Equal(t, StateDegraded, h.State)
	assert.Contains(t, h.Reason, "spare")
	var exit *worker.Exit
	require.ErrorAs(t, h.Cause, &exit)
	f.passes(clock, 100*time.Millisecond)
	f.hasSpares(1)
	assert.Equal(t, serving, f.pids(RoleServing), "the serving worker is untouched")
	assert.Equal(t, StateDegraded, f.Health().State)
	clock.pass(calmTime)
	assert.Equal(t, StateHealthy, f.Health().State)
}

func TestASpareThatCannotStartIsReportedAndRetriedWithBackoff(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1, SpareAfter: time.Second})
	clock := f.freeze()
	f.warm()
	put(t, f.broken)
	clock.pass(time.Second)
	failures := func(n uint64) func(Health) bool {
		return func(h Health) bool { return h.Counters.StartFailures == n && h.Starting == 0 }
	}
	f.until(failures(1))
	h := f.Health()
	assert.Equal(t, StateDegraded, h.State)
	require.ErrorContains(t, h.Cause, "the module is broken")
	assert.True(t, eventsOf[WorkerStartFailed](f)[0].Spare)
	f.passes(clock, 100*time.Millisecond)
	f.until(failures(2))
	_, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	remove(t, f.broken)
	f.passes(clock, 100*time.Millisecond)
	f.hasSpares(1)
}

func TestAStartingSpareServesIfAWorkerIsNeeded(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1, SpareAfter: time.Second})
	clock := f.freeze()
	f.warm()
	put(t, f.held)
	clock.pass(time.Second)
	f.until(func(h Health) bool { return h.Starting == 1 })
	f.kill()
	waiting := f.calling(1)
	f.waitFor(Stats{Starting: 1, Waiting: 1}) // no further start
	remove(t, f.held)
	assert.Equal(t, answer{value: int64(1)}, <-waiting)
	f.hasSpares(1)
	assert.Equal(t, 3, f.starts())
}

func TestCloseEndsTheStartOfASpare(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1, SpareAfter: time.Second})
	clock := f.freeze()
	f.warm()
	put(t, f.held)
	clock.pass(time.Second)
	f.until(func(h Health) bool { return h.Starting == 1 })
	f.Close(t.Context())
	h := f.Health()
	assert.Empty(t, h.Workers)
	assert.Zero(t, h.Starting)
	assert.Equal(t, 1, f.starts())
	assert.Empty(t, eventsOf[WorkerStartFailed](f), "Close ended the start; it did not fail")
}

func TestNoSpareStartsWithoutEnoughMemory(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1, SpareAfter: time.Second})
	clock := f.freeze()
	free := int64(1 << 20)
	f.available = func() int64 { return free }
	f.warm()
	clock.pass(time.Second)
	f.until(func(h Health) bool { return h.SpareNote != "" })
	h := f.Health()
	assert.Equal(t, StateHealthy, h.State, "nothing is wrong")
	assert.Regexp(t, `^no spare: a worker uses \d+ MiB, and only 1 MiB of memory are available$`, h.SpareNote)
	assert.Zero(t, h.Starting)
	free = 1 << 40
	f.passes(clock, memoryRetry)
	f.hasSpares(1)
	assert.Empty(t, f.Health().SpareNote)
}
