package cli

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// unsorted is a document whose keys are in no usual order, and reversed the same with the
// keys of each object in reverse order.
const (
	unsorted = `{"q":1,"b":{"z":1,"a":{"2":0,"1":0,"3":0},"m":3},"x":[{"d":1,"c":2,"e":3}],"":null,"é":0.5,"A":true,"a":18446744073709551615,"empty":{},"none":[]}`
	reversed = `{"none":[],"empty":{},"a":18446744073709551615,"A":true,"é":0.5,"":null,"x":[{"e":3,"c":2,"d":1}],"b":{"m":3,"a":{"3":0,"1":0,"2":0},"z":1},"q":1}`
)

func TestKeysKeepTheirOrderToPythonAndBack(t *testing.T) {
	p := fixtures.Pipeline(t, "nodes: [{id: one, node_type: reversed_keys}, {id: two, node_type: echo}, {id: three, node_type: reversed_keys}, {id: four, node_type: reversed_keys}]\n"+
		"connections: [{from: one, to: two}, {from: two, to: three}, {from: three, to: four}]")
	fixtures.Chdir(t, map[string]string{"a.json": unsorted, "b.jsonl": unsorted + "\n" + unsorted + "\n"})
	assert.Equal(t, reversed, compact(succeed(t, "run", p, "--input", unsorted)))
	assert.Equal(t, reversed, compact(succeed(t, "run", p, "a.json")))
	got := commandWithInput(t, unsorted, "run", p, "--input", "-")
	assert.Equal(t, reversed, compact(got.out))
	assert.Equal(t, `{"input":"b.jsonl:1","result":`+reversed+"}\n"+`{"input":"b.jsonl:2","result":`+reversed+"}\n",
		succeed(t, "run", p, "b.jsonl", "--output", "jsonl"))
	assert.Equal(t, reversed+"\n"+reversed+"\n", succeed(t, "stream", p, "--input", "b.jsonl"))
	assert.Equal(t, "none: []\nempty: {}\na: 18446744073709551615\nA: true\né: 0.5\n\"\": null\nx:\n  - e: 3\n    c: 2\n    d: 1\n"+
		"b:\n  m: 3\n  a:\n    \"3\": 0\n    \"1\": 0\n    \"2\": 0\n  z: 1\nq: 1\n", succeed(t, "run", p, "a.json", "--output", "pretty"))
}

// compact returns an indented JSON text without its white space.
func compact(text string) string { return regexp.MustCompile(`\s`).ReplaceAllString(text, "") }

func TestTheResultsOfSeveralNodesAreInTheOrderOfThePipeline(t *testing.T) {
	p := fixtures.Pipeline(t, "nodes: [{id: z, node_type: reversed_keys}, {id: m, node_type: echo}, {id: a, node_type: echo}]\nconnections: [{from: z, to: m}, {from: z, to: a}]")
	assert.Equal(t, `{"m":{"b":1,"c":2},"a":{"b":1,"c":2}}`, compact(succeed(t, "run", p, `{"c": 2, "b": 1}`)))
	many := fixtures.Pipeline(t, "nodes: [{id: z, node_type: countdown}, {id: m, node_type: echo}, {id: a, node_type: echo}]\nconnections: [{from: z, to: m}, {from: z, to: a}]")
	assert.Equal(t, `{"m":[2,1],"a":[2,1]}`, compact(succeed(t, "run", many, "2")))
}

func TestParamsKeepTheirOrder(t *testing.T) {
	const params = `{q: 1, b: {z: 1, a: {"2": 0, "1": 0, "3": 0}, m: 3}, x: [{d: 1, c: 2, e: 3}], y: 2, c: 3, a: 4}`
	p := fixtures.Pipeline(t, "nodes: [{id: n, node_type: options, params: "+params+"}]")
	const want = `"q":1,"b":{"z":1,"a":{"2":0,"1":0,"3":0},"m":3},"x":[{"d":1,"c":2,"e":3}],"y":2,"c":3,"a":4`
	assert.Equal(t, "{"+want+"}", compact(succeed(t, "run", p)))
	assert.Equal(t, "{"+want+`,"k":`+unsorted+"}", compact(succeed(t, "run", p, "--param", "n.k="+unsorted)))
}

// jsonFiles are inputs in several encodings and conditions.
var jsonFiles = map[string]string{
	"bom.json": "\ufeff{\"a\": 1}", "bom.txt": "\ufeffgrüße", "bom.jsonl": "\ufeff1\n2\n",
	"utf16.json": utf16("\ufeff{\"a\": 1}\n"), "utf16.txt": utf16("\ufeffgrüße\n"), "utf16.jsonl": utf16("1\n2\n"),
	"plain16.json": utf16(`{"ä": "ö"}`), "utf32.json": "\x00\x00\x00[\x00\x00\x00]", "big16.json": "\x00{\x00}",
	"latin.json": "{\n \"b\": \"gr\xfc\xdfe\"}", "latin.txt": "gr\xfc\xdfe", "latin.dat": "gr\xfc\xdfe", "latin.csv": "gr\xfc\xdfe",
	"lone.json": `{"a": ["x", "\ud83d!"]}`, "low.json": `["\udc0d"]`, "pair.json": `["\ud83d\udc0d"]`,
	"broken.json": "{\"a\": 1,\n \"b\": }", "comma.json": `[1, 2,]`, "two.json": "1 2", "none.json": " ", "nan.json": "[NaN]",
	"twice.json": `{"a": 1, "b": 2, "a": 3}`, "deep.json": strings.Repeat("[", 20000),
	"big.json": `{"a": [9223372036854775807, -9223372036854775808, 18446744073709551615]}`, "bigger.json": `{"a": [1, {"b": 18446744073709551616}]}`,
}

func TestTheTextOfAJSONInput(t *testing.T) {
	shown := nodeOfType(t, "shown")
	fixtures.Chdir(t, jsonFiles)
	const iconv = "\nhint: convert it: iconv -f UTF-16LE -t UTF-8"
	const latin = "\nhint: save it as UTF-8; from Western European text: iconv -f WINDOWS-1252 -t UTF-8"
	const pair = "\nhint: write both halves, such as \"\\ud83d\\udc0d\", or the character itself"
	const quote = "\nhint: write it as a string, in quotes"
	files := []struct{ input, result, failure string }{
		{"bom.json", "{'a': 1}", ""},
		{"bom.txt", "'grüße'", ""},
		{"pair.json", "['🐍']", ""},
		{"big.json", "{'a': [9223372036854775807, -9223372036854775808, 18446744073709551615]}", ""},
		{"twice.json", "{'a': 3, 'b': 2}", ""},
		{"latin.dat", `b'gr\xfc\xdfe'`, ""},
		{"latin.csv", "", "serialization error: cannot read latin.csv: CSV: it is not UTF-8 text" + latin + "; to hand over the file as it is: 'path:latin.csv' or 'bytes:latin.csv'"},
		{"utf16.json", "", "utf16.json: serialization error: the JSON is in UTF-16LE, not in UTF-8" + iconv},
		{"plain16.json", "", "plain16.json: serialization error: the JSON is in UTF-16LE, not in UTF-8" + iconv},
		{"big16.json", "", "big16.json: serialization error: the JSON is in UTF-16BE, not in UTF-8\nhint: convert it: iconv -f UTF-16BE -t UTF-8"},
		{"utf32.json", "", "utf32.json: serialization error: the JSON is in UTF-32BE, not in UTF-8\nhint: convert it: iconv -f UTF-32BE -t UTF-8"},
		{"utf16.txt", "", "utf16.txt: serialization error: the text is in UTF-16LE, not in UTF-8" + iconv},
		{"latin.txt", "", "latin.txt: serialization error: the text is not UTF-8: 0xfc at byte 2" + latin},
		{"latin.json", "", "latin.json: serialization error: the JSON is not UTF-8: 0xfc at byte 11 (line 2, column 10)" + latin},
		{"lone.json", "", "lone.json: serialization error: half of a surrogate pair without the other half, at byte 13" + pair},
		{"low.json", "", "low.json: serialization error: half of a surrogate pair without the other half, at byte 2" + pair},
		{"broken.json", "", "serialization error: broken.json: invalid JSON: missing value after object name, at byte 15 (line 2, column 7)"},
		{"comma.json", "", "serialization error: comma.json: invalid JSON: invalid character ',' at start of value, at byte 5"},
		{"nan.json", "", "serialization error: nan.json: invalid JSON: invalid character 'N' at start of value, at byte 1"},
		{"two.json", "", "serialization error: two.json: invalid JSON: unexpected data after the value"},
		{"none.json", "", "serialization error: none.json: invalid JSON: there is no value"},
		{"deep.json", "", "serialization error: deep.json: invalid JSON: exceeded max depth, at byte 10000"},
		{"bigger.json", "", "bigger.json: serialization error: input.a[1].b: the number 18446744073709551616 does not fit in 64 bits" + quote},
	}
	args := []string{"run", shown, "--output", "jsonl"}
	for _, c := range files {
		args = append(args, c.input)
	}
	records := recordsOf(t, command(t, args...).out)
	require.Len(t, records, len(files))
	for i, c := range files {
		t.Run(c.input, func(t *testing.T) { assert.Equal(t, record{c.input, c.result, c.failure}, records[i]) })
	}
	for _, c := range []struct{ stdin, result, failure string }{
		{"\ufeff[1]", "[1]", ""},
		{"\ufefftext\n", "'text'", ""},
		{"a\x00b\xff", `b'a\x00b\xff'`, ""},
		{utf16("\ufeff[1]"), "", "standard input: serialization error: the JSON is in UTF-16LE, not in UTF-8" + iconv},
		{"[\"gr\xfcn\"]", "", "standard input: serialization error: the JSON is not UTF-8: 0xfc at byte 4" + latin},
		{"[1e400]", "", "standard input: serialization error: input[0]: the number 1e400 does not fit in 64 bits" + quote},
	} {
		t.Run("standard input "+c.stdin, func(t *testing.T) {
			got := commandWithInput(t, c.stdin, "run", shown, "--input", "-", "--output", "pretty")
			if c.failure != "" {
				assert.Equal(t, result{9, "", "error: " + c.failure + "\n"}, got)
				return
			}
			assert.Equal(t, result{0, c.result + "\n", ""}, got)
		})
	}
	for argument, want := range map[string]string{
		"utf16.jsonl":          "utf16.jsonl: serialization error: the JSON is in UTF-16LE, not in UTF-8" + iconv,
		`{"a": "\ud83d"}`:      "serialization error: half of a surrogate pair without the other half, at byte 7" + pair,
		"18446744073709551616": "serialization error: input: the number 18446744073709551616 does not fit in 64 bits" + quote,
	} {
		assert.Equal(t, result{9, "", "error: " + want + "\n"}, command(t, "run", shown, "--input", argument))
	}
	assert.Equal(t, "\"1\"\n\"2\"\n", succeed(t, "stream", shown, "--input", "bom.jsonl"))
	for _, format := range []string{"jsonl", "text"} {
		got := command(t, "stream", shown, "--input", "utf16.jsonl", "--input-format", format)
		assert.Equal(t, result{9, "", "error: utf16.jsonl: serialization error: the text is in UTF-16LE, not in UTF-8" + iconv + "\ndelivered: 0\n"}, got)
	}
}

func TestTheHintForAnotherEncodingWorks(t *testing.T) {
	shown := nodeOfType(t, "shown")
	fixtures.Chdir(t, map[string]string{"a.json": utf16("\ufeff[\"grüße\"]"), "b.json": "[\"gr\xfc\xdfe\"]", "c.json": "\x00[\x00]"})
	for file, want := range map[string]string{"a.json": "['grüße']", "b.json": "['grüße']", "c.json": "[]"} {
		got := command(t, "run", shown, file)
		require.Equal(t, 9, got.code)
		_, hint, found := strings.Cut(got.err, "iconv ")
		require.True(t, found, got.err)
		text, err := exec.CommandContext(t.Context(), "iconv", append(strings.Fields(hint), file)...).Output()
		require.NoError(t, err)
		assert.Equal(t, result{0, want + "\n", ""}, commandWithInput(t, string(text), "run", shown, "-", "--output", "pretty"))
	}
}

// record is the outcome of one input in the output of a run: its result, or the text and
// the hint of its failure.
type record struct{ input, result, failure string }

// recordsOf parses the lines of JSON that a run writes.
func recordsOf(t *testing.T, lines string) []record {
	t.Helper()
	var records []record
	for line := range strings.Lines(lines) {
		var parsed struct {
			Input, Result string
			Error         struct{ Text, Hint string }
		}
		require.NoError(t, json.Unmarshal([]byte(line), &parsed), line)
		r := record{parsed.Input, parsed.Result, parsed.Error.Text}
		if parsed.Error.Hint != "" {
			r.failure += "\nhint: " + parsed.Error.Hint
		}
		records = append(records, r)
	}
	return records
}

// utf16 returns a text of the Basic Multilingual Plane in UTF-16LE.
func utf16(text string) string {
	var out []byte
	for _, r := range text {
		out = append(out, byte(r), byte(r>>8))
	}
	return string(out)
}

func TestBrokenJSONIsUsedAsTextWithAWarning(t *testing.T) {
	shown := nodeOfType(t, "shown")
	got := commandWithInput(t, "{\"a\": 1,\n}\n", "run", shown, "-i", "-")
	assert.Equal(t, `"'{\"a\": 1,\\n}'"`+"\n", got.out)
	assert.Regexp(t, `^\S+ \[WARN\]  standard input looks like JSON but is not valid; it is used as text: input="\{\\"a\\": 1, \}" reason="invalid character ',' at start of value, at byte 7 \(line 1, column 8\)"\n$`, got.err)
	got = command(t, "run", shown, "-i", "[1, 2")
	assert.Equal(t, "\"'[1, 2'\"\n", got.out)
	assert.Regexp(t, `^\S+ \[WARN\]  an input looks like JSON but is not valid; it is used as text: input="\[1, 2" reason="unexpected EOF, at byte 5"\n$`, got.err)

	typed := nodeOfType(t, "typed")
	got = command(t, "run", typed, "x", "--param", "n.suffix={1}")
	assert.Equal(t, "\"str{1}\"\n", got.out)
	assert.Regexp(t, `\[WARN\]  the value of --param n\.suffix looks like JSON but is not valid; it is used as text: `, got.err)
	got = command(t, "run", typed, "x", "--param", "n.times=18446744073709551616")
	require.Equal(t, result{9, "", "error: --param n.times: serialization error: input: the number 18446744073709551616 does not fit in 64 bits\nhint: write it as a string, in quotes\n"}, got)
}
