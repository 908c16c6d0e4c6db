package runner_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// starting is a row of the matrix: a failure of a worker during its start.
type starting struct {
	does string
	as   string // a file in testdata/crashes/start
	want outcome
	says string
	more []string
}

// nodeFile is the name of the copy of that file in the pipeline's folder.
const nodeFile = "it.py"

// notStarted changes an outcome to that of a failed start: the call had not begun.
func notStarted(f *outcome) { f.notBegun, f.replaced = true, true }

// notRetried changes it to that of a start that is not retried.
func notRetried(f *outcome) { notStarted(f); f.retried = false }

// notCounted changes it to that of a failure that the breaker does not count.
func notCounted(f *outcome) { f.counted = false }

const setupTimeout = "setup_timeout: 5s"

var starts = []starting{
	{does: "needs a package that is missing", as: "missing_package.py", want: raised("<module>").and(notRetried), says: "no_such_package"},
	{does: "needs a name that is missing", as: "missing_name.py", want: raised("<module>").and(notRetried), says: "no_such_name"},
	{does: "has a syntax error", as: "syntax_error.txt", want: raised("<module>").and(notRetried), says: "SyntaxError"},
	{does: "has no node of that name", as: "no_such_node.py", want: exempt(runner.KindManifest, "").and(notRetried), says: "'It'"},
	{does: "raises on import", as: "import_raises.py", want: raised("<module>").and(notRetried), says: "not today"},
	{does: "calls `sys.exit(9)` on import", as: "import_exits.py", want: died("exit 9", "<module>").and(notRetried)},
	{does: "calls `os._exit(9)` on import", as: "import_exits_now.py", want: died("exit 9", "<module>").and(notStarted), says: "os._exit(9)"},
	{does: "crashes on import", as: "import_crashes.py", want: died("SIGSEGV", "<module>").and(notStarted), says: "SIGSEGV"},
	{does: "hangs on import", as: "import_hangs.py", want: died("SIGABRT", "<module>").and(notStarted), says: "not ready within 5s; it was blocked in Python", more: []string{setupTimeout}},
	{does: "raises in `setup`", as: "setup_raises.py", want: raised("setup").and(notStarted), says: "no weights"},
	{does: "raises `Permanent` in `setup`", as: "setup_raises_permanent.py", want: raised("setup").and(notRetried).and(notCounted), says: "no license"},
	{does: "calls `sys.exit(9)` in `setup`", as: "setup_exits.py", want: died("exit 9", "setup").and(notStarted)},
	{does: "calls `os._exit(0)` in `setup`", as: "setup_exits_now.py", want: died("exit 0", "setup").and(notStarted), says: "os._exit(0)"},
	{does: "aborts in `setup`", as: "setup_aborts.py", want: died("SIGABRT", "setup").and(notStarted), says: "SIGABRT"},
	{does: "is killed in `setup`", as: "setup_is_killed.py", want: died("SIGKILL", "").and(notStarted), says: "SIGKILL"},
	{does: "uses up `limits.memory` in `setup`", as: "setup_runs_out_of_memory.py", want: died("", "setup").and(notStarted), says: "MemoryError", more: []string{memoryLimit}},
	{does: "hangs in `setup`", as: "setup_hangs.py", want: died("SIGABRT", "setup").and(notStarted), says: "not ready within 5s; it was blocked in Python", more: []string{setupTimeout}},
	{does: "hangs in C in `setup` and holds the GIL", as: "setup_holds_the_gil.py", want: died("SIGABRT", "setup").and(notStarted), says: "not ready within 5s; it was blocked in C code that holds the GIL", more: []string{setupTimeout}},
	{does: "stops itself in `setup`", as: "setup_stops.py", want: died("SIGABRT", "setup").and(notStarted), says: "not ready within 5s; the process was stopped", more: []string{setupTimeout}},
	{does: "closes all descriptors in `setup`", as: "setup_closes_the_socket.py", want: broke("SIGABRT", "").and(notStarted)},
	{does: "describes itself with a batch of 2⁶² calls", as: "describes_a_huge_batch.py", want: broke("exit 0", "").and(notStarted), says: "batch is 4611686018427387904, not from 0 to 4096"},
}

func startMatrix() part {
	seen := make([]observation, len(starts))
	var p part
	for i, s := range starts {
		p.add(s.does, func(t *testing.T) { seen[i] = s.observe(t) })
	}
	p.table = func() string { return table(p.names(), seen) }
	return p
}

// observe makes a worker fail when the runner starts, and again when it replaces a
// worker that was killed, which the row shows. Both errors must read the same.
func (s starting) observe(t *testing.T) observation {
	base, written := t.TempDir(), time.Now()
	become := func(source string) {
		text, err := os.ReadFile(filepath.Join(crashFolder, "start", source))
		require.NoError(t, err)
		path := filepath.Join(base, nodeFile)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		// Python uses its compiled file if the source has the same time.
		written = written.Add(time.Second)
		require.NoError(t, os.Chtimes(path, written, written))
	}
	events := &recorder{}
	become(s.as)
	lines := append([]string{noSpare, once}, s.more...)
	r := crashing(t, base, nodeFile, "It", lines, runner.WithEvents(events.record))
	at := s.failedStart(t, r, func() error { return r.Start(t.Context()) })
	assert.False(t, at.counted, "there was no call")

	become("works.py")
	first := recovers(t, r)

	become(s.as)
	require.NoError(t, syscall.Kill(int(first.(int64)), syscall.SIGKILL))
	seen := s.failedStart(t, r, func() error { _, err := r.Run(t.Context(), nil); return err })
	assert.Equal(t, at.says, seen.says)
	assert.Equal(t, at.location, seen.location)

	become("works.py")
	resetBreaker(r)
	next := recovers(t, r)
	seen.replaced = first != next
	seen.check(t, s.want, s.says)
	closeCleanly(t, r, events)
	return seen
}

// recovers runs the node after its code was repaired. On a loaded machine the start may
// exceed the row's setup_timeout, so it is repeated.
func recovers(t *testing.T, r *runner.Runner) any {
	t.Helper()
	var pid any
	var err error
	for range 10 {
		if pid, err = r.Run(t.Context(), nil); err == nil {
			break
		}
	}
	require.NoError(t, err)
	return pid
}

// failedStart returns what the caller sees of a failed start, with the row's own file.
// On a loaded machine the timeout may expire before the worker hangs, so it is repeated.
func (s starting) failedStart(t *testing.T, r *runner.Runner, start func() error) observation {
	t.Helper()
	var seen observation
	for range maxTries {
		resetBreaker(r)
		err := start()
		require.Error(t, err)
		if seen = observe(t, r, err); seen.matches(s.want, s.says) {
			break
		}
	}
	seen.location = strings.Replace(seen.location, nodeFile, s.as, 1)
	return seen
}
