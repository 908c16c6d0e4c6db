package runner_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// A file that is damaged while a pipeline runs is named when a worker does not start, and
// the next start repairs it.
func TestAWorkerThatDoesNotStartNamesTheDamagedFile(t *testing.T) {
	for name, damaged := range map[string]string{
		"the environment":      "envs/*/lib/python3*/site-packages/msgpack/__init__.py",
		"the worker's package": "pyworker/*/gophersnake/_worker/values/decoder.py",
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			pipeline := single("misbehave", "retry: none", "breaker: none", "workers: {spare: 0}")
			r := start(t, pipeline, runner.WithCacheDir(cache))
			found, err := filepath.Glob(filepath.Join(cache, damaged))
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.NoError(t, os.Remove(found[0]))
			_, err = r.Run(t.Context(), map[string]any{"way": "exit_now"})
			require.ErrorIs(t, err, runner.KindPythonVM)
			_, err = r.Run(t.Context(), map[string]any{"way": "exit_now"}) // the next worker does not start
			var e *runner.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "start", e.Operation)
			assert.Equal(t, "the installation is damaged: "+found[0]+" is missing; start the pipeline again, which repairs it", e.Hint)

			again := start(t, single("echo"), runner.WithCacheDir(cache)) // as the hint says
			got, err := again.Run(t.Context(), "works")
			require.NoError(t, err)
			assert.Equal(t, "works", got)
		})
	}
}

func TestTheKindOfAnErrorSaysWhetherTheRequirementsAreAtFault(t *testing.T) {
	_, err := runner.EnsureEnvironment(t.Context(), []string{"no >> requirement"}, runner.WithCacheDir(t.TempDir()))
	require.ErrorIs(t, err, runner.KindManifest)
	t.Setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
	t.Setenv("PIP_FIND_LINKS", "")
	t.Setenv("UV_HTTP_RETRIES", "0")
	t.Setenv("UV_CACHE_DIR", t.TempDir())
	_, err = runner.EnsureEnvironment(t.Context(), nil, runner.WithCacheDir(t.TempDir()))
	require.ErrorIs(t, err, runner.KindIO)
	assert.True(t, runner.AsError(err).Retryable())
}
