package examples

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnExampleIsExtractedOnce(t *testing.T) {
	cache := t.TempDir()
	first, err := Extract(cache, "speech")
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(first, "sample.wav"))
	again, err := Extract(cache, "speech")
	require.NoError(t, err)
	assert.Equal(t, first, again)
	left, err := filepath.Glob(filepath.Join(cache, "examples", "*", "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{first}, left)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Extract(file, "speech")
	assert.ErrorContains(t, err, "unpack the example speech")
}
