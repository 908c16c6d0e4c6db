package service

import (
	"context"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/runner"
)

func get(t *testing.T, server *httptest.Server, path string) (int, string) {
	t.Helper()
	response, err := server.Client().Get(server.URL + path)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestStatusSaysWhyAPipelineDoesNotServe(t *testing.T) {
	p, err := runner.Load(fixtures.Pipeline(t, "nodes: [{id: n, node_type: picky, breaker: {failures: 1}}]"))
	require.NoError(t, err)
	r, err := runner.New(p)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close(context.Background())) }()
	server := httptest.NewServer(statusHandler(r))
	defer server.Close()
	code, text := get(t, server, "/health")
	assert.Equal(t, 503, code)
	assert.Contains(t, text, "new: nothing has been started yet\n")
	require.NoError(t, r.Start(t.Context()))
	_ = r.Scheduler().Execute(t.Context(), "n", func(context.Context) error { return runner.NewError(runner.KindSerialization, "out of order") })
	code, text = get(t, server, "/health")
	assert.Equal(t, 503, code)
	assert.Contains(t, text, `unhealthy: node "n": its circuit breaker is open: serialization error in node "n": out of order`)
	code, text = get(t, server, "/health?format=json")
	assert.Equal(t, 503, code)
	assert.Contains(t, text, `"kind": "serialization"`)
}
