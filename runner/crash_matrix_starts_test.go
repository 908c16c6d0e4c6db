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

// starting is a row of the matrix: how a worker fails to get ready.
type starting struct {
	does string
	as   string // a file of testdata/crashes/start
	want fate
	says string
	more []string
}

// startsAs is the name under which that file is the node's.
const startsAs = "it.py"

// late is a start that fails: no call had reached the worker.
func late(f *fate) { f.undelivered, f.replaced = true, true }

// never is one that another attempt would not help.
func never(f *fate) { late(f); f.retried = false }

// blameless is one that says nothing against the node.
func blameless(f *fate) { f.counted = false }

const startsWithin = "setup_timeout: 5s"

var starts = []starting{
	{does: "needs a package that is missing", as: "missing_package.py", want: raised("<module>").and(never), says: "no_such_package"},
	{does: "needs a name that is missing", as: "missing_name.py", want: raised("<module>").and(never), says: "no_such_name"},
	{does: "has a syntax error", as: "syntax_error.txt", want: raised("<module>").and(never), says: "SyntaxError"},
	{does: "has no node of that name", as: "no_such_node.py", want: declined(runner.KindManifest, "").and(never), says: "'It'"},
	{does: "raises on import", as: "import_raises.py", want: raised("<module>").and(never), says: "not today"},
	{does: "calls `sys.exit(9)` on import", as: "import_exits.py", want: died("exit 9", "<module>").and(never)},
	{does: "calls `os._exit(9)` on import", as: "import_exits_now.py", want: died("exit 9", "<module>").and(late), says: "os._exit(9)"},
	{does: "crashes on import", as: "import_crashes.py", want: died("SIGSEGV", "<module>").and(late), says: "SIGSEGV"},
	{does: "hangs on import", as: "import_hangs.py", want: died("SIGABRT", "<module>").and(late), says: "not ready within 5s; it was blocked in Python", more: []string{startsWithin}},
	{does: "raises in `setup`", as: "setup_raises.py", want: raised("setup").and(late), says: "no weights"},
	{does: "raises `Permanent` in `setup`", as: "setup_raises_permanent.py", want: raised("setup").and(never).and(blameless), says: "no licence"},
	{does: "calls `sys.exit(9)` in `setup`", as: "setup_exits.py", want: died("exit 9", "setup").and(late)},
	{does: "calls `os._exit(0)` in `setup`", as: "setup_exits_now.py", want: died("exit 0", "setup").and(late), says: "os._exit(0)"},
	{does: "aborts in `setup`", as: "setup_aborts.py", want: died("SIGABRT", "setup").and(late), says: "SIGABRT"},
	{does: "is killed in `setup`", as: "setup_is_killed.py", want: died("SIGKILL", "").and(late), says: "SIGKILL"},
	{does: "eats all of `limits.memory` in `setup`", as: "setup_runs_out_of_memory.py", want: died("", "setup").and(late), says: "MemoryError", more: []string{small}},
	{does: "hangs in `setup`", as: "setup_hangs.py", want: died("SIGABRT", "setup").and(late), says: "not ready within 5s; it was blocked in Python", more: []string{startsWithin}},
	{does: "hangs in C in `setup`, and holds the GIL", as: "setup_holds_the_gil.py", want: died("SIGABRT", "setup").and(late), says: "not ready within 5s; it was blocked in C code that holds the GIL", more: []string{startsWithin}},
	{does: "stops itself in `setup`", as: "setup_stops.py", want: died("SIGABRT", "setup").and(late), says: "not ready within 5s; the process was stopped", more: []string{startsWithin}},
	{does: "closes all descriptors in `setup`", as: "setup_closes_the_socket.py", want: broke("SIGABRT", "").and(late)},
}

func startMatrix() part {
	seen := make([]sight, len(starts))
	var p part
	for i, s := range starts {
		p.add(s.does, func(t *testing.T) { seen[i] = s.see(t) })
	}
	p.table = func() string { return table(p.names(), seen) }
	return p
}

// see has a worker fail when the runner starts and, what the row is about, when a
// worker that served is to be replaced. Both are told in the same words.
func (s starting) see(t *testing.T) sight {
	base, written := t.TempDir(), time.Now()
	become := func(source string) {
		text, err := os.ReadFile(filepath.Join(crashes, "start", source))
		require.NoError(t, err)
		path := filepath.Join(base, startsAs)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		// Python takes a file for the one that it has compiled where its time is the same.
		written = written.Add(time.Second)
		require.NoError(t, os.Chtimes(path, written, written))
	}
	events := &recorder{}
	become(s.as)
	lines := append([]string{noSpare, once}, s.more...)
	r := crashing(t, base, startsAs, "It", lines, runner.WithEvents(events.record))
	at := s.sightOf(t, r, func() error { return r.Start(t.Context()) })
	assert.False(t, at.counted, "there was no call")

	become("well.py")
	first := comesUp(t, r)

	become(s.as)
	require.NoError(t, syscall.Kill(int(first.(int64)), syscall.SIGKILL))
	seen := s.sightOf(t, r, func() error { _, err := r.Run(t.Context(), nil); return err })
	assert.Equal(t, at.says, seen.says)
	assert.Equal(t, at.place, seen.place)

	become("well.py")
	fresh(r)
	next := comesUp(t, r)
	seen.replaced = first != next
	seen.check(t, s.want, s.says)
	leavesNothing(t, r, events)
	return seen
}

// comesUp runs a node that is well again. Where the machine has much to do, that may
// take more than the row's setup_timeout, and then it is tried again.
func comesUp(t *testing.T, r *runner.Runner) any {
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

// sightOf is what a start that fails looks like, with the row's own file. Where the
// machine has much to do, the time may be over before the worker has come to where it
// hangs, and then it is done again.
func (s starting) sightOf(t *testing.T, r *runner.Runner, start func() error) sight {
	t.Helper()
	var seen sight
	for range tries {
		fresh(r)
		err := start()
		require.Error(t, err)
		if seen = see(t, r, err); seen.matches(s.want, s.says) {
			break
		}
	}
	seen.place = strings.Replace(seen.place, startsAs, s.as, 1)
	return seen
}
