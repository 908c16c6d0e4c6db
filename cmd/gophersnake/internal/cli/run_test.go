package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// nodeOfType writes a pipeline of one node, n, and returns its path.
func nodeOfType(t *testing.T, nodeType string) string {
	t.Helper()
	return fixtures.Pipeline(t, "nodes: [{id: n, node_type: "+nodeType+", retry: none}]")
}

// succeed runs a command line that must succeed, and returns its output.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	got := command(t, args...)
	require.Zero(t, got.code, got.err)
	return got.out
}

func TestHelloGreetsItsInput(t *testing.T) {
	assert.Equal(t, "\"GOOD MORNING, ADA!\"\n", succeed(t, "run", "hello", "--input", "Ada"))
	assert.Equal(t, "GOOD MORNING, ADA!\n", succeed(t, "run", "hello", "Ada", "--output", "pretty"))
	assert.Equal(t, "\"GOOD MORNING, WORLD!\"\n", succeed(t, "run", "hello"))
	assert.Equal(t, "\"HI, ADA!\"\n", succeed(t, "run", "hello", "Ada", "--param", "greet.greeting=Hi"))
}

func TestTheTypeOfAnInputInPython(t *testing.T) {
	typed := nodeOfType(t, "typed")
	fixtures.Chdir(t, map[string]string{
		"a.wav": fixtures.WAV(t, fixtures.Beep), "a.png": fixtures.PNG(t), "a.json": "[1]", "a.txt": "text", "a.raw": "\xff\x00",
		"lines.jsonl": "1\n{\"a\": 2}\n",
	})
	got := succeed(t, "run", typed, "--output", "jsonl", "-i", "text", "-i", "7", "-i", "null", "-i", "0.5",
		"-i", `{"a": 1}`, "-i", "a.wav", "-i", "a.png", "-i", "a.json", "-i", "a.txt", "-i", "a.raw", "-i", "lines.jsonl")
	var types []string
	for line := range strings.Lines(got) {
		var record struct{ Result string }
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		types = append(types, record.Result)
	}
	assert.Equal(t, []string{"str", "int", "NoneType", "float", "dict", "Audio", "Image", "list", "str", "bytes", "int", "dict"}, types)

	for stdin, want := range map[string]string{"Ada\n": "str", "{}": "dict", fixtures.WAV(t, fixtures.Beep): "Audio"} {
		got := commandWithInput(t, stdin, "run", typed, "--input", "-")
		assert.Equal(t, result{0, `"` + want + "\"\n", ""}, got)
	}
}

func TestParamsAreJSONOrElseText(t *testing.T) {
	typed := nodeOfType(t, "typed")
	assert.Equal(t, "\"str-5str-5\"\n", succeed(t, "run", typed, "x", "--param", `n.suffix="-5"`, "--param", "n.times=2"))
	assert.Equal(t, "\"str=x\"\n", succeed(t, "run", typed, "x", "--param", "n.suffix==x"))

	got := command(t, "run", typed, "x", "--param", "n.time=2")
	assert.Equal(t, 3, got.code)
	assert.Contains(t, got.err, "typed has no parameter 'time'; did you mean times?")
	got = command(t, "run", typed, "x", "--param", "n.times=often")
	assert.Equal(t, 3, got.code, "checked against the signature before anything runs")
	assert.Contains(t, got.err, "'times'")
	got = command(t, "run", typed, "x", "--param", "m.times=2")
	assert.Equal(t, 2, got.code)
	assert.Contains(t, got.err, `the pipeline has no node "m"`)
}

func TestResultsAreInTheOrderOfTheInputs(t *testing.T) {
	files := make(map[string]string)
	var want strings.Builder
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		files["in/"+name+".txt"] = name
		want.WriteString(`{"input":"in/` + name + `.txt","result":"` + name + "\"}\n")
	}
	pipeline := fixtures.Pipeline(t, "nodes: [{id: n, node_type: echo, workers: 2}]")
	fixtures.Chdir(t, files)
	assert.Equal(t, want.String(), succeed(t, "run", pipeline, "--input", "in/*.txt", "--output", "jsonl", "--jobs", "4"))

	got := succeed(t, "run", pipeline, "in/*.txt", "--output", "out.jsonl")
	assert.Empty(t, got)
	content, err := os.ReadFile("out.jsonl")
	require.NoError(t, err)
	assert.Equal(t, want.String(), string(content))
}

func TestOneBadInputDoesNotStopTheOthers(t *testing.T) {
	got := command(t, "run", nodeOfType(t, "picky"), "-o", "jsonl", "1", "x", "3")
	assert.Equal(t, 4, got.code)
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	require.Len(t, lines, 3)
	assert.Equal(t, `{"input":"1","result":2}`, lines[0])
	assert.Contains(t, lines[1], `{"input":"x","error":{"kind":"execution","message":"'x' is not a number"`)
	assert.Equal(t, `{"input":"3","result":4}`, lines[2])
	assert.Regexp(t, `^\{"input":"x","error":\{.*\}\}\n$`, got.err, "errors are JSON if the results are")
}

func TestFailFastStopsAtTheFirstFailure(t *testing.T) {
	picky := nodeOfType(t, "picky")
	t.Chdir(t.TempDir())
	got := command(t, "run", picky, "--fail-fast", "--jobs", "1", "--output", "all.jsonl", "1", "x", "3", "4", "5", "6", "7")
	assert.Equal(t, 4, got.code)
	assert.Contains(t, got.err, "an input failed, and --fail-fast is set: 2 of 7 inputs done")
	assert.NoFileExists(t, "all.jsonl", "the output is incomplete")
	left, err := os.ReadDir(".")
	require.NoError(t, err)
	assert.Empty(t, left, "no temporary file")
}

func TestMediaInResultsAreWrittenToFiles(t *testing.T) {
	made := nodeOfType(t, "made")
	t.Chdir(t.TempDir())
	for what, file := range map[string]string{"audio": "r.wav", "image": "r.png", "tensor": "r.npy", "bytes": "r.bin", "text": "r.txt"} {
		assert.Empty(t, succeed(t, "run", made, "--input", what, "--output", file))
	}
	sound, err := media.ReadFile("r.wav")
	require.NoError(t, err)
	assert.Equal(t, &ipc.Audio{Samples: []float32{0, 0.5, -0.5, 0}, Rate: 8000, Channels: 2}, sound)
	picture, err := media.ReadFile("r.png")
	require.NoError(t, err)
	assert.Equal(t, &ipc.Image{Pixels: []byte{0, 255}, Format: "gray8", Width: 2, Height: 1}, picture)
	for file, want := range map[string]string{"r.npy": "\x93NUMPY", "r.bin": "raw", "r.txt": "grüße\n"} {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(content), want), "%s: %q", file, content)
	}

	got := succeed(t, "run", made, "-o", "json", "--output-dir", "files", "audio", "bytes", "nan")
	assert.JSONEq(t, `[
		{"input": "audio", "result": {"$file": "files/input-1-n.wav", "type": "audio", "rate": 8000, "channels": 2, "seconds": 0.00025}},
		{"input": "bytes", "result": {"$file": "files/input-2-n.bin", "type": "bytes", "bytes": 3}},
		{"input": "nan", "result": [1.5, null]}
	]`, got)
	assert.FileExists(t, "files/input-1-n.wav")
}

func TestAFailedRunLeavesNoFile(t *testing.T) {
	picky := nodeOfType(t, "picky")
	fixtures.Chdir(t, map[string]string{"old.json": "old"})
	for _, file := range []string{"new.json", "old.json", "new.jsonl", "new.txt", "new.wav", "new.bin", "deep/new.npy"} {
		assert.Equal(t, 4, command(t, "run", picky, "x", "--output", file).code, file)
	}
	content, err := os.ReadFile("old.json")
	require.NoError(t, err)
	assert.Equal(t, "old", string(content))
	files, err := filepath.Glob("*")
	require.NoError(t, err)
	hidden, err := filepath.Glob(".*")
	require.NoError(t, err)
	assert.Equal(t, []string{"old.json"}, append(files, hidden...))
}

func TestTheOutputOfNodesIsLogged(t *testing.T) {
	slow := nodeOfType(t, "Slow")
	got := command(t, "run", slow, "x")
	assert.Equal(t, "\"x\"\n", got.out)
	assert.Regexp(t, `\[INFO\]  node "n": loading the model \(50%\)\n`, got.err)
	assert.Regexp(t, `\[INFO\]  n\.stdout: printed by x\n`, got.err)
	assert.Regexp(t, `\[INFO\]  n\.stderr: written by x\n`, got.err)

	assert.Empty(t, command(t, "run", slow, "x", "--log-level", "warn").err)
	assert.Contains(t, command(t, "run", slow, "x", "--log-level", "debug").err, `node "n": worker `)

	got = command(t, "run", slow, "x", "--log-json")
	for line := range strings.Lines(got.err) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record), line)
		assert.Equal(t, "info", record["@level"])
		at, err := time.Parse(time.RFC3339, record["@timestamp"].(string))
		require.NoError(t, err, "with the date")
		assert.WithinDuration(t, time.Now(), at, time.Hour)
	}
}

func TestAPipelineMadeByInitRuns(t *testing.T) {
	for example, input := range map[string]string{"hello": "Ada", "resilient": `{"mode": "fine"}`} {
		dir := filepath.Join(t.TempDir(), "mine")
		succeed(t, "init", "--example", example, dir)
		assert.Contains(t, succeed(t, "run", dir, "--input", input), map[string]string{"hello": "ADA", "resilient": `"fine"`}[example])
		assert.Regexp(t, `^ok .*mine \(\d nodes?\)\n$`, succeed(t, "validate", dir))
	}
	dir := filepath.Join(t.TempDir(), "tested")
	succeed(t, "init", dir)
	interpreter := strings.TrimSpace(succeed(t, "env", "python", "--with", "pytest", dir))
	out, err := exec.Command(interpreter, "-m", "pytest", "-p", "no:cacheprovider", "--fixtures", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "call_node", "the plugin of the package is registered")
	out, err = exec.Command(interpreter, "-m", "pytest", "-p", "no:cacheprovider", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "2 passed")
	dir = t.TempDir()
	succeed(t, "init", "--example", "speech", dir)
	assert.FileExists(t, filepath.Join(dir, "sample.wav"))
}

func TestNodesAreListedWithSignatures(t *testing.T) {
	got := succeed(t, "nodes", "hello")
	assert.Regexp(t, `(?m)^NODE +TYPE +SIGNATURE +DESCRIPTION$`, got)
	assert.Regexp(t, `(?m)^greet +greet +\(name: str \| None, greeting: str = 'Hello'\) -> str +Greet `, got)
	assert.Contains(t, succeed(t, "nodes", fixtures.Write(t, "nodes.py", fixtures.Nodes)), "Refuse input that is not a number.")
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "nodes", "hello", "--output", "json")), &list))
	require.Len(t, list, 2)
	assert.Equal(t, "greet", list[0]["id"])

	assert.Regexp(t, `(?m)^AudioChunkerNode +\(input: Audio, chunk_size: int = 512\) -> Audio +Cuts `, succeed(t, "nodes"))
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "nodes", "--output", "json")), &list))
	assert.Len(t, list, len(runner.DescribeBuiltins()))

	got2 := command(t, "nodes", fixtures.Write(t, "empty.py", "x = 1\n"))
	assert.Equal(t, 3, got2.code)
	assert.Contains(t, got2.err, "there are no nodes in ")
	assert.Contains(t, got2.err, "hint: put @node")
}

func TestGraphsOfAPipeline(t *testing.T) {
	assert.Equal(t, "●  greet\n│\n●  shout\n", succeed(t, "graph", "hello"))
	assert.Equal(t, "●    first\n├─╮\n│ ●  other  typed  2 workers\n├─╯\n●    last   made   left ← first, right ← other\n",
		succeed(t, "graph", fixtures.Pipeline(t, `nodes:
  - {id: first, node_type: first}
  - {id: other, node_type: typed, workers: 2}
  - {id: last, node_type: made}
connections:
  - {from: first, to: other}
  - {from: first, to: last.left}
  - {from: other, to: last.right}`)))
	assert.Contains(t, succeed(t, "graph", "hello", "--format", "dot"), `"greet" -> "shout"`)
	assert.Contains(t, succeed(t, "graph", "hello", "--format", "mermaid"), "n0 --> n1")
}

func TestTheLastLineCountsTheInputs(t *testing.T) {
	picky := nodeOfType(t, "picky")
	for _, c := range []struct {
		args []string
		want string // the last line of standard error
	}{
		{[]string{"1", "2"}, "2 ok"},
		{[]string{"1", "x", "2"}, "2 ok, 1 failed"},
		{[]string{"x", "y"}, "0 ok, 2 failed"},
		{[]string{"x", "1", "2", "3", "--fail-fast", "--jobs", "1"}, "0 ok, 1 failed, 3 not run"},
		{[]string{"1", "2", "--output", "pretty"}, "2 ok"},
	} {
		got := command(t, append([]string{"run", picky}, c.args...)...)
		lines := strings.Split(strings.TrimSuffix(got.err, "\n"), "\n")
		assert.Equal(t, c.want, lines[len(lines)-1], "%v: %s", c.args, got.err)
	}
	assert.Equal(t, result{0, "2\n", ""}, command(t, "run", picky, "1"), "one input has no totals")
	assert.Equal(t, result{0, "{\"input\":\"1\",\"result\":2}\n{\"input\":\"2\",\"result\":3}\n", ""}, command(t, "run", picky, "1", "2", "--output", "jsonl"))
	got := command(t, "run", picky, "1", "x", "--output", "jsonl")
	assert.Regexp(t, `^\{"input":"x","error":\{.*\}\}\n$`, got.err, "each line of standard error is a document")
}

func TestTheLogInJSONHasNothingElse(t *testing.T) {
	got := command(t, "run", nodeOfType(t, "Slow"), "x", "y", "--log-json", "--output", "jsonl")
	var last map[string]any
	for line := range strings.Lines(got.err) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record), line)
		if record["@module"] == "n.stdout" {
			assert.Equal(t, "n", record["node"])
			assert.Positive(t, record["worker"])
		}
		last = record
	}
	assert.Equal(t, "the inputs are done", last["@message"])
	assert.Equal(t, []any{2.0, 0.0, 0.0}, []any{last["ok"], last["failed"], last["not_run"]})

	got = command(t, "run", nodeOfType(t, "Slow"), "x", "--log-level", "debug")
	assert.NotContains(t, got.err, "worker=", "a log for people")
	assert.NotContains(t, got.err, "node=")
}
