package runner_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

const commandFolder = crashFolder + "/commands"

// commandCall is a row of the matrix: a failure of an executable during a call.
type commandCall struct {
	does    string // in words; "the program" comes before it
	program string // the program and its protocol, one of commandPrograms
	input   string // what the program does with it
	want    outcome
	says    string   // a part of the error's text
	more    []string // lines of the manifest
	// canceled means that the caller leaves.
	canceled bool
}

const resultLimit = "limits: {result: 1MiB}"

// endedCommand is the outcome if a program ends, by a signal or with an exit code.
func endedCommand(kind runner.Kind, end string) outcome {
	return outcome{kind: kind, end: end, retried: true, replaced: true, counted: true}
}

// refused is the outcome of a result that cannot be read. The process is ended, because the
// output after it cannot be trusted.
func refused() outcome { return notMarshaled().and(replaced) }

var commandCalls = []commandCall{
	{does: "(a shell script) exits with code 3", program: "sh", input: "exit", want: endedCommand(runner.KindExecution, "exit 3"),
		says: "the program exited with code 3, saying: the disk is full"},
	{does: "(a shell script) exits without an answer", program: "sh", input: "leave", want: endedCommand(runner.KindTransport, "exit 0"), says: "exited with code 0 before it had answered"},
	{does: "(a shell script) exits in the middle of a line", program: "sh", input: "half", want: endedCommand(runner.KindTransport, "exit 0"), says: "exited with code 0 before it had answered"},
	{does: "(a shell script) gets SIGSEGV", program: "sh", input: "crash", want: endedCommand(runner.KindTransport, "SIGSEGV"), says: "the program was killed by SIGSEGV"},
	{does: "(a shell script) gets SIGKILL", program: "sh", input: "kill", want: endedCommand(runner.KindTransport, "SIGKILL"), says: "which gophersnake did not send"},
	{does: "(a shell script) hangs", program: "sh", input: "hang", want: endedCommand(runner.KindTransport, ""), says: "no answer within 500ms", more: []string{"timeout: 500ms"}},
	{does: "(a shell script) hangs with a child in a session of its own", program: "sh", input: "children", want: endedCommand(runner.KindTransport, ""), says: "no answer within 500ms", more: []string{"timeout: 500ms"}},
	{does: "(a shell script) writes no line", program: "sh", input: "silence", want: endedCommand(runner.KindTransport, ""), says: "no answer within 500ms", more: []string{"timeout: 500ms"}},
	{does: "(a shell script) is canceled", program: "sh", input: "hang", want: exempt(runner.KindOther, "").and(replaced), canceled: true},
	{does: "(a shell script) writes text that is no JSON", program: "sh", input: "garbage", want: refused(), says: `something else than JSON, "Traceback`},
	{does: "(a shell script) writes an empty line", program: "sh", input: "empty", want: refused(), says: "it is empty"},
	{does: "(a shell script) writes two lines", program: "sh", input: "twice", want: endedCommand(runner.KindTransport, ""), says: `wrote "2" after its answer`},
	{does: "(a shell script) writes a line without end", program: "sh", input: "flood", want: refused(), says: "more than 1048576 bytes", more: []string{resultLimit}},
	{does: "(a shell script) floods standard error", program: "sh", input: "chatter", want: endedCommand(runner.KindTransport, ""), says: "no answer within 500ms", more: []string{"timeout: 500ms"}},
	{does: "(a shell script) closes its standard output", program: "sh", input: "mute", want: endedCommand(runner.KindTransport, ""), says: "closed its standard output"},

	{does: "(a Go program) panics", program: "go", input: "panic", want: endedCommand(runner.KindExecution, "exit 2"), says: "the program exited with code 2, saying: panic: the index is corrupt"},
	{does: "(a Go program) writes to the null pointer", program: "go", input: "crash", want: endedCommand(runner.KindExecution, "exit 2"), says: "the program exited with code 2, saying: panic: runtime error: invalid memory address"},
	{does: "(a Go program) loops for ever", program: "go", input: "hang", want: endedCommand(runner.KindTransport, ""), says: "no answer within 500ms", more: []string{"timeout: 500ms"}},
	{does: "(a Go program) loops for ever with a limit of its CPU time", program: "go", input: "hang", want: endedCommand(runner.KindTransport, ""), says: "more than the limit of 200ms", more: []string{"limits: {cpu_time: 200ms}"}},
	{does: "(a Go program) writes what is not msgpack", program: "go", input: "garbage", want: refused(), says: "0xc1"},
	{does: "(a Go program) writes a map whose keys are integers", program: "go", input: "key", want: notMarshaled()},
	{does: "(a Go program) writes two values", program: "go", input: "twice", want: endedCommand(runner.KindTransport, ""), says: "after its answer"},
	{does: "(a Go program) exits in the middle of a value", program: "go", input: "half", want: endedCommand(runner.KindTransport, "exit 0"), says: "exited with code 0 before it had answered"},
	{does: "(a Go program) writes more than `limits.result`", program: "go", input: "flood", want: refused(), says: "more than 1048576 bytes", more: []string{resultLimit}},

	{does: "(jq) needs more than `limits.memory`", program: "jq", input: "crash", want: endedCommand(runner.KindTransport, "SIGABRT"), says: "killed by SIGABRT", more: []string{"limits: {memory: 64MiB}"}},
	{does: "(jq) has an error, which it only prints", program: "jq", input: "error", want: endedCommand(runner.KindTransport, ""), says: "no answer within 500ms", more: []string{"timeout: 500ms"}},
	{does: "(jq) recurses for ever", program: "jq", input: "hang", want: endedCommand(runner.KindTransport, ""), says: "no answer within 500ms", more: []string{"timeout: 500ms"}},
	{does: "(jq) writes text that is no JSON", program: "jq", input: "garbage", want: refused(), says: "something else than JSON"},
	{does: "(jq) writes more than `limits.result`", program: "jq", input: "flood", want: refused(), says: "more than 1048576 bytes", more: []string{resultLimit}},
}

// jqFilter answers "pid" with how many lines it has read.
const jqFilter = `if . == "pid" then input_line_number
elif . == "crash" then reduce range(40) as $i ("x"; . + .)
elif . == "error" then error("no such price")
elif . == "hang" then last(range(1e18))
elif . == "garbage" then "not quoted"
elif . == "flood" then "x" * 2000000
else . end`

// commandPrograms returns the manifest's field for each program. They are built once.
var commandPrograms = sync.OnceValue(func() map[string]string {
	found := map[string]string{"sh": "{args: [./faults.sh]}"}
	if _, err := exec.LookPath("jq"); err == nil {
		found["jq"] = fmt.Sprintf("{args: [jq, -r, -c, --unbuffered, %q]}", jqFilter)
	}
	folder, err := os.MkdirTemp("", "gophersnake-command-")
	if err != nil {
		return found
	}
	binary := filepath.Join(folder, "program")
	build := exec.Command("go", "build", "-o", binary, "./program")
	build.Dir = commandFolder
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return found
	}
	found["go"] = fmt.Sprintf("{args: [%q], protocol: msgpack}", binary)
	return found
})

// commandNode returns a runner for a pipeline with one node, which is an executable.
func commandNode(t *testing.T, program string, lines ...string) *runner.Runner {
	t.Helper()
	base, err := filepath.Abs(commandFolder)
	require.NoError(t, err)
	text := "version: v1\nnodes:\n  - id: node\n    command: " + program + "\n"
	for _, line := range append([]string{once}, lines...) {
		text += "    " + line + "\n"
	}
	return parse(t, text, base)
}

func (c commandCall) observe(t *testing.T) observation {
	program, found := commandPrograms()[c.program]
	if !found {
		t.Skipf("%s is not installed, so docs/crashes.md is not compared", c.program)
	}
	r := commandNode(t, program, c.more...)
	before, err := r.Run(t.Context(), "pid")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if c.canceled {
		time.AfterFunc(50*time.Millisecond, cancel)
	}
	_, err = r.Run(ctx, c.input)
	s := observe(t, r, err)
	resetBreaker(r)
	after, err := r.Run(t.Context(), "pid")
	require.NoError(t, err, "the node works again")
	s.replaced = before == after == (c.program == "jq") // jq counts the lines of a process
	s.check(t, c.want, c.says)
	return s
}

// commandMatrix returns the rows of executables.
func commandMatrix() part {
	seen := make([]observation, len(commandCalls))
	p := part{}
	for i, c := range commandCalls {
		p.add(c.does, func(t *testing.T) { seen[i] = c.observe(t) })
	}
	p.table = func() string { return commandTable(p.names(), seen) }
	return p
}

// commandTable formats rows as Markdown.
func commandTable(names []string, seen []observation) string {
	var b strings.Builder
	b.WriteString("| the program | kind | ended by | retried | process | breaker | begun | text of the error |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for i, s := range seen {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", names[i], kindCell(s), cell(s.end), choice(s.retried, "yes", "no"),
			choice(s.replaced, "replaced", "kept"), choice(s.counted, "counts", "–"), choice(s.notBegun, "no", "yes"), quoted(s))
	}
	return b.String()
}

// TestACommandBetweenGoAndPython runs the three kinds of nodes one after the other.
func TestACommandBetweenGoAndPython(t *testing.T) {
	nodes, err := filepath.Abs("testdata/nodes.py")
	require.NoError(t, err)
	text := fmt.Sprintf(`version: v1
nodes:
  - {id: go, node_type: quote}
  - {id: shell, command: {args: [tr, a-z, A-Z], protocol: once, output: text}}
  - {id: python, node_type: echo, python: %q}
connections: [{from: go, to: shell}, {from: shell, to: python}]
`, nodes)
	r := parse(t, text, t.TempDir(), runner.WithNode("quote", func(_ context.Context, in runner.Input) (any, error) {
		return fmt.Sprintf("<%v>", in.Value), nil
	}))
	got, err := r.Run(t.Context(), "x")
	require.NoError(t, err)
	assert.Equal(t, "<X>", got)
}

func TestACommandThatDoesNotStartSaysWhy(t *testing.T) {
	for program, says := range map[string]string{
		"[no-such-program]":                   `there is no program "no-such-program" in PATH`,
		"[./none.sh]":                         "none.sh: no such file or directory",
		"{args: [./program], protocol: once}": "program: is a directory",
		"[./program/main.go]":                 "main.go: permission denied",
	} {
		r := commandNode(t, program)
		err := r.Start(t.Context())
		var e *runner.Error
		require.ErrorAs(t, err, &e, program)
		assert.Equal(t, runner.KindIO, e.Kind)
		assert.Contains(t, e.Error(), says)
		_, err = r.Describe(t.Context())
		assert.ErrorContains(t, err, says, "it is found without a start")
	}
}

func TestAnInputOfPortsIsAnObject(t *testing.T) {
	text := `version: v1
nodes:
  - {id: a, command: [cat]}
  - {id: b, command: [cat]}
  - {id: both, command: [cat]}
connections: [{from: a, to: both.left}, {from: b, to: both.right}]
`
	r := parse(t, text, t.TempDir())
	got, err := r.Run(t.Context(), 7)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"left": int64(7), "right": int64(7)}, got)
}
