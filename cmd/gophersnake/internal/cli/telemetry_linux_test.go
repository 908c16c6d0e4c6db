package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// collecting starts a collector. The function returns all that it was sent, by path.
func collecting(t *testing.T) (url string, sent func(path string) string) {
	t.Helper()
	var mu sync.Mutex
	bodies := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		assert.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		bodies[req.URL.Path] += string(body)
	}))
	t.Cleanup(server.Close)
	return server.URL, func(path string) string {
		mu.Lock()
		defer mu.Unlock()
		return bodies[path]
	}
}

func TestServeSendsItsTracesAndItsLogUntilTheEnd(t *testing.T) {
	collector, sent := collecting(t)
	p, url := serving(t, "hello", "--otlp", collector, "--log-level", "debug")
	status, _ := ask(t, url+"/v1/pipelines/hello", `"Ada"`)
	assert.Equal(t, 200, status)
	_, metrics := getText(t, url+"/metrics")
	assert.Contains(t, metrics, `gophersnake_call_duration_seconds_count{node="greet",outcome="ok",pipeline="hello"} 1`)
	assert.Contains(t, metrics, "go_goroutines ")
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
	for _, name := range []string{"POST /v1/pipelines/{name}", "run hello", "call greet", "attempt greet", "service.name"} {
		assert.Contains(t, sent("/v1/traces"), name)
	}
	assert.Contains(t, sent("/v1/logs"), "is ready after")
}

// getText gets a page, and returns the status and the text.
func getText(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func TestRunSendsItsTraces(t *testing.T) {
	collector, sent := collecting(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
	t.Setenv("OTEL_SERVICE_NAME", "my service")
	succeed(t, "run", "hello", "--input", "Ada")
	for _, name := range []string{"run hello", "call greet", "my service"} {
		assert.Contains(t, sent("/v1/traces"), name)
	}
}

func TestACollectorThatCannotBeReachedIsAWarning(t *testing.T) {
	got := command(t, "run", "hello", "--input", "Ada", "--input", "Bob", "--otlp", "http://127.0.0.1:1")
	assert.Zero(t, got.code, got.err)
	assert.Contains(t, got.out, "ADA")
	assert.LessOrEqual(t, strings.Count(got.err, "traces or log records are lost"), 1)

	got = command(t, "run", "hello", "--input", "Ada", "--otlp", "localhost:4318")
	assert.Equal(t, 2, got.code)
	assert.Contains(t, got.err, "takes the URL of a collector")
}
