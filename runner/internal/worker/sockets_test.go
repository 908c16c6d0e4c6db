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

// temporaryFolder is one with a short name, as $TMPDIR.
func temporaryFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "gs")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	t.Setenv("TMPDIR", folder)
	return folder
}

// listen leaves a socket behind.
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

func TestWhatAKilledSupervisorLeftIsTakenAway(t *testing.T) {
	folder := temporaryFolder(t)
	listen(t, filepath.Join(folder, "gophersnake-1", "plugin-dir1", "worker"))
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "gophersnake-2", "plugin-dir2"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "gophersnake-3"), 0o700))

	// In use, and things that are nobody's leavings.
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
	path, leave, err := s.enter()
	require.NoError(t, err)
	assert.DirExists(t, path)
	leave()
	assert.Equal(t, []string{
		"gophersnake-4", "gophersnake-4/plugin-dir1", "gophersnake-4/plugin-dir1/worker",
		"gophersnake-5",
		"gophersnake-6", "gophersnake-6/plugin-dir1", "gophersnake-6/plugin-dir1/worker",
		"gophersnake-7", "gophersnake-7/precious",
		"gophersnake-cache", "gophersnake-cache/plugin-dir1", "gophersnake-cache/plugin-dir1/worker",
	}, names(t, folder))
}

func TestStartsShareAFolderAndTheLastOneTakesItAway(t *testing.T) {
	folder := temporaryFolder(t)
	s := sockets{roots: make(map[string]*socketRoot), swept: make(map[string]bool)}
	first, leaveFirst, err := s.enter()
	require.NoError(t, err)
	second, leaveSecond, err := s.enter()
	require.NoError(t, err)
	assert.Equal(t, first, second)
	info, err := os.Stat(first)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	_, err = scratch.Lock(first)
	require.Error(t, err, "a sweeper sees that it is in use")
	leaveFirst()
	assert.DirExists(t, first)
	leaveSecond()
	assert.Empty(t, names(t, folder))
}

func TestSupervisorsThatComeAndGoDoNotSweepEachOther(t *testing.T) {
	folder := temporaryFolder(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				s := sockets{roots: make(map[string]*socketRoot), swept: make(map[string]bool)}
				path, leave, err := s.enter()
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, os.Mkdir(filepath.Join(path, "plugin-dir1"), 0o700))
				assert.NoError(t, os.Remove(filepath.Join(path, "plugin-dir1")))
				leave()
			}
		})
	}
	all.Wait()
	assert.Empty(t, names(t, folder))
}

func TestAFolderWhoseNameIsTooLongForSocketsIsNotUsed(t *testing.T) {
	long := "/" + strings.Repeat("x", maxSocketRoot)
	t.Setenv("TMPDIR", long)
	assert.Equal(t, "/tmp", temporary())
	t.Setenv("TMPDIR", long[:maxSocketRoot])
	assert.Equal(t, long[:maxSocketRoot], temporary())
	assert.Less(t, len(long[:maxSocketRoot]+"/gophersnake-1234567890/plugin-dir1234567890/worker"), 104)
}
