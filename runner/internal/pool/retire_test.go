package pool

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// retired waits until n workers have retired because of a limit, and have ended.
func (f *fixture) retired(limit worker.Limit, n int) {
	f.t.Helper()
	f.until(func(h Health) bool {
		return h.Counters.Retired[limit] == uint64(n) && len(f.pids(RoleRetiring)) == 0
	}, "%d retired by %s", n, limit)
	testkit.Eventually(f.t, func() bool { // an event follows what it reports
		reported := 0
		for _, e := range eventsOf[WorkerRetired](f) {
			if e.Breach.Limit == limit {
				reported++
			}
		}
		return reported == n
	})
	f.mu.Lock()
	ended := slices.Clone(f.ended)
	f.mu.Unlock()
	for _, exit := range ended {
		assert.Equal(f.t, worker.ReasonShutdown, exit.Reason)
	}
	assert.Zero(f.t, f.Health().Counters.Deaths)
}

func TestAnIdleWorkerBeyondTheMinimumRetires(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 3, IdleTimeout: time.Minute})
	clock := f.freeze()
	gate := newGate(t)
	var calls []<-chan answer
	for range 3 {
		calls = append(calls, f.calling(map[string]any{"gate": gate}))
	}
	f.waitFor(Stats{Busy: 3})
	clock.pass(time.Hour) // a busy one is not idle
	remove(t, gate)
	for _, c := range calls {
		require.NoError(t, (<-c).err)
	}
	f.waitFor(Stats{Idle: 3})
	clock.pass(time.Minute - 1)
	assert.Equal(t, Stats{Idle: 3}, f.Stats())
	clock.pass(time.Minute)
	f.waitFor(Stats{Idle: 1})
	f.retired(worker.LimitIdle, 2)
	assert.Equal(t, worker.Breach{Limit: worker.LimitIdle, Value: "1m0s", Bound: "1m0s"}, eventsOf[WorkerRetired](f)[0].Breach)
	clock.pass(time.Hour)
	assert.Equal(t, Stats{Idle: 1}, f.Stats(), "the minimum stays")
}

func TestAPoolWithoutAMinimumScalesToZeroAndBack(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 0, Max: 1, Spare: 1, IdleTimeout: time.Minute})
	clock := f.freeze()
	for round := range 3 {
		got, err := f.call(t.Context(), round)
		require.NoError(t, err)
		assert.Equal(t, int64(round), got)
		f.hasSpares(1)
		clock.pass(2 * time.Minute)
		f.until(func(h Health) bool { return len(h.Workers) == 0 })
		h := f.Health()
		assert.Equal(t, StateHealthy, h.State)
		assert.Equal(t, "no worker is needed", h.Reason)
		clock.pass(time.Hour)
		assert.Zero(t, f.Health().Starting, "not even a spare")
	}
	f.retired(worker.LimitIdle, 3)
}

func TestAnOldWorkerIsReplacedWithoutDelayingACall(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, MaxAge: time.Hour})
	clock := f.freeze()
	f.warm()
	first, err := f.call(t.Context(), nil)
	require.NoError(t, err)
	put(t, f.held)
	f.passes(clock, time.Hour)
	f.until(func(h Health) bool { return h.Starting == 1 })
	for range 3 {
		pid, err := f.call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, first, pid, "it serves until its replacement is ready")
	}
	remove(t, f.held)
	f.retired(worker.LimitAge, 1)
	second, err := f.call(t.Context(), nil)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	assert.Equal(t, []SparePromoted{{PID: int(second.(int64))}}, eventsOf[SparePromoted](f))
	assert.Equal(t, Stats{Idle: 1}, f.Stats())
}

func TestASpareReplacesAnOldWorkerAtOnce(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, Spare: 1, SpareAfter: time.Minute, MaxAge: time.Hour})
	clock := f.freeze()
	f.warm()
	clock.pass(time.Minute)
	f.hasSpares(1)
	spare := f.pids(RoleSpare)
	clock.pass(59 * time.Minute)
	f.until(func(h Health) bool { return h.Counters.Promoted == 1 })
	assert.Equal(t, spare, f.pids(RoleServing))
	f.hasSpares(1)
	f.retired(worker.LimitAge, 1)
}

func TestAnOldSpareIsReplacedToo(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, Spare: 1, MaxAge: time.Hour})
	clock := f.freeze()
	f.warm()
	f.hasSpares(1)
	before := append(f.pids(RoleSpare), f.pids(RoleServing)...)
	clock.pass(time.Hour)
	f.retired(worker.LimitAge, 2)
	f.until(func(h Health) bool { return h.Spares == 1 && h.Idle == 1 && h.Starting == 0 })
	for _, pid := range append(f.pids(RoleSpare), f.pids(RoleServing)...) {
		assert.NotContains(t, before, pid)
	}
}

func TestOldWorkersAreReplacedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 3, Max: 3, MaxAge: time.Hour})
	clock := f.freeze()
	f.warm()
	put(t, f.held)
	clock.pass(time.Hour)
	f.until(func(h Health) bool { return h.Starting == 1 && h.Idle == 3 })
	remove(t, f.held)
	f.retired(worker.LimitAge, 3)
	f.waitFor(Stats{Idle: 3})
	assert.Equal(t, 6, f.starts())
}

func TestAnOldWorkerStaysIfItsReplacementCannotStart(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, MaxAge: time.Hour})
	clock := f.freeze()
	f.warm()
	put(t, f.broken)
	clock.pass(time.Hour)
	f.until(func(h Health) bool { return h.Counters.StartFailures == 1 })
	_, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, StateDegraded, f.Health().State)
	remove(t, f.broken)
	f.passes(clock, 100*time.Millisecond)
	f.retired(worker.LimitAge, 1)
	assert.Equal(t, StateHealthy, f.Health().State)
}

func TestAnOldWorkerRetiresFirstIfThereIsNoMemoryForTwo(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, MaxAge: time.Hour})
	clock := f.freeze()
	f.available = func() int64 { return 1 << 20 }
	f.warm()
	clock.pass(time.Hour)
	f.retired(worker.LimitAge, 1)
	f.waitFor(Stats{Idle: 1})
	assert.Zero(t, f.Health().Counters.Promoted)
}

func TestAWorkerIsAssignedAtMostMaxCalls(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, MaxCalls: 3})
	f.warm()
	f.warm() // Warm is no call
	served := map[any]int{}
	for range 9 {
		pid, err := f.call(t.Context(), nil)
		require.NoError(t, err)
		served[pid]++
	}
	for pid, n := range served {
		assert.Equal(t, 3, n, pid)
	}
	f.retired(worker.LimitCalls, 3)
	assert.Equal(t, worker.Breach{Limit: worker.LimitCalls, Value: "3", Bound: "3"}, eventsOf[WorkerRetired](f)[0].Breach)
}

func TestCallsThatAreAssignedAheadCountForMaxCalls(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1, MaxCalls: 4})
	f.quick()
	f.hasSpares(1)
	gate, log := newGate(t), t.TempDir()+"/log"
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": 0})
	f.begins(log)
	var rest []<-chan answer
	for i := range 3 {
		rest = append(rest, f.calling(i))
		f.until(func(h Health) bool { return h.Workers[0].Load == i+2 })
	}
	got, err := f.call(t.Context(), "fifth")
	require.NoError(t, err, "the spare serves it while the first worker still has all its calls")
	assert.Equal(t, "fifth", got)
	assert.Len(t, f.pids(RoleRetiring), 1)
	remove(t, gate)
	require.NoError(t, (<-first).err)
	for i, c := range rest {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
	f.retired(worker.LimitCalls, 1)
}

func TestTheReplacementIsReadyBeforeTheLastCall(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, MaxCalls: 8})
	f.warm()
	for range 7 {
		_, err := f.call(t.Context(), nil)
		require.NoError(t, err)
	}
	f.hasSpares(1)
	put(t, f.held)
	last, err := f.call(t.Context(), nil)
	require.NoError(t, err)
	next, err := f.call(t.Context(), nil)
	require.NoError(t, err)
	assert.NotEqual(t, last, next)
	f.retired(worker.LimitCalls, 1)
	remove(t, f.held)
}

func TestAQueuedCallerGetsTheReplacementOfARetiringWorker(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, MaxCalls: 1})
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "value": 1})
	f.until(func(h Health) bool { return len(h.Workers) > 0 && h.Workers[0].Role == RoleRetiring })
	var rest []<-chan answer
	for i := range 3 {
		rest = append(rest, f.calling(i))
	}
	for i, c := range rest {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
	remove(t, gate)
	assert.Equal(t, answer{value: int64(1)}, <-first)
	f.retired(worker.LimitCalls, 4)
}

func TestAWorkerPastASoftLimitIsReplaced(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{
		Min: 1, Max: 1, Spare: 1, Worker: worker.Config{Limits: worker.Limits{ResidentSoft: 1}},
	})
	f.warm()
	f.hasSpares(1)
	gate := newGate(t)
	under := f.calling(map[string]any{"gate": gate, "value": 1})
	f.until(func(h Health) bool { return h.Counters.Promoted == 1 })
	testkit.Eventually(t, func() bool { return len(eventsOf[WorkerRetired](f)) > 0 }) // after the counter
	assert.Equal(t, worker.LimitResidentSoft, eventsOf[WorkerRetired](f)[0].Breach.Limit)
	remove(t, gate)
	assert.Equal(t, answer{value: int64(1)}, <-under)
	f.retired(worker.LimitResidentSoft, 1)
}

func TestAnOldWorkerBeyondTheMinimumRetiresWithoutAReplacement(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 2, MaxAge: time.Hour})
	clock := f.freeze()
	gate := newGate(t)
	calls := []<-chan answer{f.calling(map[string]any{"gate": gate})}
	f.waitFor(Stats{Busy: 1})
	clock.pass(time.Minute)
	calls = append(calls, f.calling(map[string]any{"gate": gate}))
	f.waitFor(Stats{Busy: 2})
	remove(t, gate)
	for _, c := range calls {
		require.NoError(t, (<-c).err)
	}
	f.waitFor(Stats{Idle: 2})
	clock.pass(59 * time.Minute)
	f.retired(worker.LimitAge, 1)
	assert.Equal(t, Stats{Idle: 1}, f.Stats())
	assert.Equal(t, 2, f.starts())
}

func TestAnOldWorkerThatIsBusyIsReplacedFirst(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 2, MaxAge: time.Hour})
	clock := f.freeze()
	gate := newGate(t)
	calls := []<-chan answer{f.calling(map[string]any{"gate": gate}), f.calling(map[string]any{"gate": gate})}
	f.waitFor(Stats{Busy: 2})
	put(t, f.held)
	clock.pass(time.Hour)
	f.until(func(h Health) bool { return h.Starting == 1 && h.Busy == 2 })
	remove(t, f.held)
	f.until(func(h Health) bool { return h.Counters.Promoted == 1 && h.Counters.Retired[worker.LimitAge] == 2 },
		"the busy worker retires too, since an idle one serves now")
	remove(t, gate)
	for _, c := range calls {
		require.NoError(t, (<-c).err)
	}
	f.retired(worker.LimitAge, 2)
}

func TestTheDeathOfARetiringWorkerDuringItsLastCallCounts(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Spare: 1, MaxCalls: 1})
	f.freeze()
	f.warm()
	for n := range 2 {
		f.hasSpares(1)
		gate := newGate(t)
		dying := f.calling(map[string]any{"gate": gate, "die": true})
		f.until(func(h Health) bool { return h.Counters.Promoted == uint64(n+1) })
		remove(t, gate)
		var exit *worker.Exit
		require.ErrorAs(t, (<-dying).err, &exit)
		f.until(func(h Health) bool { return h.Counters.Deaths == uint64(n+1) })
		h := f.Health()
		require.NotNil(t, h.LastDeath)
		assert.Same(t, exit, h.LastDeath.Exit)
		if n == 0 {
			assert.Equal(t, StateHealthy, h.State, "one failure is no loop")
			continue
		}
		assert.Equal(t, StateDegraded, h.State)
		assert.Equal(t, 2, h.CrashLoop.ConsecutiveFailures)
		require.ErrorIs(t, h.Cause, exit)
	}
	_, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	assert.Nil(t, f.Health().CrashLoop)
}
