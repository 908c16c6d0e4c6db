package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/serve"
)

// labeled starts a machine with labels as a process.
func labeled(t *testing.T, url, name, label, pipeline string) *clustertest.Process {
	t.Helper()
	return clustertest.Start(t, "machine", clustertest.Settings{
		Name: name, URLs: []string{url}, Pipelines: map[string]string{"p": pipeline}, Labels: map[string]string{label: "1"},
	})
}

// elsewhere returns a runner of a pipeline, of which nodes run on the machines of the servers.
func elsewhere(t *testing.T, url, pipeline string, opts ...cluster.MachineOption) *runner.Runner {
	t.Helper()
	executor := cluster.NewExecutor(connect(t, url), "p", opts...)
	t.Cleanup(executor.Close)
	r, err := clustertest.NewRunner(pipeline, runner.WithExecutor(executor))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

func TestANodeRunsOnTheMachineOfItsHost(t *testing.T) {
	const pipeline = `
nodes:
  - {id: here, node_type: echo}
  - {id: there, node_type: where, host: {label: gpu}}
  - {id: joined, node_type: both, host: {label: gpu=1}}
  - {id: many, node_type: twice, host: b}
connections: [{from: here, to: there}, {from: here, to: joined.left}, {from: there, to: joined.right}, {from: here, to: many}]
`
	url := localURL(t)
	t.Setenv("MACHINE", "here")
	labeled(t, url, "b", "cpu", "nodes: [{id: many, node_type: twice}]")
	labeled(t, url, "a", "gpu", pipeline) // the same manifest, of which b has a node
	r := elsewhere(t, url, pipeline)
	got, err := r.Run(t.Context(), "x")
	require.NoError(t, err)
	there := []any{"x", "a"}
	assert.Equal(t, map[string]any{"joined": []any{[]any{"x", there, "a"}}, "many": []any{"x", "x"}}, got)
	// A tensor goes there and back.
	tensor, err := ipc.NewTensor(make([]float32, 1<<18), 1<<18)
	require.NoError(t, err)
	got, err = r.Node("there").Call(t.Context(), tensor)
	require.NoError(t, err)
	assert.True(t, assert.ObjectsAreEqual([]any{tensor, "a"}, got))
	// On the host itself, the node runs in the same process.
	assert.False(t, r.RunsHere("there"))
	own := elsewhere(t, url, "nodes: [{id: there, node_type: where, host: {label: gpu}}]", cluster.WithLabels(map[string]string{"gpu": ""}))
	assert.True(t, own.RunsHere("there"))
	got, err = own.Run(t.Context(), "x")
	require.NoError(t, err)
	assert.Equal(t, []any{"x", "here"}, got)
}

func TestANodeWithAHostNeedsAnExecutor(t *testing.T) {
	_, err := clustertest.NewRunner("nodes: [{id: a, node_type: echo, host: {label: gpu}}]")
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, `the node runs on a machine with the label gpu, and this runner is not connected to other machines`)
	assert.Contains(t, runner.AsError(err).Hint, "runner.WithExecutor")
}

func TestANodeWhoseHostIsMissingDoesNotStart(t *testing.T) {
	url := localURL(t)
	labeled(t, url, "a", "cpu", clustertest.EchoPipeline)
	r := elsewhere(t, url, "nodes: [{id: echo, node_type: echo, host: {label: gpu}}]")
	err := r.Start(t.Context())
	require.ErrorIs(t, err, runner.KindTransport)
	assert.ErrorContains(t, err, "no machine serves the node: it runs on a machine with the label gpu")
	labeled(t, url, "b", "gpu", clustertest.EchoPipeline)
	_, err = r.Run(t.Context(), 1)
	require.NoError(t, err)
}

func TestAStatefulNodeIsNotPlacedElsewhere(t *testing.T) {
	url := localURL(t)
	labeled(t, url, "a", "gpu", ledgerPipeline)
	err := elsewhere(t, url, "nodes: [{id: ledger, node_type: Ledger, host: {label: gpu}}]").Start(t.Context())
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, "keeps a state between the items of a stream")
}

func TestAMachineThatFailsIsLeftAloneWhileAnotherServes(t *testing.T) {
	const failures = 2
	url, folder := localURL(t), t.TempDir()
	pipeline := fmt.Sprintf("nodes: [{id: die, node_type: die_on_a, params: {folder: %q}}]", folder)
	labeled(t, url, "a", "gpu", pipeline)
	labeled(t, url, "b", "gpu", pipeline)
	r := elsewhere(t, url, fmt.Sprintf("nodes: [{id: die, node_type: die_on_a, params: {folder: %q}, host: {label: gpu}, breaker: {failures: %d, cool_down: 1h}, retry: {fixed: 1ms, max_attempts: 1}}]", folder, failures))
	calls := func() int {
		files, err := filepath.Glob(filepath.Join(folder, "a-*"))
		require.NoError(t, err)
		return len(files)
	}
	run := func() {
		got, err := r.Run(t.Context(), nil)
		require.NoError(t, err, "a call that has failed on a is retried on b")
		require.Equal(t, "b", got)
	}
	for r.Scheduler().Breaker("die@a").State() != retry.Open {
		run()
	}
	assert.Equal(t, failures, calls())
	for range 20 {
		run()
	}
	assert.Equal(t, failures, calls())
	assert.Zero(t, r.Scheduler().Breaker("die@b").Failures())

	node := r.Health().Nodes[0]
	assert.Equal(t, runner.StateDegraded, node.State)
	assert.True(t, node.Ready())
	assert.Contains(t, node.Reason, "machine a is open")
	require.Len(t, node.Machines, 1, "the calls on b succeed")
	failing := node.Machines[0]
	assert.Equal(t, runner.MachineHealth{Machine: "a", Breaker: retry.Open, Failures: failures, LastError: failing.LastError}, failing)
	assert.ErrorIs(t, failing.LastError, runner.KindPythonVM)
	assert.Contains(t, r.Health().String(), fmt.Sprintf("circuit breaker for the machine a open, %d failed in a row", failures))

	answer := httptest.NewRecorder()
	serve.Handler(map[string]*runner.Runner{"p": r}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/healthz", http.NoBody))
	assert.Equal(t, http.StatusOK, answer.Code)
	var health struct {
		Pipelines map[string]struct {
			Nodes []struct {
				Machines map[string]string `json:"machine_breakers"`
			}
		}
	}
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &health))
	assert.Equal(t, map[string]string{"a": "open"}, health.Pipelines["p"].Nodes[0].Machines)
}

func TestANodeWhoseMachinesAllFailIsRefused(t *testing.T) {
	url := localURL(t)
	labeled(t, url, "a", "gpu", clustertest.DiePipeline)
	r := elsewhere(t, url, "nodes: [{id: die, node_type: die, host: a, breaker: {failures: 2, cool_down: 1h}, retry: none}]")
	for range 2 {
		_, err := r.Run(t.Context(), nil)
		require.ErrorIs(t, err, runner.KindPythonVM)
		assert.Equal(t, "a", runner.AsError(err).Metadata["machine"])
		assert.Equal(t, 1, runner.AsError(err).Attempt)
	}
	_, err := r.Run(t.Context(), nil)
	require.ErrorIs(t, err, retry.ErrOpen)
	assert.Equal(t, "a", runner.AsError(err).Metadata["machine"])
	after, asked := runner.AsError(err).RetryAfter()
	assert.True(t, asked, "when the breaker lets a probe pass")
	assert.Greater(t, after, 50*time.Minute)
}

func TestACallOfANodeMovesWhenItsMachineIsKilled(t *testing.T) {
	for name, idempotent := range map[string]bool{"idempotent": true, "not idempotent": false} {
		t.Run(name, func(t *testing.T) {
			url, folder := localURL(t), t.TempDir()
			here := clustertest.HoldPipeline(folder, 1, fmt.Sprintf(", host: {label: gpu}, idempotent: %v, retry: {fixed: 1ms, max_attempts: 2}", idempotent))
			first := labeled(t, url, "a", "gpu", clustertest.HoldPipeline(folder, 1, ""))
			r := elsewhere(t, url, here)
			done := make(chan result, 1)
			go func() {
				v, err := r.Run(t.Context(), "x")
				done <- result{v, err}
			}()
			clustertest.AwaitBegun(t, folder, "x", 1)
			labeled(t, url, "b", "gpu", clustertest.HoldPipeline(folder, 1, ""))
			first.Kill()
			if !idempotent {
				got := await(t, done)
				require.ErrorIs(t, got.err, runner.KindTransport)
				assert.ErrorContains(t, got.err, "machine a was lost during the call")
				require.NoError(t, os.WriteFile(filepath.Join(folder, "release"), nil, 0o600))
				return
			}
			clustertest.AwaitBegun(t, folder, "x", 2)
			clustertest.Release(t, folder)
			got := await(t, done)
			require.NoError(t, got.err)
			assert.Equal(t, "b", machineOf(got))
		})
	}
}
