package scratch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

func TestFilesAreUnpackedForThisUserOnly(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	files, err := scratch.Unpack(fstest.MapFS{
		"pipeline.yaml":             {Data: []byte("a")},
		"lib/deep/nodes.py":         {Data: []byte("b"), Mode: 0o444},
		"lib/__pycache__/nodes.pyc": {Data: []byte("c")},
		"bin/tool":                  {Data: []byte("d"), Mode: 0o755},
	})
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(files.Dir, "lib", "deep", "nodes.py"))
	require.NoError(t, err)
	assert.Equal(t, "b", string(content))
	assert.NoDirExists(t, filepath.Join(files.Dir, "lib", "__pycache__"))
	info, err := os.Stat(filepath.Join(files.Dir, "bin", "tool"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	info, err = os.Stat(files.Dir)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, files.Remove())
	require.NoError(t, files.Remove())
	assert.NoDirExists(t, files.Dir)
	assert.NoError(t, (*scratch.Files)(nil).Remove())
}

// hostile is a file system whose root lists an entry of the given name and type.
type hostile struct {
	fstest.MapFS
	name string
	mode fs.FileMode
}

type entry struct{ hostile }

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.mode.IsDir() }
func (e entry) Type() fs.FileMode          { return e.mode.Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Size() int64                { return 1 }
func (e entry) Mode() fs.FileMode          { return e.mode }
func (e entry) ModTime() time.Time         { return time.Time{} }
func (e entry) Sys() any                   { return nil }

func (h hostile) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "." {
		return []fs.DirEntry{entry{h}}, nil
	}
	return nil, nil
}

func (h hostile) Open(name string) (fs.File, error) {
	if name == "." {
		return h.MapFS.Open(name)
	}
	return fstest.MapFS{"x": {Data: []byte("evil")}}.Open("x")
}

func TestHostileFileSystemsAreRefusedAndLeaveNothing(t *testing.T) {
	for name, h := range map[string]hostile{
		"a name that leads out":         {name: "../evil"},
		"a folder that leads out":       {name: "../../evil", mode: fs.ModeDir},
		"an absolute name":              {name: "//evil/../../../evil"},
		"a name with a zero byte":       {name: "e\x00vil"},
		"a name that is empty":          {name: ""},
		"a symbolic link":               {name: "evil", mode: fs.ModeSymlink},
		"a device":                      {name: "evil", mode: fs.ModeDevice},
		"a named pipe":                  {name: "evil", mode: fs.ModeNamedPipe},
		"a folder that is a file there": {name: ".", mode: 0},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			temporary := filepath.Join(outside, "a", "b")
			require.NoError(t, os.MkdirAll(temporary, 0o700))
			t.Setenv("TMPDIR", temporary)
			h.MapFS = fstest.MapFS{}
			_, err := scratch.Unpack(h)
			require.Error(t, err)
			var left []string
			require.NoError(t, filepath.WalkDir(outside, func(path string, _ fs.DirEntry, err error) error {
				left = append(left, path)
				return err
			}))
			assert.Equal(t, []string{outside, filepath.Join(outside, "a"), temporary}, left)
		})
	}
}

func TestALinkInAFolderOfTheSystemIsRefused(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	source := t.TempDir()
	require.NoError(t, os.Symlink("/etc", filepath.Join(source, "link")))
	_, err := scratch.Unpack(os.DirFS(source))
	assert.ErrorContains(t, err, "unpack link: neither a regular file nor a folder")
}
