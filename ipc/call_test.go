package ipc

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOnCancelSentIsCalledOnce(t *testing.T) {
	c, p := connect(t, Events{})
	call := c.NewCall(FrameCall, 0)
	notified := 0
	call.OnCancelSent = func() { notified++ }
	types := make(chan FrameType, 3)
	go func() {
		f := p.take()
		types <- f.kind
		call.Cancel()
		types <- p.take().kind
		call.Cancel()
		p.send(frameResult, f.call, []byte{0xc0})
		f = p.take()
		types <- f.kind
		p.send(frameResult, f.call, []byte{0xc0})
	}()
	_, err := call.Do(Args{})
	require.NoError(t, err)
	_, err = c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	assert.Equal(t, []FrameType{FrameCall, frameCancel, FrameCall}, []FrameType{<-types, <-types, <-types})
	assert.Equal(t, 1, notified)
}

func TestACallThatIsCanceledBeforeItIsSentIsNotSent(t *testing.T) {
	c, p := connect(t, Events{})
	call := c.NewCall(FrameCall, 0)
	call.Cancel()
	_, err := call.Do(Args{})
	require.ErrorIs(t, err, ErrAbandoned)
	go func() {
		f := p.take()
		assert.Equal(t, FrameCall, f.kind)
		assert.Equal(t, call.header.call+1, f.call)
		p.send(frameResult, f.call, []byte{0xc0})
	}()
	_, err = c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
}

func TestCancelAfterTheAnswerSendsNothing(t *testing.T) {
	c, p := connect(t, Events{})
	go func() {
		for range 2 {
			f := p.take()
			assert.Equal(t, FrameCall, f.kind)
			p.send(frameResult, f.call, []byte{0xc0})
		}
	}()
	call := c.NewCall(FrameCall, 0)
	_, err := call.Do(Args{})
	require.NoError(t, err)
	call.Cancel()
	_, err = c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
}

// The last frame of a worker that exits is read, even if the next call's write finds out first
// that the worker has exited.
func TestTheFatalErrorIsReadAfterAFailedWrite(t *testing.T) {
	c, p := connect(t, Events{})
	holdRole(t, c) // so that no goroutine reads for now
	first := c.NewCall(FrameCall, 0)
	var callers sync.WaitGroup
	callers.Go(func() {
		_, err := first.Do(Args{})
		var remote *RemoteError
		if assert.ErrorAs(t, err, &remote) {
			assert.Equal(t, "SystemExit", remote.Class)
		}
	})
	p.send(frameError, p.take().call, pack(t, RemoteError{Exception: Exception{Class: "SystemExit"}, Fatal: true}))
	require.NoError(t, p.nc.Close())
	second := c.NewCall(FrameCall, 0)
	callers.Go(func() {
		_, err := second.Do(Args{})
		assert.ErrorIs(t, err, ErrClosed)
	})
	for !second.sent.Load() { // its write has failed
		assert.NoError(t, c.Err())
	}
	c.role.release()
	callers.Wait()
}

func TestBothSidesMayWriteLargeFramesAtOnce(t *testing.T) {
	c, p := connect(t, Events{})
	large := Payload{Body: append([]byte{0xc6, 0, 0x80, 0, 0}, make([]byte, 8<<20)...)}
	go func() {
		first := p.take()
		p.send(frameResult, first.call, large.Body) // reads nothing until this is out
		second := p.take()
		p.send(frameResult, second.call, large.Body)
	}()
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			answer, err := c.NewCall(FrameCall, 0).Do(OneArg(large))
			assert.NoError(t, err)
			assert.True(t, bytes.Equal(large.Body, answer.Body))
		})
	}
	callers.Wait()
}

func TestManyPortsAndLongNames(t *testing.T) {
	c, p := connect(t, Events{})
	want := map[string]any{}
	var ports []Port
	for n := range 70_000 {
		name := string(bytes.Repeat([]byte{'p'}, n%40)) + string(rune(0x10000+n))
		want[name] = nil
		ports = append(ports, Port{Name: name, Value: Payload{Body: []byte{0xc0}}})
	}
	long := string(make([]byte, 70_000))
	want[long] = nil
	ports = append(ports, Port{Name: long, Value: Payload{Body: []byte{0xc0}}})
	go func() {
		f := p.take()
		got, err := f.Decode("args", DefaultLimits())
		assert.NoError(t, err)
		assert.Equal(t, []any{[]any{}, want}, got)
		p.send(frameResult, f.call, []byte{0xc0})
	}()
	_, err := c.NewCall(FrameCall, 0).Do(Args{Ports: ports})
	require.NoError(t, err)
}

func TestAMessageMayBeDeeperThanValues(t *testing.T) {
	c, p := connect(t, Events{})
	c.limits.Depth = 1
	chain := &Exception{Class: "ValueError", Frames: []TracebackFrame{{File: "n.py"}}}
	for range 99 {
		chain = &Exception{Class: "ValueError", Cause: chain}
	}
	go func() { f := p.take(); p.send(frameError, f.call, pack(t, RemoteError{Exception: *chain})) }()
	_, err := c.NewCall(FrameCall, 0).Do(Args{})
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	assert.NoError(t, c.Err())
}

func TestAnErrorHasABoundedNumberOfBases(t *testing.T) {
	c, p := connect(t, Events{})
	bases := slices.Repeat([]string{"ValueError"}, MaxBases+1)
	go func() { f := p.take(); p.send(frameError, f.call, pack(t, RemoteError{Bases: bases})) }()
	_, err := c.NewCall(FrameCall, 0).Do(Args{})
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	assert.Equal(t, bases[1:], remote.Bases)
}

func TestTheAnswerOfAnAbandonedCallIsDiscarded(t *testing.T) {
	c, p := connect(t, Events{})
	go func() {
		first, second, third := p.take(), p.take(), p.take()
		assert.Equal(t, frameCancel, third.kind)
		assert.Equal(t, second.call, third.call)
		assert.Equal(t, FrameCall, p.take().kind)
		for i := range uint64(3) { // the second one is abandoned
			p.send(frameResult, first.call+i, []byte{0xc0})
		}
	}()
	var callers sync.WaitGroup
	first, second := c.NewCall(FrameCall, 0), c.NewCall(FrameCall, 0)
	callers.Go(func() {
		_, err := first.Do(Args{})
		assert.NoError(t, err)
	})
	require.Eventually(t, func() bool { return first.Order() == 1 }, 10*time.Second, time.Millisecond)
	callers.Go(func() {
		_, err := second.Do(Args{})
		assert.Equal(t, ErrAbandoned, err)
	})
	require.Eventually(t, func() bool { return second.sent.Load() }, 10*time.Second, time.Millisecond)
	assert.False(t, first.HasEarlierCalls())
	assert.True(t, second.HasEarlierCalls())
	assert.True(t, second.HasEarlierPending())
	second.Cancel()
	assert.True(t, second.Abandon())
	assert.True(t, second.Abandon())
	assert.Equal(t, 1, c.Abandoned())
	assert.False(t, c.WorksOnlyOnAbandoned(2), "the first is pending")
	_, err := c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	callers.Wait()
	assert.Zero(t, c.Abandoned())
	assert.False(t, second.HasEarlierCalls())
}

func TestAReaderReturnsAtOnceWhenItsCallIsAbandoned(t *testing.T) {
	c, p := connect(t, Events{})
	answer := make([]byte, 1<<20)
	copy(answer, []byte{0xc6, 0, 0x0f, 0xff, 0xfb})
	for range 30 {
		call := c.NewCall(FrameCall, 0)
		done := make(chan error, 1)
		go func() {
			_, err := call.Do(Args{})
			done <- err
		}()
		first := p.take()
		require.Eventually(t, func() bool { return c.role.taken.Load() && call.sent.Load() }, 10*time.Second, 10*time.Microsecond)
		call.Cancel()
		assert.Equal(t, frameCancel, p.take().kind)
		assert.True(t, call.Abandon())
		require.Equal(t, ErrAbandoned, <-done) // before there is anything to read
		assert.True(t, c.WorksOnlyOnAbandoned(call.Order()))
		assert.False(t, c.WorksOnlyOnAbandoned(0), "it has begun nothing")

		second := c.NewCall(FrameCall, 0)
		go func() {
			_, err := second.Do(Args{})
			done <- err
		}()
		third := c.NewCall(FrameCall, 0)
		var leaving sync.WaitGroup
		leaving.Go(func() { _, _ = third.Do(Args{}) })
		p.take()
		p.take()
		leaving.Go(func() { third.Abandon() }) // one of them reads, perhaps in the midst of a frame
		p.send(frameResult, first.call, answer)
		p.send(frameResult, second.header.call, answer)
		p.send(frameResult, third.header.call, answer)
		require.NoError(t, <-done)
		leaving.Wait()
	}
	assert.NoError(t, c.Err())
}

func TestACallThatIsStillBeingSentCannotBeAbandoned(t *testing.T) {
	c, p := connect(t, Events{})
	call := c.NewCall(FrameCall, 0)
	done := make(chan error, 1)
	go func() {
		value, err := Encode("input", make([]byte, 16<<20))
		assert.NoError(t, err)
		_, err = call.Do(OneArg(value))
		done <- err
	}()
	require.Eventually(t, func() bool { return call.Order() == 1 }, 10*time.Second, time.Millisecond)
	assert.False(t, call.Cancel())
	assert.False(t, call.Abandon())
	assert.Zero(t, c.Abandoned())
	assert.Equal(t, FrameCall, p.take().kind)
	assert.Equal(t, frameCancel, p.take().kind)
	assert.True(t, call.Abandon())
	assert.Equal(t, ErrAbandoned, <-done)
}

func TestCallsCountInTheOrderOfTheWire(t *testing.T) {
	const calls = 50
	c, p := connect(t, Events{})
	orders := make(map[uint64]uint64, calls) // by call
	go func() {
		for i := range uint64(calls) {
			f := p.take()
			orders[f.call] = i + 1
			p.send(frameResult, f.call, []byte{0xc0})
		}
	}()
	var callers sync.WaitGroup
	all := make([]*Call, calls)
	for i := range all {
		callers.Go(func() {
			body := make([]byte, 1)
			if i%5 == 0 {
				body = make([]byte, 2*maxQueued) // written without being queued
			}
			value, err := Encode("input", body)
			assert.NoError(t, err)
			all[i] = c.NewCall(FrameCall, 0)
			_, err = all[i].Do(OneArg(value))
			assert.NoError(t, err)
		})
	}
	callers.Wait()
	for _, call := range all {
		assert.Equal(t, orders[call.header.call], call.Order())
	}
}
