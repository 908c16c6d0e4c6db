package cli

import (
	"bytes"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/media"
)

var beep = &ipc.Audio{Samples: []float32{0, 0.5, -0.5, 0}, Rate: 8000, Channels: 2}

func wavOf(t *testing.T, audio *ipc.Audio) string {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, media.EncodeWAV(&file, audio, media.Float32))
	return file.String()
}

func pngOf(t *testing.T) string {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, png.Encode(&file, image.NewGray(image.Rect(0, 0, 2, 1))))
	return file.String()
}

// inputFolder makes files and goes there.
func inputFolder(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	}
}

func noWarning(t *testing.T) func(string, ...any) {
	return func(message string, args ...any) { t.Errorf("warned: %s %v", message, args) }
}

func TestOneInput(t *testing.T) {
	picture := &ipc.Image{Pixels: []byte{0, 0}, Format: "gray8", Width: 2, Height: 1}
	inputFolder(t, map[string]string{
		"a.wav": wavOf(t, beep), "A.PNG": pngOf(t), "b.json": `{"n": 1}`, "c.txt": "grüße\n", "d.md": "# d",
		"e.bin": "\xff\x00", "42": "file", "odd [name].txt": "odd",
	})
	for _, c := range []struct {
		input string
		stdin string
		stem  string
		want  any
	}{
		{input: "42", stem: "input", want: int64(42)},
		{input: "@42", stem: "42", want: "file"},
		{input: `{"a": [1, 2.5, null, true, "x"]}`, stem: "input", want: map[string]any{"a": []any{int64(1), 2.5, nil, true, "x"}}},
		{input: "18446744073709551615", stem: "input", want: uint64(math.MaxUint64)},
		{input: "1e3", stem: "input", want: 1000.0},
		{input: `"a.wav"`, stem: "input", want: "a.wav"},
		{input: "hello world", stem: "input", want: "hello world"},
		{input: "really?", stem: "input", want: "really?"},
		{input: "see file.txt", stem: "input", want: "see file.txt"},
		{input: strings.Repeat("long ", 2000), stem: "input", want: strings.Repeat("long ", 2000)},
		{input: "nul\x00", stem: "input", want: "nul\x00"},
		{input: "a.wav", stem: "a", want: beep},
		{input: "@a.wav", stem: "a", want: beep},
		{input: "A.PNG", stem: "A", want: picture},
		{input: "b.json", stem: "b", want: map[string]any{"n": int64(1)}},
		{input: "c.txt", stem: "c", want: "grüße\n"},
		{input: "d.md", stem: "d", want: "# d"},
		{input: "e.bin", stem: "e", want: []byte("\xff\x00")},
		{input: "odd [name].txt", stem: "odd [name]", want: "odd"},
		{input: "-", stdin: "[1]\n", stem: "stdin", want: []any{int64(1)}},
		{input: "-", stdin: "some text\r\n", stem: "stdin", want: "some text"},
		{input: "-", stdin: "two\n\n", stem: "stdin", want: "two\n"},
		{input: "-", stdin: "\xff\x00", stem: "stdin", want: []byte("\xff\x00")},
		{input: "-", stdin: wavOf(t, beep), stem: "stdin", want: beep},
		{input: "-", stdin: pngOf(t), stem: "stdin", want: picture},
	} {
		t.Run(shorten(c.input+" "+c.stem, 40), func(t *testing.T) {
			set, err := readSources(strings.NewReader(c.stdin), noWarning(t), []string{c.input})
			require.NoError(t, err)
			require.Len(t, set.sources, 1)
			assert.False(t, set.many)
			assert.Equal(t, c.stem, set.sources[0].stem)
			got, err := set.sources[0].load()
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestNoInputIsNull(t *testing.T) {
	set, err := readSources(nil, noWarning(t), nil)
	require.NoError(t, err)
	got, err := set.sources[0].load()
	require.NoError(t, err)
	assert.Nil(t, got)
}

func TestManyInputs(t *testing.T) {
	inputFolder(t, map[string]string{"x/b.txt": "b", "x/a.txt": "a", "x/c/d.txt": "d", "l.jsonl": "1\n\n\"two\"\r\n{]\n", "one.txt": "1"})
	names := func(inputs ...string) (names, stems []string, many bool) {
		set, err := readSources(nil, noWarning(t), inputs)
		require.NoError(t, err)
		for _, s := range set.sources {
			names, stems = append(names, s.name), append(stems, s.stem)
		}
		return names, stems, set.many
	}
	got, stems, many := names("x/*")
	assert.Equal(t, []string{"x/a.txt", "x/b.txt"}, got, "in the order of names, without the folder")
	assert.Equal(t, []string{"a", "b"}, stems)
	assert.True(t, many)

	got, _, many = names("*.txt")
	assert.Equal(t, []string{"one.txt"}, got)
	assert.True(t, many, "a pattern is several, whatever it matches")

	got, stems, _ = names("z", "@x/[ab].txt", "1")
	assert.Equal(t, []string{"z", "x/a.txt", "x/b.txt", "1"}, got)
	assert.Equal(t, []string{"input-1", "a", "b", "input-4"}, stems)

	got, stems, many = names("l.jsonl")
	assert.Equal(t, []string{"l.jsonl:1", "l.jsonl:3", "l.jsonl:4"}, got)
	assert.Equal(t, []string{"l-1", "l-3", "l-4"}, stems)
	assert.True(t, many)
	set, err := readSources(nil, noWarning(t), []string{"l.jsonl"})
	require.NoError(t, err)
	value, err := set.sources[1].load()
	require.NoError(t, err)
	assert.Equal(t, "two", value)
	_, err = set.sources[2].load()
	assert.ErrorIs(t, err, runner.KindSerialization)
	assert.ErrorContains(t, err, "l.jsonl:4: this is not JSON")
}

func TestInputsThatCannotBeRead(t *testing.T) {
	inputFolder(t, map[string]string{"bad.wav": "RIFF....WAVE", "song.wav": "ID3\x04", "bad.json": "{", "big.json": `{"n": [99999999999999999999]}`, "dir/x": ""})
	for _, c := range []struct {
		input string
		kind  error
		want  string
	}{
		{"missing.wav", runner.KindIO, `there is no input file missing.wav`},
		{"@missing", runner.KindIO, `there is no input file missing`},
		{"*.txt", runner.KindIO, `no file matches the input *.txt`},
		{"@[.txt", runner.KindIO, `no file matches the input [.txt`},
		{"dir", &usageError{}, `the input dir is a folder; give the files in it: 'dir/*'`},
		{"di[r]", &usageError{}, `only folders match the input; give the files in them: 'dir/*'`},
		{"123456789012345678901", runner.KindSerialization, "the number 123456789012345678901 is beyond what 64 bits hold"},
		{"1e999", runner.KindSerialization, "the number 1e999 is beyond what 64 bits hold"},
		{"bad.wav", runner.KindSerialization, "cannot read bad.wav: WAV: there is no fmt chunk"},
		{"song.wav", runner.KindSerialization, "cannot read song.wav: WAV: this is MP3, which is not supported"},
		{"bad.json", runner.KindSerialization, "bad.json: this is not JSON: unexpected EOF"},
		{"big.json", runner.KindSerialization, "input.n[0]: the number 99999999999999999999 is beyond"},
	} {
		t.Run(c.input, func(t *testing.T) {
			set, err := readSources(nil, noWarning(t), []string{c.input})
			if err == nil {
				_, err = set.sources[0].load()
			}
			assert.ErrorContains(t, err, c.want)
			if usage, ok := c.kind.(*usageError); ok {
				assert.ErrorAs(t, err, &usage)
			} else {
				assert.ErrorIs(t, err, c.kind)
			}
		})
	}
}

func TestAFileThatGoesAwayIsAnError(t *testing.T) {
	inputFolder(t, map[string]string{"a.txt": "a"})
	set, err := readSources(nil, noWarning(t), []string{"a.txt"})
	require.NoError(t, err)
	require.NoError(t, os.Remove("a.txt"))
	_, err = set.sources[0].load()
	assert.ErrorIs(t, err, runner.KindIO)
}

func TestBrokenJSONIsTextWithAWarning(t *testing.T) {
	warned := ""
	set, err := readSources(nil, func(message string, _ ...any) { warned = message }, []string{`{"a": 1`})
	require.NoError(t, err)
	got, err := set.sources[0].load()
	require.NoError(t, err)
	assert.Equal(t, `{"a": 1`, got)
	assert.Equal(t, "an input begins like JSON, but is not; it is taken as text", warned)
}

func TestParams(t *testing.T) {
	load := func() *manifest.Pipeline {
		p, err := runner.Load("../../examples/hello")
		require.NoError(t, err)
		return p
	}
	p := load()
	require.NoError(t, setParams(p, []string{"greet.greeting=Good day", "shout.times=3", "shout.deep={\"a\": 1}", "shout.empty="}))
	assert.Equal(t, map[string]any{"greeting": "Good day"}, p.Node("greet").Params)
	assert.Equal(t, map[string]any{"times": int64(3), "deep": map[string]any{"a": int64(1)}, "empty": ""}, p.Node("shout").Params)
	for setting, want := range map[string]string{
		"greet":       `--param takes NODE.KEY=VALUE, not "greet"`,
		"greet=1":     `--param takes NODE.KEY=VALUE`,
		"greet.=1":    `--param takes NODE.KEY=VALUE`,
		"gret.name=1": `the pipeline has no node "gret"; did you mean greet?`,
		"zzz.name=1":  `the pipeline has no node "zzz"; there are: greet, shout`,
	} {
		assert.ErrorContains(t, setParams(load(), []string{setting}), want)
	}
}
