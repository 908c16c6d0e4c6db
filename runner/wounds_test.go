package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
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

// Triton server #5381: a backend that is killed for want of memory in the middle of its
// own start leaves the server waiting for it for ever.
func TestAWorkerThatIsKilledInItsStartUpDoesNotHangTheSupervisor(t *testing.T) {
	m := newMortals(t)
	gate := m.at("setup", "wait")
	r := crashing(t, crashFolder, "wounds.py", "Mortal", []string{m.params()})
	started := make(chan error, 1)
	go func() { started <- r.Start(context.Background()) }()
	pid := testkit.AwaitPID(t, gate+".pid")
	require.NoError(t, os.Remove(gate))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	err := <-started
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.ErrorContains(t, err, "SIGKILL")
	assert.True(t, testkit.Gone(pid))
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
			testkit.Eventually(t, func() bool { return len(of[runner.WorkerStarted](events)) == 2 })
			m.at("setup", "exit") // the worker that dies cannot be replaced
			m.at("7", "")
			got := run(t, r)
			require.Len(t, got, items)
			testkit.Eventually(t, func() bool { return len(of[runner.WorkerDied](events)) > 0 })
			survivors := map[any]bool{}
			for _, pid := range got {
				survivors[pid] = true
			}
			assert.LessOrEqual(t, len(survivors), 2)
			assert.NotContains(t, got, nil)
			h := awaitHealth(t, r, inState(runner.StateDegraded))
			require.Len(t, h.Nodes[0].Pool.Workers, 1)
		})
	}
}
