package wasm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzPrepare checks that any module is refused, or comes out in a form that does not change
// when it is prepared again.
func FuzzPrepare(f *testing.F) {
	files, err := filepath.Glob("testdata/*.wasm")
	require.NoError(f, err)
	for _, file := range files {
		module, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(module)
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		once, err := prepare(module, DefaultMemory)
		if err != nil {
			return
		}
		twice, err := prepare(once, DefaultMemory)
		require.NoError(t, err)
		assert.Equal(t, once, twice)
	})
}
