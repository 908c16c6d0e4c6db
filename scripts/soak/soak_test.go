package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Short runs of the soaks. The package comment says how long they run by default.

func TestAFewThousandChunksAreInOrderAndLeaveNothing(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), []string{"chunks", "--chunks", "4000"}, &out))
	assert.Contains(t, out.String(), "4000 chunks of 20 ms (1m20s of audio)")
	assert.Contains(t, out.String(), "left behind: no descriptor, no segment, no process")
}

func TestAStreamSurvivesKillsForSomeSeconds(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), []string{"kills", "--for", "5s"}, &out))
	assert.Contains(t, out.String(), "each received once and in order")
}

// A busy machine may exceed the bounds, so those errors are accepted.

func TestIdleWorkersAreMeasured(t *testing.T) {
	var out strings.Builder
	err := run(t.Context(), []string{"idle", "--workers", "3", "--settle", "0s", "--over", "200ms"}, &out)
	if err != nil {
		require.ErrorIs(t, err, errBound)
	}
	assert.Contains(t, out.String(), " idle workers, started, for ")
	assert.Contains(t, out.String(), " idle workers, forked, for ")
	assert.Contains(t, out.String(), `"supervisor_rss":`)
}

func TestRecoveriesAreMeasuredForEachStandby(t *testing.T) {
	var out strings.Builder
	err := run(t.Context(), []string{"recovery", "--deaths", "2", "--setups", "0s"}, &out)
	if err != nil {
		require.ErrorIs(t, err, errBound)
	}
	for _, standby := range standbys {
		for _, killed := range []string{"idle", "in a call"} {
			assert.Regexp(t, `0s +`+standby.name+` +`+killed+` +2 +[0-9.]+ +[0-9.]+ +[0-9.]+\n`, out.String())
		}
	}
	assert.Contains(t, out.String(), `"p99_ms":`)
}

func TestFiguresBeyondTheBoundFail(t *testing.T) {
	times := make([]time.Duration, 100)
	times[98], times[99] = maxRecovery, maxRecovery
	with, without := recovery{spare: true}, recovery{}
	assert.False(t, with.figures("idle", times).OK)
	assert.True(t, without.figures("idle", times).OK, "without a spare there is no bound")
	times[98] = maxRecovery - 1 // one of a hundred may exceed it
	assert.True(t, with.figures("idle", times).OK)
	assert.Equal(t, 0.0, with.figures("idle", times).P50)

	for want, how := range map[int]recovery{
		100: {deaths: 100}, 24: {deaths: 100, setup: 5 * time.Second, spare: true}, 6: {deaths: 100, setup: 5 * time.Second}, 1: {deaths: 9, setup: time.Hour},
	} {
		how.shorten()
		assert.Equal(t, want, how.deaths)
	}

	require.NoError(t, idleFigures{OK: true}.check())
	require.ErrorIs(t, idleFigures{Supervisor: 0.02}.check(), errBound)
	require.ErrorContains(t, idleFigures{Supervisor: 0.02}.check(), "2.000 % of a core")
}

func TestSoakRejectsInvalidArguments(t *testing.T) {
	for args, says := range map[string]string{
		"":                       "name a soak, one of: chunks, kills, idle, recovery",
		"rain":                   `no soak "rain"`,
		"chunks --size":          "not defined",
		"recovery --setups soon": "invalid duration",
	} {
		require.ErrorContains(t, run(t.Context(), strings.Fields(args), &strings.Builder{}), says)
	}
}

func TestMemoryThatGrowsFails(t *testing.T) {
	p := &memoryProfile{first: 100 << 20, least: 90 << 20, most: 116 << 20}
	require.NoError(t, p.check())
	p.most += 1 << 20
	require.ErrorContains(t, p.check(), "grew by 17 MiB")
	assert.Equal(t, "100.0 MiB after the first tenth, then 90.0 to 117.0 MiB", p.String())
}

func TestAKilledProcessIsWaitedFor(t *testing.T) {
	v := &victims{}
	assert.Zero(t, v.kill(nil))
	assert.True(t, awaitGone(t.Context(), 1<<22+1), "no process has this id")
}
