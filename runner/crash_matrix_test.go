package runner_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

var update = flag.Bool("update", false, "write the tables that the crash matrix finds into docs/crashes.md")

// fate is what a caller must see of a failure, and what becomes of the node.
type fate struct {
	kind        runner.Kind
	fine        bool   // the call gives its answer; the rest says what becomes of the worker
	end         string // a signal, or the exit code: "exit 3"
	function    string // the innermost function of the node's own that the error shows
	retried     bool
	replaced    bool // the next call finds another worker
	counted     bool // by the breaker
	undelivered bool // so that even what must not run twice is made again
}

// sight is what a caller saw.
type sight struct {
	fate
	place string // the file and line of the function
	says  string
}

// died is the end of an interpreter, with a signal or an exit code.
func died(end, function string) fate {
	return fate{kind: runner.KindPythonVM, end: end, function: function, retried: true, replaced: true, counted: true}
}

// broke is the end of a connection.
func broke(end, function string) fate {
	f := died(end, function)
	f.kind = runner.KindTransport
	return f
}

// raised is an exception, after which the worker goes on.
func raised(function string) fate {
	return fate{kind: runner.KindExecution, function: function, retried: true, counted: true}
}

// declined is an exception that the node does not want tried again, or is not to
// blame for.
func declined(kind runner.Kind, function string) fate { return fate{kind: kind, function: function} }

// uncarried is a result that has no form on the wire.
func uncarried() fate { return fate{kind: runner.KindMarshaling, counted: true} }

// well is an answer.
func well() fate { return fate{fine: true} }

func (f fate) and(change func(*fate)) fate {
	change(&f)
	return f
}

const crashes = "testdata/crashes"

// crashing loads a pipeline of one node, with the id "node", of the crash matrix.
func crashing(t *testing.T, base, python, nodeType string, lines []string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	base, err := filepath.Abs(base)
	require.NoError(t, err)
	text := "version: v1\npython: " + python + "\nnodes:\n  - id: node\n    node_type: " + nodeType + "\n"
	for _, line := range lines {
		text += "    " + line + "\n"
	}
	return parse(t, text, base, opts...)
}

// parse loads a pipeline from its whole manifest.
func parse(t *testing.T, text, base string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	p, err := manifest.Parse("matrix.yaml", []byte(text), base)
	require.NoError(t, err)
	r, err := runner.New(p, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

// once has a failed call made once more where that is worth it, so that it shows.
const (
	once = "retry: {fixed: 1ms, max_attempts: 1}"
	// noSpare has the next call find the same worker, or one that was started for it.
	noSpare = "workers: {spare: 0}"
)

// Of what the caller reads, the table leaves out what stands in its other columns,
// and what differs from run to run.
var (
	head     = regexp.MustCompile(`^((\w+ )?error in node "node" during \w+: |interrupted in attempt \d: )+`)
	place    = regexp.MustCompile(` \((/.*:\d+ in [^()]*|/[^()]*)\)`)
	attempt  = regexp.MustCompile(`; attempt \d of \d$`)
	measured = regexp.MustCompile(`[0-9.]+ ?[a-zA-Z]+, more than`)
	levels   = regexp.MustCompile(`(\[0\]){4,}`)
)

func read(line string) string {
	line = attempt.ReplaceAllString(head.ReplaceAllString(line, ""), "")
	line = strings.TrimPrefix(place.ReplaceAllString(line, ""), ": ")
	return levels.ReplaceAllString(line, "[0][0]…")
}

// see takes down what an error says, and what became of the node.
func see(t *testing.T, r *runner.Runner, err error) sight {
	t.Helper()
	var s sight
	s.counted = r.Scheduler().Breaker("node").Failures() > 0
	if err == nil {
		s.fine = true
		return s
	}
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	s.kind, s.undelivered, s.retried = e.Kind, e.NotBegun, e.Attempt > 1
	switch {
	case e.Signal != "":
		s.end = e.Signal
	case e.ExitCode != nil:
		s.end = "exit " + strconv.Itoa(*e.ExitCode)
	}
	s.says = read(e.Error())
	if e.Limit == "resident" || e.Limit == "cpu_time" {
		s.says = measured.ReplaceAllString(s.says, "…, more than")
	}
	for _, frame := range e.Traceback {
		if file := filepath.Base(frame.File); ownCode(frame.File) && frame.Line > 0 {
			s.function, s.place = frame.Function, fmt.Sprintf("%s:%d", file, frame.Line)
		}
	}
	return s
}

// ownCode reports whether a file is the node's, and no part of how the matrix hands
// out its ways.
func ownCode(file string) bool {
	dir, name := filepath.Split(file)
	return name != "nodes.py" && (filepath.Base(dir) == "crashes" || name == startsAs)
}

// check compares what was seen with what must be.
func (s sight) check(t *testing.T, want fate, says string) {
	t.Helper()
	assert.Equal(t, want, s.fate)
	assert.Contains(t, s.says, says)
}

// tries is how often what depends on a deadline is done where it does not come out.
const tries = 5

// matches reports whether it ended, and was seen and told, as it must be.
func (s sight) matches(want fate, says string) bool {
	return s.end == want.end && s.function == want.function && strings.Contains(s.says, says)
}

// part is a part of the matrix.
type part struct {
	rows  []row
	table func() string // of what the rows have seen
}

type row struct {
	name string
	run  func(*testing.T)
}

func (p *part) add(name string, run func(*testing.T)) { p.rows = append(p.rows, row{name, run}) }

func (p *part) names() []string {
	var names []string
	for _, r := range p.rows {
		names = append(names, r.name)
	}
	return names
}

// atOnce is how many rows run at a time: most of them wait for a process or a deadline.
const atOnce = 10

// TestCrashMatrix goes through the ways for an interpreter to end or misbehave, and
// checks what the caller sees of each. What it finds stands in docs/crashes.md.
func TestCrashMatrix(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the signals and limits are Linux's")
	}
	parts := []part{callMatrix(), startMatrix(), closeMatrix()}
	var running sync.WaitGroup
	var missing atomic.Int64
	room := make(chan struct{}, atOnce)
	for _, p := range parts {
		for _, r := range p.rows {
			missing.Add(1)
			room <- struct{}{}
			running.Go(func() {
				defer func() { <-room }()
				t.Run(r.name, func(t *testing.T) {
					r.run(t)
					missing.Add(-1)
				})
			})
		}
	}
	running.Wait()
	if t.Failed() || missing.Load() > 0 {
		return // of a part, or of what is wrong, there is nothing to write
	}
	var tables []string
	for _, p := range parts {
		tables = append(tables, p.table())
	}
	compareDocs(t, tables)
}

// ended reports whether there is no such process, not even a zombie.
func ended(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// workers are the processes that a runner has started.
func (r *recorder) workers() []int {
	var pids []int
	for _, e := range of[runner.WorkerStarted](r) {
		pids = append(pids, e.PID)
	}
	return pids
}

// leavesNothing closes the runner and checks that no worker is left, dead or alive.
func leavesNothing(t *testing.T, r *runner.Runner, events *recorder) {
	t.Helper()
	require.NoError(t, r.Close(t.Context()))
	for _, pid := range events.workers() {
		assert.True(t, ended(pid), "process %d is left", pid)
	}
}

// fresh gives the breaker a clean slate.
func fresh(r *runner.Runner) { r.Scheduler().Breaker("node").Reset() }

// appears waits for a file and returns what it says; the time bounds a failure only.
func appears(t *testing.T, path string) string {
	t.Helper()
	var content []byte
	require.Eventually(t, func() bool {
		var err error
		content, err = os.ReadFile(path)
		return err == nil && len(content) > 0
	}, time.Minute, time.Millisecond, path)
	return strings.TrimSpace(string(content))
}
