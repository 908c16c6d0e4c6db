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

// The corpus is in testdata: valid manifests, those that schema and parser refuse,
// and those whose meaning only the parser sees to be wrong. What the parser says
// is at the end of each file, in comments.

var update = flag.Bool("update", false, "write what the parser says into the corpus")

// wanted begins a line of a manifest that holds a message.
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

// plain returns a document as the schema's validator takes it.
func plain(t *testing.T, file string, data []byte) any {
	t.Helper()
	root, fault := parseDocument(file, data)
	require.Nil(t, fault)
	d := &decoder{report: newReport(file)}
	return d.value(place{node: root})
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

func TestSchemaAndParserRefuseTheSame(t *testing.T) {
	schema := compileSchema(t)
	for file, data := range corpus(t, "refused") {
		t.Run(file, func(t *testing.T) {
			assert.Error(t, schema.Validate(plain(t, file, data)))
			checkMessages(t, file, data)
		})
	}
}

func TestMeaningIsCheckedByTheParserAlone(t *testing.T) {
	schema := compileSchema(t)
	for file, data := range corpus(t, "meaning") {
		t.Run(file, func(t *testing.T) {
			assert.NoError(t, schema.Validate(plain(t, file, data)))
			checkMessages(t, file, data)
		})
	}
}

// checkMessages compares what the parser says with the file's own comments.
func checkMessages(t *testing.T, file string, data []byte) {
	t.Helper()
	text, want, _ := strings.Cut(string(data), wanted)
	base, err := filepath.Abs(filepath.Dir(file))
	require.NoError(t, err)
	_, err = Parse(filepath.Base(file), []byte(text), base)
	var problems *Errors
	require.True(t, errors.As(err, &problems), "it was taken")
	got := strings.ReplaceAll(err.Error(), base, "/base")
	if *update {
		lines := wanted + strings.ReplaceAll(got, "\n", "\n"+wanted) + "\n"
		require.NoError(t, os.WriteFile(file, []byte(text+lines), 0o644))
		return
	}
	assert.Equal(t, strings.TrimSpace(strings.ReplaceAll(want, wanted, "")), got)
}

// A manifest that is refused for one node says nothing of the others, so each part
// is tried by itself.
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
