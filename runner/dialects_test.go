package runner_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// foreign starts a runner for a manifest of testdata/dialects, which does not name the
// code of its nodes.
func foreign(t *testing.T, name string) *runner.Runner {
	t.Helper()
	p, err := runner.Load(filepath.Join("testdata", "dialects", name))
	require.NoError(t, err)
	p.Python = "nodes.py"
	r, err := runner.New(p)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

func TestManifestsInRemoteMediasShapesRun(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]any{
		"serialized.json": "A B?!!",
		"builder.json":    "A B?!",
		"camel.json":      []any{"a!!!", "b!!!"},
		"output.yaml":     map[string]any{"upper": "A B", "exclaim": "A B!"},
		"ports.json":      "A B+A B!",
		"hints.yaml":      "A B!",
		"assistant.yaml":  []any{"1 A.", "2 B."},
		"edges.json":      "A B+A B!!",
		"stream.yaml":     []any{"1 a b!"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := foreign(t, name)
			_, err := r.Describe(t.Context())
			require.NoError(t, err)
			got, err := r.Run(t.Context(), "a b")
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestANodeTakesTheItemsOfSeveralInputs(t *testing.T) {
	t.Parallel()
	r := foreign(t, "merge.yaml")
	got, err := r.Run(t.Context(), "a b")
	require.NoError(t, err)
	items := make([]string, 0, 4)
	for i, v := range got.([]any) {
		text := v.(string)
		require.Equal(t, byte('1'+i), text[0], "one instance takes all items")
		items = append(items, text[2:])
	}
	assert.ElementsMatch(t, []string{"a", "b", "A", "B"}, items)
	assert.Less(t, slices.Index(items, "a"), slices.Index(items, "b"), "the items of each input are in order")
	assert.Less(t, slices.Index(items, "A"), slices.Index(items, "B"))

	v, err := r.Node("collect").Call(t.Context(), "one")
	require.NoError(t, err)
	assert.Equal(t, []any{"5 one"}, v, "a call of the node alone has one input")
}

// A node that merges gives an item for each of its inputs, also if it is written in Go and gives
// one value for each.
func TestGoNodesMergeTheirInputs(t *testing.T) {
	t.Parallel()
	r := start(t, "nodes: [{id: a, node_type: same}, {id: b, node_type: same}, {id: c, node_type: same}]\n"+
		"connections: [{from: a, to: c}, {from: b, to: c}]",
		goNode("same", func(_ context.Context, v any) (any, error) { return v, nil }))
	got, err := r.Run(t.Context(), 7)
	require.NoError(t, err)
	assert.Equal(t, []any{int64(7), int64(7)}, got)
	shared, err := r.RunShared(t.Context(), 7)
	require.NoError(t, err)
	assert.Equal(t, []any{int64(7), int64(7)}, shared.Value)
	shared.Release()
	got, err = r.Node("c").Call(t.Context(), 7)
	require.NoError(t, err)
	assert.Equal(t, int64(7), got)
}

// A node of two parameters that no port names is refused, rather than called with one of them.
func TestANodeWithSeveralParametersDoesNotMerge(t *testing.T) {
	t.Parallel()
	r, err := load(t, "nodes: [{id: a, node_type: echo}, {id: b, node_type: echo}, {id: pair, node_type: Pair, python: dialects/nodes.py}]\n"+
		"connections: [{from: a, to: pair}, {from: b, to: pair}]")
	require.NoError(t, err)
	err = r.Start(t.Context())
	require.Error(t, err)
	assert.Equal(t, runner.KindManifest, runner.KindOf(err))
	assert.ErrorContains(t, err, "right")
}

func TestTheValuesOfAnOutputNodeAreInRunsAndStreams(t *testing.T) {
	t.Parallel()
	r := foreign(t, "output.yaml")
	s := open(t, r)
	feed(t, s, "a", "b")
	got := make(map[string][]any)
	for item, err := range s.All() {
		require.NoError(t, err)
		got[item.Node] = append(got[item.Node], item.Value)
	}
	assert.Equal(t, map[string][]any{"upper": {"A", "B"}, "exclaim": {"A!", "B!"}}, got)
	shared, err := r.RunShared(t.Context(), "a")
	require.NoError(t, err)
	defer shared.Release()
	assert.Equal(t, map[string]any{"upper": "A", "exclaim": "A!"}, shared.Value)
}

// Large arrays of a node that is connected on are in the result, too, and are freed with it.
func TestTheArraysOfAnOutputNodeAreFreed(t *testing.T) {
	t.Parallel()
	r := start(t, "requirements: [numpy==2.2.6]\nnodes: [{id: a, python: arrays.py, node_type: same, is_output_node: true}, {id: b, python: arrays.py, node_type: same}]\nconnections: [{from: a, to: b}]",
		runner.WithSharedMemory(4<<20))
	array := make([]float32, 1<<18)
	for range 20 {
		got, err := r.Run(t.Context(), array)
		require.NoError(t, err)
		require.Len(t, got, 2)
	}
}

func TestNodesHaveEnvironmentsOfTheirOwn(t *testing.T) {
	t.Parallel()
	r, err := load(t, `requirements: [six==1.16.0]
nodes:
  - {id: old, python: environments.py, node_type: version}
  - {id: new, python: environments.py, node_type: version, requirements: [six==1.17.0]}
  - {id: deps, python: environments.py, node_type: version, python_deps: ["Six==1.17.0"]}
`)
	require.NoError(t, err)
	keys, err := r.EnvironmentKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 2, "nodes with the same requirements share an environment")
	all, err := r.Describe(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	want := map[string]any{"old": "1.16.0", "new": "1.17.0", "deps": "1.17.0"}
	got, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	require.NoError(t, r.Reload(t.Context()))
	got, err = r.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, want, got, "a reloaded node keeps its environment")
}

func TestAnEnvironmentThatCannotBeBuiltNamesItsNode(t *testing.T) {
	t.Parallel()
	r, err := load(t, "nodes: [{id: a, node_type: echo}, {id: b, node_type: echo, requirements: [./nowhere]}]")
	require.NoError(t, err)
	err = r.Start(t.Context())
	require.Error(t, err)
	assert.Equal(t, "b", runner.AsError(err).Node)

	r, err = load(t, "nodes: [{id: a, node_type: echo}, {id: b, node_type: echo, interpreter: no-such-python}]")
	require.NoError(t, err)
	err = r.Start(t.Context())
	require.Error(t, err)
	assert.Equal(t, "b", runner.AsError(err).Node)
}
