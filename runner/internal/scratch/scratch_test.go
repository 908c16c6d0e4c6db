package scratch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
