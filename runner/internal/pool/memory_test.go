package pool

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheAvailableMemoryOfACgroupIsItsLimitLessItsUse(t *testing.T) {
	t.Parallel()
	group := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(group, name), []byte(text), 0o600))
	}
	_, bounded := groupMemory(group)
	assert.False(t, bounded, "there are no files")
	write("memory.max", "max\n")
	write("memory.current", "600\n")
	_, bounded = groupMemory(group)
	assert.False(t, bounded)
	write("memory.max", "1000\n")
	left, bounded := groupMemory(group)
	assert.True(t, bounded)
	assert.EqualValues(t, 400, left)
	write("memory.stat", "anon 100\ninactive_file 500\nslab 3\n")
	left, _ = groupMemory(group)
	assert.EqualValues(t, 900, left, "the inactive file cache counts as available")
}

func TestTheAvailableMemoryOfThisMachineIsKnown(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reports it")
	}
	assert.Positive(t, availableMemory())
}
