package runnertest_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"

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
