package pool

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// poisoned begins calls of the node meet that run together, and returns their answers, that
// of a call which ends the interpreter first. The calls go on when the gate is removed.
func (f *fixture) poisoned(gate string, calls int) (poison <-chan answer, others []<-chan answer) {
	how := func(poison bool) map[string]any {
		return map[string]any{"gate": gate, "together": calls, "poison": poison}
	}
	for range calls - 1 {
		others = append(others, f.calling(how(false)))
	}
	return f.calling(how(true)), others
}

// dies waits for the n-th death of a worker.
func (f *fixture) dies(n int) {
	testkit.Eventually(f.t, func() bool { return f.deaths() >= n })
}

// mostAlive returns the largest number of workers that were alive at a time.
func (f *fixture) mostAlive() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	alive, most := 0, 0
	for _, e := range f.events {
		switch e.(type) {
		case WorkerStarted:
			alive++
			most = max(most, alive)
		case WorkerEnded:
			alive--
		}
	}
	return most
}

func TestCallsThatRanWithOneThatEndsTheirWorkerSucceedAlone(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 1)
	f.warm()
	gate := newGate(t)
	poison, others := f.poisoned(gate, 6)
	f.dies(1)
	remove(t, gate)
	for _, c := range others {
		got := <-c
		require.NoError(t, got.err)
		assert.Equal(t, int64(1), got.value, "it ran alone")
	}
	var exit *worker.Exit
	var suspect *worker.SuspectError
	err := (<-poison).err
	require.ErrorAs(t, err, &exit)
	assert.NotErrorAs(t, err, &suspect, "the second death had one call only")
	f.dies(2)
	assert.Equal(t, uint64(6), f.Health().Counters.Suspects)
	assert.Equal(t, 1, f.mostAlive(), "the worker in quarantine counts among Max")
	f.until(func(h Health) bool { return h.State == StateHealthy || h.State == StateDegraded })
	got, err := f.call(t.Context(), map[string]any{})
	require.NoError(t, err)
	assert.Equal(t, int64(1), got)
}

func TestACallThatEndedAWorkerHarmsNoOtherInItsNextAttempts(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 2)
	f.warm()
	gate := newGate(t)
	others := make([]<-chan answer, 5)
	for i := range others {
		others[i] = f.calling(map[string]any{"gate": gate})
	}
	f.until(func(h Health) bool { return len(h.Workers) > 0 && h.Workers[0].Load == 5 })
	payload, err := ipc.Encode("input", map[string]any{"poison": true})
	require.NoError(t, err)
	_, err = f.Call(t.Context(), ipc.OneArg(payload), &Operation{Alone: true})
	var exit *worker.Exit
	require.ErrorAs(t, err, &exit)
	remove(t, gate)
	for _, c := range others {
		require.NoError(t, (<-c).err)
	}
	f.dies(1)
	assert.Zero(t, f.Health().Counters.Suspects)
}

func TestCallsThatMayNotRunTwiceFailTogether(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "meet", Config{Min: 1, Max: 1, MayRepeat: func() bool { return false }})
	f.warm()
	poison, others := f.poisoned(newGate(t), 4)
	firsts := 0
	for _, c := range append(others, poison) {
		var suspect *worker.SuspectError
		require.ErrorAs(t, (<-c).err, &suspect)
		assert.Equal(t, 3, suspect.Others)
		if suspect.First {
			firsts++
		}
	}
	assert.Equal(t, 1, firsts)
	f.dies(1)
}

func TestACallWhoseCallerHasLeftIsNotTheFirstOfThoseThatFailTogether(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pair", Config{Min: 1, Max: 1, MayRepeat: func() bool { return false }})
	f.warm()
	gate := newGate(t)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := f.call(ctx, gate)
		left <- err
	}()
	f.until(func(h Health) bool { return len(h.Workers) > 0 && h.Workers[0].Load == 1 })
	other := f.calling(1)
	testkit.Eventually(t, testkit.Exists(gate+".begun"))
	cancel()
	require.ErrorIs(t, <-left, context.Canceled)
	f.kill()
	var suspect *worker.SuspectError
	require.ErrorAs(t, (<-other).err, &suspect)
	assert.Equal(t, 1, suspect.Others)
	assert.True(t, suspect.First)
}

func TestOtherWorkersServeWhileASuspectRuns(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 2)
	f.warm()
	gate := newGate(t)
	poison, others := f.poisoned(gate, 3)
	f.dies(1)
	got, err := f.call(t.Context(), map[string]any{}) // the suspects still wait for the gate
	require.NoError(t, err)
	assert.Equal(t, int64(1), got)
	remove(t, gate)
	for _, c := range others {
		require.NoError(t, (<-c).err)
	}
	require.Error(t, (<-poison).err)
	assert.LessOrEqual(t, f.mostAlive(), 2)
}

func TestSuspectsGetTheErrorOfAFailedStartAndTheWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 1)
	f.warm()
	put(t, f.broken)
	poison, others := f.poisoned(newGate(t), 3)
	for _, c := range append(others, poison) {
		var start *worker.StartError
		require.ErrorAs(t, (<-c).err, &start)
	}
	remove(t, f.broken)
	_, err := f.call(t.Context(), map[string]any{})
	require.NoError(t, err)
}

func TestSuspectsThatLeaveEndTheQuarantine(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 1)
	f.warm()
	gate := newGate(t)
	put(t, f.held)
	ctx, cancel := context.WithCancel(t.Context())
	var left sync.WaitGroup
	for i := range 3 {
		left.Go(func() {
			_, err := f.call(ctx, map[string]any{"gate": gate, "together": 3, "poison": i == 0})
			assert.ErrorIs(t, err, context.Canceled)
		})
	}
	f.dies(1)
	f.until(func(h Health) bool { return h.Waiting == 3 })
	cancel()
	left.Wait()
	remove(t, f.held)
	f.waitFor(Stats{Idle: 1})
	assert.Zero(t, f.Health().Busy)
}

func TestSuspectsFailWithTheDeathWhenThePoolCloses(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 1)
	f.warm()
	put(t, f.held)
	poison, others := f.poisoned(newGate(t), 3)
	f.dies(1)
	f.until(func(h Health) bool { return h.Waiting == 3 })
	remove(t, f.held)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Close(ctx)
	for _, c := range append(others, poison) {
		var exit *worker.Exit
		require.ErrorAs(t, (<-c).err, &exit)
	}
}

func TestManyPoisonsAmongManyCallsAndReloadsFailAlone(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 2)
	f.warm()
	const calls = 120
	answers := make([]<-chan answer, calls)
	for i := range answers {
		answers[i] = f.calling(map[string]any{"poison": i%40 == 7})
	}
	config := f.generation.config // before any reload
	for range 3 {
		require.NoError(t, f.Reload(t.Context(), config, nil))
	}
	for i, c := range answers {
		got := <-c
		if i%40 == 7 {
			var exit *worker.Exit
			require.ErrorAs(t, got.err, &exit, "call %d", i)
		} else {
			require.NoError(t, got.err, "call %d", i)
		}
	}
}

func TestOthersAreServedWhileASuspectHoldsTheOnlyWorker(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet", 1, 1)
	f.warm()
	gate := newGate(t)
	poison, others := f.poisoned(gate, 3)
	f.dies(1)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	got, err := f.call(ctx, map[string]any{}) // the suspects still wait for the gate
	require.NoError(t, err)
	assert.Equal(t, int64(1), got)
	remove(t, gate)
	for _, c := range others {
		require.NoError(t, (<-c).err)
	}
	require.Error(t, (<-poison).err)
	assert.LessOrEqual(t, f.mostAlive(), 2)
	f.until(func(h Health) bool { return len(h.Workers) == 1 })
}

func TestSuspectsWhoseConsumerWaitsForAnotherSuspectAreServed(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "meet_and_yield", 1, 1)
	f.warm()
	gate := newGate(t)
	call := func(poison bool, emit func(ipc.Payload) error) error {
		payload, err := ipc.Encode("input", map[string]any{"gate": gate, "together": 3, "poison": poison, "yields": 3})
		require.NoError(t, err)
		return f.Items(t.Context(), ipc.OneArg(payload), &Operation{}, func() func(ipc.Payload) error { return emit })
	}
	// The values of both are consumed in pairs.
	values := make(chan struct{})
	pair := func(meet func()) func(ipc.Payload) error {
		return func(value ipc.Payload) error {
			value.Release()
			meet()
			return nil
		}
	}
	var calls sync.WaitGroup
	calls.Go(func() { assert.NoError(t, call(false, pair(func() { values <- struct{}{} }))) })
	calls.Go(func() { assert.NoError(t, call(false, pair(func() { <-values }))) })
	calls.Go(func() { assert.Error(t, call(true, pair(func() {}))) })
	f.dies(1)
	remove(t, gate)
	calls.Wait()
	f.until(func(h Health) bool { return len(h.Workers) <= 1 })
}

func TestAWorkerInQuarantineIsGivenMaxCalls(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "meet", Config{Min: 1, Max: 1, MaxCalls: 1})
	f.warm()
	put(t, f.held)
	payload, err := ipc.Encode("input", map[string]any{})
	require.NoError(t, err)
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			_, err := f.Call(t.Context(), ipc.OneArg(payload), &Operation{Alone: true})
			assert.NoError(t, err)
		})
	}
	f.until(func(h Health) bool { return h.Waiting == 3 })
	remove(t, f.held)
	calls.Wait()
	assert.Equal(t, uint64(3), f.Health().Counters.Retired[worker.LimitCalls])
}
