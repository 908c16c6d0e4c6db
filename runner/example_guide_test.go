package runner_test

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

//go:embed testdata/guide
var guide embed.FS

// newEmbedder returns a runner for the pipeline that is part of this program.
func newEmbedder(opts ...runner.Option) (*runner.Runner, error) {
	pipeline, err := runner.LoadFS(guide, "testdata/guide")
	if err != nil {
		return nil, err
	}
	return runner.New(pipeline, opts...)
}

// Embedding is what the pipeline returns.
type Embedding struct {
	Text   string    `json:"text"`
	Model  string    `json:"model"`
	Vector []float32 `json:"vector"`
}

// embedHandler answers with the embedding of a text.
func embedHandler(r *runner.Runner) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		got, err := runner.Call[string, Embedding](req.Context(), r, req.FormValue("text"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(got)
	}
}

// A pipeline is part of the program, and an HTTP handler calls it.
func ExampleCall() {
	r, err := newEmbedder(runner.WithSlog(slog.Default()))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	answer := httptest.NewRecorder()
	embedHandler(r)(answer, httptest.NewRequest("GET", "/?text=A+bad+cab", nil))
	fmt.Println(answer.Code, answer.Body)
	// Output: 200 {"text":"abadcab","model":"letters","vector":[0.42857143,0.2857143,0.14285715,0.14285715]}
}

// A result whose type is another one is an error that names the place and both types.
func ExampleDecode() {
	var out struct {
		Items []struct {
			Price float64 `json:"price"`
		} `json:"items"`
	}
	err := runner.Decode(map[string]any{"items": []any{
		map[string]any{"name": "tea", "price": int64(2)},
		map[string]any{"name": "ink", "price": "five"},
	}}, &out)
	fmt.Println(err)
	fmt.Println(out.Items[0].Price)
	// Output:
	// marshaling error during decode the result: result.items[1].price: expected a number, got "five"
	// 2
}

// A tensor of two dimensions is a slice of slices.
func ExampleAs() {
	tensor, err := ipc.NewTensor([]float64{1, 2, 3, 4, 5, 6}, 2, 3)
	if err != nil {
		log.Fatal(err)
	}
	rows, err := runner.As[[][]float32](tensor)
	fmt.Println(rows, err)
	// Output: [[1 2 3] [4 5 6]] <nil>
}

// One node is called without the others.
func ExampleCallNode() {
	r, err := newEmbedder()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	got, err := runner.CallNode[string, Embedding](context.Background(), r, "embed", "abba")
	fmt.Println(got.Vector, err)
	_, err = r.Node("model").Call(context.Background(), "abba")
	fmt.Println(err)
	// Output:
	// [0.5 0.5 0 0] <nil>
	// manifest error: there is no node "model"; the nodes are clean, embed
}

// A type that does not fit the nodes is refused before the first call.
func ExampleBind() {
	r, err := newEmbedder()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	embed, err := runner.Bind[string, Embedding](context.Background(), r)
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := embed.Call(context.Background(), "A cab")
	fmt.Println(got.Text, err)

	_, err = runner.Bind[int, []float32](context.Background(), r)
	for _, fault := range runner.AsError(err).Faults() {
		fmt.Println(fault)
	}
	// Output:
	// acab <nil>
	// marshaling error in node "clean" during bind: input: In is int, but "clean" takes text
	// marshaling error in node "embed" during bind: result: Out is []float32, but "embed" returns a map
}

// Texts go in and embeddings come out, while the nodes work on others.
func ExampleOpenStream() {
	r, err := newEmbedder()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	s, err := runner.OpenStream[string, Embedding](context.Background(), r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	go func() {
		for _, text := range []string{"A cab", "bad", "dada"} {
			if s.Send(text) != nil {
				return // Recv returns the error
			}
		}
		s.CloseSend()
	}()
	for got, err := range s.All() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(got.Text, got.Vector)
	}
	// Output:
	// acab [0.5 0.25 0.25 0]
	// bad [0.33333334 0.33333334 0 0.33333334]
	// dada [0.5 0 0 0.5]
}

// timed returns an interceptor that logs how long each operation takes.
func timed(logger *slog.Logger) runner.Interceptor {
	return func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
		started := time.Now()
		out, err := next(ctx, call)
		logger.InfoContext(ctx, "called", "node", call.Node, "took", time.Since(started), "error", err)
		return out, err
	}
}

// cached returns an interceptor that calls a node once for each text. A real cache has a
// bound.
func cached(node string, known map[any]any) runner.Interceptor {
	return func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
		if call.Node != node {
			return next(ctx, call)
		}
		text, err := call.Input()
		if err != nil {
			return runner.Outcome{}, err
		}
		if v, ok := known[text]; ok {
			return runner.NewOutcome(v), nil
		}
		out, err := next(ctx, call)
		if err == nil {
			known[text], err = out.Value()
		}
		return out, err
	}
}

// Interceptors surround the calls of nodes.
func ExampleWithCallInterceptor() {
	plain := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "took" {
			return slog.Attr{}
		}
		return a
	}}))
	r, err := newEmbedder(
		runner.WithCallInterceptor(cached("embed", make(map[any]any))),
		runner.WithCallInterceptor(timed(plain)))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	for range 2 {
		if _, err := r.Run(context.Background(), "bad"); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// level=INFO msg=called node=clean error=<nil>
	// level=INFO msg=called node=embed error=<nil>
	// level=INFO msg=called node=clean error=<nil>
}

// The Go code of the guide is that of the examples, which compile and run.
func TestTheCodeOfTheGuideIsThatOfTheExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/go.md")
	require.NoError(t, err)
	files, err := filepath.Glob("example_*_test.go")
	require.NoError(t, err)
	var code strings.Builder
	for _, file := range append(files, "runnertest/example_test.go") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		code.WriteString(unindented(string(text)))
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	assert.Greater(t, len(blocks), 5)
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		assert.Contains(t, code.String(), unindented(block))
	}
	for _, name := range []string{"nodes.py", "pipeline.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", "guide", name))
		require.NoError(t, err)
		assert.Contains(t, string(page), string(text))
	}
}

// unindented returns a text without the white space at the start of its lines.
func unindented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimLeft(line, " \t"))
	}
	return b.String()
}
