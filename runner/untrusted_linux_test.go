package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// writeGuide writes the files of a guide into a folder, as scripts/readme.py does.
func writeGuide(t *testing.T, guide, folder string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("docs", guide))
	require.NoError(t, err)
	for _, part := range strings.Split(string(text), "<!-- readme: file ")[1:] {
		name, rest, _ := strings.Cut(part, " -->\n")
		_, block, _ := strings.Cut(rest, "\n")
		block, _, _ = strings.Cut(block, "```\n")
		path := filepath.Join(folder, filepath.Base(name))
		require.NoError(t, os.WriteFile(path, []byte(block), 0o600))
	}
}

func TestTheRecipeForUntrustedInputHolds(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	writeGuide(t, "untrusted-input.md", folder)
	pipeline, err := manifest.Load(filepath.Join(folder, "pipeline.yaml"))
	require.NoError(t, err)
	events := &recorder{}
	r, err := runner.New(pipeline, runner.WithEvents(events.record))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	require.NoError(t, r.Start(t.Context()))

	type query = map[string]any
	harmful := map[string]struct {
		input    any
		kind     runner.Kind
		attempts int
	}{
		"invalid pattern":      {query{"text": "a", "pattern": "("}, runner.KindExecution, 1},
		"backtracking":         {query{"text": strings.Repeat("a", 40) + "b", "pattern": "(a+)+$"}, runner.KindPythonVM, 2},
		"memory":               {query{"text": "ab", "times": int64(1e11), "pattern": "b"}, runner.KindPythonVM, 2},
		"large result":         {query{"text": "ab", "times": 100_000, "pattern": "."}, runner.KindMarshaling, 1},
		"missing key":          {query{"pattern": "b"}, runner.KindExecution, 1},
		"no object":            {[]any{"no", "object"}, runner.KindMarshaling, 1},
		"an image":             {ipc.Image{Format: "gray8", Width: 1, Height: 1, Pixels: []byte{0}}, runner.KindMarshaling, 1},
		"a text of surrogates": {query{"text": "a", "pattern": `\ud800(`}, runner.KindExecution, 1},
	}
	var calls sync.WaitGroup
	for i := range 60 {
		calls.Go(func() {
			got, err := r.Run(t.Context(), query{"text": fmt.Sprintf("a%d b", i), "pattern": "[0-9]+"})
			if assert.NoError(t, err) {
				assert.Equal(t, query{"found": []any{fmt.Sprint(i)}}, got)
			}
		})
	}
	for name, c := range harmful {
		calls.Go(func() {
			_, err := r.Run(t.Context(), c.input)
			var e *runner.Error
			if assert.ErrorAs(t, err, &e, name) {
				assert.Equal(t, c.kind, e.Kind, "%s: %v", name, err)
				assert.Equal(t, c.attempts, e.Attempt, "%s: %v", name, err)
			}
		})
	}
	calls.Wait()
	breaker := r.Scheduler().Breaker("search")
	assert.Equal(t, retry.Closed, breaker.State())
	assert.LessOrEqual(t, breaker.Failures(), 2, "only those that ended a worker count")
	assert.Len(t, of[runner.CallRetried](events), 2)
}
