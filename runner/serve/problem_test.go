package serve_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/oipgrpc"
)

var update = flag.Bool("update", false, "rewrite the tables in docs")

// provoked is a way to get a problem.
type provoked struct {
	when string // for the table
	// ask returns the answer to a request that fails in this way.
	ask func(t *testing.T) (*http.Response, string)
	// want is the type of the problem, status its status, and kind that of the error.
	want   string
	status int
	kind   string
}

// asks returns a function that posts a body to a new service for a pipeline.
func asks(manifest, body string, headers ...string) func(t *testing.T) (*http.Response, string) {
	return func(t *testing.T) (*http.Response, string) {
		return start(t, manifest).ask(t, body, headers...)
	}
}

func (s *service) ask(t *testing.T, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	answer := s.do(t, http.MethodPost, "/v1/pipelines/p", strings.NewReader(body), headers...)
	return answer, read(t, answer)
}

var (
	misbehave = single("misbehave", "retry: none", "timeout: 200ms")
	echoes    = single("echo")
)

func TestEveryFailureHasItsStatus(t *testing.T) {
	t.Parallel()
	rows := []provoked{
		{"the body is not JSON", asks(echoes, "{"), "malformed", 400, ""},
		{"an integer has more than 64 bits", asks(echoes, "18446744073709551616"), "malformed", 400, ""},
		{"a file is not what its type says", asks(echoes, "{}", "Content-Type", "audio/wav"), "malformed", 400, ""},
		{"`X-Request-Timeout` is no time", asks(echoes, "1", "X-Request-Timeout", "soon"), "malformed", 400, ""},
		{"there is no valid token", askWithoutToken, "unauthorized", 401, ""},
		{"a page of another origin asks", asks(echoes, "1", "Origin", "https://evil.example"), "forbidden", 403, ""},
		{"the `Host` is not that of the service", asks(echoes, "1", "Host", "evil.example"), "forbidden", 403, ""},
		{"the client may not restart a node", askFor(http.MethodPost, "/v1/pipelines/p/nodes/n/restart"), "forbidden", 403, ""},
		{"there is no such pipeline", askFor(http.MethodPost, "/v1/pipelines/q"), "not-found", 404, ""},
		{"there is no such node", askFor(http.MethodPost, "/v1/pipelines/p/nodes/m"), "not-found", 404, ""},
		{"the method is another one", askFor(http.MethodDelete, "/v1/pipelines/p"), "method", 405, ""},
		{"the result has no form that `Accept` lists", asks(echoes, "1", "Accept", "audio/wav"), "not-acceptable", 406, ""},
		{"an `Idempotency-Key` comes with another body", askConflict, "key-conflict", 409, ""},
		{"the node has no workers to restart", askRestart, "no-workers", 409, ""},
		{"the body is larger than the limit", askTooMuch, "too-large", 413, ""},
		{"the body is of an unknown type", asks(echoes, "x", "Content-Type", "video/mp4"), "media-type", 415, ""},
		{"the value is not of the type that the node is annotated with", asks(single("add"), `"one"`), "invalid-value", 422, "marshaling"},
		{"the node raises `gophersnake.Permanent`", asks(misbehave, `"permanent"`), "rejected", 422, "execution"},
		{"the resource is a WebSocket, and the request is not one", askFor(http.MethodGet, "/v1/pipelines/p/stream"), "upgrade", 426, ""},
		{"the client sends more requests than its rate", askTooOften, "rate-limited", 429, ""},
		{"the queue of a node is full", askQueue, "queue-full", 429, "other"},
		{"the node raises an exception", asks(misbehave, `"raise"`), "execution", 500, "execution"},
		{"the result cannot be carried", asks(misbehave, `"carry"`), "result", 500, "marshaling"},
		{"the value of one node is not of the type that the next one takes",
			asks("nodes: [{id: a, node_type: text_of}, {id: b, node_type: add}]\nconnections: [{from: a, to: b}]", `"x"`), "result", 500, "marshaling"},
		{"the interpreter dies", asks(misbehave, `"die"`), "interpreter", 502, "python_vm"},
		{"a module of WebAssembly traps", asks("nodes: [{id: n, wasm: ../../internal/wasm/testdata/faults.wasm, retry: none}]", "1"), "wasm", 502, "wasm"},
		{"a program exits before it has answered", asks("nodes: [{id: n, command: [head, -c, '0'], retry: none}]", "1"), "transport", 502, "transport"},
		{"there is no shared memory left", askMemory, "memory-full", 503, "io"},
		{"more requests with an `Idempotency-Key` are under way than keys are kept", askKeys, "keys-full", 503, ""},
		{"the bodies of all requests together are larger than the limit", askForMemory, "no-memory", 503, ""},
		{"the circuit breaker of a node is open", askBreaker, "breaker-open", 503, "other"},
		{"a client watches `/v1/status` 20 times, or all clients do 100 times", askToWatch, "watchers-full", 503, ""},
		{"the runner drains or is closed", askDrained, "draining", 503, "other"},
		{"the call takes longer than the node's `timeout`", asks(misbehave, `"hang"`), "deadline", 504, "python_vm"},
		{"the node's `setup` hangs", askHang, "hang", 504, "python_vm"},
		{"the request takes longer than `X-Request-Timeout`",
			asks(single("misbehave", "retry: none"), `"hang"`, "X-Request-Timeout", "0.05"), "deadline", 504, "other"},
	}
	table := make([]string, len(rows))
	t.Run("rows", func(t *testing.T) {
		for i, row := range rows {
			t.Run(row.when, func(t *testing.T) {
				t.Parallel()
				answer, text := row.ask(t)
				p := problemIn(t, text)
				assert.Equal(t, row.status, answer.StatusCode, text)
				assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"))
				assert.Equal(t, "urn:gophersnake:problem:"+row.want, p.Type, text)
				assert.Equal(t, row.kind, p.Kind, text)
				assert.Equal(t, row.status, p.Status)
				assert.NotEmpty(t, p.Detail)
				assert.Equal(t, answer.Header.Get("X-Request-Id"), p.RequestID)
				wait := answer.Header.Get("Retry-After")
				assert.Equal(t, row.status == 429 || row.status == 503, wait != "", "Retry-After: %s", wait)
				if wait != "" {
					seconds, err := strconv.Atoi(wait)
					require.NoError(t, err)
					assert.Positive(t, seconds)
				}
				table[i] = fmt.Sprintf("| %d | %s | `%s` | %s | %s | %s |\n",
					row.status, oipgrpc.Code(row.status), row.want, row.when, orDash(row.kind), choice(wait != "", "yes", "–"))
			})
		}
	})
	if !t.Failed() {
		compareTable(t, "serve-errors.md", "| status | gRPC | type | when | kind | `Retry-After` |\n| ---: | --- | --- | --- | --- | --- |\n"+strings.Join(table, ""))
	}
}

func orDash(kind string) string {
	if kind == "" {
		return "–"
	}
	return "`" + kind + "`"
}

func choice(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// compareTable checks that the guide contains the table or, with -update, inserts it.
func compareTable(t *testing.T, guide, table string) {
	t.Helper()
	file := filepath.Join("..", "docs", guide)
	old, err := os.ReadFile(file)
	require.NoError(t, err)
	const begin, end = "<!-- table -->\n", "<!-- end of table -->"
	before, rest, found := strings.Cut(string(old), begin)
	require.True(t, found)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	document := before + begin + "\n" + table + "\n" + end + after
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(document), 0o644))
		return
	}
	assert.Equal(t, string(old), document, "run go test ./runner/serve -run "+t.Name()+" -update")
}

func askWithoutToken(t *testing.T) (*http.Response, string) {
	return start(t, echoes, serve.WithTokens(serve.Token{Secret: "0123456789abcdef"})).ask(t, "1")
}

func askForMemory(t *testing.T) (*http.Response, string) {
	return start(t, echoes, serve.WithMemory(10)).ask(t, `"more than ten bytes"`)
}

func askTooOften(t *testing.T) (*http.Response, string) {
	s := start(t, echoes, serve.WithRate(0.01, 1))
	_, _ = s.ask(t, "1")
	return s.ask(t, "1")
}

func askFor(method, path string) func(t *testing.T) (*http.Response, string) {
	return func(t *testing.T) (*http.Response, string) {
		answer := start(t, echoes).do(t, method, path, strings.NewReader("1"))
		return answer, read(t, answer)
	}
}

func askConflict(t *testing.T) (*http.Response, string) {
	s := start(t, echoes)
	_, _ = s.ask(t, "1", "Idempotency-Key", "k")
	return s.ask(t, "2", "Idempotency-Key", "k")
}

func askTooMuch(t *testing.T) (*http.Response, string) {
	return start(t, echoes, serve.WithMaxBody(10)).ask(t, `"more than ten bytes"`)
}

func askQueue(t *testing.T) (*http.Response, string) {
	folder := t.TempDir()
	s := start(t, single("wait", "params: {folder: '"+folder+"'}", "limits: {queue: 1}", "retry: none"))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range 2 {
		go func() { _, _ = s.runner.Run(ctx, 1) }()
	}
	require.Eventually(t, func() bool { return s.runner.Health().Nodes[0].Pool.Waiting == 1 && exists(folder, "began") }, patience, 1e6)
	return s.ask(t, "1")
}

// askMemory posts an array for which there is no room beside that of a call under way.
func askMemory(t *testing.T) (*http.Response, string) {
	folder := t.TempDir()
	r := newRunner(t, single("wait", "params: {folder: '"+folder+"'}", "retry: none"), runner.WithSharedMemory(16<<20))
	s := listen(t, r, serve.Config{})
	large, err := ipc.NewTensor(make([]float32, 10<<18), 10<<18) // 10 MiB
	require.NoError(t, err)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() { _, _ = r.Run(ctx, large) }()
	appears(t, folder, "began")
	return s.ask(t, encoded(t, func(w io.Writer) error { return media.EncodeNPY(w, large) }), "Content-Type", "application/x-npy")
}

func askKeys(t *testing.T) (*http.Response, string) {
	folder := t.TempDir()
	s := start(t, single("wait", "params: {folder: '"+folder+"'}"), serve.WithKeyLimits(serve.KeyLimits{Keys: 1, Bytes: 1 << 20, Age: patience}))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/pipelines/p", strings.NewReader("1"))
		req.Header.Set("Idempotency-Key", "first")
		if answer, err := http.DefaultClient.Do(req); err == nil {
			_ = answer.Body.Close()
		}
	}()
	appears(t, folder, "began")
	return s.ask(t, "1", "Idempotency-Key", "second")
}

// askHang posts to a pipeline that was not started.
func askHang(t *testing.T) (*http.Response, string) {
	r := newRunner(t, single("Endless", "retry: none", "setup_timeout: 5s"))
	return listen(t, r, serve.Config{}).ask(t, "1")
}

func askBreaker(t *testing.T) (*http.Response, string) {
	s := start(t, single("misbehave", "retry: none", "breaker: {failures: 1}"))
	_, _ = s.ask(t, `"raise"`)
	return s.ask(t, `"fine"`)
}

func askRestart(t *testing.T) (*http.Response, string) {
	r := newRunner(t, single("double"), runner.WithNode("double", func(context.Context, runner.Input) (any, error) { return 2, nil }))
	answer := listen(t, r, serve.Config{}, serve.WithAdmin()).do(t, http.MethodPost, "/v1/pipelines/p/nodes/n/restart", nil)
	return answer, read(t, answer)
}

func askToWatch(t *testing.T) (*http.Response, string) {
	s := listen(t, newRunner(t, echoes), serve.Config{})
	s.watch(t, 20)
	answer := s.do(t, http.MethodGet, "/v1/status", nil, "Accept", lines)
	return answer, read(t, answer)
}

// watch opens streams of the status.
func (s *service) watch(t *testing.T, count int, headers ...string) {
	t.Helper()
	for range count {
		answer := s.do(t, http.MethodGet, "/v1/status", nil, append(headers, "Accept", lines)...)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		t.Cleanup(func() { _ = answer.Body.Close() })
	}
}

func askDrained(t *testing.T) (*http.Response, string) {
	s := start(t, echoes)
	require.NoError(t, s.runner.Drain(t.Context()))
	return s.ask(t, "1")
}

func TestAnAnswerHidesTheHostUnlessItIsForDebugging(t *testing.T) {
	t.Parallel()
	r := newRunner(t, misbehave)
	require.NoError(t, r.Start(t.Context()))
	_, text := listen(t, r, serve.Config{}).ask(t, `"raise"`)
	p := problemIn(t, text)
	assert.Equal(t, "cannot open '…/weights.bin' next to …/nodes.py", p.Detail)
	assert.Equal(t, "ValueError", p.Exception)
	assert.Equal(t, "n", p.Node)
	assert.Equal(t, 1, p.Attempt)
	assert.NotContains(t, text, "Traceback")
	assert.NotContains(t, text, "/srv")
	folder, err := os.Getwd()
	require.NoError(t, err)
	assert.NotContains(t, text, folder)

	_, text = listen(t, r, serve.Config{}, serve.WithDebug()).ask(t, `"raise"`)
	p = problemIn(t, text)
	assert.Contains(t, p.Detail, "/srv/secret models/weights.bin")
	assert.Contains(t, fmt.Sprint(p.Error["exception"]), folder)
}

func TestReadyMeansThatACallWouldBeServed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "broken")
	text := single("Broken", "params: {file: '"+file+"'}", "retry: none", "setup_timeout: 10s")
	r := newRunner(t, text)
	s := listen(t, r, serve.Config{})
	isReady := func(want int, says string) {
		t.Helper()
		for _, path := range []string{"/readyz", "/readyz/p", "/healthz"} {
			status, text := s.get(t, path)
			assert.Equal(t, want, status, text)
			assert.Contains(t, text, says)
		}
		status, _ := s.get(t, "/livez")
		assert.Equal(t, http.StatusOK, status)
	}
	isReady(http.StatusServiceUnavailable, "nothing has been started yet")
	require.NoError(t, r.Start(t.Context()))
	isReady(http.StatusOK, `"state": "healthy"`)

	// While it cannot start a worker, the node is not ready, and a call fails.
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	kill(t, r)
	require.Eventually(t, func() bool {
		status, text := s.get(t, "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "the model is missing")
	}, patience, 1e6)
	status, answer := s.post(t, "1")
	assert.NotEqual(t, http.StatusOK, status, answer)
	require.NoError(t, os.Remove(file))
	require.Eventually(t, func() bool {
		status, _ := s.post(t, "1")
		return status == http.StatusOK
	}, patience, 1e6)
	isReady(http.StatusOK, `"ready": true`)
	require.NoError(t, r.Drain(t.Context()))
	isReady(http.StatusServiceUnavailable, "new work is refused")
}

// kill kills the worker of the node, and waits until the runner has noticed it.
func kill(t *testing.T, r *runner.Runner) {
	t.Helper()
	worker := r.Health().Nodes[0].Pool.Workers[0]
	require.NoError(t, syscall.Kill(worker.PID, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		workers := r.Health().Nodes[0].Pool.Workers
		return len(workers) == 0 || workers[0].PID != worker.PID
	}, patience, 1e6)
}

func TestANodeThatRecoversFromACrashIsReadyAndServes(t *testing.T) {
	t.Parallel()
	s := start(t, single("misbehave", "retry: none", "breaker: none"))
	for range 4 { // so that starts back off
		status, text := s.post(t, `"die"`)
		assert.Equal(t, http.StatusBadGateway, status, text)
		status, text = s.get(t, "/readyz")
		assert.Equal(t, http.StatusOK, status, text)
		status, text = s.post(t, `"fine"`)
		assert.Equal(t, http.StatusOK, status, text)
	}
}

func TestHealthIsNot200WhileNothingWorks(t *testing.T) {
	t.Parallel()
	s := start(t, single("misbehave", "retry: none", "breaker: {failures: 2}"))
	for range 2 {
		_, _ = s.post(t, `"raise"`)
	}
	status, text := s.get(t, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, text, "its circuit breaker is open")
	assert.NotContains(t, text, "/srv", "paths are hidden here, too")
	status, _ = s.post(t, `"fine"`)
	assert.Equal(t, http.StatusServiceUnavailable, status)
}

func TestMetricsNameTheirPipeline(t *testing.T) {
	t.Parallel()
	s := start(t, echoes)
	_, _ = s.post(t, "1")
	status, text := s.get(t, "/metrics")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, text, `gophersnake_up{pipeline="p"} 1`)
	assert.Contains(t, text, `gophersnake_calls_total{node="n",pipeline="p"} 1`)
}
