package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// supervised returns a pipeline with one node of testdata/supervised.py.
func supervised(nodeType string, more ...string) string {
	return single(nodeType, append([]string{"python: supervised.py"}, more...)...)
}

// touch creates a file that a node waits for.
func touch(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path
}

const long = testkit.Long

// awaitHealth waits until the runner's health satisfies a condition.
func awaitHealth(t *testing.T, r *runner.Runner, is func(h runner.Health) bool) runner.Health {
	t.Helper()
	var last runner.Health
	testkit.Eventually(t, func() bool { last = r.Health(); return is(last) }, "%v", &last)
	return last
}

func inState(state runner.HealthState) func(runner.Health) bool {
	return func(h runner.Health) bool { return h.State == state }
}

func TestHealthFromTheBeginningToTheEnd(t *testing.T) {
	t.Parallel()
	gate := touch(t, "gate")
	r, err := load(t, supervised("Slow", "params: {gate: "+gate+"}"))
	require.NoError(t, err)
	h := r.Health()
	assert.Equal(t, runner.StateNew, h.State)
	assert.False(t, h.OK())
	assert.Equal(t, "new: nothing has been started yet", strings.SplitN(h.String(), "\n", 2)[0])

	started := make(chan error, 1)
	go func() { started <- r.Start(t.Context()) }()
	h = awaitHealth(t, r, func(h runner.Health) bool { return h.Nodes[0].Pool != nil && h.Nodes[0].Pool.Starting == 1 })
	assert.Equal(t, runner.StateStarting, h.State)
	assert.False(t, h.OK())
	require.NoError(t, os.Remove(gate))
	require.NoError(t, <-started)

	h = r.Health()
	assert.Equal(t, runner.StateHealthy, h.State)
	assert.True(t, h.OK())
	assert.Empty(t, h.Reason)
	require.Len(t, h.Nodes, 1)
	p := h.Nodes[0].Pool
	require.Len(t, p.Workers, 1)
	assert.Equal(t, "serving", p.Workers[0].Role)
	assert.Equal(t, 1, p.Idle)
	pid, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	h = r.Health()
	assert.EqualValues(t, pid, h.Nodes[0].Pool.Workers[0].PID)
	assert.EqualValues(t, 1, h.Nodes[0].Calls)
	assert.Contains(t, h.String(), "\nSlow  healthy  0 busy, 1 idle of 1  0       0        1      0       closed\n")
	assert.Contains(t, h.String(), fmt.Sprintf("\n%v", pid))

	require.NoError(t, r.Close(t.Context()))
	h = r.Health()
	assert.Equal(t, runner.StateClosed, h.State)
	assert.False(t, h.OK())
	assert.Equal(t, runner.StateClosed, h.Nodes[0].State)
}

func TestHealthOfARunnerWhoseStartFailed(t *testing.T) {
	t.Parallel()
	broken := touch(t, "broken")
	r, err := load(t, supervised("Slow", "params: {broken: "+broken+"}"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, r.Start(ctx))
	assert.Equal(t, runner.StateNew, r.Health().State, "that the caller gave up says nothing of the nodes")

	require.Error(t, r.Start(t.Context()))
	h := r.Health()
	assert.Equal(t, runner.StateUnhealthy, h.State)
	require.NotNil(t, h.Err)
	assert.Contains(t, h.String(), "unhealthy: the start failed: execution error in node \"Slow\" during setup: RuntimeError: the model is broken")
	require.NoError(t, os.Remove(broken))
	require.NoError(t, r.Start(t.Context()))
	assert.True(t, r.Health().OK())
}

func TestACrashLoopIsUnhealthyWithItsCause(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken")
	events := &recorder{}
	r := start(t, supervised("Mortal", "params: {broken: "+broken+"}", "retry: {fixed: 1ms, max_attempts: 1}"), runner.WithEvents(events.record))
	require.NoError(t, os.WriteFile(broken, nil, 0o600))
	_, err := r.Run(t.Context(), "die")
	require.ErrorIs(t, err, runner.KindPythonVM)
	h := awaitHealth(t, r, func(h runner.Health) bool {
		return h.Nodes[0].Pool.ConsecutiveFailures > 2 && h.State == runner.StateUnhealthy
	})
	require.NotNil(t, h.Err, "never without its cause")
	assert.ErrorIs(t, h.Err, runner.KindPythonVM)
	assert.Contains(t, h.Err.Error(), "os._exit(9)")
	assert.False(t, h.OK())
	require.NotNil(t, h.Nodes[0].Pool.LastDeath)
	assert.Contains(t, h.Nodes[0].Pool.LastDeath.Err.Error(), "os._exit(8)")
	assert.Contains(t, h.String(), "worker failures in a row")
	assert.Contains(t, h.String(), "last death at ")

	require.NoError(t, os.Remove(broken))
	awaitHealth(t, r, runner.Health.OK)
	_, err = r.Run(t.Context(), "live")
	require.NoError(t, err)
	awaitHealth(t, r, inState(runner.StateHealthy))
	changes := of[runner.HealthChanged](events)
	require.NotEmpty(t, changes)
	for _, c := range changes {
		assert.True(t, c.To != runner.StateUnhealthy || c.Err != nil, "%v", c)
	}
	assert.NotEmpty(t, of[runner.WorkerStartFailed](events))
}

func TestAnOpenBreakerIsUnhealthyWithTheLastError(t *testing.T) {
	t.Parallel()
	broken := map[string]any{"way": "raise_value_error"}
	r := start(t, single("misbehave", "retry: none", "breaker: {failures: 2, cool_down: 1h}"))
	for range 2 {
		_, err := r.Run(t.Context(), broken)
		require.ErrorIs(t, err, runner.KindExecution)
	}
	h := r.Health()
	assert.Equal(t, runner.StateUnhealthy, h.State)
	require.NotNil(t, h.Err)
	assert.Equal(t, "ValueError", h.Err.PythonClass)
	assert.Contains(t, h.String(), "unhealthy: node \"misbehave\": its circuit breaker is open: execution error")
	assert.EqualValues(t, 2, h.Nodes[0].Failed[runner.KindExecution])
	r.Scheduler().Breaker("misbehave").Reset()
	assert.True(t, r.Health().OK())

	for range 2 {
		r.Scheduler().Breaker("misbehave").RecordFailure()
	}
	fresh, err := load(t, single("misbehave", "breaker: {failures: 1, cool_down: 1h}"))
	require.NoError(t, err)
	require.NoError(t, fresh.Start(t.Context()))
	fresh.Scheduler().Breaker("misbehave").RecordFailure()
	h = fresh.Health()
	require.NotNil(t, h.Err, "not even where nobody has seen an error")
	assert.ErrorContains(t, h.Err, "1 operations in a row have failed")
}

func TestAHalfOpenBreakerIsDegraded(t *testing.T) {
	t.Parallel()
	r := start(t, single("misbehave", "retry: none", "breaker: {failures: 1, cool_down: 1ms}"))
	_, err := r.Run(t.Context(), map[string]any{"way": "raise_value_error"})
	require.ErrorIs(t, err, runner.KindExecution)
	h := awaitHealth(t, r, inState(runner.StateDegraded))
	assert.True(t, h.OK())
	assert.Contains(t, h.String(), "half-open: the next call is a probe")
}

func TestHealthOfANodeInGo(t *testing.T) {
	t.Parallel()
	r := start(t, "nodes: [{id: a, node_type: fn, retry: none, breaker: {failures: 1, cool_down: 1h}}]",
		runner.WithNode("fn", func(context.Context, runner.Input) (any, error) { return nil, errors.New("bad luck") }))
	h := r.Health()
	assert.Equal(t, runner.StateHealthy, h.State)
	assert.Nil(t, h.Nodes[0].Pool)
	_, err := r.Run(t.Context(), 1)
	require.Error(t, err)
	h = r.Health()
	assert.Equal(t, runner.StateUnhealthy, h.State)
	assert.ErrorContains(t, h.Err, "bad luck")
	assert.Contains(t, h.String(), "\na     unhealthy  -        -       -        1      1       open\n")
}

func TestHealthAsJSON(t *testing.T) {
	t.Parallel()
	r := start(t, supervised("Mortal", "retry: {fixed: 1ms, max_attempts: 1}"))
	_, err := r.Run(t.Context(), "die")
	require.Error(t, err)
	_, err = r.Run(t.Context(), "live")
	require.NoError(t, err)
	text, err := json.Marshal(r.Health())
	require.NoError(t, err)
	var doc struct {
		State string
		Nodes []struct {
			Node, Breaker string
			Calls         int
			Failed        map[string]int
			LastError     struct{ Kind, Text string } `json:"last_error"`
			Pool          struct {
				Idle, Min, Max int
				Deaths         map[string]int
				LastDeath      struct {
					Error struct{ Node string }
				} `json:"last_death"`
				Workers []struct {
					PID  int
					Role string
					Age  float64
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(text, &doc), "%s", text)
	require.Len(t, doc.Nodes, 1)
	n := doc.Nodes[0]
	assert.Equal(t, "Mortal", n.Node)
	assert.Equal(t, "closed", n.Breaker)
	assert.Equal(t, 2, n.Calls)
	assert.Equal(t, map[string]int{"python_vm": 1}, n.Failed)
	assert.Equal(t, "python_vm", n.LastError.Kind)
	assert.Equal(t, map[string]int{"exit": 2}, n.Pool.Deaths)
	assert.Equal(t, "Mortal", n.Pool.LastDeath.Error.Node)
	require.NotEmpty(t, n.Pool.Workers)
	assert.Positive(t, n.Pool.Workers[0].Age)
}

// The death of an idle worker fails no call.
func TestAnIdleWorkerThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	events := &recorder{}
	r := start(t, supervised("pid"), runner.WithEvents(events.record))
	first, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(int(first.(int64)), syscall.SIGKILL))
	awaitHealth(t, r, func(h runner.Health) bool { return len(of[runner.WorkerDied](events)) == 1 })
	died := of[runner.WorkerDied](events)[0]
	assert.True(t, died.Idle)
	second, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	assert.Empty(t, of[runner.CallRetried](events))
}
