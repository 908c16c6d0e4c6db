package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// write writes outcomes, and returns the content of standard output and the failures.
func write(t *testing.T, o Options, outcomes ...Outcome) (string, []error) {
	t.Helper()
	var stdout bytes.Buffer
	o.Stdout = &stdout
	if o.NewExporter == nil {
		o.NewExporter = func(dir string) *Exporter { return NewExporter(dir, "node", fixtures.NoWarning(t), nil) }
	}
	out, err := New(o)
	require.NoError(t, err)
	defer out.Discard()
	var failures []error
	for _, each := range outcomes {
		failure, err := out.Write(each)
		require.NoError(t, err)
		if failure != nil {
			failures = append(failures, failure)
		}
	}
	require.NoError(t, out.Finish(true))
	return stdout.String(), failures
}

func of(name string, value any) Outcome {
	return Outcome{Name: name, Stem: name, Value: value}
}

var bad = Outcome{Name: "bad", Stem: "bad", Err: runner.NewError(runner.KindExecution, "no luck").WithNode("n")}

func TestTheFormatsOfOutput(t *testing.T) {
	rich := map[string]any{"text": "a <b>", "n": int64(3), "half": 0.5, "none": nil, "list": []any{"x", true}}
	for _, c := range []struct {
		name   string
		format string
		many   bool
		in     []Outcome
		want   string
	}{
		{"json", "json", false, []Outcome{of("a", rich)}, "{\n  \"half\": 0.5,\n  \"list\": [\n    \"x\",\n    true\n  ],\n  \"n\": 3,\n  \"none\": null,\n  \"text\": \"a <b>\"\n}\n"},
		{"default", "", false, []Outcome{of("a", "text")}, "\"text\"\n"},
		{"json, several", "json", true, []Outcome{of("a", int64(1)), bad, of("b", nil)},
			"[\n  {\"input\":\"a\",\"result\":1},\n  {\"input\":\"bad\",\"error\":{\"kind\":\"execution\",\"message\":\"no luck\",\"text\":\"execution error in node \\\"n\\\": no luck\",\"retryable\":true,\"node\":\"n\"}},\n  {\"input\":\"b\",\"result\":null}\n]\n"},
		{"json, none of several", "json", true, nil, "[]\n"},
		{"jsonl", "jsonl", true, []Outcome{of("a", "x"), bad}, "{\"input\":\"a\",\"result\":\"x\"}\n{\"input\":\"bad\",\"error\":{\"kind\":\"execution\",\"message\":\"no luck\",\"text\":\"execution error in node \\\"n\\\": no luck\",\"retryable\":true,\"node\":\"n\"}}\n"},
		{"pretty text", "pretty", false, []Outcome{of("a", "Hello\n")}, "Hello\n"},
		{"pretty value", "pretty", false, []Outcome{of("a", rich)}, "half: 0.5\nlist:\n  - x\n  - true\n\"n\": 3\nnone: null\ntext: a <b>\n"},
		{"pretty, several", "pretty", true, []Outcome{of("a", "x\ny"), bad, of("b", int64(2))}, "a\n  x\n  y\n\nb\n  2\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, failures := write(t, Options{Format: c.format, Many: c.many}, c.in...)
			assert.Equal(t, c.want, got)
			for _, failure := range failures {
				assert.Equal(t, bad.Err, failure)
			}
		})
	}
}

func TestBinaryValuesBecomeFiles(t *testing.T) {
	dir := t.TempDir()
	tensor, err := ipc.NewTensor([]int16{1, 2}, 2)
	require.NoError(t, err)
	value := map[string]any{
		"segments": []any{map[string]any{"audio": fixtures.Beep}, map[string]any{"audio": fixtures.Beep}},
		"picture":  &ipc.Image{Pixels: []byte{1, 2, 3}, Format: "rgb8", Width: 1, Height: 1},
		"a/b:c":    []byte("raw"),
		"tensor":   tensor,
		"when":     time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC),
		"json":     ipc.JSON(`{"big": 12345678901234567890123}`),
	}
	got, failures := write(t, Options{Format: "json", Dir: dir}, of("in", value))
	require.Empty(t, failures)
	file := func(name string) string { return filepath.Join(dir, name) }
	want := map[string]any{
		"segments": []any{
			map[string]any{"audio": map[string]any{"$file": file("in-node-segments-0-audio.wav"), "type": "audio", "rate": 8000., "channels": 2., "seconds": 0.00025}},
			map[string]any{"audio": map[string]any{"$file": file("in-node-segments-1-audio.wav"), "type": "audio", "rate": 8000., "channels": 2., "seconds": 0.00025}},
		},
		"picture": map[string]any{"$file": file("in-node-picture.png"), "type": "image", "width": 1., "height": 1., "format": "rgb8"},
		"a/b:c":   map[string]any{"$file": file("in-node-a_b_c.bin"), "type": "bytes", "bytes": 3.},
		"tensor":  map[string]any{"$file": file("in-node-tensor.npy"), "type": "tensor", "dtype": "int16", "shape": []any{2.}},
		"when":    "2026-01-02T03:04:05.006Z",
		"json":    map[string]any{"big": 12345678901234567890123.},
	}
	var doc any
	require.NoError(t, json.Unmarshal([]byte(got), &doc))
	assert.Equal(t, want, doc)
	assert.Contains(t, got, "12345678901234567890123")
	sound, err := media.ReadFile(file("in-node-segments-1-audio.wav"))
	require.NoError(t, err)
	assert.Equal(t, fixtures.Beep, sound)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 5, "and no temporary ones")
}

func TestAJSONDocumentKeepsItsDigitsAndItsOrder(t *testing.T) {
	document := ipc.JSON(`{"b": 1.50, "a": {"d": 12345678901234567890123, "c": [1e400, -0]}, "": "x"}`)
	got, failures := write(t, Options{Format: "json"}, of("in", document))
	require.Empty(t, failures)
	assert.Equal(t, "{\n  \"b\": 1.50,\n  \"a\": {\n    \"d\": 12345678901234567890123,\n    \"c\": [\n      1e400,\n      -0\n    ]\n  },\n  \"\": \"x\"\n}\n", got)
	got, failures = write(t, Options{Format: "pretty"}, of("in", document))
	require.Empty(t, failures)
	assert.Equal(t, "b: 1.50\na:\n  d: 12345678901234567890123\n  c:\n    - 1e400\n    - -0\n\"\": x\n", got)
}

func TestPrettyOutputNamesTheFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	got, _ := write(t, Options{Format: "pretty"}, of("in", fixtures.Beep))
	assert.Equal(t, "in-node.wav (audio, 0.00 s, 8000 Hz, stereo)\n", got)
	got, _ = write(t, Options{Format: "pretty"}, of("in", map[string]any{"a": fixtures.Beep}))
	assert.Equal(t, "a: in-node-a.wav (audio, 0.00 s, 8000 Hz, stereo)\n", got)
}

func TestFilesDoNotOverwriteOneAnotherNorTheInputs(t *testing.T) {
	fixtures.Chdir(t, map[string]string{"a-node.wav": "input"})
	input, err := filepath.Abs("a-node.wav")
	require.NoError(t, err)
	o := Options{Format: "jsonl", Many: true, NewExporter: func(dir string) *Exporter {
		return NewExporter(dir, "node", fixtures.NoWarning(t), []string{input})
	}}
	got, failures := write(t, o, of("a", fixtures.Beep), of("a", fixtures.Beep))
	require.Empty(t, failures)
	assert.Contains(t, got, `"$file":"a-node-2.wav"`)
	assert.Contains(t, got, `"$file":"a-node-3.wav"`)
	content, err := os.ReadFile("a-node.wav")
	require.NoError(t, err)
	assert.Equal(t, "input", string(content))
}

func TestNaNIsNullWithOneWarning(t *testing.T) {
	var warnings [][]any
	o := Options{Format: "json", NewExporter: func(dir string) *Exporter {
		return NewExporter(dir, "node", func(_ string, args ...any) { warnings = append(warnings, args) }, nil)
	}}
	got, failures := write(t, o, of("a", []any{1.5, math.NaN(), math.Inf(-1)}))
	require.Empty(t, failures)
	assert.JSONEq(t, `[1.5, null, null]`, got)
	assert.Equal(t, [][]any{{"first", "result[1]", "count", 2}}, warnings)
}

func TestOutputFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	read := func(name string) string {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(content)
	}
	for _, c := range []struct {
		file  string
		value any
		want  string
	}{
		{"r.json", map[string]any{"a": int64(1)}, "{\n  \"a\": 1\n}\n"},
		{"r.jsonl", int64(1), "{\"input\":\"in\",\"result\":1}\n"},
		{"r.txt", "text", "text\n"},
		{"deep/er/r.txt", "text", "text\n"},
		{"r.WAV", fixtures.Beep, fixtures.WAV(t, fixtures.Beep)},
		{"r.bin", []byte("raw"), "raw"},
	} {
		stdout, failures := write(t, Options{Format: c.file}, of("in", c.value))
		require.Empty(t, failures)
		assert.Empty(t, stdout)
		assert.Equal(t, c.want, read(c.file))
	}
	// Files of a result go beside the document.
	_, failures := write(t, Options{Format: "out/r.json"}, of("in", fixtures.Beep))
	require.Empty(t, failures)
	assert.Contains(t, read("out/r.json"), `"$file": "out/in-node.wav"`)
	assert.FileExists(t, "out/in-node.wav")
}

func TestAResultThatAFileCannotHoldIsAFailure(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		file  string
		value any
		want  string
	}{
		{"r.wav", map[string]any{}, "r.wav cannot hold the result: it is a map"},
		{"r.wav", nil, "it is null"},
		{"r.wav", true, "it is a bool"},
		{"r.wav", 1.5, "it is a number"},
		{"r.wav", "x", "it is text"},
		{"r.wav", []any{}, "it is a list"},
		{"r.wav", &ipc.Table{}, "r.wav cannot hold the result: it is a table"},
		{"r.csv", []any{}, "r.csv cannot hold the result: it is a list, not a table"},
		{"r.parquet", fixtures.Beep, "r.parquet cannot hold the result: it is of type audio, not a table"},
		{"r.arrow", &ipc.Table{Stream: []byte("odd")}, "result: decode a table: arrow/ipc: could not read message schema: it does not begin"},
		{"r.json", map[string]any{"t": &ipc.Table{Stream: []byte("odd")}}, "result.t: decode a table: arrow/ipc: could not read message schema: it does not begin"},
		{"r.parquet", table(t, "c", nil), "write r.parquet: Parquet: a Parquet file has at least one column"},
		{"r.png", fixtures.Beep, "r.png cannot hold the result: it is of type audio"},
		{"r.png", &ipc.Image{Format: "odd"}, `unknown pixel format "odd"`},
		{"r.json", map[string]any{"x": struct{}{}}, "result.x: a document cannot hold a struct {}"},
		{"r.json", ipc.JSON("{"), "result: invalid JSON: unexpected EOF, at byte 1"},
	} {
		out, err := New(Options{Format: c.file, NewExporter: func(dir string) *Exporter { return NewExporter(dir, "", fixtures.NoWarning(t), nil) }})
		require.NoError(t, err)
		failure, err := out.Write(of("in", c.value))
		require.NoError(t, err)
		assert.ErrorContains(t, failure, c.want)
		assert.ErrorIs(t, failure, runner.KindSerialization)
		out.Discard()
	}
	left, err := os.ReadDir(".")
	require.NoError(t, err)
	assert.Empty(t, left, "nothing half-written")
}

func TestAnOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	file := fixtures.Write(t, "file", "")
	_, err := New(Options{Format: filepath.Join(file, "r.json")})
	assert.ErrorIs(t, err, runner.KindIO)
	failure, err := (&mediaWriter{path: filepath.Join(file, "r.wav"), extension: ".wav"}).Write(of("in", fixtures.Beep))
	require.NoError(t, err)
	assert.ErrorIs(t, failure, runner.KindIO)

	out, err := New(Options{Format: "json", Stdout: fullDisk{}, NewExporter: func(dir string) *Exporter { return NewExporter(dir, "", fixtures.NoWarning(t), nil) }})
	require.NoError(t, err)
	failure, err = out.Write(of("in", int64(1)))
	require.NoError(t, failure)
	assert.ErrorIs(t, err, errDiskFull)
	assert.ErrorIs(t, err, runner.KindIO)
}

var errDiskFull = errors.New("the disk is full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errDiskFull }
