package runner_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// startForks starts a pipeline with one node of a file in testdata/forks.
func startForks(t *testing.T, file, nodeType string, more ...string) *runner.Runner {
	t.Helper()
	r, err := loadForks(t, file, nodeType, more...)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	return r
}

func loadForks(t *testing.T, file, nodeType string, more ...string) (*runner.Runner, error) {
	t.Helper()
	base, err := filepath.Abs("testdata/forks")
	require.NoError(t, err)
	return loadIn(t, base, single(nodeType, append([]string{"python: " + file, "retry: none", "breaker: none"}, more...)...))
}

// plainly runs testdata/forks/nodes.py as a plain Python program, and returns what it
// prints.
func plainly(t *testing.T, args ...string) map[string]any {
	t.Helper()
	python, err := runner.FindInterpreter(t.Context())
	require.NoError(t, err)
	cmd := exec.Command(python.Path, append([]string{"testdata/forks/nodes.py"}, args...)...)
	pkg, err := filepath.Abs("../pyworker")
	require.NoError(t, err)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+pkg)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var result map[string]any
	require.NoError(t, json.Unmarshal(out, &result), "%s", out)
	return result
}

// outerFrames are the frames of a traceback that differ between a node and a program: those
// above the function that forks.
var outerFrames = regexp.MustCompile(`(?s)(Traceback \(most recent call last\):\n).*?(  File "[^"]*", line \d+, in fork\n)`)

// numbers are those of threads and the addresses of objects, which differ.
var numbers = regexp.MustCompile(`Thread-\d+|0x[0-9a-f]+`)

// endsOfChildren are the ways in which a child that node code has forked ends.
var endsOfChildren = []struct{ name, code string }{
	{"returns", "pass"},
	{"raises", "raise ValueError('wrong')"},
	{"raises with a cause", "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('wrong') from e"},
	{"raises a BaseException", "raise GeneratorExit('odd')"},
	{"is interrupted", "raise KeyboardInterrupt"},
	{"sys.exit()", "sys.exit()"},
	{"sys.exit(0)", "sys.exit(0)"},
	{"sys.exit(7)", "sys.exit(7)"},
	{"sys.exit(-1)", "sys.exit(-1)"},
	{"sys.exit(text)", "sys.exit('bye')"},
	{"SystemExit of a tuple", "raise SystemExit((1, 2))"},
	{"os._exit(9)", "os._exit(9)"},
	{"is killed", "os.kill(os.getpid(), 9)"},
	{"is aborted", "os.abort()"},
	{"gets SIGUSR1", "os.kill(os.getpid(), 10)"},
	{"gets SIGINT", "os.kill(os.getpid(), 2)\ntime.sleep(60)"},
	{"gets SIGTERM", "os.kill(os.getpid(), 15)"},
	{"registers atexit", "atexit.register(print, 'atexit of the child')"},
	{"an atexit handler raises", "atexit.register(lambda: 1 / 0)"},
	{"leaves a thread", "threading.Thread(target=lambda: (time.sleep(0.05), print('of the thread'))).start()"},
	{"leaves a daemon thread", "threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()"},
	{"a thread raises", "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()"},
	{"prints without a line break", "print('unfinished', end='')"},
	{"forks again", "child = os.fork()\nif child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\nsys.exit(5)"},
	{"memory error", "raise MemoryError('of its own')"},
	{"a file is not closed", "sys.kept = open('/dev/stderr', 'w'); sys.kept.write('flushed')"},
	{"replaces excepthook", "sys.excepthook = lambda *_: print('hooked', flush=True)\nraise ValueError"},
	{"becomes a program", "os.execvp('sh', ['sh', '-c', 'exit 4'])"},
}

func TestAForkedChildEndsAsUnderPlainPython(t *testing.T) {
	want := make(map[string]map[string]any)
	for _, end := range endsOfChildren {
		want[end.name] = plainly(t, "value", end.code)
	}
	for _, each := range []struct {
		name, node string
		settings   []string
	}{
		{"value", "value", nil},
		{"value under the fork server", "value", []string{"workers: {fork_server: true}"}},
		{"value of an isolated node", "value", []string{"isolation: {processes: any}"}},
		{"value in a thread of the worker", "value", []string{"workers: {threads: 2}"}},
		{"generator", "items", nil},
		{"batch", "batched", nil},
		{"async", "awaited", nil},
		{"async generator", "yielded", nil},
		{"session", "Session", nil},
	} {
		t.Run(each.name, func(t *testing.T) {
			t.Parallel()
			r := startForks(t, "nodes.py", each.node, each.settings...)
			for _, end := range endsOfChildren {
				if strings.Contains(each.name, "thread") && (end.name == "a file is not closed" || end.name == "leaves a thread") {
					continue // objects are not finalized there, and threads of daemons are daemons
				}
				t.Run(end.name, func(t *testing.T) {
					stream, err := r.Stream(t.Context())
					require.NoError(t, err)
					go feedUntilEnd(stream, []any{end.code})
					got, err := values(stream)
					require.NoError(t, err)
					require.Len(t, got, 1)
					assertSameEnd(t, want[end.name], got[0].(map[string]any))
				})
			}
		})
	}
}

func TestAChildThatIsForkedInSetupEndsAsUnderPlainPython(t *testing.T) {
	for _, end := range endsOfChildren[:8] {
		for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}"} {
			r := startForks(t, "nodes.py", "InSetup", settings, fmt.Sprintf("params: {code: %q}", end.code))
			got, err := r.Run(t.Context(), nil)
			require.NoError(t, err, end.name)
			assertSameEnd(t, plainly(t, "value", end.code), got.(map[string]any))
		}
	}
}

func TestAChildThatIsForkedDuringAnImportEndsAsUnderPlainPython(t *testing.T) {
	for _, end := range endsOfChildren[:8] {
		want := plainly(t, "value", end.code)
		for _, forks := range []bool{false, true} {
			r := startForks(t, "imports.py", "imported",
				fmt.Sprintf("workers: {fork_server: %v}", forks), fmt.Sprintf("env: {FOLDER: %q, CODE: %q}", t.TempDir(), end.code))
			got, err := r.Run(t.Context(), nil)
			require.NoError(t, err, end.name)
			assertSameEnd(t, want, got.(map[string]any))
			if forks {
				assert.Empty(t, r.Health().Nodes[0].Pool.ForkNote, end.name)
			}
		}
	}
}

// The thread that forks is the only one of the child, which exits with 0 and without callbacks
// of atexit when that thread ends, in plain Python and in a node.
func TestAChildOfAThreadEndsAsUnderPlainPython(t *testing.T) {
	for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}", "isolation: {processes: any}"} {
		r := startForks(t, "nodes.py", "threaded", settings)
		for _, end := range endsOfChildren {
			if end.name == "leaves a daemon thread" {
				continue // which keeps the process alive
			}
			got, err := r.Run(t.Context(), end.code)
			require.NoError(t, err, end.name)
			assertSameEnd(t, plainly(t, "threaded", end.code), got.(map[string]any))
		}
	}
}

func TestAForkedChildHasNoDescriptorOfItsParentsWorker(t *testing.T) {
	for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}", "isolation: {processes: any, read: [/proc]}"} {
		r := startForks(t, "nodes.py", "inherited", settings)
		got, err := r.Run(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, got, settings)
	}
}

func TestChildrenFindTheirSignalsAsUnderPlainPython(t *testing.T) {
	for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}", "isolation: {processes: any, read: [/proc]}"} {
		r := startForks(t, "nodes.py", "signals", settings)
		for _, how := range []string{
			"subprocess", "without restore_signals", "preexec_fn", "start_new_session", "thread", "exec", "posix_spawn", "fork", "shell",
		} {
			got, err := r.Run(t.Context(), how)
			require.NoError(t, err, how)
			assert.Equal(t, plainly(t, "signals", how), got, "%s, %s", how, settings)
		}
	}
}

func assertSameEnd(t *testing.T, want, got map[string]any) {
	t.Helper()
	assert.EqualValues(t, want["code"], got["code"])
	bare := func(report map[string]any) string {
		return numbers.ReplaceAllString(outerFrames.ReplaceAllString(report["written"].(string), "$1$2"), "0")
	}
	assert.Equal(t, bare(want), bare(got))
}
