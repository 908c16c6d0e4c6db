package ipc

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who looks for his answer keeps a processor from the others, who would make their next
// calls on it.
func TestOnlyACallerWhoHasBeenAloneForLongLooksForHisAnswer(t *testing.T) {
	host, worker := socketPair(t)
	callers := 0
	a, ok := newSpinReader(host, func() bool { return callers == 1 }).(*spinReader)
	if !ok {
		t.Skip("there is one processor only")
	}
	looks := 0
	a.poll = func(uintptr) { looks++ }
	read := func(n int) (looked bool) {
		callers = n
		before := looks
		_, err := worker.Write([]byte{1})
		require.NoError(t, err)
		_, err = a.Read(make([]byte, 1))
		require.NoError(t, err)
		a.quick = true // however long this machine took
		return looks > before
	}
	for range 2 {
		for range spinAfter {
			assert.False(t, read(1))
		}
		assert.True(t, read(1))
		assert.True(t, read(1))
		assert.False(t, read(2))
	}
}
