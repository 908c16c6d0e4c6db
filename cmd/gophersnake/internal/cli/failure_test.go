package cli

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

func TestTheExitCodeDependsOnTheKind(t *testing.T) {
	fixtures.Chdir(t, map[string]string{"bad.json": "{", "bad.wav": "RIFF", "dir/x": ""})
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string // in the message
	}{
		{"raised", []string{"run", "resilient", "-i", `{"mode": "permanent"}`}, 4, []string{
			`error: execution error in node "fragile" during call: gophersnake.Permanent: article 4711 is not in the catalog`,
			"Traceback (most recent call last):\n", `raise Permanent("article 4711 is not in the catalog")`,
			"the node says: permanent",
		}},
		{"not for this node", []string{"run", "resilient"}, 8, []string{
			"input: expected a map (Order), got null", "hint: no input was given, so the input of the pipeline was null; see gophersnake run --help\n",
		}},
		{"died", []string{"run", "resilient", "-i", `{"mode": "crash"}`}, 5, []string{
			"error: python_vm error", "the interpreter was killed by SIGSEGV (segmentation fault)", "attempt: 4 of 4",
			"Python was here (most recent call last):\n", "os.kill(os.getpid(), signal.SIGSEGV)", "signal: SIGSEGV",
		}},
		{"left", []string{"run", "resilient", "-i", `{"mode": "exit"}`}, 5, []string{"os._exit(3)", "exit code: 3"}},
		{"not to be carried", []string{"run", "resilient", "-i", `{"mode": "value"}`}, 8, []string{
			"error: marshaling error", "result.items[1].handle: ", "hint: instead of x, return its content, x.read(), or its path, x.name", "attempt: 1 of 4",
		}},
		{"no file", []string{"run", "hello", "-i", "nowhere.wav"}, 7, []string{"there is no input file nowhere.wav", "hint: "}},
		{"no match", []string{"run", "hello", "-i", "*.png"}, 7, []string{"no file matches the input *.png"}},
		{"no interpreter", []string{"run", "hello", "--python", "/nowhere/python"}, 7, []string{`cannot find the interpreter "/nowhere/python", from --python`, "hint: "}},
		{"no place", []string{"run", "hello", "-o", "bad.json/x.json"}, 7, []string{"io error: write bad.json/x.json: ", "not a directory"}},
		{"no JSON", []string{"run", "hello", "-i", "bad.json"}, 9, []string{"bad.json: invalid JSON: unexpected EOF"}},
		{"no WAV", []string{"run", "hello", "-i", "bad.wav"}, 9, []string{"cannot read bad.wav: "}},
		{"no file holds it", []string{"run", "hello", "-o", "x.wav"}, 9, []string{"x.wav cannot hold the result: it is text", "hint: use --output json"}},
		{"a folder", []string{"run", "hello", "-i", "dir"}, 2, []string{"the input dir is a folder; name the files in it: 'dir/*'", "see: gophersnake run --help"}},
		{"no time", []string{"run", "hello", "--timeout", "-1s"}, 2, []string{"it takes a time such as 500ms, 90s or 5m, or a number of seconds"}},
		{"no pipeline in a folder", []string{"run", "dir"}, 7, []string{"there is no pipeline.yaml, pipeline.yml or pipeline.json in the folder dir", "gophersnake init ./dir"}},
		{"a misspelled example", []string{"run", "resilent"}, 7, []string{"there is no pipeline resilent\nhint: did you mean the bundled example resilient?\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := command(t, c.args...)
			assert.Equal(t, c.code, got.code, got.err)
			for _, want := range c.want {
				assert.Contains(t, got.err, want)
			}
			assert.Empty(t, got.out)
		})
	}
}

// module writes a pipeline of one node, which is a module of the tests of package wasm.
func module(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../../../runner/internal/wasm/testdata/" + name)
	require.NoError(t, err)
	return fixtures.Write(t, "pipeline.yaml", "version: v1\nnodes: [{id: n, wasm: "+strconv.Quote(path)+", retry: none}]\n")
}

func TestAFaultOfAModuleHasItsExitCode(t *testing.T) {
	pipeline := module(t, "faults.wasm")
	assert.Equal(t, "0\n", succeed(t, "run", pipeline, "-i", "0", "-o", "json"))
	got := command(t, "run", pipeline, "-i", "1")
	assert.Equal(t, 10, got.code)
	assert.Contains(t, got.err, `error: wasm error in node "n" during call: the module trapped: unreachable (faults.wasm in trap)`)
	assert.Contains(t, got.err, "The module was here (most recent call last):\n  File \"faults.wasm\", in call\n")
	assert.Equal(t, 8, command(t, "run", pipeline, "-i", "5").code, "the result is too large")
}

func TestAModuleIsCheckedAndListed(t *testing.T) {
	pipeline := module(t, "faults.wasm")
	succeed(t, "validate", pipeline)
	assert.Regexp(t, `(?m)^n +faults +\(input\) *$`, succeed(t, "nodes", pipeline))
	for _, subcommand := range []string{"run", "validate", "nodes"} {
		got := command(t, subcommand, module(t, "no_functions.wasm"))
		assert.Equal(t, 3, got.code, subcommand)
		assert.Contains(t, got.err, "no_functions.wasm cannot be used: the module does not export gophersnake_call", subcommand)
	}
}

func TestABrokenConnectionIsATransportError(t *testing.T) {
	got := command(t, "run", fixtures.Pipeline(t, "nodes: [{id: n, node_type: cut_off, retry: none}]"))
	assert.Equal(t, 6, got.code)
	assert.Contains(t, got.err, `error: transport error in node "n" during call: the connection to the worker broke`)
}

func TestTheErrorOfANodeThatCannotStart(t *testing.T) {
	for name, c := range map[string]struct{ python, want string }{
		"no such module": {"import nonsuch_module", "ModuleNotFoundError: No module named 'nonsuch_module'"},
		"broken code":    {"def f(:", "SyntaxError: invalid syntax"},
		"no such node":   {"from gophersnake import node\n@node\ndef mode(x): return x", "has no node 'made'; did you mean mode?"},
		"no node at all": {"", "has no node 'made'; it has none: put @node on a function or class"},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := fixtures.Write(t, "mine.py", c.python+"\n")
			pipeline := fixtures.Write(t, "pipeline.yaml", "version: v1\npython: "+nodes+"\nnodes: [{id: n, node_type: made, retry: none}]\n")
			for _, subcommand := range []string{"run", "validate", "nodes"} {
				got := command(t, subcommand, pipeline)
				assert.NotZero(t, got.code, subcommand)
				assert.Contains(t, got.err, c.want, subcommand)
			}
		})
	}
}

func TestACallIsRetriedAfterACrash(t *testing.T) {
	got := command(t, "run", "resilient", "-i", `{"mode": "crash", "times": 1}`)
	require.Zero(t, got.code, got.err)
	var result map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.out), &result))
	assert.Equal(t, "fine", result["status"])
	assert.Equal(t, 1., result["failures"])
	assert.Regexp(t, `^\S+ \[WARN\]  node "fragile": attempt 1 failed, the next follows in 100ms: python_vm error in node "fragile" during call: the interpreter was killed by SIGSEGV \(segmentation fault\)`, got.err)
	assert.Equal(t, 1, strings.Count(got.err, "\n"), "one failure, one line")
}

func TestTheBreakerOpensAfterFiveFailedInputs(t *testing.T) {
	pipeline := fixtures.Pipeline(t, "nodes: [{id: n, node_type: picky, retry: none}]")
	// A permanent error is not the fault of the node and does not count.
	got := command(t, "run", pipeline, "--jobs", "1", "-o", "jsonl", "a", "b", "c", "d", "e", "f", "7")
	assert.Equal(t, 4, got.code)
	assert.Contains(t, got.out, `{"input":"7","result":8}`)

	args := []string{"run", "resilient", "--jobs", "1", "--no-breaker-wait"}
	for range 6 {
		args = append(args, "-i", `{"mode": "raise"}`)
	}
	got = command(t, args...)
	assert.Equal(t, 4, got.code, "the first failure counts")
	assert.Contains(t, got.err, "the circuit breaker is open after 5 failed operations in a row")
	assert.Equal(t, 1, strings.Count(got.err, "Traceback (most recent call last):"), "the details are printed once")
}

func TestInputsWaitForTheProbeOfAnOpenBreaker(t *testing.T) {
	odd := func(coolDown string) string {
		return fixtures.Pipeline(t, "nodes: [{id: n, node_type: odd, retry: none, breaker: {failures: 2, cool_down: "+coolDown+"}}]")
	}
	// Two failures open the breaker. At most one probe fails as well.
	got := command(t, "run", odd("100ms"), "--jobs", "2", "-o", "jsonl", "2", "4", "6", "1", "3", "5", "7")
	assert.Equal(t, 4, got.code, got.err)
	for _, n := range []string{"1", "3", "5", "7"} {
		assert.Contains(t, got.out, `{"input":"`+n+`","result":`+n+`}`)
	}
	assert.Contains(t, got.err, "the circuit breaker is open, it was closed; the inputs that are left wait for the next probe of the node (--no-breaker-wait fails them instead)")
	assert.Contains(t, got.err, "the circuit breaker is closed")
	assert.NotContains(t, got.out, "the circuit breaker is open after")

	got = command(t, "run", odd("1h"), "--jobs", "1", "-o", "jsonl", "2", "4", "6", "1", "3", "--no-breaker-wait")
	assert.Equal(t, 4, got.code, got.err)
	assert.Equal(t, 3, strings.Count(got.out, `"kind":"other","message":"the circuit breaker is open after 2 failed operations in a row`), got.out)
	assert.Contains(t, got.out, "if ValueError is the fault of the input, list it in the manifest: breaker: {ignore: [ValueError]}")
	assert.NotContains(t, got.err, "the inputs that are left wait")

	got = command(t, "run", odd("1h"), "--jobs", "1", "-o", "jsonl", "2", "4", "1", "--timeout", "3s")
	assert.Equal(t, 124, got.code, "the timeout ends the wait: %s", got.err)
}

func TestErrorsAreJSONIfResultsAre(t *testing.T) {
	got := command(t, "run", "resilient", "-o", "json", "-i", `{"mode": "exit"}`, "--log-level", "off")
	assert.Equal(t, 5, got.code)
	assert.Empty(t, got.out)
	var document struct {
		Error struct {
			Kind, Node, Operation string
			Retryable             bool
			Attempt, Attempts     int
			ExitCode              *int `json:"exit_code"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(got.err), &document), got.err)
	e := document.Error
	assert.Equal(t, []any{"python_vm", "fragile", "call", true, 4, 4}, []any{e.Kind, e.Node, e.Operation, e.Retryable, e.Attempt, e.Attempts})
	require.NotNil(t, e.ExitCode)
	assert.Equal(t, 3, *e.ExitCode)

	got = command(t, "run", "hello", "-o", "json", "--jobs", "-1")
	assert.JSONEq(t, `{"error": {"kind": "usage", "message": "--jobs takes a number from 1, not -1", "text": "--jobs takes a number from 1, not -1"}}`, got.err)
}

func TestTheTimeoutEndsARunThatHangs(t *testing.T) {
	stuck := nodeOfType(t, "stuck")
	got := command(t, "run", stuck, "--timeout", "0.5")
	assert.Equal(t, 124, got.code)
	assert.Contains(t, got.err, "error: the --timeout expired (500ms)\n")

	file := filepath.Join(t.TempDir(), "all.json")
	got = command(t, "run", stuck, "a", "b", "--timeout", "500ms", "-o", file)
	assert.Equal(t, 124, got.code)
	// The number of inputs is known only if the workers had started in time.
	assert.Regexp(t, `\{"error":\{"kind":"timeout","message":"the --timeout expired \(500ms\)(: 0 of 2 inputs done)?"`, got.err)
	assert.NoFileExists(t, file)
}
