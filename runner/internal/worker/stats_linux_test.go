package worker

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAStatIsParsedWhateverTheProcessIsNamed(t *testing.T) {
	stat, err := parseStat([]byte("77 (a) S 1 (b) T 1 42 42 0 -1 4194304 100 0 0 0 7 3 20 10 20 0 1 0 5 1000 25 18446744073709551615\n"))
	require.NoError(t, err)
	assert.Equal(t, procStat{state: 'T', parent: 1, group: 42, cpu: 100 * time.Millisecond, childrenCPU: 300 * time.Millisecond, threads: 1, resident: 25 * pageSize}, stat)
	for _, text := range []string{"", "77 (a", "77 (a) S 1 2"} {
		_, err = parseStat([]byte(text))
		require.Error(t, err, text)
	}
	stat, err = readStat(procFolder(os.Getpid()))
	require.NoError(t, err)
	assert.Greater(t, stat.resident, int64(mega))
}
