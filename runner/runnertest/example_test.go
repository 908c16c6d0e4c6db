package runnertest_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/runnertest"
)

// embedding is what the Python node returns.
type embedding struct {
	Model  string    `json:"model"`
	Vector []float32 `json:"vector"`
}

// handler is the code under test.
func handler(r *runner.Runner) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		got, err := runner.Call[string, embedding](req.Context(), r, req.FormValue("text"))
		if err != nil {
			http.Error(w, runner.KindOf(err).String(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, got.Model, len(got.Vector))
	}
}

// A test of an HTTP handler needs no Python: a Go function returns what the node would
// return, or fails as the node would fail.
func Example() {
	pipeline := &manifest.Pipeline{Version: manifest.Version, Nodes: []manifest.Node{manifest.NewNode("embed", "Embed")}}
	pipeline.Nodes[0].Retry = &manifest.Retry{Mode: manifest.RetryNone}
	embed := runnertest.NewNode(runnertest.Return(map[string]any{"model": "small", "vector": []float32{1, 2, 3}})).
		On(2, runnertest.Raise("ValueError", "the text is too long")).
		On(3, runnertest.Die(syscall.SIGSEGV))
	r, err := runner.New(pipeline, runner.WithNode("Embed", embed.Func))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	for range 3 {
		answer := httptest.NewRecorder()
		handler(r)(answer, httptest.NewRequest("GET", "/?text=hello", nil))
		fmt.Println(answer.Code, strings.TrimSpace(answer.Body.String()))
	}
	fmt.Println(embed.Calls(), embed.Inputs()[0].Value)
	// Output:
	// 200 small 3
	// 502 execution
	// 502 python_vm
	// 3 hello
}

// patient returns a pipeline of one node that is retried after a minute, two and four, and
// whose breaker opens after two failures, for an hour.
func patient() *manifest.Pipeline {
	p := &manifest.Pipeline{Version: manifest.Version, Nodes: []manifest.Node{manifest.NewNode("embed", "Embed")}}
	p.Nodes[0].Retry = &manifest.Retry{Mode: manifest.RetryExponential, MaxAttempts: 3, Base: time.Minute, Multiplier: 2}
	p.Nodes[0].Breaker = &manifest.Breaker{Failures: 2, CoolDown: time.Hour, Probes: 1}
	return p
}

// In the bubble of synctest.Test, waiting takes no time: its clock advances as soon as all
// goroutines wait.
func TestAHandlerWaitsForRetriesOfMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		embed := runnertest.NewNode(runnertest.Return(map[string]any{"model": "small", "vector": []float32{1}})).
			On(1, runnertest.Die(syscall.SIGSEGV)).
			On(2, runnertest.Raise("ConnectionError", "the model server restarts", "OSError"))
		r, err := runner.New(patient(), runner.WithNode("Embed", embed.Func))
		require.NoError(t, err)
		defer r.Close(context.Background())

		started := time.Now()
		answer := httptest.NewRecorder()
		handler(r)(answer, httptest.NewRequest("GET", "/?text=hello", nil))
		assert.Equal(t, "small 1\n", answer.Body.String())
		assert.Equal(t, 3*time.Minute, time.Since(started))
	})
}
