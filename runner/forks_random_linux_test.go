package runner_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// drawn starts a pipeline with a node of testdata/forks/draws.py whose workers are forked from
// one template, and returns what each of several workers answers to its first call.
func drawn(t *testing.T, nodeType string) (all []any) {
	t.Helper()
	n := &multiNode{t: t}
	r, err := loadIn(t, n.base(), "requirements: [numpy==2.2.6]\n"+
		single(nodeType, "python: draws.py", "workers: {fork_server: true, max_calls: 1}"))
	require.NoError(t, err)
	for range 4 {
		value, err := r.Run(t.Context(), nil)
		require.NoError(t, err)
		all = append(all, value)
	}
	pool := r.Health().Nodes[0].Pool
	require.Empty(t, pool.ForkNote)
	return all
}

func TestForkedWorkersDrawDifferentNumbers(t *testing.T) {
	seen := make(map[any]string)
	for _, each := range drawn(t, "draw") {
		for generator, number := range each.(map[string]any) {
			assert.NotContains(t, seen, number, "%s drew the same as %s", generator, seen[number])
			seen[number] = generator
		}
	}
	assert.Len(t, seen, 4*9)
}

func TestForkedWorkersKeepTheSeedOfTheirSetup(t *testing.T) {
	all := drawn(t, "Seeded")
	for _, each := range all[1:] {
		assert.Equal(t, all[0], each)
	}
}
