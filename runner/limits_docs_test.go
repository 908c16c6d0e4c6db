package runner_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

// limitNames are the values of the worker package's Limit constants.
func limitNames(t *testing.T) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "internal/worker/limits.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Limit" {
			name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			names = append(names, name)
		}
		return true
	})
	require.Greater(t, len(names), 10)
	return names
}

func TestEveryLimitIsInTheDocs(t *testing.T) {
	docs, err := os.ReadFile("docs/limits.md")
	require.NoError(t, err)
	text := string(docs)
	for _, name := range limitNames(t) {
		if name == "start_timeout" {
			name = "setup_timeout"
		}
		assert.Contains(t, text, name+"`")
	}
	var schema struct {
		Defs map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(manifest.Schema, &schema))
	for _, part := range []string{"workers", "limits"} {
		require.NotEmpty(t, schema.Defs[part].Properties)
		for name := range schema.Defs[part].Properties {
			assert.Contains(t, text, "| `"+part+"."+name+"` |")
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") {
			cells := strings.Count(line, "|")
			assert.True(t, cells == 6 || cells == 5, line)
		}
	}
}
