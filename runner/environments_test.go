package runner_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

func TestAnEnvironmentIsBuiltListedAndPruned(t *testing.T) {
	cache := t.TempDir()
	python, err := runner.FindInterpreter(t.Context(), runner.WithCacheDir(cache))
	require.NoError(t, err)
	var stages []string
	build := func() runner.Environment {
		env, err := runner.EnsureEnvironment(t.Context(), nil, runner.WithPython(python.Path), runner.WithCacheDir(cache),
			runner.WithBuildProgress(func(p runner.BuildProgress) { stages = append(stages, p.Stage) }))
		require.NoError(t, err)
		assert.True(t, env.Complete)
		return env
	}
	env := build()
	assert.Equal(t, python.Version, env.PythonVersion)
	assert.FileExists(t, env.Python)
	assert.NotEmpty(t, stages)
	stages = nil
	assert.Equal(t, env.Key, build().Key)
	assert.Empty(t, stages, "the second call reuses the environment")

	envs, err := runner.Environments(cache)
	require.NoError(t, err)
	require.Len(t, envs, 1)
	assert.Equal(t, env.Key, envs[0].Key)
	assert.Positive(t, envs[0].Size)

	for _, dry := range []bool{true, false} {
		done, err := runner.PruneEnvironments(t.Context(), cache, runner.PruneOptions{All: true, DryRun: dry})
		require.NoError(t, err)
		require.Len(t, done.Removed, 1)
		assert.Equal(t, env.Key, done.Removed[0].Key)
	}
	assert.NoDirExists(t, env.Dir)
}

func TestErrorsOfEnvironmentsHaveAKindAndAHint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, missing := runner.FindInterpreter(t.Context(), runner.WithPython("no-such-python"))
	_, list := runner.Environments(file)
	_, prune := runner.PruneEnvironments(t.Context(), file, runner.PruneOptions{})
	_, build := runner.EnsureEnvironment(t.Context(), nil, runner.WithPython("no-such-python"))
	for _, err := range []error{missing, list, prune, build} {
		var e *runner.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, runner.KindIO, e.Kind)
		assert.NotEmpty(t, e.Hint)
	}
}

func TestDiagnoseReportsTheInterpreterThatOptionsName(t *testing.T) {
	findings, err := runner.Diagnose(t.Context(), runner.WithPython("no-such-python"), runner.WithCacheDir(t.TempDir()))
	require.NoError(t, err)
	named := make(map[string]runner.Finding)
	for _, f := range findings {
		assert.NotContains(t, named, f.Name)
		assert.NotEmpty(t, f.Detail)
		named[f.Name] = f
	}
	assert.Equal(t, runner.FindingFailure, named["python"].Status)
	assert.NotEmpty(t, named["python"].Hint)
	assert.Equal(t, runner.FindingOK, named["cache"].Status)

	_, err = runner.Diagnose(t.Context(), runner.WithSharedMemory(-1))
	assert.ErrorIs(t, err, runner.KindManifest)
}
