package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The corpus is in testdata: valid manifests (valid), invalid ones that both the schema
// and the parser reject (refused), and invalid ones that only the parser detects
// (meaning). Comments at the end of each invalid one are the parser's messages.

var update = flag.Bool("update", false, "write the parser's messages into the corpus")

// wanted begins a comment with an expected message.
const wanted = "# want: "

func corpus(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.*"))
	require.NoError(t, err)
	found := make(map[string][]byte)
	for _, file := range files {
		if ext := filepath.Ext(file); ext == ".yaml" || ext == ".json" {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			found[file] = data
		}
	}
	require.NotEmpty(t, found)
	return found
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("pipeline.json", doc))
	schema, err := compiler.Compile("pipeline.json")
	require.NoError(t, err)
	return schema
}

// plain returns a document in the form that the schema's validator accepts.
func plain(t *testing.T, file string, data []byte) any {
	t.Helper()
	root, invalid := parseDocument(file, data)
	require.Nil(t, invalid)
	d := &decoder{report: newReport(file)}
	return withoutOrder(d.value(element{node: root}))
}

func TestValidManifestsSatisfySchemaAndParser(t *testing.T) {
	schema := compileSchema(t)
	for file, data := range corpus(t, "valid") {
		t.Run(file, func(t *testing.T) {
			assert.NoError(t, schema.Validate(plain(t, file, data)))
			p, err := Parse(file, data, filepath.Dir(file))
			require.NoError(t, err)
			assert.NoError(t, p.Validate())
			assert.Len(t, p.Order(), len(p.Nodes))
		})
	}
}

func TestSchemaAndParserRejectTheSame(t *testing.T) {
	schema := compileSchema(t)
	for file, data := range corpus(t, "refused") {
		t.Run(file, func(t *testing.T) {
			assert.Error(t, schema.Validate(plain(t, file, data)))
			checkMessages(t, file, data)
		})
	}
}

func TestOnlyTheParserChecksTheMeaning(t *testing.T) {
	schema := compileSchema(t)
	for file, data := range corpus(t, "meaning") {
		t.Run(file, func(t *testing.T) {
			assert.NoError(t, schema.Validate(plain(t, file, data)))
			checkMessages(t, file, data)
		})
	}
}

// checkMessages compares the parser's messages with the comments of the file.
func checkMessages(t *testing.T, file string, data []byte) {
	t.Helper()
	text, want, _ := strings.Cut(string(data), wanted)
	base, err := filepath.Abs(filepath.Dir(file))
	require.NoError(t, err)
	_, err = Parse(filepath.Base(file), []byte(text), base)
	var problems *Errors
	require.True(t, errors.As(err, &problems), "the parser accepted it")
	got := strings.ReplaceAll(err.Error(), base, "/base")
	if *update {
		lines := wanted + strings.ReplaceAll(got, "\n", "\n"+wanted) + "\n"
		require.NoError(t, os.WriteFile(file, []byte(text+lines), 0o644))
		return
	}
	assert.Equal(t, strings.TrimSpace(strings.ReplaceAll(want, wanted, "")), got)
}

// A manifest that is rejected for one node shows nothing about the others, so each
// part is tried alone.
func TestSchemaAndParserAgreeOnEachPart(t *testing.T) {
	schema := compileSchema(t)
	tried := 0
	try := func(file string, doc map[string]any) {
		data, err := json.Marshal(doc)
		require.NoError(t, err)
		_, parsed := Parse(file+".json", data, "testdata/refused")
		validated := schema.Validate(plain(t, file, data))
		assert.Equal(t, parsed == nil, validated == nil, "%s: %s: parser: %v, schema: %v", file, data, parsed, validated)
		tried++
	}
	for file, data := range corpus(t, "refused") {
		doc, _ := plain(t, file, data).(map[string]any)
		nodes, _ := doc["nodes"].([]any)
		connections, _ := doc["connections"].([]any)
		for _, c := range connections {
			try(file, map[string]any{"version": "v1", "nodes": nodes, "connections": []any{c}})
		}
		for _, n := range nodes {
			try(file, map[string]any{"version": "v1", "nodes": []any{n}})
		}
	}
	assert.Greater(t, tried, 60)
}
