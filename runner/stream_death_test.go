package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// deathsAt returns a folder with a file for each point at which a node of streams.py
// dies once.
func deathsAt(t *testing.T, names ...any) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(name)), nil, 0o600))
	}
	return dir
}

// streaming returns a manifest with one node of streams.py.
func streaming(nodeType string, more ...string) string {
	return strings.Replace(single(nodeType, more...), "node_type:", "python: streams.py\n    node_type:", 1)
}

const quickRetry = "retry: {fixed: 1ms, max_attempts: 3}"

func TestAWorkerThatDiesAgainAndAgainLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	var deaths []any
	for n := 3; n < 200; n += 17 {
		deaths = append(deaths, n)
	}
	for _, workers := range []string{"workers: {max: 1}", "workers: {max: 2}"} {
		events := &recorder{}
		r := start(t, streaming("mortal", "params: {deaths: "+deathsAt(t, deaths...)+"}", quickRetry, "breaker: none", workers),
			runner.WithEvents(events.record))
		s := open(t, r)
		feed(t, s, upTo(200)...)
		got, err := values(s)
		require.NoError(t, err)
		assert.Equal(t, upTo(200), got)
		assert.GreaterOrEqual(t, len(of[runner.CallRetried](events)), len(deaths), "a death costs an attempt")
	}
}

// The items of the window that wait for the worker began later than the one that is retried.
func TestAnItemThatIsRetriedGoesAheadOfThoseBehindIt(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	r := start(t, streaming("logged", "params: {log: "+log+", deaths: "+deathsAt(t, 2)+"}", "retry: {base: 0}", "workers: {max: 1, spare: 0}"))
	s := open(t, r)
	feed(t, s, upTo(40)...)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, upTo(40), got)
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	begun := strings.Fields(string(text))
	first := slices.Index(begun, "2")
	again := slices.Index(begun[first+1:], "2")
	require.GreaterOrEqual(t, again, 0)
	assert.Less(t, again, 8, "of 16 items of the window: %v", begun)
}

func TestAGeneratorWhoseWorkerDiesRepeatsNoValue(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("thrice", "params: {deaths: "+deathsAt(t, "0.0", "2.1", "2.2", "4.2")+"}", quickRetry))
	s := open(t, r)
	feed(t, s, upTo(6)...)
	got, err := values(s)
	require.NoError(t, err)
	var want []any
	for n := range 6 {
		for i := range 3 {
			want = append(want, fmt.Sprintf("%d.%d", n, i))
		}
	}
	assert.Equal(t, want, got)
}

func TestAGeneratorThatMayNotRunTwiceEndsTheStream(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("thrice", "params: {deaths: "+deathsAt(t, "1.2")+"}", quickRetry, "idempotent: false"))
	s := open(t, r)
	feed(t, s, upTo(3)...)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.Equal(t, []any{"0.0", "0.1", "0.2", "1.0", "1.1"}, got, "values that were received before the failure stay")
	assert.Equal(t, "5", runner.AsError(err).Metadata["delivered"])
}

func TestTheStateOfANodeIsLostWithItsWorker(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		death any
		out   []any
		says  string
	}{
		"in an item": {3, []any{int64(0), int64(1), int64(3)}, "3 items had gone in, 3 come out"},
		"at the end": {"end", []any{int64(0), int64(1), int64(3), int64(6), int64(10)}, "5 items had gone in, 5 come out"},
	} {
		t.Run(name, func(t *testing.T) {
			events := &recorder{}
			r := start(t, streaming("Total", "params: {deaths: "+deathsAt(t, c.death)+"}", quickRetry), runner.WithEvents(events.record))
			s := open(t, r)
			feed(t, s, upTo(5)...)
			got, err := values(s)
			require.ErrorIs(t, err, runner.KindPythonVM)
			assert.ErrorContains(t, err, "the state of the stream is lost with it: "+c.says)
			assert.Equal(t, c.out, got)
			var e *runner.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "Total", e.Node)
			assert.Equal(t, "SIGKILL", e.Signal)
			assert.Equal(t, fmt.Sprint(len(c.out)), e.Metadata["delivered"])
			assert.Empty(t, of[runner.CallRetried](events))
			assert.Equal(t, 1, r.Scheduler().Breaker("Total").Failures())

			s = open(t, r) // a new stream has a state of its own
			feed(t, s, upTo(3)...)
			got, err = values(s)
			require.NoError(t, err)
			assert.Equal(t, []any{int64(0), int64(1), int64(3), map[string]any{"total": int64(3)}}, got)
		})
	}
}

func TestANodeThatRestoresItsStateLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	const items = 60
	deaths := deathsAt(t, 0, "5.5", 16, 17, "33.5", 52, "50 once more", "end", "snapshot", "restore")
	events := &recorder{}
	r := start(t, streaming("Ledger", "params: {deaths: "+deaths+"}", quickRetry), runner.WithEvents(events.record))
	s := open(t, r)
	feed(t, s, upTo(items)...)
	got, err := values(s)
	require.NoError(t, err)
	var want []any
	total := 0
	for n := range items {
		total += n
		want = append(want, []any{"item", int64(n)}, []any{"total", int64(total)})
	}
	want = append(want, []any{"end", int64(total)}, []any{"calls", int64(items - 53)}) // a checkpoint follows the item after a death
	assert.Equal(t, want, got, "the last worker began at the last checkpoint")
	assert.Len(t, of[runner.CallRetried](events), 10)
	assert.Zero(t, r.Scheduler().Breaker("Ledger").Failures())
	left, err := os.ReadDir(deaths)
	require.NoError(t, err)
	assert.Empty(t, left, "it died at each point")
}

func TestAnItemThatFailsEachTimeEndsTheStream(t *testing.T) {
	t.Parallel()
	deaths := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(deaths, "20"), 0o700)) // unlink fails on a folder
	r := start(t, streaming("Ledger", "params: {deaths: "+deaths+"}", quickRetry))
	s := open(t, r)
	feed(t, s, upTo(30)...)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.Len(t, got, 40)
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, 4, e.Attempt, "an exception of a node that restores is retried")
	assert.Equal(t, "40", e.Metadata["delivered"])
}

func TestASnapshotThatFailsEndsTheStream(t *testing.T) {
	t.Parallel()
	deaths := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(deaths, "snapshot"), 0o700))
	r := start(t, streaming("Ledger", "params: {deaths: "+deaths+"}", quickRetry))
	s := open(t, r)
	feed(t, s, upTo(30)...)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, "during snapshot")
	assert.Len(t, got, 32)
}

func TestANodeThatRestoresButMayNotRunTwiceEndsTheStream(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("Ledger", "params: {deaths: "+deathsAt(t, 3)+"}", quickRetry, "idempotent: false"))
	s := open(t, r)
	feed(t, s, upTo(5)...)
	got, err := values(s)
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.ErrorContains(t, err, "3 items had gone in, 6 come out")
	assert.Len(t, got, 6)
}
