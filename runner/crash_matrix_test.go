package runner_test

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

var update = flag.Bool("update", false, "write the tables of the matrices to docs")

// outcome is what the caller must see of a failure, and its effect on the node.
type outcome struct {
	kind     runner.Kind
	succeeds bool   // the call succeeds; only the fields about the worker apply
	end      string // a signal, or the exit code: "exit 3"
	function string // the innermost function of the node in the traceback
	retried  bool
	replaced bool // the next call has another worker
	counted  bool // by the breaker
	notBegun bool // so that it is retried even if the node is not idempotent
}

// observation is what the caller saw.
type observation struct {
	outcome
	location string // the file and line of the function
	says     string
}

// died is the outcome if the interpreter ends, by a signal or with an exit code.
func died(end, function string) outcome {
	return outcome{kind: runner.KindPythonVM, end: end, function: function, retried: true, replaced: true, counted: true}
}

// broke is the outcome if the connection breaks.
func broke(end, function string) outcome {
	f := died(end, function)
	f.kind = runner.KindTransport
	return f
}

// raised is the outcome of an exception. The worker lives on.
func raised(function string) outcome {
	return outcome{kind: runner.KindExecution, function: function, retried: true, counted: true}
}

// exempt is the outcome of an error that is neither retried nor counted.
func exempt(kind runner.Kind, function string) outcome {
	return outcome{kind: kind, function: function}
}

// notMarshaled is the outcome if the result cannot be marshaled.
func notMarshaled() outcome { return exempt(runner.KindMarshaling, "") }

// succeeded is the outcome of a call that succeeds.
func succeeded() outcome { return outcome{succeeds: true} }

func (f outcome) and(change func(*outcome)) outcome {
	change(&f)
	return f
}

const crashFolder = "testdata/crashes"

// crashing returns a runner for a pipeline with one node, whose id is "node".
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

// parse returns a runner for a manifest.
func parse(t *testing.T, text, base string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	p, err := manifest.Parse("matrix.yaml", []byte(text), base)
	require.NoError(t, err)
	r, err := runner.New(p, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

// once allows one retry, which shows whether an error is retried.
const (
	once = "retry: {fixed: 1ms, max_attempts: 1}"
	// noSpare makes the next call use the same worker, or one that is started for it.
	noSpare = "workers: {spare: 0}"
)

// The table leaves out of an error's text what its other columns show, and what differs
// from run to run.
var (
	head     = regexp.MustCompile(`^((\w+ )?error in node "node" during \w+: |interrupted in attempt \d: )+`)
	place    = regexp.MustCompile(` \((/.*:\d+ in [^()]*|/[^()]*)\)`)
	attempt  = regexp.MustCompile(`; attempt \d of \d$`)
	measured = regexp.MustCompile(`[0-9.]+ ?[a-zA-Z]+, more than`)
	levels   = regexp.MustCompile(`(\[0\]){4,}`)
)

func callerText(line string) string {
	line = attempt.ReplaceAllString(head.ReplaceAllString(line, ""), "")
	line = strings.TrimPrefix(place.ReplaceAllString(line, ""), ": ")
	return levels.ReplaceAllString(line, "[0][0]…")
}

// observe returns what an error says, and whether the breaker counted it.
func observe(t *testing.T, r *runner.Runner, err error) observation {
	t.Helper()
	var s observation
	s.counted = r.Scheduler().Breaker("node").Failures() > 0
	if err == nil {
		s.succeeds = true
		return s
	}
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	s.kind, s.notBegun, s.retried = e.Kind, e.NotBegun, e.Attempt > 1
	switch {
	case e.Signal != "":
		s.end = e.Signal
	case e.ExitCode != nil:
		s.end = "exit " + strconv.Itoa(*e.ExitCode)
	}
	s.says = callerText(e.Error())
	if e.Limit == "resident" || e.Limit == "cpu_time" || e.Limit == "threads" {
		s.says = measured.ReplaceAllString(s.says, "…, more than")
	}
	for _, frame := range e.Traceback {
		if file := filepath.Base(frame.File); ownCode(frame.File) && frame.Line > 0 {
			s.function, s.location = frame.Function, fmt.Sprintf("%s:%d", file, frame.Line)
		}
	}
	return s
}

// ownCode reports whether a file belongs to the node, not to the dispatching in nodes.py.
func ownCode(file string) bool {
	dir, name := filepath.Split(file)
	return name != "nodes.py" && (filepath.Base(dir) == "crashes" || name == nodeFile)
}

// check compares the observation with the expected outcome.
func (s observation) check(t *testing.T, want outcome, says string) {
	t.Helper()
	assert.Equal(t, want, s.outcome)
	assert.Contains(t, s.says, says)
}

// maxTries is how often a row that depends on a deadline is repeated until it matches.
const maxTries = 5

// matches reports whether the end, the function and the text are as expected.
func (s observation) matches(want outcome, says string) bool {
	return s.end == want.end && s.function == want.function && strings.Contains(s.says, says)
}

// part is a part of the matrix.
type part struct {
	rows  []row
	table func() string // of the rows' observations
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

// concurrentRows is the number of rows that run at a time. Most of them wait for a
// process or a deadline.
const concurrentRows = 10

// TestCrashMatrix makes interpreters end or misbehave in many ways, and checks what the
// caller sees of each. docs/crashes.md has the results.
func TestCrashMatrix(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the signals and limits are those of Linux")
	}
	tables, complete := runParts(t, concurrentRows, callMatrix(), startMatrix(), closeMatrix(), moduleMatrix(), commandMatrix())
	if complete {
		compareDocs(t, "docs/crashes.md", tables)
	}
}

// runParts runs the rows of all parts, so many at a time, and returns the tables of the parts. If a row failed
// or did not run, it returns false: the tables are incomplete or wrong.
func runParts(t *testing.T, concurrent int, parts ...part) (tables []string, complete bool) {
	var running sync.WaitGroup
	var missing atomic.Int64
	room := make(chan struct{}, concurrent)
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
		return nil, false
	}
	for _, p := range parts {
		tables = append(tables, p.table())
	}
	return tables, true
}

// workers returns the processes that a runner has started.
func (r *recorder) workers() []int {
	var pids []int
	for _, e := range of[runner.WorkerStarted](r) {
		pids = append(pids, e.PID)
	}
	return pids
}

// closeCleanly closes the runner and checks that no worker is left, not even a zombie.
func closeCleanly(t *testing.T, r *runner.Runner, events *recorder) {
	t.Helper()
	require.NoError(t, r.Close(t.Context()))
	for _, pid := range events.workers() {
		assert.True(t, testkit.Gone(pid), "process %d is left", pid)
	}
}

// resetBreaker closes the breaker and resets its count.
func resetBreaker(r *runner.Runner) { r.Scheduler().Breaker("node").Reset() }
