package runner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// Triton server #8604 and #7230: a model that calls os._exit(0) leaves a zombie, and a
// server that says that it is ready.
func TestANodeThatExitsLeavesNoZombieAndNoPoolThatCallsItselfHealthy(t *testing.T) {
	m := newMortals(t)
	events := &recorder{}
	r := wounded(t, "Mortal", []string{m.params(), "retry: none", "workers: {min: 1, max: 2, spare: 1}"}, runner.WithEvents(events.record))
	h := r.Health()
	require.True(t, h.OK(), h)

	broken := m.at("setup", "exit") // from now on no worker comes up
	for range 3 {                   // and those that had come up end
		m.at("1", "")
		_, err := r.Run(t.Context(), 1)
		require.ErrorIs(t, err, runner.KindPythonVM)
		assert.ErrorContains(t, err, "os._exit(0)")
		if len(r.Health().Nodes[0].Pool.Workers) == 0 {
			break
		}
	}
	h = awaitHealth(t, r, inState(runner.StateUnhealthy))
	assert.False(t, h.OK())
	require.Error(t, h.Err)
	assert.ErrorContains(t, h.Err, "os._exit(0)")
	assert.Zero(t, h.Nodes[0].Pool.Idle)
	for _, pid := range events.workers() {
		assert.True(t, testkit.Gone(pid), "process %d is left, alive or a zombie", pid)
	}
	testkit.Eventually(t, func() bool {
		return !slices.ContainsFunc(testkit.Descendants(t, os.Getpid()), testkit.IsZombie)
	}, "those that never came up are reaped, too")

	require.NoError(t, os.Remove(broken))
	_, err := r.Run(t.Context(), 2)
	require.NoError(t, err)
	assert.True(t, awaitHealth(t, r, runner.Health.OK).OK(), "it says so when it is well again, too")
	closeCleanly(t, r, events)
}

// dora-drives #54: shared memory takes descriptors until there are none.
func TestDescriptorsDoNotRunOutWithSharedMemoryHoweverLongItRuns(t *testing.T) {
	ownTMPDIR(t)
	const calls, callers, deathEvery = 4000, 4, 200
	events := &recorder{}
	r := wounded(t, "large", []string{"workers: {min: 2, max: 2, spare: 0}", "retry: none"}, runner.WithEvents(events.record))
	data := floats(t, 2*ipc.SharedFrom/4)
	run := func(n int) {
		var running sync.WaitGroup
		for caller := range callers {
			running.Go(func() {
				for i := caller; i < n; i += callers {
					die := i%deathEvery == deathEvery-1
					out, err := r.RunShared(t.Context(), map[string]any{"data": data, "die": die})
					switch err {
					case nil:
						assert.False(t, die)
						assert.Len(t, out.Value.(*ipc.Tensor).Data, len(data.Data))
						out.Release()
					default: // a concurrent call may have killed the worker
						assert.ErrorIs(t, err, runner.KindPythonVM)
					}
				}
			})
		}
		running.Wait()
	}
	run(calls / 10)
	require.Positive(t, segments(t, os.Getpid()), "it is shared memory")
	both := func() bool { p := r.Health().Nodes[0].Pool; return p.Idle == 2 && p.Starting == 0 }
	testkit.Eventually(t, both)
	before := holding(t)
	run(calls)
	testkit.Eventually(t, both)
	assertHolding(t, before)
	testkit.Eventually(t, func() bool { return len(of[runner.WorkerDied](events)) >= calls/deathEvery })
}

// dora #2936: a node that is restarted while its dataflow is stopped stays behind.
func TestARestartThatRacesWithAStopLeavesNothingBehind(t *testing.T) {
	const rounds, nodes = 10, 5
	t.Setenv("TMPDIR", t.TempDir())
	var before count
	for round := range rounds + 1 {
		if round == 1 {
			before = holding(t) // what is made once has been made
		}
		events := &recorder{}
		base, err := filepath.Abs(crashFolder)
		require.NoError(t, err)
		text := "version: v1\npython: wounds.py\nnodes:\n"
		for n := range nodes {
			text += fmt.Sprintf("  - {id: n%d, node_type: Slow, workers: {spare: %d}}\n", n, n%2)
		}
		r := parse(t, text, base, runner.WithEvents(events.record))
		require.NoError(t, r.Start(t.Context()))
		for _, pid := range events.workers() {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		// Each round stops at another moment of the restarts: some when the first
		// death is known, and so on, and some in a hurry.
		testkit.Eventually(t, func() bool { return len(of[runner.WorkerDied](events)) > round%nodes })
		ctx, cancel := context.WithCancel(t.Context())
		if round%3 == 2 {
			cancel()
		}
		require.NoError(t, r.Close(ctx))
		cancel()
		for _, pid := range events.workers() {
			assert.True(t, testkit.Gone(pid), "process %d is left", pid)
		}
		_, err = r.Run(t.Context(), nil)
		assert.ErrorContains(t, err, "the runner is closed")
	}
	assertHolding(t, before)
}

// Nuclio: its processor panics when the wrapper of its Python ends. Here a panic would
// end the test: whatever a worker says on whatever it has, the host has an error for it.
func TestNothingThatAWorkerDoesCanPanicTheHost(t *testing.T) {
	const lanes, seeds = 6, 60
	hostile := func(t *testing.T, first int) {
		events := &recorder{}
		r := crashing(t, crashFolder, "hostile.py", "hostile",
			[]string{noSpare, "retry: none", "breaker: none", "timeout: 2s"}, runner.WithEvents(events.record))
		for seed := first; seed < seeds; seed += lanes {
			_, err := r.Run(t.Context(), seed)
			if err != nil {
				var e *runner.Error
				require.True(t, errors.As(err, &e), "%v", err)
				assert.NotEmpty(t, fmt.Sprintf("%+v", err))
			}
			_ = r.Health().String()
			_, err = r.Run(t.Context(), nil)
			if err != nil { // what it did behind its answer
				_, err = r.Run(t.Context(), nil)
			}
			require.NoError(t, err, "seed %d: the node is well again", seed)
		}
		closeCleanly(t, r, events)
	}
	hasty := func(t *testing.T, seed int) {
		r := crashing(t, crashFolder, "hostile.py", "Hasty", []string{fmt.Sprintf("params: {seed: %d}", seed), "setup_timeout: 5s"})
		if err := r.Start(t.Context()); err != nil {
			var e *runner.Error
			require.True(t, errors.As(err, &e), "%v", err)
		}
		require.NoError(t, r.Close(t.Context()))
	}
	var running sync.WaitGroup
	for lane := range lanes {
		running.Go(func() {
			t.Run(fmt.Sprintf("in calls, from seed %d", lane), func(t *testing.T) { hostile(t, lane) })
		})
		running.Go(func() {
			t.Run(fmt.Sprintf("in its start, seed %d", lane), func(t *testing.T) { hasty(t, lane) })
		})
	}
	running.Wait()
}

// Triton server #5381, with the kernel's own OOM killer: the worker eats all memory while
// it is set up.
func TestAWorkerThatTheOOMKillerTakesInItsStartUpDoesNotHangTheSupervisor(t *testing.T) {
	if !testkit.InMemoryGroup(t, 256<<20) {
		return
	}
	m := newMortals(t)
	setup := m.at("setup", "eat")
	r := crashing(t, crashFolder, "wounds.py", "Mortal", []string{m.params()})
	err := r.Start(t.Context())
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.ErrorContains(t, err, "the kernel killed the interpreter because memory ran out")
	assert.ErrorContains(t, r.Health().Err, "memory ran out", "and it is said why it is unhealthy")
	require.NoError(t, os.Remove(setup))
	_, err = r.Run(t.Context(), 1)
	require.NoError(t, err)
}
