package ipc

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
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

// On one processor a polling caller or worker would keep the other from running.
func TestNothingPollsOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	host, worker := socketPair(t)
	assert.Equal(t, host, newSpinReader(host, new(atomic.Int64)))
	setups := make(chan Setup, 1)
	p := &peer{t: t, nc: worker, frameReader: newFrameReader(worker, DefaultLimits())}
	go func() {
		p.send(frameHello, 0, pack(t, Hello{Protocol: Version}))
		var setup Setup
		assert.NoError(t, msgpack.Unmarshal(p.take().Body, &setup))
		setups <- setup
		p.send(frameReady, 0, pack(t, Description{}))
	}()
	c, _, _, err := Start(host, nil, Setup{Limits: SetupLimits{Limits: DefaultLimits()}, Polls: true}, Events{})
	require.NoError(t, err)
	defer c.Close()
	assert.False(t, (<-setups).Polls)
}
