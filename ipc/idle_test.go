package ipc

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A worker that floods its log does not read, and a caller that writes a large frame does not
// read either. So readWhileIdle reads, at full speed.
func TestAFloodOfLogsDoesNotBlockAWriter(t *testing.T) {
	const records = 10_000
	var seen atomic.Int32
	c, p := connect(t, Events{Log: func(LogRecord, *Trace) { seen.Add(1) }})
	value := Payload{Body: append([]byte{0xc6, 0, 0x40, 0, 0}, make([]byte, 4<<20)...)}
	require.NoError(t, p.nc.SetDeadline(time.Now().Add(30*time.Second)))
	go func() {
		defer p.nc.Close()  // so that the caller does not wait forever after the deadline
		_, err := p.peek(1) // the call is on its way
		assert.NoError(t, err)
		record := encodeFrame(frame{kind: frameLog, Payload: Payload{Body: pack(t, LogRecord{Message: "flood"})}})
		_, err = p.nc.Write(bytes.Repeat(record, records))
		assert.NoError(t, err)
		p.send(frameResult, p.take().call, []byte{0xc0})
	}()
	_, err := c.NewCall(FrameCall, 0).Do(OneArg(value))
	require.NoError(t, err)
	assert.Equal(t, int32(records), seen.Load())
}

func TestCallsAfterIdleTimes(t *testing.T) {
	read := make(chan struct{})
	c, p := connect(t, Events{Log: func(LogRecord, *Trace) { read <- struct{}{} }})
	for range 20 {
		p.send(frameLog, 0, pack(t, LogRecord{}))
		<-read // by readWhileIdle, which now holds the read role
		go func() {
			f := p.take()
			p.send(frameResult, f.call, []byte{0xc0})
			f = p.take()
			p.send(frameResult, f.call, []byte{0xc0})
		}()
		for range 2 {
			_, err := c.NewCall(FrameCall, 0).Do(Args{})
			require.NoError(t, err)
		}
	}
}

func TestCloseEndsTheIdleReader(t *testing.T) {
	reading := func() int {
		stacks := make([]byte, 1<<20)
		return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte(".readWhileIdle("))
	}
	others := reading() // of earlier tests, which are about to end
	var conns []*Conn
	for range 10 {
		c, _ := connect(t, Events{})
		conns = append(conns, c)
	}
	require.Eventually(t, func() bool { return reading() >= 10 }, 10*time.Second, time.Millisecond)
	for _, c := range conns {
		c.Close()
		c.Close()
		<-c.Done()
		assert.ErrorIs(t, c.Err(), ErrClosed)
	}
	assert.Eventually(t, func() bool { return reading() <= others }, 10*time.Second, time.Millisecond)
}

// The deadlines of Dial and Start do not apply to later calls.
func TestDeadlinesEndWithDialAndStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	dialing, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	secret := NewSecret()
	nc, err := Dial(dialing, path, os.Getpid(), secret)
	require.NoError(t, err)
	defer nc.Close()
	worker, err := listener.Accept()
	require.NoError(t, err)
	defer worker.Close()
	p := &peer{t: t, nc: worker, frameReader: newFrameReader(worker, DefaultLimits())}
	got := make([]byte, SecretSize)
	require.NoError(t, p.full(got))
	assert.Equal(t, secret, got)
	<-dialing.Done()

	starting, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	deadline, _ := starting.Deadline()
	require.NoError(t, nc.SetReadDeadline(deadline))
	go func() {
		p.send(frameHello, 0, pack(t, Hello{Protocol: Version}))
		p.send(frameReady, 0, pack(t, Description{}))
		p.take()
		f := p.take()
		p.send(frameResult, f.call, []byte{0xc0})
	}()
	c, _, _, err := Start(nc, nil, Setup{Limits: SetupLimits{Limits: DefaultLimits()}}, Events{})
	require.NoError(t, err)
	<-starting.Done()
	_, err = c.NewCall(FrameCall, 0).Do(Args{})
	assert.NoError(t, err)
}

func TestDialRefusesAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	_, err = Dial(t.Context(), path, os.Getpid()+1, NewSecret())
	var perr *PeerError
	require.ErrorAs(t, err, &perr)
	assert.Equal(t, os.Getpid(), perr.PID)
}
