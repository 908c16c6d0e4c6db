package input

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/arrow"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
)

func TestAnArgumentIsOneInput(t *testing.T) {
	picture := &ipc.Image{Pixels: []byte{0, 0}, Format: "gray8", Width: 2, Height: 1}
	fixtures.Chdir(t, map[string]string{
		"a.wav": fixtures.WAV(t, fixtures.Beep), "A.PNG": fixtures.PNG(t), "b.json": `{"n": 1}`, "c.txt": "grüße\n", "d.md": "# d",
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
		{input: `{"a": [1, 2.5, null, true, "x"]}`, stem: "input", want: ipc.Object{{Key: "a", Value: []any{int64(1), 2.5, nil, true, "x"}}}},
		{input: "18446744073709551615", stem: "input", want: uint64(math.MaxUint64)},
		{input: "1e3", stem: "input", want: 1000.0},
		{input: `"a.wav"`, stem: "input", want: "a.wav"},
		{input: "hello world", stem: "input", want: "hello world"},
		{input: "really?", stem: "input", want: "really?"},
		{input: "see file.txt", stem: "input", want: "see file.txt"},
		{input: strings.Repeat("long ", 2000), stem: "input", want: strings.Repeat("long ", 2000)},
		{input: "nul\x00", stem: "input", want: "nul\x00"},
		{input: "a.wav", stem: "a", want: fixtures.Beep},
		{input: "@a.wav", stem: "a", want: fixtures.Beep},
		{input: "A.PNG", stem: "A", want: picture},
		{input: "b.json", stem: "b", want: ipc.Object{{Key: "n", Value: int64(1)}}},
		{input: "c.txt", stem: "c", want: "grüße\n"},
		{input: "d.md", stem: "d", want: "# d"},
		{input: "e.bin", stem: "e", want: []byte("\xff\x00")},
		{input: "odd [name].txt", stem: "odd [name]", want: "odd"},
		{input: "-", stdin: "[1]\n", stem: "stdin", want: []any{int64(1)}},
		{input: "-", stdin: "some text\r\n", stem: "stdin", want: "some text"},
		{input: "-", stdin: "two\n\n", stem: "stdin", want: "two\n"},
		{input: "-", stdin: "\xff\x00", stem: "stdin", want: []byte("\xff\x00")},
		{input: "-", stdin: fixtures.WAV(t, fixtures.Beep), stem: "stdin", want: fixtures.Beep},
		{input: "-", stdin: fixtures.PNG(t), stem: "stdin", want: picture},
	} {
		t.Run(terminal.Shorten(c.input+" "+c.stem, 40), func(t *testing.T) {
			set, err := Resolve(strings.NewReader(c.stdin), fixtures.NoWarning(t), []string{c.input})
			require.NoError(t, err)
			require.Len(t, set.Sources, 1)
			assert.False(t, set.Many)
			assert.Equal(t, c.stem, set.Sources[0].Stem)
			got, err := set.Sources[0].Load(t.Context())
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

// tables are files of the same table.
func tables(t *testing.T) map[string]string {
	table, err := tablefile.Decode([]byte("name,age\nAda,36\nGrace,\n"), tablefile.CSV)
	require.NoError(t, err)
	files := map[string]string{}
	for name, format := range map[string]tablefile.Format{"a.csv": tablefile.CSV, "a.tsv": tablefile.TSV, "a.parquet": tablefile.Parquet, "a.feather": tablefile.Arrow} {
		var file strings.Builder
		require.NoError(t, tablefile.Encode(&file, table, format))
		files[name] = file.String()
	}
	stream, err := arrow.Encode(table)
	require.NoError(t, err)
	files["a.arrows"], files["a.arrow"] = string(stream.Stream), string(stream.Stream)
	files["parquet.csv"], files["csv.txt"], files["parquet"] = files["a.parquet"], files["a.csv"], files["a.parquet"]
	return files
}

func TestTheKindsOfFilesOfTables(t *testing.T) {
	files := tables(t)
	fixtures.Chdir(t, files)
	for _, c := range []struct{ input, stdin string }{
		{"a.csv", ""}, {"@a.tsv", ""}, {"a.parquet", ""}, {"a.feather", ""}, {"a.arrow", ""}, {"a.arrows", ""}, {"parquet.csv", ""},
		{"table:csv.txt", ""}, {"table:parquet", ""}, {"table:a.tsv", ""},
		{"-", files["a.parquet"]}, {"-", files["a.feather"]}, {"-", files["a.arrows"]},
		{"table:-", files["a.csv"]}, {"table:-", files["a.parquet"]},
	} {
		t.Run(c.input, func(t *testing.T) {
			set, err := Resolve(strings.NewReader(c.stdin), fixtures.NoWarning(t), []string{c.input})
			require.NoError(t, err)
			got, err := set.Sources[0].Load(t.Context())
			require.NoError(t, err)
			require.IsType(t, arrow.Table{}, got)
			assert.Equal(t, int64(2), got.(arrow.Table).NumRows())
			fields := got.(arrow.Table).Schema.Fields()
			assert.Equal(t, "name utf8, age int64", fmt.Sprintf("%s %s, %s %s", fields[0].Name, fields[0].Type, fields[1].Name, fields[1].Type))
			assert.Len(t, set.Files, map[bool]int{true: 1}[c.stdin == ""])
		})
	}
	set, err := Resolve(nil, fixtures.NoWarning(t), []string{"table:*.csv"})
	require.NoError(t, err)
	assert.Len(t, set.Sources, 2, "a pattern")
	_, err = Resolve(strings.NewReader(""), fixtures.NoWarning(t), []string{"table:-", "-"})
	assert.ErrorContains(t, err, "standard input (-) can be read only once")
}

func TestCSVWithOtherSeparatorsIsWarnedOf(t *testing.T) {
	fixtures.Chdir(t, map[string]string{"a.csv": "x;y\n1;2\n"})
	var warned []any
	set, err := Resolve(nil, func(message string, args ...any) { warned = append([]any{message}, args...) }, []string{"a.csv"})
	require.NoError(t, err)
	_, err = set.Sources[0].Load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []any{"the table has a single column; the fields of a CSV file are separated by commas, those of a .tsv file by tabs", "input", "a.csv", "column", "x;y"}, warned)
}

func TestNoInputIsNull(t *testing.T) {
	set, err := Resolve(nil, fixtures.NoWarning(t), nil)
	require.NoError(t, err)
	got, err := set.Sources[0].Load(t.Context())
	require.NoError(t, err)
	assert.Nil(t, got)
}

func TestArgumentsForSeveralInputs(t *testing.T) {
	fixtures.Chdir(t, map[string]string{"x/b.txt": "b", "x/a.txt": "a", "x/c/d.txt": "d", "l.jsonl": "1\n\n\"two\"\r\n{]\n", "one.txt": "1"})
	names := func(inputs ...string) (names, stems []string, many bool) {
		set, err := Resolve(nil, fixtures.NoWarning(t), inputs)
		require.NoError(t, err)
		for _, s := range set.Sources {
			names, stems = append(names, s.Name), append(stems, s.Stem)
		}
		return names, stems, set.Many
	}
	got, stems, many := names("x/*")
	assert.Equal(t, []string{"x/a.txt", "x/b.txt"}, got, "in the order of names, without the folder")
	assert.Equal(t, []string{"a", "b"}, stems)
	assert.True(t, many)

	got, _, many = names("*.txt")
	assert.Equal(t, []string{"one.txt"}, got)
	assert.True(t, many, "a pattern always means several inputs")

	got, stems, _ = names("z", "@x/[ab].txt", "1")
	assert.Equal(t, []string{"z", "x/a.txt", "x/b.txt", "1"}, got)
	assert.Equal(t, []string{"input-1", "a", "b", "input-4"}, stems)

	got, stems, many = names("l.jsonl")
	assert.Equal(t, []string{"l.jsonl:1", "l.jsonl:3", "l.jsonl:4"}, got)
	assert.Equal(t, []string{"l-1", "l-3", "l-4"}, stems)
	assert.True(t, many)
	set, err := Resolve(nil, fixtures.NoWarning(t), []string{"l.jsonl"})
	require.NoError(t, err)
	value, err := set.Sources[1].Load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "two", value)
	_, err = set.Sources[2].Load(t.Context())
	assert.ErrorIs(t, err, runner.KindSerialization)
	assert.ErrorContains(t, err, "l.jsonl:4: invalid JSON")
}

func TestAnInputThatCannotBeReadIsAnError(t *testing.T) {
	fixtures.Chdir(t, map[string]string{"bad.wav": "RIFF....WAVE", "song.wav": "ID3\x04", "bad.json": "{", "big.json": `{"n": [99999999999999999999]}`, "dir/x": "",
		"empty.csv": "", "empty.parquet": "", "cut.parquet": "PAR1\x15", "cut.arrow": "ARROW1\x00\x00\xff", "text.parquet": "a,b\n1,2\n", "uneven.csv": "a,b\n1\n", "latin.dat": "a\n\xe4\n"})
	for _, c := range []struct {
		input string
		kind  error
		want  string
	}{
		{"missing.wav", runner.KindIO, `there is no input file missing.wav`},
		{"@missing", runner.KindIO, `there is no input file missing`},
		{"*.txt", runner.KindIO, `no file matches the input *.txt`},
		{"@[.txt", runner.KindIO, `no file matches the input [.txt`},
		{"dir", &failure.UsageError{}, `the input dir is a folder; name the files in it: 'dir/*'`},
		{"di[r]", &failure.UsageError{}, `only folders match the input; name the files in them: 'dir/*'`},
		{"123456789012345678901", runner.KindSerialization, "the number 123456789012345678901 does not fit in 64 bits"},
		{"1e999", runner.KindSerialization, "the number 1e999 does not fit in 64 bits"},
		{"bad.wav", runner.KindSerialization, "cannot read bad.wav: WAV: there is no fmt chunk"},
		{"song.wav", runner.KindSerialization, "cannot read song.wav: WAV: this is MP3, which is not supported"},
		{"missing.parquet", runner.KindIO, `there is no input file missing.parquet`},
		{"empty.csv", runner.KindSerialization, "cannot read empty.csv: CSV: the file is empty"},
		{"empty.parquet", runner.KindSerialization, "cannot read empty.parquet: Parquet: the file is empty"},
		{"cut.parquet", runner.KindSerialization, "cannot read cut.parquet: Parquet: not a valid Parquet file: it is truncated"},
		{"cut.arrow", runner.KindSerialization, "cannot read cut.arrow: Arrow: not a valid Arrow file: it is truncated"},
		{"text.parquet", runner.KindSerialization, "cannot read text.parquet: Parquet: not a valid Parquet file: it does not begin like one"},
		{"uneven.csv", runner.KindSerialization, "cannot read uneven.csv: CSV: line 2 has 1 fields, but the first line has 2"},
		{"table:latin.dat", runner.KindSerialization, "cannot read latin.dat: CSV: it is not UTF-8 text"},
		{"bad.json", runner.KindSerialization, "bad.json: invalid JSON: unexpected EOF, at byte 1"},
		{"big.json", runner.KindSerialization, "input.n[0]: the number 99999999999999999999 does not fit"},
	} {
		t.Run(c.input, func(t *testing.T) {
			set, err := Resolve(nil, fixtures.NoWarning(t), []string{c.input})
			if err == nil {
				_, err = set.Sources[0].Load(t.Context())
			}
			assert.ErrorContains(t, err, c.want)
			if usage, ok := errors.AsType[*failure.UsageError](c.kind); ok {
				assert.ErrorAs(t, err, &usage)
			} else {
				assert.ErrorIs(t, err, c.kind)
			}
		})
	}
}

func TestAFileThatIsRemovedBeforeItIsReadIsAnError(t *testing.T) {
	fixtures.Chdir(t, map[string]string{"a.txt": "a"})
	set, err := Resolve(nil, fixtures.NoWarning(t), []string{"a.txt"})
	require.NoError(t, err)
	require.NoError(t, os.Remove("a.txt"))
	_, err = set.Sources[0].Load(t.Context())
	assert.ErrorIs(t, err, runner.KindIO)
}

func TestBrokenJSONIsTextWithAWarning(t *testing.T) {
	warned := ""
	set, err := Resolve(nil, func(message string, _ ...any) { warned = message }, []string{`{"a": 1`})
	require.NoError(t, err)
	got, err := set.Sources[0].Load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, `{"a": 1`, got)
	assert.Equal(t, "an input looks like JSON but is not valid; it is used as text", warned)
}
