package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestAFolderIsItsMakersUntilThatIsGone(t *testing.T) {
	in := t.TempDir()
	dir, lock, err := New(in, "ours-")
	require.NoError(t, err)
	assert.Equal(t, in, filepath.Dir(dir))
	_, err = Lock(dir)
	require.ErrorIs(t, err, ErrTaken)
	require.NoError(t, lock.Close())
	again, err := Lock(dir)
	require.NoError(t, err)
	require.NoError(t, again.Close())

	_, err = Lock(filepath.Join(in, "gone"))
	require.ErrorIs(t, err, ErrTaken)
	link := filepath.Join(in, "link")
	require.NoError(t, os.Symlink(dir, link))
	_, err = Lock(link)
	require.Error(t, err, "a link may lead anywhere")
	_, _, err = New(filepath.Join(in, "none"), "ours-")
	require.Error(t, err)
}

// nest makes folders inside each other, which no path could name.
func nest(t *testing.T, in string, levels int) {
	t.Helper()
	fd, err := unix.Open(in, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	for range levels {
		require.NoError(t, unix.Mkdirat(fd, "1", 0o700))
		next, err := unix.Openat(fd, "1", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
		fd = next
	}
	require.NoError(t, unix.Close(fd))
}

func TestAFolderIsRemovedWhateverIsInIt(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	for name, fill := range map[string]func(t *testing.T, dir string){
		"nothing": func(*testing.T, string) {},
		"many files": func(t *testing.T, dir string) {
			for i := range 2500 {
				require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0))
			}
		},
		"folders, nested deeper than there are descriptors": func(t *testing.T, dir string) { nest(t, dir, 3000) },
		"links that lead out": func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(dir, "folder")))
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "file")))
		},
		"a folder that cannot be listed": func(t *testing.T, dir string) {
			hidden := filepath.Join(dir, "hidden")
			require.NoError(t, os.MkdirAll(filepath.Join(hidden, "inner", "more"), 0o700))
			require.NoError(t, errors.Join(os.Chmod(filepath.Join(hidden, "inner"), 0o300), os.Chmod(hidden, 0o300)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			require.NoError(t, os.Mkdir(dir, 0o700))
			fill(t, dir)
			var limit unix.Rlimit
			require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			few := limit
			few.Cur = 200
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
			err := Remove(dir)
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
			require.NoError(t, err)
			assert.NoDirExists(t, dir)
			assert.FileExists(t, outside)
		})
	}
	assert.Error(t, Remove(outside), "it is no folder")
}
