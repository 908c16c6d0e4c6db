package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

const threadedCode = `
import os
import threading
import time

from gophersnake import node

together = threading.Barrier(8, timeout=60)


@node
class Model:
    def setup(self):
        self.loaded = os.getpid()

    def process(self, how):
        if how == "together":
            together.wait()
            return [self.loaded, threading.get_ident()]
        if how == "computes":
            open("computes", "w").close()
            while True:
                time.sleep(0.001)
        if how == "sleeps":
            open("sleeps", "w").close()
            time.sleep(3600)
        return how


@node(threads=2)
def text(value):
    return value
`

// threadedModel returns a runner for the node Model with threads, and its folder.
func threadedModel(t *testing.T, lines ...string) (*runner.Runner, string) {
	t.Helper()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(threadedCode), 0o600))
	lines = append(lines, "retry: none")
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "workers:") }) {
		lines = append(lines, "workers: {spare: 0, threads: 8}")
	}
	return crashing(t, base, "nodes.py", "Model", lines), base
}

func TestEightCallsShareTheModelOfOneWorker(t *testing.T) {
	t.Parallel()
	r, _ := threadedModel(t)
	var calls sync.WaitGroup
	var mu sync.Mutex
	models, threads := map[any]bool{}, map[any]bool{}
	for range 8 {
		calls.Go(func() {
			got, err := r.Run(t.Context(), "together")
			if assert.NoError(t, err) {
				mu.Lock()
				defer mu.Unlock()
				models[got.([]any)[0]], threads[got.([]any)[1]] = true, true
			}
		})
	}
	calls.Wait()
	assert.Len(t, models, 1)
	assert.Len(t, threads, 8)
}

func TestThreadsWorkIsolatedAndForked(t *testing.T) {
	t.Parallel()
	for _, lines := range [][]string{{"isolation: strict"}, {"workers: {spare: 0, threads: 8, fork_server: true}"}} {
		t.Run(lines[0], func(t *testing.T) {
			t.Parallel()
			r, _ := threadedModel(t, lines...)
			var calls sync.WaitGroup
			for range 8 {
				calls.Go(func() {
					_, err := r.Run(t.Context(), "together")
					assert.NoError(t, err)
				})
			}
			calls.Wait()
		})
	}
}

func TestACanceledCallInAThreadLeavesTheWorkerToTheOthers(t *testing.T) {
	t.Parallel()
	r, base := threadedModel(t)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, "computes")
		failed <- err
	}()
	testkit.Eventually(t, testkit.Exists(filepath.Join(base, "computes")))
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	got, err := r.Run(t.Context(), "next")
	require.NoError(t, err)
	assert.Equal(t, "next", got)
	assert.Equal(t, uint64(1), r.Health().Nodes[0].Pool.Started)
}

func TestADeadlineInAThreadFailsItsCallAlone(t *testing.T) {
	t.Parallel()
	r, base := threadedModel(t, "timeout: 2s")
	failed := make(chan error, 1)
	go func() {
		_, err := r.Run(t.Context(), "computes")
		failed <- err
	}()
	testkit.Eventually(t, testkit.Exists(filepath.Join(base, "computes")))
	got, err := r.Run(t.Context(), "next")
	require.NoError(t, err)
	assert.Equal(t, "next", got)
	var e *runner.Error
	require.ErrorAs(t, <-failed, &e)
	assert.Equal(t, runner.KindPythonVM, e.Kind)
	assert.Equal(t, "timeout", e.Limit)
	assert.Equal(t, uint64(1), r.Health().Nodes[0].Pool.Started)
}

// C code cannot be interrupted in a thread, so the worker ends after the grace time.
func TestAThreadThatCannotBeInterruptedEndsTheWorker(t *testing.T) {
	t.Parallel()
	r, base := threadedModel(t)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, "sleeps")
		failed <- err
	}()
	testkit.Eventually(t, testkit.Exists(filepath.Join(base, "sleeps")))
	cancel()
	err := <-failed
	require.ErrorIs(t, err, context.Canceled)
	assert.Contains(t, err.Error(), "kept running")
	assert.Contains(t, err.Error(), "nodes.py:26 in process", "the line of the thread")
	_, err = r.Run(t.Context(), "next")
	require.NoError(t, err)
}

func TestANodeThatCannotHaveThreadsIsRefusedByValidate(t *testing.T) {
	t.Parallel()
	r := crashing(t, "testdata", "poison.py", "batch", []string{"workers: {threads: 2}"})
	_, err := r.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.Contains(t, err.Error(), "threads are not for batch nodes")
}
