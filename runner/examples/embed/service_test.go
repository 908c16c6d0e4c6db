package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/runnertest"
)

// forever is longer than any test runs.
const forever = time.Hour

// fake returns a node that embeds each text as a short vector, without Python.
func fake() *runnertest.Node {
	return runnertest.NewNode(runnertest.Return(map[string]any{"model": "fake", "vectors": [][]float32{{0.6, 0.8}}}))
}

// newFake returns a runner for the program's pipeline with a Go function in the place of
// its node.
func newFake(t *testing.T, node *runnertest.Node) *runner.Runner {
	t.Helper()
	r, err := newRunner(runner.WithNode("Embed", node.Func))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

// post sends a body to the service, and returns its answer.
func post(service http.Handler, body string) *httptest.ResponseRecorder {
	got := httptest.NewRecorder()
	service.ServeHTTP(got, httptest.NewRequest(http.MethodPost, "/embed", strings.NewReader(body)))
	return got
}

func expect(t *testing.T, got *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if text := strings.TrimSpace(got.Body.String()); got.Code != status || !strings.Contains(text, body) {
		t.Errorf("got %d %s, want %d %s", got.Code, text, status, body)
	}
}

func TestTextsAreEmbedded(t *testing.T) {
	t.Parallel()
	node := fake()
	service := newService(newFake(t, node), forever)
	expect(t, post(service, `{"texts": ["a cat"]}`), 200, `{"model":"fake","vectors":[[0.6,0.8]]}`)
	sent := node.Inputs()[0].Value.(map[string]any)["texts"].([]any)
	if len(sent) != 1 || sent[0] != "a cat" {
		t.Errorf("the node got %v", sent)
	}
}

func TestABodyThatIsNoRequestIsRefused(t *testing.T) {
	t.Parallel()
	node := fake()
	service := newService(newFake(t, node), forever)
	expect(t, post(service, `{"texts": [`), 400, "unexpected EOF")
	expect(t, post(service, `{"texts": "a cat"}`), 422, "cannot unmarshal string")
	expect(t, post(service, `{"texts": ["`+strings.Repeat("a", maxBody)+`"]}`), 413, "too large")
	if node.Calls() != 0 {
		t.Errorf("the node was called %d times", node.Calls())
	}
}

func TestEachFailureHasAStatus(t *testing.T) {
	t.Parallel()
	misfit := &runner.Error{Kind: runner.KindMarshaling, Path: "input.texts[0]", Message: "input.texts[0]: expected text"}
	full := &runner.Error{Kind: runner.KindOther, Limit: "queue", Message: "the queue is full"}
	for name, c := range map[string]struct {
		fails  runner.NodeFunc
		status int
		body   string
	}{
		"an input that does not fit":        {runnertest.Fail(misfit), 422, "expected text"},
		"a result that does not fit":        {runnertest.Return("nonsense"), 500, `{"error":"Internal Server Error"}`},
		"an exception":                      {runnertest.Raise("ValueError", "secret"), 500, `{"error":"Internal Server Error"}`},
		"the death of the interpreter":      {runnertest.Die(syscall.SIGSEGV), 502, `{"error":"Bad Gateway"}`},
		"too many calls in the queue":       {runnertest.Fail(full), 503, `{"error":"Service Unavailable"}`},
		"no answer in the time of a call":   {runnertest.Fail(&runner.Error{Kind: runner.KindPythonVM, Limit: "timeout"}), 504, `{"error":"Gateway Timeout"}`},
		"a node that would never end":       {runnertest.Hang(), 504, `{"error":"Gateway Timeout"}`},
		"a death that a retry makes up for": {nil, 200, "fake"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node, within := fake(), forever
			if name == "a node that would never end" {
				within = 20 * time.Millisecond
			}
			if c.fails == nil {
				node.On(1, runnertest.Die(syscall.SIGKILL))
			} else {
				node.On(1, c.fails).On(2, c.fails) // the manifest allows one retry
			}
			got := post(newService(newFake(t, node), within), `{"texts": ["a cat"]}`)
			expect(t, got, c.status, c.body)
		})
	}
}

func TestAnOpenBreakerSaysWhenToTryAgain(t *testing.T) {
	t.Parallel()
	r := newFake(t, runnertest.NewNode(runnertest.Die(syscall.SIGSEGV)))
	service := newService(r, forever)
	for range 3 {
		expect(t, post(service, `{"texts": ["a cat"]}`), 502, "")
	}
	got := post(service, `{"texts": ["a cat"]}`)
	expect(t, got, 503, `{"error":"Service Unavailable"}`)
	if after := got.Header().Get("Retry-After"); after == "" || after == "0" {
		t.Errorf("Retry-After is %q", after)
	}
	health := httptest.NewRecorder()
	service.ServeHTTP(health, httptest.NewRequest(http.MethodGet, "/health", nil))
	expect(t, health, 503, `"breaker":"open"`)
}

func TestTheGlueIsTheFewLinesThatTheGuideShows(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("service.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(guide), "```go\n")
	glue, _, _ := strings.Cut(rest, "```")
	if lines := strings.Count(glue, "\n"); lines == 0 || lines >= 8 {
		t.Errorf("the glue has %d lines", lines)
	}
	if indented := "\t\t" + strings.ReplaceAll(strings.TrimSpace(glue), "\n", "\n\t\t"); !strings.Contains(string(code), indented) {
		t.Errorf("service.go does not have these lines:\n%s", glue)
	}
}

func TestRequestsUnderWayFinishBeforeTheServiceEnds(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	node := runnertest.NewNode(func(context.Context, runner.Input) (any, error) {
		<-release
		return map[string]any{"model": "fake", "vectors": [][]float32{{1}}}, nil
	})
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	service := newService(newFake(t, node), forever)
	go func() { ended <- serve(ctx, listener, service) }()
	answered := make(chan int, 1)
	go func() {
		got, err := http.Post("http://"+listener.Addr().String()+"/embed", "application/json", strings.NewReader(`{"texts": ["a cat"]}`))
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		defer got.Body.Close()
		answered <- got.StatusCode
	}()
	<-node.Began(1)
	stop()
	close(release)
	if status := <-answered; status != 200 {
		t.Errorf("the request under way got %d", status)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
}
