package manifest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// problems returns the problems of an invalid manifest.
func problems(t *testing.T, name, text string) *Errors {
	t.Helper()
	p, err := Parse(name, []byte(text), t.TempDir())
	require.Nil(t, p)
	var found *Errors
	require.True(t, errors.As(err, &found), "%v", err)
	return found
}

func TestInvalidTexts(t *testing.T) {
	const node = "nodes:\n  - {id: a, node_type: A}\n"
	for _, c := range []struct{ name, file, text, want string }{
		{"empty", "p.yaml", "", "p.yaml:1:1: the file is empty; a pipeline begins with version: v1"},
		{"blank", "p.yaml", " \n\t\n", "p.yaml:1:1: the file is empty; a pipeline begins with version: v1"},
		{"comments", "p.yaml", "# nothing\n", "p.yaml:1:1: the file is empty; a pipeline begins with version: v1"},
		{"empty JSON", "p.json", "\ufeff", "p.json:1:1: the file is empty; a pipeline begins with version: v1"},
		{"not UTF-8", "p.yaml", "version: v1\nmetadata: {name: Gr\xfc\xdfe}\n", "p.yaml:2:20: the file is not UTF-8 text; save it as UTF-8"},
		{"UTF-16", "p.yaml", "\xff\xfev\x001\x00", "p.yaml:1:1: the file is not UTF-8 text; save it as UTF-8"},
		{"control character", "p.yaml", "version: v1\nmetadata: {name: \"\x01\"}\n", "p.yaml:2:1: invalid YAML: control characters are not allowed"},
		{"two documents", "p.yaml", "version: v1\n" + node + "---\nversion: v1\n", "p.yaml:4:1: a second YAML document begins here; a file holds one pipeline"},
		{"broken second document", "p.yaml", "version: v1\n" + node + "---\n{", "p.yaml:5:1: invalid YAML: did not find expected node content"},
		{"tab", "p.yaml", "version: v1\nnodes:\n\t- id: a\n", "p.yaml:3:1: invalid YAML: found character that cannot start any token; indent with spaces, not with tabs"},
		{"tab after spaces", "p.yaml", "version: v1\nnodes:\n  - id: a\n  \tnode_type: A\n", "p.yaml:4:3: invalid YAML: found a tab character that violates indentation; indent with spaces, not with tabs"},
		{"indentation", "p.yaml", "version: v1\nnodes:\n  - id: a\n    node_type: A\n   timeout: 5\n", "p.yaml:5:4: invalid YAML: did not find expected '-' indicator; indent all items of a list alike, and begin each with -"},
		{"indentation inside", "p.yaml", "version: v1\nmetadata:\n  name: a\n # comment\n   b: c\n", "p.yaml:5:4: invalid YAML: did not find expected key; the indentation or a colon is wrong"},
		{"colon", "p.yaml", "version: v1\nmetadata:\n  name: a: b\n", "p.yaml:3:3: invalid YAML: mapping values are not allowed in this context; the indentation is wrong, or the value before needs quotes"},
		{"open quote", "p.yaml", "version: v1\nmetadata: {name: \"a}\n" + node, "p.yaml:2:1: invalid YAML: found unexpected end of stream; a quote is not closed"},
		{"unknown anchor", "p.yaml", "version: v1\nnodes: *all\n", "p.yaml:2:1: invalid YAML: unknown anchor 'all' referenced"},
		{"JSON", "p.json", "{\n  \"version\": \"v1\",\n  \"nodes\": [,]\n}", "p.json:3:13: invalid JSON: invalid character ',' looking for beginning of value"},
		{"JSON cut off", "p.json", "{\"version\": \"v1\",\n \"nodes\": [\n", "p.json:2:12: invalid JSON: unexpected end of JSON input"},
		{"text after JSON", "p.json", "{\"version\": \"v1\"}\n{}", "p.json:2:1: invalid JSON: invalid character '{' after top-level value"},
		{"YAML as JSON", "p.json", "version: v1\n", "p.json:1:1: invalid JSON: invalid character 'v' looking for beginning of value"},
		{"deep JSON", "p.json", strings.Repeat("[", 20_000), "p.json:1:10001: invalid JSON: invalid character '[' exceeded max depth"},
		{"deep YAML", "p.yaml", strings.Repeat("[", 20_000), "p.yaml:1:1: invalid YAML: exceeded max depth of 10000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := problems(t, c.file, c.text)
			assert.Equal(t, c.want, found.Error())
			assert.True(t, found.Syntax)
		})
	}
}

func TestTooLargeFile(t *testing.T) {
	text := "version: v1\n#" + strings.Repeat("x", MaxSize)
	assert.Equal(t, "p.yaml:1:1: the file is larger than 8 MiB, the limit for a manifest",
		problems(t, "p.yaml", text).Error())
}

// A large text is not searched for the wrong line; the parser's own line is reported.
func TestSyntaxErrorInLargeText(t *testing.T) {
	text := "version: v1\n" + strings.Repeat("# a comment\n", 30_000) + "nodes: 'a\n"
	found := problems(t, "p.yaml", text)
	require.Len(t, found.Problems, 1)
	assert.Greater(t, found.Problems[0].Line, 30_000)
}

func TestAliasesAreLimited(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("version: v1\nmetadata:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&bomb, "  a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
	}
	bomb.WriteString("nodes: [{id: a, node_type: A}]\n")
	found := problems(t, "p.yaml", bomb.String())
	require.Len(t, found.Problems, 1)
	assert.Contains(t, found.Error(), "the aliases of this document expand to more than 100000 values")
	assert.Positive(t, found.Problems[0].Line)
}

func TestAliasesThatContainThemselves(t *testing.T) {
	for name, text := range map[string]string{
		"list":  "version: v1\nmetadata: {a: &a [*a, *a]}\nnodes: [{id: a, node_type: A}]\n",
		"map":   "version: v1\nmetadata: {a: &a {b: *a}}\nnodes: [{id: a, node_type: A}]\n",
		"merge": "version: v1\nnodes:\n  - &a {<<: *a, id: a, node_type: A}\n",
		"root":  "&a\nversion: v1\nnodes: *a\n",
		"nodes": "version: v1\nnodes: &a\n  - {id: a, node_type: A, params: {x: *a}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			found := problems(t, "p.yaml", text)
			for _, p := range found.Problems {
				assert.Positive(t, p.Line)
				assert.Positive(t, p.Column)
			}
		})
	}
}

func TestNestingIsLimited(t *testing.T) {
	const text = "version: v1\nnodes: [{id: a, node_type: A, params: {x: %s%s}}]\n"
	deep := fmt.Sprintf(text, strings.Repeat("[", 100), strings.Repeat("]", 100))
	assert.Contains(t, problems(t, "p.yaml", deep).Error(), "nested more than 64 levels deep")
	_, err := Parse("p.yaml", fmt.Appendf(nil, text, strings.Repeat("[", 50), strings.Repeat("]", 50)), "")
	assert.NoError(t, err)
}

func TestMergeAcceptsOnlyMaps(t *testing.T) {
	found := problems(t, "p.yaml", "version: v1\nnodes:\n  - {<<: [5, text], id: a, node_type: A}\n")
	assert.Equal(t, "p.yaml:3:11: nodes[0]: must be a map, not 5\np.yaml:3:14: nodes[0]: must be a map, not \"text\"", found.Error())
}

func TestProblemsAreCappedAndCounted(t *testing.T) {
	var text strings.Builder
	text.WriteString("version: v1\nnodes:\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "  - {id: n%d, node_typ: A}\n", i)
	}
	found := problems(t, "p.yaml", text.String())
	assert.Len(t, found.Problems, maxProblems)
	assert.Equal(t, 9_900, found.Omitted)
	assert.True(t, strings.HasSuffix(found.Error(), "\nand 9900 more"))
}

func TestJSONAndYAMLMeanTheSame(t *testing.T) {
	yaml := "version: v1\nnodes:\n  - {id: a, node_type: A, params: {n: 1, f: 1.5, e: 1e2, s: \"\\u00e9/\", b: true, z: null, l: [1, {}]}}\n"
	json := `{"version":"v1","nodes":[{"id":"a","node_type":"A","params":` +
		`{"n":1,"f":1.5,"e":1e2,"s":"\u00e9\/","b":true,"z":null,"l":[1,{}]}}]}`
	fromYAML, err := Parse("p.yaml", []byte(yaml), "")
	require.NoError(t, err)
	fromJSON, err := Parse("p.yaml", []byte(json), "") // by content, not by name
	require.NoError(t, err)
	assert.Equal(t, fromYAML.Nodes[0].Params, fromJSON.Nodes[0].Params)
}

func TestJSONPositions(t *testing.T) {
	found := problems(t, "p.json", "{\"version\": \"v1\",\r\n\t\"nodes\": [\n\t\t{\"id\": \"é\", \"node_type\": \"A\", \"x\": 1, \"x\": 2, \"params\": {\"n\": 1e999, \"m\": 18446744073709551616}}\n]}")
	assert.Equal(t, strings.Join([]string{
		`p.json:3:10: nodes[0].id: "é" must consist of letters, digits, _ and -, and not begin with -`,
		`p.json:3:33: nodes[0].x: unknown field "x"; the fields here are breaker, command, container, env, host, id, idempotent, interpreter, isolation, limits, node_type, params, pass_env, python, requirements, retry, setup_timeout, timeout, wasm, workers`,
		`p.json:3:41: nodes[0].x: duplicate key "x"; the first is on line 3`,
		`p.json:3:65: nodes[0].params.n: 1e999 cannot be read as a number`,
		`p.json:3:77: nodes[0].params.m: 18446744073709551616 does not fit in 64 bits; write it as a string`,
	}, "\n"), found.Error())
}

func TestPlainScalarsAreValuesOfYAML12(t *testing.T) {
	for text, want := range map[string]any{
		"0": int64(0), "-0": int64(0), "+17": int64(17), "0o17": int64(15), "0x1f": int64(31), "17": int64(17),
		"1e3": 1000.0, "1.": 1.0, ".5": 0.5, "-1.5E-3": -0.0015, "01.5": 1.5, "18446744073709551615": uint64(math.MaxUint64),
		"true": true, "False": false, "TRUE": true, "tRUE": "tRUE", "null": nil, "~": nil, "": nil, "y": "y", "N": "N", "yES": "yES",
		`"017"`: "017", "'yes'": "yes", `"1e400"`: "1e400", "!!str 1_000": "1_000", "!!str on": "on",
		"1:30": "1:30", "_1": "_1", "2026-05-01": "2026-05-01", "yes and no": "yes and no", "0o8": "0o8", "1e": "1e",
	} {
		t.Run(text, func(t *testing.T) {
			p, err := Parse("p.yaml", []byte("version: v1\nnodes: [{id: a, node_type: A}]\nmetadata:\n  value: "+text+"\n"), t.TempDir())
			require.NoError(t, err)
			assert.Equal(t, want, p.Metadata["value"])
		})
	}
	for text, want := range map[string]string{
		"017": `p.yaml:2:40: nodes[0].timeout: must be a duration such as 500ms, 30s or 5m (a plain number is seconds), or none, not 017`,
		"1_0": `p.yaml:2:40: nodes[0].timeout: must be a duration such as 500ms, 30s or 5m (a plain number is seconds), or none, not 1_0`,
	} {
		assert.Equal(t, want, problems(t, "p.yaml", "version: v1\nnodes: [{id: a, node_type: A, timeout: "+text+"}]\n").Error())
	}
}
