package worker

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

// setTemporaryFolder sets $TMPDIR to a new folder with a short name.
func setTemporaryFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "gs")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	t.Setenv("TMPDIR", folder)
	return folder
}

// listen creates a socket that nothing listens on.
func listen(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	listener.SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if path != folder {
			found = append(found, strings.TrimPrefix(path, folder+"/"))
		}
		return err
	}))
	return found
}

func TestTheFoldersOfAKilledSupervisorAreRemoved(t *testing.T) {
	folder := setTemporaryFolder(t)
	listen(t, filepath.Join(folder, "gophersnake-1", "plugin-dir1", "worker"))
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "gophersnake-2", "plugin-dir2"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "gophersnake-3"), 0o700))

	// A folder in use, and files that no supervisor left behind.
	listen(t, filepath.Join(folder, "gophersnake-4", "plugin-dir1", "worker"))
	used, err := scratch.Lock(filepath.Join(folder, "gophersnake-4"))
	require.NoError(t, err)
	defer used.Close()
	listen(t, filepath.Join(folder, "gophersnake-cache", "plugin-dir1", "worker"))
	for _, file := range []string{"gophersnake-5", "gophersnake-6/plugin-dir1/worker", "gophersnake-7/precious"} {
		path := filepath.Join(folder, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("text"), 0o600))
	}

	s := sockets{roots: make(map[string]*socketRoot), swept: make(map[string]bool)}
	root, err := s.acquire()
	require.NoError(t, err)
	assert.DirExists(t, root.path)
	s.release(root)
	assert.Equal(t, []string{
		"gophersnake-4", "gophersnake-4/plugin-dir1", "gophersnake-4/plugin-dir1/worker",
		"gophersnake-5",
		"gophersnake-6", "gophersnake-6/plugin-dir1", "gophersnake-6/plugin-dir1/worker",
		"gophersnake-7", "gophersnake-7/precious",
		"gophersnake-cache", "gophersnake-cache/plugin-dir1", "gophersnake-cache/plugin-dir1/worker",
	}, names(t, folder))
}

func TestStartsShareAFolderAndTheLastOneRemovesIt(t *testing.T) {
	folder := setTemporaryFolder(t)
	s := sockets{roots: make(map[string]*socketRoot), swept: make(map[string]bool)}
	first, err := s.acquire()
	require.NoError(t, err)
	second, err := s.acquire()
	require.NoError(t, err)
	assert.Equal(t, first.path, second.path)
	info, err := os.Stat(first.path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	_, err = scratch.Lock(first.path)
	require.Error(t, err, "another supervisor sees that it is in use")
	s.release(first)
	assert.DirExists(t, first.path)
	s.release(second)
	assert.Empty(t, names(t, folder))
}

func TestSupervisorsDoNotRemoveEachOthersFolders(t *testing.T) {
	folder := setTemporaryFolder(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				s := sockets{roots: make(map[string]*socketRoot), swept: make(map[string]bool)}
				root, err := s.acquire()
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, os.Mkdir(filepath.Join(root.path, "plugin-dir1"), 0o700))
				assert.NoError(t, os.Remove(filepath.Join(root.path, "plugin-dir1")))
				s.release(root)
			}
		})
	}
	all.Wait()
	assert.Empty(t, names(t, folder))
}

func TestAFolderWhoseNameIsTooLongForSocketsIsNotUsed(t *testing.T) {
	long := "/" + strings.Repeat("x", maxSocketRoot)
	t.Setenv("TMPDIR", long)
	assert.Equal(t, "/tmp", temporaryFolder())
	t.Setenv("TMPDIR", long[:maxSocketRoot])
	assert.Equal(t, long[:maxSocketRoot], temporaryFolder())
	assert.Less(t, len(long[:maxSocketRoot]+"/gophersnake-1234567890/plugin-dir1234567890/worker"), 104)
}
