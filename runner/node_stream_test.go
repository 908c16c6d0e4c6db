package runner_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

const alone = `
nodes:
  - {id: source, node_type: echo}
  - {id: count, node_type: count}
  - {id: total, STREAMING: Total}
  - {id: mix, node_type: mix, params: {scale: 0.5}}
  - {id: both, STREAMING: Pairs}
connections:
  - {from: source, to: count}
  - {from: count, to: total}
  - {from: source, to: mix.left}
  - {from: total, to: mix.right}
  - {from: mix, to: both}
`

// openNode opens a stream through one node.
func openNode(t *testing.T, r *runner.Runner, id string) *runner.Stream {
	t.Helper()
	s, err := r.Node(id).Stream(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func TestANodeStreamsAlone(t *testing.T) {
	t.Parallel()
	r := start(t, graph(alone))
	for _, each := range []struct {
		node       string
		items, got []any
	}{
		{"source", []any{"a", "b"}, []any{"a", "b"}},
		{"count", []any{2, 0, 3}, []any{int64(0), int64(1), int64(0), int64(1), int64(2)}},
		{"total", []any{1, 2, 3}, []any{int64(1), int64(3), int64(6), map[string]any{"total": int64(6)}}},
		{"mix", []any{map[string]any{"left": 1, "right": 3}, map[string]any{"left": 2, "right": 4}}, []any{2.0, 3.0}},
		{"both", []any{1, 2, 3}, []any{[]any{int64(1), int64(2)}}},
	} {
		s := openNode(t, r, each.node)
		feed(t, s, each.items...)
		got, err := values(s)
		require.NoError(t, err, each.node)
		assert.Equal(t, each.got, got, each.node)
	}
	s := openNode(t, r, "count")
	feed(t, s, 1)
	item, err := s.Recv()
	require.NoError(t, err)
	assert.Equal(t, runner.Item{Value: int64(0), Node: "count"}, item)
}

func TestAnItemWithoutAllPortsEndsTheStreamOfANode(t *testing.T) {
	t.Parallel()
	r := start(t, graph(alone))
	s := openNode(t, r, "mix")
	feed(t, s, map[string]any{"left": 1, "right": 3}, map[string]any{"left": 1})
	got, err := values(s)
	assert.Equal(t, []any{2.0}, got)
	require.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, "left, right")
	assert.Equal(t, "mix", runner.AsError(err).Node)
	_, err = r.Node("other").Stream(t.Context())
	require.ErrorIs(t, err, runner.KindManifest)
}
