package serve_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/serve"
)

// document is what tests read of an OpenAPI document.
type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct{ Schemas, Responses, SecuritySchemes map[string]any }
	Security   []any
}

type operation struct {
	Description string
	Security    *[]any
	RequestBody struct {
		Required bool
		Content  map[string]body
	}
	Responses map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]body
	}
}

type body struct{ Schema, Example any }

func (s *service) openAPI(t *testing.T, headers ...string) (d document) {
	t.Helper()
	status, text := s.get(t, "/openapi.json", headers...)
	require.Equal(t, http.StatusOK, status, text)
	require.NoError(t, json.Unmarshal([]byte(text), &d))
	return d
}

// keys returns the content types.
func keys(of map[string]body) (all []string) {
	for key := range of {
		all = append(all, key)
	}
	return all
}

func TestTheOpenAPIDocumentHasTheSchemasOfTheNodes(t *testing.T) {
	t.Parallel()
	s := start(t, "nodes: [{id: add, node_type: add}, {id: text, node_type: text_of}]\nconnections: [{from: add, to: text}]")
	d := s.openAPI(t)
	assert.Equal(t, "3.1.1", d.OpenAPI)
	run := d.Paths["/v1/pipelines/p"]["post"]
	assert.Equal(t, "a test", run.Description)
	assert.True(t, run.RequestBody.Required)
	in := run.RequestBody.Content["application/json"]
	assert.Equal(t, "integer", in.Schema.(map[string]any)["type"])
	assert.Equal(t, float64(1), in.Example)
	assert.ElementsMatch(t, []string{"application/json", lines}, keys(run.RequestBody.Content), "no file is an integer")
	assert.ElementsMatch(t, []string{"application/json", "text/plain", lines, events}, keys(run.Responses["200"].Content))
	assert.Equal(t, map[string]any{"type": "string"}, run.Responses["200"].Content["application/json"].Schema)
	assert.Equal(t, "#/components/responses/TooManyRequests", run.Responses["429"].Ref)
	node := d.Paths["/v1/pipelines/p/nodes/add"]["post"]
	assert.Equal(t, "Add one.", node.Description)
	assert.ElementsMatch(t, []string{"application/json", lines, events}, keys(node.Responses["200"].Content))
	assert.Contains(t, d.Paths["/v1/pipelines/p/nodes/add/stream"]["get"].Responses, "101")
	assert.Contains(t, d.Paths["/v1/pipelines/p/stream"]["get"].Responses, "101")
	assert.ElementsMatch(t, []string{"application/json", lines, events}, keys(d.Paths["/v1/status"]["get"].Responses["200"].Content))
	for path, method := range map[string]string{"logs": "get", "nodes/add/logs": "get", "reload": "post", "nodes/add/restart": "post"} {
		assert.Contains(t, d.Paths["/v1/pipelines/p/"+path][method].Responses, "403", path)
	}
	assert.Empty(t, d.Security)
}

func TestTheOpenAPIDocumentHasPortsListsAndDefinitions(t *testing.T) {
	t.Parallel()
	d := start(t, `
nodes: [{id: a, node_type: labels}, {id: b, node_type: count}, {id: kind, node_type: join}]
connections: [{from: a, to: kind.left}, {from: b, to: kind.right}]
`).openAPI(t)
	join := d.Paths["/v1/pipelines/p/nodes/kind"]["post"].RequestBody.Content
	assert.Contains(t, join, "multipart/form-data")
	properties := join["application/json"].Schema.(map[string]any)["properties"].(map[string]any)
	assert.Contains(t, properties, "left")
	count := d.Paths["/v1/pipelines/p/nodes/b"]["post"].Responses["200"].Content["application/json"].Schema
	assert.Equal(t, map[string]any{"type": "array", "items": map[string]any{"type": "integer"}}, count, "a generator returns a list")
	labels := d.Paths["/v1/pipelines/p/nodes/a"]["post"].RequestBody.Content["application/json"]
	assert.Equal(t, map[string]any{"$ref": "#/components/schemas/p.a.in.Label"}, labels.Schema)
	assert.Contains(t, d.Components.Schemas, "p.a.in.Label")
	assert.Equal(t, "text", labels.Example.(map[string]any)["name"], "a recursive type has an example, too")
}

func TestTheOpenAPIDocumentNamesTokensIfThereAreAny(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithTokens(serve.Token{Secret: "0123456789abcdef"}))
	status, _ := s.get(t, "/openapi.json")
	assert.Equal(t, http.StatusUnauthorized, status)
	d := s.openAPI(t, "Authorization", "Bearer 0123456789abcdef")
	assert.Contains(t, d.Components.SecuritySchemes, "token")
	assert.Len(t, d.Security, 1)
	assert.Contains(t, d.Paths["/v1/pipelines/p"]["post"].Responses, "401")
	assert.Empty(t, *d.Paths["/readyz"]["get"].Security, "a probe needs no token")
}

func TestCodeThatCannotBeImportedHasNoSchemas(t *testing.T) {
	t.Parallel()
	r := newRunner(t, single("missing"))
	d := listen(t, r, serve.Config{}).openAPI(t)
	content := d.Paths["/v1/pipelines/p/nodes/n"]["post"].RequestBody.Content
	assert.Equal(t, map[string]any{"$ref": "#/components/schemas/Value"}, content["application/json"].Schema)
	assert.Contains(t, content, "audio/wav")
}

func TestThePageOfTheDocumentLoadsNothingElse(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithTokens(serve.Token{Secret: "0123456789abcdef"}))
	for path, contentType := range map[string]string{"/docs": "text/html", "/docs/docs.js": "text/javascript", "/docs/docs.css": "text/css"} {
		answer := s.do(t, http.MethodGet, path, nil)
		text := read(t, answer)
		assert.Equal(t, http.StatusOK, answer.StatusCode, path)
		assert.True(t, strings.HasPrefix(answer.Header.Get("Content-Type"), contentType), answer.Header.Get("Content-Type"))
		assert.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'")
		assert.NotContains(t, text, "https://", "no other server is named")
	}
	for _, path := range []string{"/docs/", "/docs/page.go", "/docs/%2e%2e/page.go"} {
		status, _ := s.get(t, path, "Authorization", "Bearer 0123456789abcdef")
		assert.Equal(t, http.StatusNotFound, status, path)
	}
}
