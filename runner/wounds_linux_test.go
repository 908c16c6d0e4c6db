package runner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// dora-drives #54: shared memory takes descriptors until there are none.
func TestDescriptorsDoNotRunOutWithSharedMemoryHoweverLongItRuns(t *testing.T) {
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
	require.Eventually(t, both, time.Minute, time.Millisecond)
	before := holding(t)
	run(calls)
	require.Eventually(t, both, time.Minute, time.Millisecond)
	assertHolding(t, before)
	assert.GreaterOrEqual(t, len(of[runner.WorkerDied](events)), calls/deathEvery)
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
		require.Eventually(t, func() bool { return len(of[runner.WorkerDied](events)) > round%nodes }, time.Minute, time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		if round%3 == 2 {
			cancel()
		}
		require.NoError(t, r.Close(ctx))
		cancel()
		for _, pid := range events.workers() {
			assert.True(t, isGone(pid), "process %d is left", pid)
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

// TestTheOOMSupervisorsPart is no test but the supervisor of the next one, in a cgroup
// that has little memory. Its worker eats all of that while it is set up.
func TestTheOOMSupervisorsPart(t *testing.T) {
	folder, group := os.Getenv("GOPHERSNAKE_TEST_OOM"), os.Getenv("GOPHERSNAKE_TEST_CGROUP")
	if folder == "" {
		t.Skip("it is started by another test")
	}
	require.NoError(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
	r := crashing(t, crashFolder, "wounds.py", "Mortal", []string{"params: {folder: " + folder + "}"})
	err := r.Start(t.Context())
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.ErrorContains(t, err, "the kernel killed the interpreter because memory ran out")
	assert.ErrorContains(t, r.Health().Err, "memory ran out", "and it is said why it is unhealthy")
	require.NoError(t, os.Remove(filepath.Join(folder, "setup")))
	_, err = r.Run(t.Context(), 1)
	require.NoError(t, err)
}

// Triton server #5381, with the kernel's own OOM killer.
func TestAWorkerThatTheOOMKillerTakesInItsStartUpDoesNotHangTheSupervisor(t *testing.T) {
	group, limit := fmt.Sprintf("/sys/fs/cgroup/gophersnake-wound-%d", os.Getpid()), "memory.max"
	if info, err := os.Stat("/sys/fs/cgroup/memory"); err == nil && info.IsDir() {
		group, limit = filepath.Join("/sys/fs/cgroup/memory", filepath.Base(group)), "memory.limit_in_bytes"
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("needs a cgroup of its own: ", err)
	}
	t.Cleanup(func() { assert.NoError(t, os.Remove(group)) })
	if err := os.WriteFile(filepath.Join(group, limit), []byte(strconv.Itoa(256<<20)), 0); err != nil {
		t.Skip("needs a cgroup whose memory can be bounded: ", err)
	}
	m := newMortals(t)
	m.at("setup", "eat")
	self, err := os.Executable()
	require.NoError(t, err)
	supervisor := exec.CommandContext(t.Context(), self, "-test.run=^TestTheOOMSupervisorsPart$", "-test.v")
	supervisor.Env = append(os.Environ(), "GOPHERSNAKE_TEST_OOM="+m.folder, "GOPHERSNAKE_TEST_CGROUP="+group)
	said, err := supervisor.CombinedOutput()
	require.NoError(t, err, "%s", said)
	assert.Contains(t, string(said), "--- PASS")
}
