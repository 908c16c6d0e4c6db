package ipc

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

// peer is the worker's end of a real socket pair. It sends and receives frame by frame, so
// that tests can violate the protocol in ways in which the real worker does not.
type peer struct {
	t  *testing.T
	nc net.Conn
	*frameReader
}

func (p *peer) send(t FrameType, call uint64, body []byte) {
	_, err := p.nc.Write(encodeFrame(frame{kind: t, call: call, Payload: Payload{Body: body}}))
	assert.NoError(p.t, err)
}

func (p *peer) take() frame {
	f, err := p.next()
	assert.NoError(p.t, err)
	return f
}

func pack(t *testing.T, v any) []byte {
	b, err := msgpack.Marshal(v)
	require.NoError(t, err)
	return b
}

func socketPair(t *testing.T) (net.Conn, net.Conn) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conns[i], err = net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	return conns[0], conns[1]
}

// connect starts a connection to a peer.
func connect(t *testing.T, events Events) (*Conn, *peer) {
	host, worker := socketPair(t)
	p := &peer{t: t, nc: worker, frameReader: newFrameReader(worker, DefaultLimits())}
	go func() {
		p.send(frameHello, 0, pack(t, Hello{Protocol: Version, PID: 42}))
		p.send(frameProgress, 0, pack(t, Progress{Message: "half way"}))
		assert.Equal(t, frameSetup, p.take().kind)
		p.send(frameReady, 0, pack(t, Description{Name: "echo"}))
	}()
	setup := Setup{Node: "echo", Limits: SetupLimits{Limits: DefaultLimits()}}
	c, hello, ready, err := Start(host, nil, setup, events)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	assert.Equal(t, 42, hello.PID)
	assert.Equal(t, "echo", ready.Name)
	return c, p
}

func TestCallsArePipelined(t *testing.T) {
	const calls = 100
	c, p := connect(t, Events{})
	go func() { // answers in reverse order, so that every caller reads for others
		frames := make([]frame, calls)
		for i := range frames {
			frames[i] = p.take()
		}
		for i := range frames {
			f := frames[calls-1-i]
			// The body is [[value], {}]; the value is returned.
			p.send(frameResult, f.call, f.Body[2:len(f.Body)-1])
		}
	}()
	var callers sync.WaitGroup
	for i := range calls {
		callers.Go(func() {
			value, err := Encode("input", i)
			require.NoError(t, err)
			answer, err := c.NewCall(FrameCall, 0).Do(OneArg(value))
			assert.NoError(t, err)
			got, err := answer.Decode("result", DefaultLimits())
			assert.NoError(t, err)
			assert.Equal(t, int64(i), got)
		})
	}
	callers.Wait()
}

func TestEventsArriveBetweenCalls(t *testing.T) {
	logs := make(chan LogRecord, 1)
	c, p := connect(t, Events{Log: func(r LogRecord, _ *Trace) { logs <- r }})
	p.send(frameLog, 0, pack(t, LogRecord{Level: "warn", Message: "while idle"}))
	assert.Equal(t, "while idle", (<-logs).Message)

	// A call is answered although the idle reader holds the read role.
	go func() { f := p.take(); p.send(frameResult, f.call, []byte{0xc3}) }()
	answer, err := c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	assert.Equal(t, []byte{0xc3}, answer.Body)
}

func TestProgressReachesTheCallsThatItIsAbout(t *testing.T) {
	setup := make(chan Progress, 3)
	c, p := connect(t, Events{Progress: func(p Progress) { setup <- p }})
	assert.Equal(t, "half way", (<-setup).Message, "that of connect")
	got := make(chan uint64, 8)
	run := func() *Call {
		call := c.NewCall(FrameCall, 0)
		call.OnProgress = func(p Progress) {
			assert.Equal(t, "both", p.Message)
			assert.Equal(t, 0.25, *p.Fraction)
			got <- call.header.call
		}
		return call
	}
	first, second, third := run(), run(), c.NewCall(FrameCall, 0) // the third one does not listen
	var calls sync.WaitGroup
	for _, call := range []*Call{first, second, third} {
		calls.Go(func() {
			_, err := call.Do(Args{})
			assert.NoError(t, err)
		})
	}
	for range 3 {
		p.take()
	}
	p.send(frameProgress, 0, pack(t, Progress{Message: "both", Fraction: new(0.25), Calls: []uint64{1, 2, 3}}))
	assert.ElementsMatch(t, []uint64{1, 2}, []uint64{<-got, <-got})
	for id := range uint64(3) {
		p.send(frameResult, id+1, []byte{0xc0})
	}
	calls.Wait()

	// A thread of the node may report for a call that has been answered.
	p.send(frameProgress, 0, pack(t, Progress{Message: "late", Calls: []uint64{1}}))
	p.send(frameProgress, 0, pack(t, Progress{Message: "of none"}))
	assert.Equal(t, "of none", (<-setup).Message)
	assert.Empty(t, got)
	assert.NoError(t, c.Err())
}

func TestAnErrorFrameIsTheCallsError(t *testing.T) {
	c, p := connect(t, Events{})
	go func() {
		f := p.take()
		p.send(frameError, f.call, pack(t, RemoteError{Kind: FailureExecution, Exception: Exception{
			Class: "ValueError", Message: "no", Frames: []TracebackFrame{{File: "n.py", Line: 3, Function: "process"}},
			Cause: &Exception{Class: "KeyError", Message: "'k'", Relation: "cause"},
		}}))
	}()
	_, err := c.NewCall(FrameCall, 0).Do(Args{})
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	assert.EqualError(t, err, "ValueError: no (n.py:3 in process)")
	assert.EqualError(t, errors.Unwrap(err), "KeyError: 'k'")
	assert.NoError(t, c.Err(), "the connection stays open")
}

func TestTheEndOfThePeerEndsEveryCall(t *testing.T) {
	c, p := connect(t, Events{})
	const calls = 8
	go func() {
		for range calls {
			p.take()
		}
		_ = p.nc.Close()
	}()
	var callers sync.WaitGroup
	for range calls {
		callers.Go(func() {
			_, err := c.NewCall(FrameCall, 0).Do(Args{})
			assert.ErrorIs(t, err, ErrClosed)
		})
	}
	callers.Wait()
	<-c.Done()
	_, err := c.NewCall(FrameCall, 0).Do(Args{})
	assert.ErrorIs(t, err, ErrClosed, "a call on a dead connection fails too")
}

func TestOutOfProtocolEndsTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		speak func(p *peer, call uint64)
		says  string
	}{
		"garbage":          {func(p *peer, _ uint64) { _, _ = p.nc.Write(make([]byte, 64)) }, "begins with byte 0x00"},
		"unknown call":     {func(p *peer, _ uint64) { p.send(frameResult, 999, []byte{0xc0}) }, "call 999, which is not under way"},
		"duplicate answer": {func(p *peer, id uint64) { p.send(frameResult, id, []byte{0xc0}); p.send(frameResult, id, []byte{0xc0}) }, "not under way"},
		"a host's frame":   {func(p *peer, _ uint64) { p.send(frameSetup, 0, nil) }, "a worker sent a setup frame"},
		"bad error body":   {func(p *peer, id uint64) { p.send(frameError, id, []byte{0xc1}) }, "the body of a error frame"},
		"huge log claim":   {func(p *peer, _ uint64) { p.send(frameLog, 0, []byte("\x81\xa7message\xdb\xff\xff\xff\xff")) }, "ends in the middle"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := connect(t, Events{})
			go func() { c.speak(p, p.take().call) }()
			_, err := conn.NewCall(FrameCall, 0).Do(Args{})
			<-conn.Done()
			if err == nil {
				err = conn.Err() // the answer arrived before the violation
			}
			var perr *ProtocolError
			require.ErrorAs(t, err, &perr)
			assert.ErrorIs(t, err, ErrClosed)
			assert.Contains(t, perr.Reason, c.says)
		})
	}
}

func TestStartRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		speak func(p *peer)
		says  string
	}{
		"other protocol": {func(p *peer) { p.send(frameHello, 0, pack(t, Hello{Protocol: 9})) }, "speaks version 9"},
		"a call's frame": {func(p *peer) { p.send(frameResult, 1, []byte{0xc0}) }, "a result frame instead of hello"},
		"silence":        {func(p *peer) { _ = p.nc.Close() }, "EOF"},
		"failed set-up": {func(p *peer) {
			p.send(frameHello, 0, pack(t, Hello{Protocol: Version}))
			p.send(frameError, 0, pack(t, RemoteError{Kind: FailureExecution, Stage: StageImport, Exception: Exception{Class: "ImportError", Message: "no"}}))
		}, "ImportError: no"},
	} {
		t.Run(name, func(t *testing.T) {
			host, worker := socketPair(t)
			p := &peer{t: t, nc: worker, frameReader: newFrameReader(worker, DefaultLimits())}
			go c.speak(p)
			_, _, _, err := Start(host, nil, Setup{Limits: SetupLimits{Limits: DefaultLimits()}}, Events{})
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestCancelReachesTheWorkerOnce(t *testing.T) {
	c, p := connect(t, Events{})
	call := c.NewCall(FrameCall, 0)
	go func() {
		assert.Equal(t, FrameCall, p.take().kind)
		assert.Eventually(t, call.Cancel, 10*time.Second, time.Millisecond) // false until the caller has recorded that the call is sent
		f := p.take()
		assert.Equal(t, frameCancel, f.kind)
		p.send(frameError, f.call, pack(t, RemoteError{Kind: FailureCanceled}))
	}()
	_, err := call.Do(Args{})
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	assert.Equal(t, FailureCanceled, remote.Kind)
}

func TestArgumentsBeyondTheLimitsAreRefusedBeforeTheyAreSent(t *testing.T) {
	c, p := connect(t, Events{})
	c.limits.Body = 10
	large, err := Encode("input", "0123456789")
	require.NoError(t, err)
	_, err = c.NewCall(FrameCall, 0).Do(OneArg(large))
	var verr *ValueError
	require.ErrorAs(t, err, &verr)
	go func() { f := p.take(); p.send(frameResult, f.call, []byte{0xc0}) }()
	_, err = c.NewCall(FrameCall, 0).Do(Args{})
	assert.NoError(t, err, "the connection lives on")
}

func TestLargeArgumentsAreGathered(t *testing.T) {
	c, p := connect(t, Events{})
	tensor, err := NewTensor(make([]float64, 1<<18), 1<<18)
	require.NoError(t, err)
	left, err := Encode("input", tensor)
	require.NoError(t, err)
	right, err := Encode("input", map[string]any{"inner": tensor, "n": 1})
	require.NoError(t, err)
	go func() {
		f := p.take()
		assert.Len(t, f.Buffers, 2)
		// Side by side, the two encoded values are one value with its buffers.
		args, err := f.Payload.Decode("args", DefaultLimits())
		assert.NoError(t, err)
		assert.Equal(t, []any{[]any{}, map[string]any{"left": tensor, "right": map[string]any{"inner": tensor, "n": int64(1)}}}, args)
		p.send(frameResult, f.call, []byte{0xc0})
	}()
	_, err = c.NewCall(FrameCall, 0).Do(Args{Ports: []Port{{Name: "left", Value: left}, {Name: "right", Value: right}}})
	require.NoError(t, err)
}

func TestACallIsNeverWrittenOnlyIfTheSupervisorHasEvidence(t *testing.T) {
	c, p := connect(t, Events{})
	first, second := c.NewCall(FrameCall, 0), c.NewCall(FrameCall, 0)
	errs := make(chan error, 2)
	for _, call := range []*Call{first, second} {
		go func() { _, err := call.Do(Args{}); errs <- err }()
		assert.Equal(t, call.header.call, p.take().call)
	}
	require.NoError(t, p.nc.Close())
	require.ErrorIs(t, <-errs, ErrClosed)
	require.ErrorIs(t, <-errs, ErrClosed)
	assert.False(t, first.NeverWritten())
	assert.False(t, second.NeverWritten())
	before, after, isFirst := second.Company(2)
	assert.Equal(t, []any{1, 0, false}, []any{before, after, isFirst})
	before, after, isFirst = first.Company(1)
	assert.Equal(t, []any{0, 0, true}, []any{before, after, isFirst}, "the second was not begun")

	value, err := Encode("input", make([]byte, 2*maxQueued)) // it is written without the queue
	require.NoError(t, err)
	for _, args := range []Args{{}, OneArg(value)} {
		late := c.NewCall(FrameCall, 0)
		_, err := late.Do(args)
		require.ErrorIs(t, err, ErrClosed)
		assert.True(t, late.NeverWritten())
	}
}

// The part of a frame that was written may be all that the worker needs to run the call.
func TestACallThatWasWrittenInPartCountsAsWritten(t *testing.T) {
	c, p := connect(t, Events{})
	value, err := Encode("input", make([]byte, 64<<20)) // more than the socket holds
	require.NoError(t, err)
	call := c.NewCall(FrameCall, 0)
	failed := make(chan error, 1)
	go func() { _, err := call.Do(OneArg(value)); failed <- err }()
	_, err = io.ReadFull(p.nc, make([]byte, 1<<10))
	require.NoError(t, err)
	require.NoError(t, p.nc.Close())
	require.ErrorIs(t, <-failed, ErrClosed)
	assert.False(t, call.NeverWritten())
	late := c.NewCall(FrameCall, 0)
	_, err = late.Do(Args{})
	require.ErrorIs(t, err, ErrClosed)
	assert.True(t, late.NeverWritten())
}
