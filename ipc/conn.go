package ipc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// NewSecret returns a new random secret of [SecretSize] bytes for one spawn.
func NewSecret() []byte {
	secret := make([]byte, SecretSize)
	_, _ = rand.Read(secret) // never fails
	return secret
}

// Dial connects to the socket of a worker, checks that the peer is the process with the given
// pid and runs as this user, and sends the secret. It blocks until the context ends if the
// worker does not accept. Its error is a *[PeerError] if another process answers.
func Dial(ctx context.Context, path string, pid int, secret []byte) (net.Conn, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn.(*net.UnixConn), pid); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetWriteDeadline(deadline)
	}
	if _, err := conn.Write(secret); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("present the secret: %w", err)
	}
	_ = conn.SetWriteDeadline(time.Time{}) // the context does not bound later writes
	return conn, nil
}

// dialInterval is the time between two attempts to connect.
const dialInterval = 5 * time.Millisecond

// dial connects to a socket. If other processes fill the socket's queue, the kernel refuses
// the connection instead of waiting. The worker is about to turn them away, so dial tries again.
func dial(ctx context.Context, path string) (net.Conn, error) {
	dialer := net.Dialer{Control: func(_, _ string, socket syscall.RawConn) error { return RefuseDescriptors(socket) }}
	for {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(dialInterval):
		}
	}
}

// PeerError reports that a process other than the worker answered on the worker's socket.
type PeerError struct {
	// WantPID and WantUID are the ids of the worker's process and of its user, and PID and
	// UID those of the process that answered.
	WantPID, PID, WantUID, UID int
}

// Error says which process answered, and which one should have.
func (e *PeerError) Error() string {
	return fmt.Sprintf("the socket is answered by process %d of user %d, not by the worker %d of user %d",
		e.PID, e.UID, e.WantPID, e.WantUID)
}

// Events are the callbacks for frames that belong to no call. The goroutine that reads the
// connection calls them, so they must return quickly and must not use the connection. Each
// may be nil.
type Events struct {
	// Log receives the log records of the worker.
	Log func(LogRecord, *Trace)
	// Progress receives the progress that a node reports and that is about no call.
	Progress func(Progress)
}

// Conn is the supervisor's end of the connection to one worker. It is safe for concurrent use:
// any number of goroutines may make calls at the same time.
type Conn struct {
	conn   net.Conn
	limits Limits
	window Window
	events Events
	shared *sharing // nil if no memory is shared

	calls  callTable
	role   readRole
	frames *frameReader // used by the goroutine that holds role

	queue   sendQueue
	writing sync.Mutex // held while writing to conn
	// Guarded by writing.
	spare   []byte // the memory of the queue's frames before the last write
	written uint64 // the Order of the last call that was written, or may have been

	unwritten atomic.Uint64 // the Order from which on no call was written; 0 if all were, or may have been

	started  time.Time
	answered atomic.Int64  // when the last answer arrived, counted from started
	answers  atomic.Uint64 // how many answers have arrived

	fatal atomic.Pointer[RemoteError]
	done  chan struct{}
}

// Start sets up a worker over a connection that [Dial] returned, and returns the connection
// to it once its node is ready. It blocks for as long as the setup of the node takes; the
// caller can bound that by the deadline of conn, which Start removes at the end. If the worker
// cannot set up its node, the error is a *[RemoteError]. The caller closes conn if Start fails.
//
// The channel is the supervisor's end of the socket for the descriptors of shared memory, nil
// if none is shared. Start takes ownership of it, also if it fails.
func Start(conn net.Conn, channel *net.UnixConn, setup Setup, events Events) (*Conn, Hello, Description, error) {
	if setup.Window == (Window{}) {
		setup.Window = DefaultWindow()
	}
	c := &Conn{
		conn:    conn,
		limits:  setup.Limits.Limits,
		window:  setup.Window,
		events:  events,
		calls:   callTable{open: make(map[uint64]*Call), abandoned: make(map[uint64]*Call)},
		frames:  newFrameReader(conn, setup.Limits.Limits),
		started: time.Now(),
		done:    make(chan struct{}),
	}
	c.role.conn, c.role.calls = conn, &c.calls
	setup.Limits.Inline, setup.Polls = setup.inlineBound(), canPoll()
	c.frames.result, c.frames.inline, c.frames.calls = setup.Limits.Result, setup.Limits.Inline, &c.calls
	if channel != nil && setup.Shared != nil {
		c.shared = newSharing(c, channel, setup.Shared)
		c.frames.shared = c.shared
		shared := *setup.Shared // the caller's may serve other connections
		shared.Segments = c.shared.quota
		setup.Shared = &shared
	} else {
		setup.Shared = nil
	}
	hello, description, err := c.setUp(setup)
	if err != nil {
		c.endSharing(channel)
		return nil, hello, description, err
	}
	c.frames.src, c.frames.first = &c.role, newSpinReader(conn, &c.calls.openCount)
	_ = conn.SetDeadline(time.Time{}) // fails only if the connection is closed, which reading detects
	go c.readWhileIdle()
	return c, hello, description, nil
}

// leastInline is the lowest bound of the inline buffers of a frame.
const leastInline = 64 << 20

// inlineBound returns the bound of a frame's inline buffers: what the worker might share
// instead, if nothing else is set.
func (s Setup) inlineBound() int64 {
	bound := s.Limits.Inline
	if bound == 0 && s.Shared != nil {
		bound = s.Shared.Limit
	}
	if bound == 0 {
		return s.Limits.BufferBytes
	}
	return min(max(bound, leastInline), s.Limits.BufferBytes)
}

// setUp exchanges the messages hello, setup and ready.
func (c *Conn) setUp(setup Setup) (hello Hello, description Description, err error) {
	if err = c.expect(frameHello, &hello); err != nil {
		return hello, description, err
	}
	if hello.Protocol != Version {
		return hello, description, &ProtocolError{Reason: fmt.Sprintf("the worker speaks version %d of the protocol, this side version %d", hello.Protocol, Version)}
	}
	if err = hello.check(); err != nil {
		return hello, description, err
	}
	body, err := msgpack.Marshal(setup)
	if err != nil {
		return hello, description, &ValueError{Path: frameSetup.String(), Reason: err.Error()}
	}
	if err = c.send(header{kind: frameSetup}, body); err != nil {
		return hello, description, err
	}
	if err = c.expect(frameReady, &description); err == nil {
		err = description.Check()
	}
	return hello, description, err
}

// expect reads frames up to one of the wanted type and decodes its message. It handles log
// records and other events before it.
func (c *Conn) expect(want FrameType, into any) error {
	for {
		f, err := c.frames.next()
		if err != nil {
			return err
		}
		f.Release() // a worker may have sent a value instead of a message
		switch f.kind {
		case want:
			return unmarshal(f, into)
		case frameError:
			return c.remoteError(f)
		case frameLog, frameProgress, frameRelease, frameForget:
			if err := c.event(f); err != nil {
				return err
			}
		default:
			return &ProtocolError{Reason: fmt.Sprintf("a %s frame instead of %s", f.kind, want)}
		}
	}
}

// event handles a frame that belongs to no call.
func (c *Conn) event(f frame) error {
	switch {
	case (f.kind == frameRelease || f.kind == frameForget) && c.shared == nil:
		return &ProtocolError{Reason: fmt.Sprintf("a %s frame, but no memory is shared", f.kind)}
	case f.kind == frameRelease:
		return c.shared.release(f)
	case f.kind == frameForget:
		return c.shared.forgotten(f)
	}
	if f.kind == frameLog {
		var record LogRecord
		if err := unmarshal(f, &record); err != nil {
			return err
		}
		record.bound(len(f.Body))
		if c.events.Log != nil {
			c.events.Log(record, c.calls.traceOf(record.Call))
		}
		return nil
	}
	var progress Progress
	if err := unmarshal(f, &progress); err != nil {
		return err
	}
	progress.bound()
	if len(progress.Calls) > 0 {
		return c.calls.report(progress)
	}
	if c.events.Progress != nil {
		c.events.Progress(progress)
	}
	return nil
}

// remoteError returns the message of an error frame, or a *[ProtocolError] if it is invalid.
func (c *Conn) remoteError(f frame) error {
	remote := &RemoteError{}
	if err := unmarshal(f, remote); err != nil {
		return err
	}
	remote.bound()
	if remote.Fatal {
		c.fatal.Store(remote)
	}
	return remote
}

// SinceAnswer returns the time since the worker last answered a call, abandoned ones included,
// or since the connection began if it has not answered any.
func (c *Conn) SinceAnswer() time.Duration {
	return time.Since(c.started) - time.Duration(c.answered.Load())
}

// Drop ends a session at once, without running node code.
func (c *Conn) Drop(session uint32) error {
	return c.send(header{kind: frameDrop, session: session}, nil)
}

// Shutdown asks the worker to finish its calls, close its node and exit. It does not wait for
// that.
func (c *Conn) Shutdown() error { return c.send(header{kind: frameShutdown}, nil) }

// Close ends the connection. Pending calls fail with [ErrClosed]. Close may be called more
// than once.
func (c *Conn) Close() { c.fail(ErrClosed) }

// Done returns a channel that is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns the reason for which the connection ended, nil if it has not ended.
func (c *Conn) Err() error {
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.calls.err
}

// FatalError returns the fatal error that the worker has reported, nil if there is none.
func (c *Conn) FatalError() *RemoteError { return c.fatal.Load() }

// fail ends the connection and settles all calls. Only the first reason counts.
func (c *Conn) fail(reason error) {
	switch {
	case errors.Is(reason, ErrClosed):
	case errors.Is(reason, io.EOF):
		reason = fmt.Errorf("%w by the worker", ErrClosed)
	default:
		reason = fmt.Errorf("%w: %w", ErrClosed, reason)
	}
	c.calls.Lock()
	if c.calls.err != nil {
		c.calls.Unlock()
		return
	}
	c.calls.err = reason
	open := c.calls.open
	c.calls.noteUnsettledLocked(open, false)
	c.calls.noteUnsettledLocked(c.calls.abandoned, true)
	c.calls.open, c.calls.abandoned = nil, nil
	c.calls.openCount.Store(0)
	c.calls.Unlock()
	closeAside(c.conn)
	c.endSharing(nil)
	for _, call := range open {
		call.settle(Payload{}, reason)
	}
	close(c.done)
}

// endSharing ends the shared memory of the connection, or closes a channel that is not used.
func (c *Conn) endSharing(channel *net.UnixConn) {
	if c.shared != nil {
		c.shared.end()
	} else if channel != nil {
		closeAside(channel)
	}
}

// closeAside closes descriptors that came from the worker, or a socket over which the
// worker may have sent descriptors, without waiting for that. The last close of a file may
// block, for instance that of a TCP socket for as long as its SO_LINGER says. One goroutine
// closes all of them, because each one that is blocked occupies a thread.
func closeAside(all ...io.Closer) {
	go func() {
		for _, c := range all {
			_ = c.Close()
		}
	}()
}
