package cluster_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

const (
	bigSize = 4 << 20
	// bigPipeline makes a large value on one machine, of which others take it.
	bigPipeline = `
nodes:
  - {id: big, node_type: big, host: a}
  - {id: first, node_type: size_of, host: b}
  - {id: second, node_type: size_of, host: b}
connections: [{from: big, to: first}, {from: big, to: second}]
`
)

// caller returns a runner whose nodes are elsewhere, and how many bytes its connection has
// carried, both ways.
func caller(t *testing.T, url, pipeline string, opts ...runner.Option) (*runner.Runner, func() uint64) {
	t.Helper()
	conn := connect(t, url)
	executor := cluster.NewExecutor(conn, "p")
	t.Cleanup(executor.Close)
	r, err := clustertest.NewRunner(pipeline, append(opts, runner.WithExecutor(executor))...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	require.NoError(t, r.Start(t.Context()))
	return r, func() uint64 { s := conn.NATS().Stats(); return s.InBytes + s.OutBytes }
}

func TestAValueBetweenTwoNodesElsewhereDoesNotPassTheCaller(t *testing.T) {
	url := localURL(t)
	labeled(t, url, "a", "x", "nodes: [{id: big, node_type: big}]")
	labeled(t, url, "b", "x", "nodes: [{id: first, node_type: size_of}, {id: second, node_type: size_of}]")
	sized := []any{int64(bigSize), "b"}
	for name, pipeline := range map[string]string{
		"two nodes take it": bigPipeline,
		"a chain":           "nodes: [{id: big, node_type: big, host: a}, {id: first, node_type: size_of, host: b}]\nconnections: [{from: big, to: first}]",
	} {
		t.Run(name, func(t *testing.T) {
			r, carried := caller(t, url, pipeline)
			before := carried()
			got, err := r.Run(t.Context(), bigSize)
			require.NoError(t, err)
			if name == "a chain" {
				assert.Equal(t, sized, got)
			} else {
				assert.Equal(t, map[string]any{"first": sized, "second": sized}, got)
			}
			assert.Less(t, carried()-before, uint64(bigSize/4))
			assert.Empty(t, storedValues(t, connect(t, url)), "it is deleted when the run has ended")
			// A call of the node alone returns the value.
			got, err = r.Node("big").Call(t.Context(), bigSize)
			require.NoError(t, err)
			assert.Len(t, got, bigSize)
		})
	}
}

func TestAValueThatIsTakenHereAsWellComesHere(t *testing.T) {
	url := localURL(t)
	labeled(t, url, "a", "x", "nodes: [{id: big, node_type: big}]")
	labeled(t, url, "b", "x", "nodes: [{id: first, node_type: size_of}]")
	t.Setenv("MACHINE", "here")
	r, _ := caller(t, url, "nodes: [{id: big, node_type: big, host: a}, {id: first, node_type: size_of, host: b}, {id: here, node_type: size_of}]\n"+
		"connections: [{from: big, to: first}, {from: big, to: here}]")
	got, err := r.Run(t.Context(), bigSize)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"first": []any{int64(bigSize), "b"}, "here": []any{int64(bigSize), "here"}}, got)
	assert.Empty(t, storedValues(t, connect(t, url)))
}

func TestAValueIsTakenAgainInARetryOnAnotherMachine(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	labeled(t, url, "c", "cpu", "nodes: [{id: big, node_type: big}]")
	dies := "{id: die, node_type: die_on_a, params: {folder: " + folder + "}"
	labeled(t, url, "a", "gpu", "nodes: ["+dies+"}]")
	r, carried := caller(t, url, "nodes: [{id: big, node_type: big, host: c}, "+dies+", host: {label: gpu}, retry: {fixed: 1ms, max_attempts: 1}}]\nconnections: [{from: big, to: die}]")
	b := labeled(t, url, "b", "gpu", "nodes: ["+dies+"}]")
	before := carried()
	for range 3 { // the first of them tries the machine a, or finds b at once
		got, err := r.Run(t.Context(), bigSize)
		require.NoError(t, err)
		assert.Equal(t, "b", got)
	}
	assert.Less(t, carried()-before, uint64(bigSize))
	assert.Empty(t, storedValues(t, connect(t, url)))
	b.Kill()
	_, err := r.Run(t.Context(), bigSize)
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.Empty(t, storedValues(t, connect(t, url)), "nor does a run that fails leave it")
}

func TestAValueForAMachineOfAnOlderVersionPassesTheCaller(t *testing.T) {
	url := localURL(t)
	conn := connect(t, url)
	labeled(t, url, "a", "x", "nodes: [{id: big, node_type: big}]")
	r, err := clustertest.NewRunner("nodes: [{id: first, node_type: size_of}, {id: second, node_type: size_of}]")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	m, err := cluster.Announce(t.Context(), conn, map[string]*runner.Runner{"p": r}, cluster.WithName("b"), cluster.WithoutLending())
	require.NoError(t, err)
	t.Cleanup(m.Close)
	from, carried := caller(t, url, bigPipeline)
	before := carried()
	got, err := from.Run(t.Context(), bigSize)
	require.NoError(t, err)
	assert.EqualValues(t, bigSize, got.(map[string]any)["second"].([]any)[0])
	assert.Greater(t, carried()-before, uint64(bigSize))
	testkit.Eventually(t, func() bool { return len(storedValues(t, conn)) == 0 })
}
