package pyenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func prune(t *testing.T, cache string, o PruneOptions) Pruned {
	t.Helper()
	done, err := Prune(t.Context(), cache, o)
	require.NoError(t, err)
	return done
}

func keys(envs []Environment) []string {
	found := []string{}
	for _, env := range envs {
		found = append(found, env.Key)
	}
	return found
}

func TestAnEmptyCache(t *testing.T) {
	for _, cache := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		listed, err := List(cache)
		require.NoError(t, err)
		assert.Empty(t, listed)
		assert.Empty(t, prune(t, cache, PruneOptions{All: true}).Removed)
		assert.NoDirExists(t, envsDir(cache))
	}
}

func TestPrune(t *testing.T) {
	python, wheels := isolated(t, "uv")
	wheel(t, wheels, "alpha", "1.0")
	cache := t.TempDir()
	made := func(requirements ...string) Environment {
		env, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: requirements, CacheDir: cache})
		require.NoError(t, err)
		return env
	}
	old, fresh := made(), made("alpha")
	long := time.Now().Add(-100 * time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(old.Dir, recordName), long, long))
	half := filepath.Join(envsDir(cache), "half")
	require.NoError(t, os.MkdirAll(half, 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(envsDir(cache), "rest"+workSuffix), 0o700))

	listed, err := List(cache)
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{fresh.Key, "half", "rest", old.Key}, keys(listed))
	assert.Equal(t, old.Key, listed[3].Key, "the least recently used one")

	dry := prune(t, cache, PruneOptions{OlderThan: time.Hour, DryRun: true})
	assert.ElementsMatch(t, []string{"half", "rest", old.Key}, keys(dry.Removed))
	assert.Positive(t, dry.Freed)
	assert.DirExists(t, old.Dir)

	done := prune(t, cache, PruneOptions{OlderThan: time.Hour})
	assert.Equal(t, keys(dry.Removed), keys(done.Removed))
	assert.Equal(t, dry.Freed, done.Freed)
	assert.NoDirExists(t, old.Dir)
	assert.NoDirExists(t, half)
	assert.DirExists(t, fresh.Dir)
	assert.Empty(t, prune(t, cache, PruneOptions{OlderThan: time.Hour}).Removed)

	assert.Equal(t, []string{fresh.Key}, keys(prune(t, cache, PruneOptions{All: true}).Removed))
	assertEmpty(t, cache)
	made() // it can be created again
}

func TestAnEnvironmentThatIsBeingCreatedIsKept(t *testing.T) {
	python, _ := isolated(t, "uv")
	spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
	pruned := 0
	spec.Progress = func(p Progress) {
		if p.Stage == "installing msgpack" && p.Line == "" {
			done := prune(t, spec.CacheDir, PruneOptions{All: true})
			assert.Empty(t, done.Removed)
			assert.Len(t, done.Kept, 1)
			pruned++
		}
	}
	env, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, 1, pruned)
	assert.DirExists(t, env.Dir)
}

func TestAnEnvironmentInUseIsKept(t *testing.T) {
	python, _ := isolated(t, "uv")
	cache := t.TempDir()
	env, err := Ensure(t.Context(), Spec{Interpreter: python, CacheDir: cache})
	require.NoError(t, err)
	cmd := exec.Command(env.Python, "-c", "print('up', flush=True); input()")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)

	assert.Equal(t, []string{env.Key}, keys(prune(t, cache, PruneOptions{All: true}).Kept))
	require.NoError(t, in.Close())
	_ = cmd.Wait()
	assert.Equal(t, []string{env.Key}, keys(prune(t, cache, PruneOptions{All: true}).Removed))
}

func TestSizesOfLinkedFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "own"), make([]byte, 10), 0o600))
	require.NoError(t, os.Link(filepath.Join(dir, "own"), filepath.Join(dir, "twice")))
	require.NoError(t, os.WriteFile(filepath.Join(other, "shared"), make([]byte, 100), 0o600))
	require.NoError(t, os.Link(filepath.Join(other, "shared"), filepath.Join(dir, "shared")))
	all, own := treeSize(dir)
	assert.EqualValues(t, 110, all)
	assert.EqualValues(t, 10, own)
}
