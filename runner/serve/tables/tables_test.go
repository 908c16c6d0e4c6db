package tables_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/tables"
)

func TestATableChangesItsFormat(t *testing.T) {
	t.Parallel()
	p, err := manifest.Parse("test.yaml", []byte("version: v1\nnodes: [{id: n, node_type: echo}]\n"), t.TempDir())
	require.NoError(t, err)
	r, err := runner.New(p, runner.WithNode("echo", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }))
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	server := httptest.NewServer(serve.Handler(map[string]*runner.Runner{"p": r}, serve.WithFormats(tables.Formats()...)))
	t.Cleanup(server.Close)
	post := func(contentType, accept, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/pipelines/p", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept", accept)
		answer, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(text)
	}
	body := "name,count\ntea,2\nink,1\n"
	contentType := "text/csv"
	for _, next := range []string{
		"application/vnd.apache.parquet", "application/vnd.apache.arrow.file", "application/vnd.apache.arrow.stream",
		"text/tab-separated-values", "text/csv",
	} {
		status, text := post(contentType, next, body)
		require.Equal(t, http.StatusOK, status, text)
		contentType, body = next, text
		if strings.Contains(next, "parquet") {
			contentType = "application/x-www-form-urlencoded" // it is recognized
		}
	}
	assert.Equal(t, "name,count\ntea,2\nink,1\n", body)
	status, text := post("application/vnd.apache.parquet", "*/*", "PAR1")
	assert.Equal(t, http.StatusBadRequest, status, text)
	status, _ = post("text/csv", "image/png", "a\n1\n")
	assert.Equal(t, http.StatusNotAcceptable, status)
}
