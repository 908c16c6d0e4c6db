package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// The tests of this file each prove that something does not happen here which has
// been an open issue elsewhere.

// wounded starts a runner with one node of testdata/crashes/wounds.py.
func wounded(t *testing.T, nodeType string, more []string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	r := crashing(t, crashFolder, "wounds.py", nodeType, append([]string{"breaker: none"}, more...), opts...)
	require.NoError(t, r.Start(t.Context()))
	return r
}

// mortals keeps the folder whose files make the node Mortal end its worker.
type mortals struct {
	t      *testing.T
	folder string
}

func newMortals(t *testing.T) mortals { return mortals{t, t.TempDir()} }

func (m mortals) params() string { return "params: {folder: " + m.folder + "}" }

// at makes the node end its worker in "setup", or in the call with the given value.
func (m mortals) at(place, way string) string {
	path := filepath.Join(m.folder, place)
	require.NoError(m.t, os.WriteFile(path, []byte(way), 0o600))
	return path
}

// zombies returns the children of this process that have ended and were not waited for.
func zombies(t *testing.T) []int {
	var found []int
	for _, pid := range descendants(t, os.Getpid()) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, after, _ := strings.Cut(string(stat), ") "); err == nil && strings.HasPrefix(after, "Z") {
			found = append(found, pid)
		}
	}
	return found
}

// awaitHealth waits until the runner's only node is in a state.
func awaitHealth(t *testing.T, r *runner.Runner, want runner.HealthState) runner.Health {
	t.Helper()
	var h runner.Health
	require.Eventually(t, func() bool { h = r.Health(); return h.State == want }, time.Minute, time.Millisecond, "%v", want)
	return h
}

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
	h = awaitHealth(t, r, runner.StateUnhealthy)
	assert.False(t, h.OK())
	require.Error(t, h.Err)
	assert.ErrorContains(t, h.Err, "os._exit(0)")
	assert.Zero(t, h.Nodes[0].Pool.Idle)
	for _, pid := range events.workers() {
		assert.True(t, isGone(pid), "process %d is left, alive or a zombie", pid)
	}
	if runtime.GOOS == "linux" { // those that never came up are reaped, too
		assert.Eventually(t, func() bool { return len(zombies(t)) == 0 }, time.Minute, time.Millisecond)
	}

	require.NoError(t, os.Remove(broken))
	_, err := r.Run(t.Context(), 2)
	require.NoError(t, err)
	assert.True(t, awaitServing(t, r).OK(), "it says so when it is well again, too")
	closeCleanly(t, r, events)
}

func awaitServing(t *testing.T, r *runner.Runner) runner.Health {
	t.Helper()
	require.Eventually(t, func() bool { return r.Health().OK() }, time.Minute, time.Millisecond)
	return r.Health()
}

// Triton server #5381: a backend that is killed for want of memory in the middle of its
// own start leaves the server waiting for it for ever.
func TestAWorkerThatIsKilledInItsStartUpDoesNotHangTheSupervisor(t *testing.T) {
	m := newMortals(t)
	gate := m.at("setup", "wait")
	r := crashing(t, crashFolder, "wounds.py", "Mortal", []string{m.params()})
	started := make(chan error, 1)
	go func() { started <- r.Start(context.Background()) }()
	pid, err := strconv.Atoi(waitForFile(t, gate+".pid"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(gate))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	err = <-started
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.ErrorContains(t, err, "SIGKILL")
	assert.True(t, isGone(pid))
	h := r.Health()
	assert.Equal(t, runner.StateUnhealthy, h.State)
	assert.ErrorContains(t, h.Err, "SIGKILL")
	_, err = r.Run(t.Context(), 1)
	require.NoError(t, err, "and the next one comes up")
}

// Triton server #6480 and #3678: a model or a server is "unhealthy", and nothing says why.
func TestUnhealthyIsNeverSaidWithoutItsCause(t *testing.T) {
	m := newMortals(t)
	events := &recorder{}
	r := crashing(t, crashFolder, "wounds.py", "Mortal",
		[]string{m.params(), once, "breaker: {failures: 2, cool_down: 20ms}"}, runner.WithEvents(events.record))
	done, looked := make(chan struct{}), make(chan int)
	go func() { // reads the health continuously
		unhealthy := 0
		for {
			select {
			case <-done:
				looked <- unhealthy
				return
			default:
			}
			h := r.Health()
			if explained(t, h.State, h.Reason, h.Err) {
				unhealthy++
			}
			for _, n := range h.Nodes {
				explained(t, n.State, n.Reason, n.Err)
			}
		}
	}()
	broken := m.at("setup", "exit")
	require.Error(t, r.Start(t.Context()))
	require.NoError(t, os.Remove(broken))
	for i := range 6 {
		switch i % 3 {
		case 0:
			m.at(fmt.Sprint(i), "")
		case 1:
			broken = m.at("setup", "exit")
			m.at(fmt.Sprint(i), "")
		case 2:
			require.NoError(t, os.Remove(broken))
		}
		_, _ = r.Run(t.Context(), i)
	}
	require.NoError(t, r.Close(t.Context()))
	close(done)
	assert.Positive(t, <-looked)
	for _, e := range of[runner.HealthChanged](events) {
		if e.To == runner.StateUnhealthy {
			assert.Error(t, e.Err)
			assert.NotEmpty(t, e.Reason)
			assert.Contains(t, e.String(), e.Err.Error())
		}
	}
}

// explained checks that a state that is bad has a cause, and reports whether it is.
func explained(t *testing.T, state runner.HealthState, reason string, err *runner.Error) bool {
	if state != runner.StateUnhealthy {
		return false
	}
	assert.NotEmpty(t, reason)
	if assert.NotNil(t, err, reason) {
		assert.NotEmpty(t, err.Error())
	}
	return true
}

// Triton server #7862: a model that fails over between single calls does not in a stream.
func TestFailOverWorksInStreamsAsInCalls(t *testing.T) {
	const items = 40
	run := map[string]func(*testing.T, *runner.Runner) []any{
		"calls": func(t *testing.T, r *runner.Runner) []any {
			got := make([]any, items)
			var running sync.WaitGroup
			for i := range items {
				running.Go(func() {
					v, err := r.Run(t.Context(), i)
					assert.NoError(t, err)
					got[i] = v
				})
			}
			running.Wait()
			return got
		},
		"a stream": func(t *testing.T, r *runner.Runner) []any {
			s := open(t, r)
			feed(t, s, upTo(items)...)
			got, err := values(s)
			require.NoError(t, err)
			return got
		},
	}
	for name, run := range run {
		t.Run(name, func(t *testing.T) {
			m := newMortals(t)
			events := &recorder{}
			r := wounded(t, "Mortal", []string{m.params(), quickRetry, "workers: {min: 2, max: 2, spare: 0}"}, runner.WithEvents(events.record))
			require.Eventually(t, func() bool { return len(of[runner.WorkerStarted](events)) == 2 }, time.Minute, time.Millisecond)
			m.at("setup", "exit") // the worker that dies cannot be replaced
			m.at("7", "")
			got := run(t, r)
			require.Len(t, got, items)
			died := of[runner.WorkerDied](events)
			require.NotEmpty(t, died)
			survivors := map[any]bool{}
			for _, pid := range got {
				survivors[pid] = true
			}
			assert.LessOrEqual(t, len(survivors), 2)
			assert.NotContains(t, got, nil)
			h := awaitHealth(t, r, runner.StateDegraded)
			require.Len(t, h.Nodes[0].Pool.Workers, 1)
		})
	}
}
