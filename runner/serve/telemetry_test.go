package serve_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/runner/serve"
)

func TestRequestsAreSpansByTheConventions(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	s := start(t, single("misbehave"), serve.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))))
	cases := []spanCase{
		{"GET", "/livez", "", 200, 0, nil},
		{"GET", "/readyz/p", "", 200, 0, nil},
		{"GET", "/metrics", "", 200, 0, nil},
		{"GET", "/v1/pipelines?token=secret", "GET /v1/pipelines", 200, codes.Unset, map[attribute.Key]any{"url.path": "/v1/pipelines"}},
		{"GET", "/x/" + strings.Repeat("y", 5000), "GET /", 404, codes.Unset, map[attribute.Key]any{"url.path": "/x/" + strings.Repeat("y", 1021)}},
		{"BREW", "/v1/pipelines/p", "HTTP /v1/pipelines/{name}", 405, codes.Unset, map[attribute.Key]any{
			"http.request.method": "_OTHER", "http.request.method_original": "BREW",
		}},
		{"POST", "/v1/pipelines/p", "POST /v1/pipelines/{name}", 500, codes.Error, map[attribute.Key]any{
			"error.type": "500", "gophersnake.pipeline": "p", "http.route": "/v1/pipelines/{name}",
		}},
	}
	ids := make([]string, len(cases)) // of the requests
	for i, c := range cases {
		answer := s.do(t, c.method, c.path, strings.NewReader(`"raise"`), "User-Agent", "test")
		assert.Equal(t, c.status, answer.StatusCode, c.path)
		ids[i] = answer.Header.Get("X-Request-Id")
		read(t, answer)
	}
	require.NoError(t, s.stop()) // a span may end after its answer
	found := map[any]tracetest.SpanStub{}
	for _, span := range spans.GetSpans() {
		found[attributesOf(span)["gophersnake.request.id"]] = span
	}
	for i, c := range cases {
		span, ok := found[ids[i]]
		if assert.Equal(t, c.name != "", ok, c.path); ok {
			c.check(t, span)
		}
	}
}

// spanCase is a request and the span that it should have.
type spanCase struct {
	method, path string
	name         string // empty for none
	status       int
	code         codes.Code
	more         map[attribute.Key]any
}

func attributesOf(span tracetest.SpanStub) map[attribute.Key]any {
	all := make(map[attribute.Key]any, len(span.Attributes))
	for _, a := range span.Attributes {
		all[a.Key] = a.Value.AsInterface()
	}
	return all
}

func (c *spanCase) check(t *testing.T, span tracetest.SpanStub) {
	t.Helper()
	assert.Equal(t, c.name, span.Name)
	assert.Equal(t, trace.SpanKindServer, span.SpanKind)
	assert.Equal(t, c.code, span.Status.Code, c.path)
	got := attributesOf(span)
	assert.EqualValues(t, c.status, got["http.response.status_code"])
	assert.Equal(t, "test", got["user_agent.original"])
	assert.NotContains(t, got, attribute.Key("url.query"))
	for key, want := range c.more {
		assert.Equal(t, want, got[key], key)
	}
	if c.status >= http.StatusBadRequest {
		require.Len(t, span.Events, 1)
		assert.Equal(t, "gophersnake.problem", span.Events[0].Name)
	}
}

// A stream is one request, observed until its end.
func TestAStreamIsOneSpan(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	s := start(t, echoes, serve.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))))
	status, text := s.post(t, "1\n2\n", "Content-Type", "application/x-ndjson")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "{\"result\":1}\n{\"result\":2}\n", text)
	require.NoError(t, s.stop())
	assert.Len(t, spans.GetSpans(), 1)
}
