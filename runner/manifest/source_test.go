package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCodeFoldersLeaveOutGeneratedOnes(t *testing.T) {
	base, elsewhere := t.TempDir(), t.TempDir()
	for _, folder := range []string{"pkg/sub", ".git/hooks", "__pycache__", "node_modules/x", "venv/lib"} {
		require.NoError(t, os.MkdirAll(filepath.Join(base, folder), 0o755))
	}
	write(t, filepath.Join(base, "venv", "pyvenv.cfg"), "")
	code := write(t, filepath.Join(elsewhere, "code.py"), "")
	p := &Pipeline{Base: base, Python: "pkg.sub", Nodes: []Node{
		{Python: code + ":Object"}, {Python: "pkg/nodes.py"}, {Python: "gone/nodes.py"}, {},
	}}
	folders, complete := p.CodeFolders()
	assert.True(t, complete)
	assert.Equal(t, []string{base, filepath.Join(base, "pkg"), filepath.Join(base, "pkg", "sub"), elsewhere}, folders)
}

func TestCodeFoldersAreLimited(t *testing.T) {
	base := t.TempDir()
	for i := range maxFolders {
		require.NoError(t, os.Mkdir(filepath.Join(base, fmt.Sprint(i)), 0o755))
	}
	folders, complete := (&Pipeline{Base: base}).CodeFolders()
	assert.Len(t, folders, maxFolders)
	assert.False(t, complete)
}
