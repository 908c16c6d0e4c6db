package ipc

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A caller that polls occupies a processor on which others would make their next calls.
func TestOnlyACallerThatHasLongBeenAlonePolls(t *testing.T) {
	host, worker := socketPair(t)
	var open atomic.Int64
	a, ok := newSpinReader(host, &open).(*spinReader)
	if !ok {
		t.Skip("this system does not poll, or has one processor")
	}
	polls := 0
	a.poll = func(uintptr) { polls++ }
	read := func(n int64) (polled bool) {
		open.Store(n)
		before := polls
		_, err := worker.Write([]byte{1})
		require.NoError(t, err)
		_, err = a.Read(make([]byte, 1))
		require.NoError(t, err)
		a.quick = true // even if this machine was slow
		return polls > before
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
