package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

// hostile starts a pipeline of nodes of testdata/hostile.py, for which TYPE stands. It skips the
// test if this system cannot isolate nodes.
func hostile(t testing.TB, text string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	opts = append(opts, runner.WithNode("For", func(_ context.Context, in runner.Input) (any, error) {
		return in.Value.(map[string]any)[in.Params["node"].(string)], nil
	}))
	text = strings.ReplaceAll(text, "TYPE", "python: hostile.py, retry: none, node_type")
	return start(t, "requirements: [numpy==2.2.6]\n"+text, opts...)
}

// texts returns a tensor of n bytes that repeat a text.
func texts(t testing.TB, text string, n int) *ipc.Tensor {
	t.Helper()
	tensor, err := ipc.NewTensor(bytes.Repeat([]byte(text), n/len(text)+1)[:n], n)
	require.NoError(t, err)
	return tensor
}

// A strict node keeps all memory that it was ever lent. What its neighbors are sent, and what
// they return, passes through the same Runner.
func TestAnIsolatedNodeNeitherSeesNorChangesItsNeighborsData(t *testing.T) {
	r := hostile(t, `
nodes:
  - {id: to_spy, node_type: For, params: {node: spy}}
  - {id: to_victim, node_type: For, params: {node: victim}}
  - {id: to_other, node_type: For, params: {node: other}}
  - {id: spy, TYPE: Spying, isolation: strict, params: {secrets: [secret-input, secret-result, other-input]}}
  - {id: victim, TYPE: working, isolation: strict, params: {before: secret-input, after: secret-result}}
  - {id: next, TYPE: checking, isolation: strict, params: {text: secret-result}}
  - {id: other, TYPE: working, params: {before: other-input, after: secret-result}}
  - {id: last, TYPE: checking, isolation: {}, params: {text: secret-result}}
connections:
  - {from: to_spy, to: spy}
  - {from: to_victim, to: victim}
  - {from: victim, to: next}
  - {from: to_other, to: other}
  - {from: other, to: last}
`)
	random := rand.New(rand.NewPCG(1, 2))
	for range 80 {
		n := 128<<10 + random.IntN(1<<20)
		out, err := r.Run(t.Context(), map[string]any{
			"spy":    texts(t, "not secret", 128<<10+random.IntN(1<<20)),
			"victim": texts(t, "secret-input", n),
			"other":  texts(t, "other-input", n),
		})
		require.NoError(t, err)
		values := out.(map[string]any)
		require.Equal(t, map[string]any{"seen": int64(0), "spoiled": int64(0)}, values["spy"])
		require.Equal(t, int64(n), values["next"])
		require.Equal(t, int64(n), values["last"])
	}
	require.NoError(t, r.Close(t.Context()))
	assert.Zero(t, segments(t, os.Getpid()))
}

func TestAnIsolatedNodeCannotChangeItsEarlierResults(t *testing.T) {
	r := hostile(t, `nodes: [{id: a, TYPE: Retracting, isolation: strict}]`)
	var kept []*runner.Shared
	for i := range 8 {
		shared, err := r.RunShared(t.Context(), texts(t, string(rune('a'+i)), 1<<20))
		require.NoError(t, err)
		kept = append(kept, shared)
	}
	for i, shared := range kept {
		assert.True(t, bytes.Equal(texts(t, string(rune('b'+i)), 1<<20).Data, shared.Value.(*ipc.Tensor).Data))
		shared.Release()
	}
}

// A value takes each way through isolated nodes and others, and back.
func TestValuesArriveAsTheyAreAcrossDomains(t *testing.T) {
	r := hostile(t, `
nodes:
  - {id: a, TYPE: reference, isolation: strict}
  - {id: b, TYPE: working, params: {before: abc, after: defg}}
  - {id: c, TYPE: reference, isolation: strict}
  - {id: d, TYPE: working, isolation: strict, params: {before: defg, after: hijkl}}
  - {id: e, TYPE: reference}
  - {id: f, TYPE: checking, isolation: strict, params: {text: hijkl}}
  - {id: g, TYPE: reference, isolation: strict}
connections:
  - {from: a, to: b}
  - {from: b, to: c}
  - {from: c, to: d}
  - {from: d, to: e}
  - {from: e, to: f}
  - {from: d, to: g}
`)
	for _, n := range []int{1000, 100 << 10, ipc.SharedFrom, 1 << 20, 9 << 20} {
		for range 3 {
			out, err := r.RunShared(t.Context(), texts(t, "abc", n))
			require.NoError(t, err)
			values := out.Value.(map[string]any)
			assert.Equal(t, int64(n), values["f"])
			assert.True(t, bytes.Equal(texts(t, "hijkl", n).Data, values["g"].(*ipc.Tensor).Data))
			out.Release()
		}
	}
	require.NoError(t, r.Close(t.Context()))
	assert.Zero(t, segments(t, os.Getpid()))
}

// BenchmarkIsolation measures what isolation costs in copies: of an array that one node
// returns, and of one that passes from one node to the next.
func BenchmarkIsolation(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"returned", "nodes: [{id: a, TYPE: fresh HOW}]"},
		{"passed on", "nodes: [{id: a, TYPE: fresh HOW}, {id: b, TYPE: length HOW}]\nconnections: [{from: a, to: b}]"},
	} {
		open := hostile(b, strings.ReplaceAll(c.text, " HOW", ""))
		strict := hostile(b, strings.ReplaceAll(c.text, " HOW", ", isolation: strict"))
		for _, size := range []int{64 << 10, 1 << 20, 64 << 20} {
			value := texts(b, "x", size)
			run := func(r *runner.Runner) func(b *testing.B) {
				return func(b *testing.B) {
					for b.Loop() {
						_, err := r.Run(b.Context(), value)
						require.NoError(b, err)
					}
				}
			}
			b.Run(fmt.Sprintf("%s, %d KiB/not isolated", c.name, size>>10), run(open))
			b.Run(fmt.Sprintf("%s, %d KiB/strict", c.name, size>>10), run(strict))
		}
	}
}
