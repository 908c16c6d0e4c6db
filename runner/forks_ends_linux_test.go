package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// leaving is a node of testdata/forks/ends.py, the folder in which it leaves notes, and its
// log.
type leaving struct {
	*runner.Runner
	folder string
	log    *lockedBuffer
}

// startLeaving starts the node, with NumPy. FOLDER stands for its folder in the settings.
func startLeaving(t *testing.T, nodeType string, settings ...string) leaving {
	t.Helper()
	base, err := filepath.Abs("testdata/forks")
	require.NoError(t, err)
	l := leaving{folder: t.TempDir(), log: &lockedBuffer{}}
	settings = append([]string{"python: ends.py", "retry: none", fmt.Sprintf("params: {folder: %q}", l.folder)}, settings...)
	for i, each := range settings {
		settings[i] = strings.ReplaceAll(each, "FOLDER", l.folder)
	}
	l.Runner, err = loadIn(t, base, "requirements: [numpy==2.2.6]\n"+single(nodeType, settings...),
		runner.WithLogger(hclog.New(&hclog.LoggerOptions{Output: l.log, Level: hclog.Info})))
	require.NoError(t, err)
	require.NoError(t, l.Start(t.Context()))
	return l
}

// assertLeft asserts that the worker has done all that was left for its end, once, without
// complaints.
func (l leaving) assertLeft(t *testing.T, notes ...string) {
	t.Helper()
	for _, note := range notes {
		text, err := os.ReadFile(filepath.Join(l.folder, note))
		assert.NoError(t, err)
		assert.Contains(t, []string{"done\n", "finalized\n"}, string(text), note)
	}
	entries, err := os.ReadDir(l.folder)
	require.NoError(t, err)
	for _, entry := range entries {
		assert.False(t, entry.IsDir(), "the temporary folder %s is removed", entry.Name())
	}
	for _, line := range []string{"a record of an atexit callback", "a line of an atexit callback"} {
		assert.Equal(t, 1, strings.Count(l.log.String(), line), line)
	}
	l.assertQuiet(t)
}

// assertQuiet asserts that the end of a worker was no reason for a warning.
func (l leaving) assertQuiet(t *testing.T) {
	t.Helper()
	for _, word := range []string{"[WARN]", "[ERROR]", "Exception", "Traceback", "Error", "leaked", "warning"} {
		assert.NotContains(t, l.log.String(), word)
	}
}

var left = []string{"atexit", "unflushed", "finalizer", "finalizer of a cycle", "weakref", "thread", "executor"}

func TestAWorkerThatIsShutDownFinalizesItsInterpreter(t *testing.T) {
	for _, kind := range []struct {
		node  string
		notes []string
	}{{"Ends", []string{"close"}}, {"AsyncEnds", []string{"task", "to_thread"}}} {
		for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}", "isolation: {write: [FOLDER]}"} {
			notes := slices.Concat(kind.notes, left)
			t.Run(kind.node+" "+settings, func(t *testing.T) {
				t.Run("closed", func(t *testing.T) {
					l := startLeaving(t, kind.node, settings)
					_, err := l.Run(t.Context(), "")
					require.NoError(t, err)
					require.NoError(t, l.Close(t.Context()))
					l.assertLeft(t, notes...)
				})
				t.Run("reloaded", func(t *testing.T) {
					l := startLeaving(t, kind.node, settings)
					_, err := l.Run(t.Context(), "")
					require.NoError(t, err)
					require.NoError(t, l.Reload(t.Context()))
					require.NoError(t, l.Close(t.Context()))
					l.assertLeft(t, left...)
				})
			})
		}
	}
	t.Run("retired", func(t *testing.T) {
		l := startLeaving(t, "Ends", "workers: {max_calls: 1}")
		pid, err := l.Run(t.Context(), "")
		require.NoError(t, err)
		testkit.Eventually(t, func() bool { return testkit.Gone(int(pid.(int64))) })
		require.NoError(t, l.Close(t.Context()))
		l.assertLeft(t, left...)
	})
}

func TestAWorkerThatCallsExitFinalizesItsInterpreter(t *testing.T) {
	l := startLeaving(t, "Ends")
	_, err := l.Run(t.Context(), "sys.exit(3)")
	e := asError(t, err)
	assert.Equal(t, 3, *e.ExitCode)
	assert.Contains(t, e.Message, "sys.exit(3)")
	require.NoError(t, l.Close(t.Context()))
	for _, note := range left {
		assert.FileExists(t, filepath.Join(l.folder, note))
	}
}

// Its caller gets its error all the same.
func TestAWorkerThatExitsWithoutEndIsKilled(t *testing.T) {
	l := startLeaving(t, "Ends")
	_, err := l.Run(t.Context(), "threading.Thread(target=threading.Event().wait).start(); sys.exit(3)")
	e := asError(t, err)
	assert.ErrorIs(t, e, runner.KindPythonVM)
	assert.Contains(t, e.Message, "sys.exit(3)")
}

func TestAWorkerThatDoesNotEndInTimeIsKilledAndLogged(t *testing.T) {
	for _, how := range []string{
		"threading.Thread(target=threading.Event().wait).start()",
		"import atexit; atexit.register(threading.Event().wait)",
	} {
		l := startLeaving(t, "Ends")
		_, err := l.Run(t.Context(), how)
		require.NoError(t, err)
		require.NoError(t, l.Close(t.Context()))
		assert.True(t, l.log.contains("the worker did not exit within its grace period of 2s and was killed"), l.log.String())
		assert.FileExists(t, filepath.Join(l.folder, "close"))
	}
	l := startLeaving(t, "Ends")
	_, err := l.Run(t.Context(), "import atexit; atexit.register(threading.Event().wait)")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.NoError(t, l.Close(ctx))
	assert.True(t, l.log.contains("the worker did not exit in time and was killed"), l.log.String())
}

func TestArraysThatANodeKeepsAreReleasedQuietly(t *testing.T) {
	for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}", "isolation: {processes: any}"} {
		l := startLeaving(t, "ArrayEnds", settings, "env: {PYTHONDEVMODE: '1'}")
		array, err := ipc.NewTensor(make([]byte, 1<<20), 1<<20)
		require.NoError(t, err)
		for range 3 {
			_, err = l.Run(t.Context(), array)
			require.NoError(t, err)
		}
		require.NoError(t, l.Close(t.Context()))
		l.assertQuiet(t)
	}
}

// Under the fork server, the module is imported once for all workers. Each of them runs the
// callbacks of atexit, as if it had imported the module itself, but none removes what the
// others need.
func TestWhatAModuleLeavesForTheEndIsDoneByEachWorker(t *testing.T) {
	for _, forks := range []bool{false, true} {
		folder, n := t.TempDir(), &multiNode{t: t}
		r, err := loadIn(t, n.base(), single("imported", "python: imports.py", "retry: none",
			fmt.Sprintf("workers: {fork_server: %v, max_calls: 1}", forks), fmt.Sprintf("env: {FOLDER: %q, CODE: pass}", folder)))
		require.NoError(t, err)
		const calls = 3
		for range calls {
			got, err := r.Run(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, true, got.(map[string]any)["exists"])
		}
		assert.Empty(t, r.Health().Nodes[0].Pool.ForkNote)
		require.NoError(t, r.Close(t.Context()))
		text, err := os.ReadFile(filepath.Join(folder, "atexit"))
		require.NoError(t, err)
		assert.GreaterOrEqual(t, strings.Count(string(text), "done\n"), calls)
	}
}
