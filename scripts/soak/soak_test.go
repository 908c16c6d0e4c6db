package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The soaks in short; by hand they run as long as the package comment says.

func TestAFewThousandChunksAreInOrderAndLeaveNothing(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), []string{"chunks", "--chunks", "4000"}, &out))
	assert.Contains(t, out.String(), "4000 chunks of 20 ms (1m20s of audio)")
	assert.Contains(t, out.String(), "left behind: no descriptor, no segment, no process")
}

func TestAStreamSurvivesKillsForSomeSeconds(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), []string{"kills", "--for", "5s"}, &out))
	assert.Contains(t, out.String(), "each came out once and in order")
}

func TestSoakSaysWhatCannotBeRun(t *testing.T) {
	for args, says := range map[string]string{
		"":              "which one: chunks or kills?",
		"rain":          `no soak "rain"`,
		"chunks --size": "not defined",
	} {
		require.ErrorContains(t, run(t.Context(), strings.Fields(args), &strings.Builder{}), says)
	}
}

func TestMemoryThatGrowsIsRefused(t *testing.T) {
	p := &profile{first: 100 << 20, least: 90 << 20, most: 116 << 20}
	require.NoError(t, p.check())
	p.most += 1 << 20
	require.ErrorContains(t, p.check(), "grew by 17 MiB")
	assert.Equal(t, "100.0 MiB after the first tenth, then 90.0 to 117.0 MiB", p.String())
}

func TestWhatIsLeftIsNamed(t *testing.T) {
	before := residue{descriptors: 5, named: []string{"a"}}
	require.NoError(t, before.since(before))
	for says, now := range map[string]residue{
		"6 descriptors": {descriptors: 6},
		"1 segments":    {segments: 1},
		"/dev/shm":      {named: []string{"a", "b"}},
		"1 processes":   {children: 1},
	} {
		require.ErrorContains(t, now.since(before), says)
	}
}

func TestAKilledProcessIsWaitedFor(t *testing.T) {
	v := &victims{}
	assert.Zero(t, v.kill(nil))
	assert.True(t, awaitGone(t.Context(), 1<<22+1), "there is none")
}
