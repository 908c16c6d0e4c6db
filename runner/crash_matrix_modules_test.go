package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

const moduleFolder = "internal/wasm/testdata"

// moduleCall is a row of the matrix: a failure of a module of WebAssembly during a call.
type moduleCall struct {
	does  string // in words; "the module" comes before it
	file  string // in moduleFolder
	input any
	want  outcome
	says  string // a part of the error's text

	more     []string // lines of the manifest
	canceled bool     // the caller leaves
}

// What faults.wasm does if its input is this number.
const (
	countCalls = 17
	returnText = 18
)

// faulted is the outcome of a fault of a module. Its instance is not used again.
func faulted(end, function string) outcome {
	return outcome{kind: runner.KindWasm, end: end, function: function, retried: true, replaced: true, counted: true}
}

const soon = "timeout: 200ms"

var moduleCalls = []moduleCall{
	{does: "executes `unreachable`", file: "faults", input: 1, want: faulted("", "trap"), says: "the module trapped: unreachable"},
	{does: "divides by zero", file: "faults", input: 6, want: faulted("", "call"), says: "integer divide by zero"},
	{does: "calls a null reference", file: "faults", input: 11, want: faulted("", "call"), says: "invalid table access"},
	{does: "recurses for ever", file: "faults", input: 7, want: faulted("", ""), says: "stack overflow"},
	{does: "exits with code 3", file: "faults", input: 8, want: faulted("exit 3", "proc_exit"), says: "exited with code 3"},
	{does: "loops forever", file: "faults", input: 2, want: faulted("", ""), says: "no answer within 200ms", more: []string{soon}},
	{does: "sleeps forever", file: "faults", input: 13, want: faulted("", ""), says: "no answer within 200ms", more: []string{soon}},
	{does: "floods standard error", file: "faults", input: 14, want: faulted("", ""), says: "no answer within 200ms", more: []string{soon}},
	{does: "asks for random bytes without end", file: "faults", input: 16, want: faulted("", ""), says: "no answer within 200ms", more: []string{soon}},
	{does: "is canceled and continues", file: "faults", input: 2, want: exempt(runner.KindOther, "").and(replaced), canceled: true},
	{does: "grows its memory beyond `limits.memory`", file: "faults", input: 3, want: faulted("", "trap"), says: "ran out of memory", more: []string{"limits: {memory: 16MiB}"}},
	{does: "grows its table without end", file: "faults", input: 12, want: succeeded()},
	{does: "returns bytes outside of its memory", file: "faults", input: 4, want: faulted("", ""), says: "outside of the module's memory"},
	{does: "has no buffer for the input", file: "faults", input: strings.Repeat("x", 1<<16), want: faulted("", ""), says: "no buffer for the input"},
	{does: "returns more than `limits.result`", file: "faults", input: 5, want: notMarshaled(), says: "limits.result allows 1048576", more: []string{"limits: {result: 1MiB}"}},
	{does: "returns no value", file: "faults", input: 10, want: notMarshaled(), says: "no bytes"},
	{does: "returns what is not msgpack", file: "faults", input: returnText, want: notMarshaled(), says: "5 bytes follow the value"},
	{does: "(a command) executes `unreachable`", file: "command", input: 1, want: faulted("", "main"), says: "the module trapped: unreachable"},
	{does: "(a command) exits with code 9", file: "command", input: 9, want: faulted("exit 9", "proc_exit"), says: "exited with code 9"},
	{does: "(a command) writes without end", file: "command", input: 5, want: notMarshaled().and(replaced), says: "limits.result allows 1048576", more: []string{"limits: {result: 1MiB}"}},
	{does: "(a command) writes nothing", file: "command", input: 7, want: notMarshaled().and(replaced), says: "wrote nothing"},
}

// moduleStart is a row of the matrix: a module of WebAssembly that does not start.
type moduleStart struct {
	does, file string
	kind       runner.Kind
	says       string
	more       []string
}

var moduleStarts = []moduleStart{
	{does: "is no module", file: "faults.wat", kind: runner.KindManifest, says: "it is no WebAssembly module"},
	{does: "lacks an export", file: "no_functions.wasm", kind: runner.KindManifest, says: "does not export"},
	{does: "imports what does not exist", file: "foreign_imports.wasm", kind: runner.KindManifest, says: "the module imports env.alert"},
	{does: "needs more than `limits.memory` to start", file: "large_memory.wasm", kind: runner.KindManifest, says: "more than the limit of 268435456"},
	{does: "traps in `_initialize`", file: "start_traps.wasm", kind: runner.KindWasm, says: "unreachable"},
	{does: "has a start function that does not end", file: "start_loops.wasm", kind: runner.KindWasm, says: "not ready within 200ms", more: []string{"setup_timeout: 200ms"}},
}

// moduleMatrix returns the rows of modules.
func moduleMatrix() part {
	seen := make([]observation, len(moduleCalls)+len(moduleStarts))
	p := part{}
	for i, c := range moduleCalls {
		p.add(c.does, func(t *testing.T) { seen[i] = c.observe(t) })
	}
	for i, s := range moduleStarts {
		p.add(s.does, func(t *testing.T) { seen[len(moduleCalls)+i] = s.observe(t) })
	}
	p.table = func() string { return moduleTable(p.names(), seen) }
	return p
}

// module returns a runner for a pipeline with one node, which is a module.
func module(t *testing.T, file string, lines []string) *runner.Runner {
	t.Helper()
	base, err := filepath.Abs(moduleFolder)
	require.NoError(t, err)
	text := "version: v1\nnodes:\n  - id: node\n    wasm: " + file + "\n"
	for _, line := range append([]string{once}, lines...) {
		text += "    " + line + "\n"
	}
	return parse(t, text, base)
}

func (c moduleCall) observe(t *testing.T) observation {
	r := module(t, c.file+".wasm", c.more)
	before, err := r.Run(t.Context(), countCalls)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if c.canceled {
		time.AfterFunc(50*time.Millisecond, cancel)
	}
	_, err = r.Run(ctx, c.input)
	s := observeModule(t, r, err)

	resetBreaker(r)
	after, err := r.Run(t.Context(), countCalls)
	require.NoError(t, err, "the node works again")
	// A command has an instance for each call. Others count their calls.
	s.replaced = c.file == "command" || after.(int64) <= before.(int64)
	s.check(t, c.want, c.says)
	return s
}

func (c moduleStart) observe(t *testing.T) observation {
	r := module(t, c.file, c.more)
	s := observeModule(t, r, r.Start(t.Context()))
	want := outcome{kind: c.kind, function: s.function, notBegun: true}
	s.check(t, want, c.says)
	return s
}

// modulePlace is what the other columns show of a text.
var modulePlace = regexp.MustCompile(`^marshaling error in node "node" during read the result: | \(\w+\.wasm in \w+\)`)

// observeModule is observe for a module, whose functions have no lines.
func observeModule(t *testing.T, r *runner.Runner, err error) observation {
	t.Helper()
	s := observe(t, r, err)
	if err == nil {
		return s
	}
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	if last := len(e.Traceback) - 1; last >= 0 {
		s.function = e.Traceback[last].Function
	}
	s.says = modulePlace.ReplaceAllString(s.says, "")
	return s
}

// moduleTable formats rows as Markdown.
func moduleTable(names []string, seen []observation) string {
	var b strings.Builder
	b.WriteString("| the module | kind | exit code | function | retried | instance | breaker | begun | text of the error |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for i, s := range seen {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", names[i], kindCell(s),
			cell(strings.TrimPrefix(s.end, "exit ")), code(s.function), choice(s.retried, "yes", "no"),
			instance(s), choice(s.counted, "counts", "–"), choice(s.notBegun, "no", "yes"), quoted(s))
	}
	return b.String()
}

// instance says which instance the next call has; there is none if the module did not start.
func instance(s observation) string {
	if s.notBegun {
		return "–"
	}
	return choice(s.replaced, "replaced", "kept")
}

func TestAModuleOfAnEmbeddedPipelineRunsInAStream(t *testing.T) {
	file, err := os.ReadFile(filepath.Join(moduleFolder, "command.wasm"))
	require.NoError(t, err)
	p, err := runner.LoadFS(fstest.MapFS{
		"app/pipeline.yaml": {Data: []byte("version: v1\nnodes: [{id: echo, wasm: it.wasm, workers: 3}]")},
		"app/it.wasm":       {Data: file},
	}, "app")
	require.NoError(t, err)
	r, err := runner.New(p)
	require.NoError(t, err)
	defer r.Close(t.Context())
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	for i := range 20 {
		require.NoError(t, s.Send(fmt.Sprint(i)))
	}
	s.CloseSend()
	for i := range 20 {
		item, err := s.Recv()
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(i), item.Value)
	}
}

// TestAWasmNodeBetweenGoAndPython runs the three kinds of nodes one after the other.
func TestAWasmNodeBetweenGoAndPython(t *testing.T) {
	base, err := filepath.Abs(moduleFolder)
	require.NoError(t, err)
	nodes, err := filepath.Abs("testdata/nodes.py")
	require.NoError(t, err)
	for _, file := range []string{"faults", "command"} {
		for _, format := range []string{"msgpack", "json"} {
			t.Run(file+" "+format, func(t *testing.T) {
				text := fmt.Sprintf(`version: v1
nodes:
  - {id: go, node_type: quote}
  - {id: wasm, wasm: {module: %s.wasm, format: %s}}
  - {id: python, node_type: echo, python: %s}
connections: [{from: go, to: wasm}, {from: wasm, to: python}]
`, file, format, strconv.Quote(nodes))
				r := parse(t, text, base, runner.WithNode("quote", func(_ context.Context, in runner.Input) (any, error) {
					return map[string]any{"quoted": fmt.Sprintf("%q", in.Value)}, nil
				}))
				got, err := r.Run(t.Context(), "x")
				require.NoError(t, err)
				assert.Equal(t, map[string]any{"quoted": `"x"`}, got)
			})
		}
	}
}
