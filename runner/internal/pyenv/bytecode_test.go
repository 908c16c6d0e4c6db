package pyenv

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/pyworker"
)

// An image that sets PYTHONDONTWRITEBYTECODE must not make each worker compile its package.
func TestTheWorkersPackageIsCompiledOnce(t *testing.T) {
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	folder, _, err := pyworker.Extract(t.TempDir())
	require.NoError(t, err)
	python, err := Find(t.Context(), FindOptions{})
	require.NoError(t, err)
	require.NoError(t, Compile(t.Context(), python, folder, pyworker.StartModule))
	var sources, compiled int
	require.NoError(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		switch filepath.Ext(path) {
		case ".py":
			sources++
		case ".pyc":
			compiled++
		}
		return err
	}))
	assert.Equal(t, sources, compiled)

	python.Path = "/nowhere/python"
	require.NoError(t, Compile(t.Context(), python, folder, pyworker.StartModule), "it starts no process any more")
	require.NoError(t, os.RemoveAll(filepath.Join(folder, "gophersnake/_worker/process/__pycache__")))
	assert.Error(t, Compile(t.Context(), python, folder, pyworker.StartModule))
}
