package ipc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Events receives what a worker says outside of the answers to calls. Its
// functions are called by whoever reads the connection at that moment, so they
// must be quick and must not call into the connection. Each may be nil.
type Events struct {
	Log      func(LogRecord)
	Progress func(Progress)
}

// Conn is the supervisor's end of the connection to one worker. Calls are
// pipelined: any number of goroutines may have calls under way.
//
// There is no reader goroutine on the way of a call. One of the callers that wait for
// their answers has the turn to read the socket, handing on the answers of the others,
// so that a lone call is woken once, by the kernel. Only while no call is under way
// does a goroutine of the connection's own read, for the log records of an idle worker
// and for its death.
type Conn struct {
	nc     net.Conn
	limits Limits
	window Window
	events Events

	reader  *frameReader
	shared  *sharing    // nil where no memory is shared
	reading atomic.Bool // somebody has the turn to read; see turn.go

	writing sync.Mutex // held while writing to nc
	queue   struct {
		sync.Mutex
		frames  []byte      // small frames that wait for the next write
		small   int         // how many of them their senders have put there
		waiting atomic.Bool // there are some; set with the lock held
		order   uint64      // of the last call that was put on its way
	}
	spare []byte // the queue's other buffer; guarded by writing

	calls struct {
		sync.Mutex
		open      map[uint64]*Call
		abandoned map[uint64]*Call // answers are to come that nobody waits for
		lastID    uint64
		writeErr  error // why nothing more can be written
		err       error // why the connection ended
		woken     bool  // the reader is to look up; see wake
	}
	lastWord atomic.Pointer[RemoteError]
	done     chan struct{}

	started  time.Time
	answered atomic.Int64  // when the last answer came, counted from started
	answers  atomic.Uint64 // how many have come
}

// Start exchanges hello, set-up and ready over a fresh connection on which the
// secret has been presented. A worker that cannot set up its node is a
// *[RemoteError]. The caller bounds the time through nc's deadline, which Start
// takes off, and closes nc when Start fails.
//
// The channel is the supervisor's end of the socket for descriptors of shared
// memory, nil where none is shared; Start takes it over.
func Start(nc net.Conn, channel *net.UnixConn, setup Setup, events Events) (*Conn, Hello, Description, error) {
	if setup.Window == (Window{}) {
		setup.Window = DefaultWindow()
	}
	c := &Conn{
		nc:      nc,
		limits:  setup.Limits.Limits,
		window:  setup.Window,
		events:  events,
		reader:  newFrameReader(nc, setup.Limits.Limits),
		started: time.Now(),
		done:    make(chan struct{}),
	}
	c.calls.open = make(map[uint64]*Call)
	c.calls.abandoned = make(map[uint64]*Call)
	if channel != nil && setup.Shared != nil {
		c.shared = newSharing(c, channel)
		c.reader.shared = c.shared
	} else {
		setup.Shared = nil
	}
	var hello Hello
	var ready Description
	err := c.expect(TypeHello, &hello)
	if err == nil && hello.Protocol != Version {
		err = &ProtocolError{Reason: fmt.Sprintf("the worker speaks version %d of the protocol, this side version %d", hello.Protocol, Version)}
	}
	if err == nil {
		err = c.sendMessage(TypeSetup, setup)
	}
	if err == nil {
		err = c.expect(TypeReady, &ready)
	}
	if err != nil {
		c.endSharing(channel)
		return nil, hello, ready, err
	}
	c.reader.src, c.reader.first = steady{c}, newAwaiting(nc, c.isLone)
	_ = nc.SetDeadline(time.Time{}) // fails on a closed connection only, which reading finds too
	go c.readWhileIdle()
	return c, hello, ready, nil
}

func (c *Conn) endSharing(channel *net.UnixConn) {
	if c.shared != nil {
		c.shared.end()
	} else if channel != nil {
		_ = channel.Close()
	}
}

// expect reads frames until one of the wanted type, passing on logs and progress.
func (c *Conn) expect(want Type, into any) error {
	for {
		f, err := c.reader.next()
		if err != nil {
			return err
		}
		f.Release() // a message is all in its body
		switch f.Type {
		case want:
			return unmarshal(f, into)
		case TypeError:
			return c.remoteError(f)
		case TypeLog, TypeProgress, TypeRelease, TypeForget:
			if err := c.event(f); err != nil {
				return err
			}
		default:
			return &ProtocolError{Reason: fmt.Sprintf("a %s frame where %s belongs", f.Type, want)}
		}
	}
}

// Shutdown asks the worker to finish what it does, close its node and exit.
func (c *Conn) Shutdown() error { return c.send(head{kind: TypeShutdown}, nil) }

// Close ends the connection; calls under way fail with [ErrClosed].
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	return nil
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// LastWord returns the fatal error that the worker has reported, nil for none.
func (c *Conn) LastWord() *RemoteError { return c.lastWord.Load() }

// Err says why the connection ended; it is nil before.
func (c *Conn) Err() error {
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.calls.err
}

// readFor reads frames, the caller having the turn, until call is answered or has an
// item. What has been read ahead is handed on too, so that nobody waits for a frame
// that is here already.
func (c *Conn) readFor(call *Call) {
	for len(call.notes) == 0 && (call.inbox == nil || call.inbox.isEmpty()) || c.reader.ready() {
		if _, err := c.readOne(); err != nil {
			return
		}
	}
}

// idleAfter is how long the socket may go unread while nobody calls.
const idleAfter = 10 * time.Millisecond

// readWhileIdle takes the turn when nobody has it, and ends it as soon as a caller
// wants to read. The call that finds it reading is answered through
// it, one hand-over late; those that follow read for themselves. It also reads
// while callers are held up in writing, because a worker that is held up in
// writing too would otherwise never get to read what they write.
func (c *Conn) readWhileIdle() {
	tick := time.NewTimer(idleAfter)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		if c.reading.CompareAndSwap(false, true) {
			for {
				answer, err := c.readOne()
				if err != nil || answer || c.isAwaited() {
					break
				}
			}
			c.endTurn()
		} // else a caller reads
		tick.Reset(idleAfter)
	}
}

// readOne reads and dispatches one frame, and reports whether it was an answer. It
// returns without one when it is woken. An error has ended the connection.
func (c *Conn) readOne() (answer bool, err error) {
	f, err := c.reader.next()
	if err == nil {
		err = c.dispatch(f)
	}
	if err != nil {
		if c.wasWoken(err) { // between two frames
			return false, nil
		}
		if werr := c.writeErr(); werr != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = werr
		}
		c.fail(err)
	}
	return f.Type == TypeResult || f.Type == TypeError || f.Type == TypeItem, err
}

// isLone reports whether there is one call under way.
func (c *Conn) isLone() bool {
	c.calls.Lock()
	defer c.calls.Unlock()
	return len(c.calls.open) == 1
}

func (c *Conn) dispatch(f Frame) error {
	switch f.Type {
	case TypeResult, TypeError:
		return c.answer(f)
	case TypeItem:
		return c.item(f)
	}
	defer f.Release() // buffers mean nothing in the others, but are held all the same
	switch f.Type {
	case TypeLog, TypeProgress, TypeRelease, TypeForget:
		return c.event(f)
	case TypePong:
		return nil
	}
	return &ProtocolError{Reason: fmt.Sprintf("a worker sent a %s frame", f.Type)}
}

func (c *Conn) answer(f Frame) error {
	var failure error
	if f.Type == TypeError {
		failure = c.remoteError(f)
		f.Release()
		f.Payload = Payload{}
		var perr *ProtocolError
		if errors.As(failure, &perr) {
			return failure
		}
	}
	c.calls.Lock()
	call, abandoned := c.calls.open[f.Call], c.calls.abandoned[f.Call]
	if call != nil && call.inbox != nil && failure == nil && !isNil(f.Payload) {
		c.calls.Unlock()
		f.Release()
		return &ProtocolError{Reason: fmt.Sprintf("call %d gives its values one by one, and ends with a result that is not nil", f.Call)}
	}
	if call != nil {
		delete(c.calls.open, f.Call)
	} else {
		delete(c.calls.abandoned, f.Call)
	}
	c.calls.Unlock()
	c.answers.Add(1)
	if c.reader.fresh { // what came together was answered together
		c.reader.fresh = false
		c.answered.Store(int64(time.Since(c.started)))
	}
	if call == nil {
		f.Release()
		if abandoned != nil {
			return nil
		}
		return &ProtocolError{Reason: fmt.Sprintf("a %s frame for call %d, which is not under way", f.Type, f.Call)}
	}
	call.settle(f.Payload, failure)
	return nil
}

// SinceAnswer is the time since the worker answered last, whether anybody waited for
// that or not, or, where it never did, since the connection began.
func (c *Conn) SinceAnswer() time.Duration {
	return time.Since(c.started) - time.Duration(c.answered.Load())
}

func (c *Conn) remoteError(f Frame) error {
	remote := &RemoteError{}
	if err := unmarshal(f, remote); err != nil {
		return err
	}
	if remote.Fatal {
		c.lastWord.Store(remote)
	}
	return remote
}

func (c *Conn) event(f Frame) error {
	switch {
	case (f.Type == TypeRelease || f.Type == TypeForget) && c.shared == nil:
		return &ProtocolError{Reason: fmt.Sprintf("a %s frame, but no memory is shared", f.Type)}
	case f.Type == TypeRelease:
		return c.shared.release(f)
	case f.Type == TypeForget:
		return c.shared.forgotten(f)
	}
	if f.Type == TypeLog {
		var record LogRecord
		if err := unmarshal(f, &record); err != nil {
			return err
		}
		if c.events.Log != nil {
			c.events.Log(record)
		}
		return nil
	}
	var progress Progress
	if err := unmarshal(f, &progress); err != nil {
		return err
	}
	if c.events.Progress != nil {
		c.events.Progress(progress)
	}
	return nil
}

// fail ends the connection once, for the first reason given.
func (c *Conn) fail(reason error) {
	if !errors.Is(reason, ErrClosed) {
		if reason == io.EOF {
			reason = fmt.Errorf("%w by the worker", ErrClosed)
		} else {
			reason = fmt.Errorf("%w: %w", ErrClosed, reason)
		}
	}
	c.calls.Lock()
	if c.calls.err != nil {
		c.calls.Unlock()
		return
	}
	c.calls.err = reason
	open := c.calls.open
	c.calls.open, c.calls.abandoned = nil, nil
	c.calls.Unlock()
	_ = c.nc.Close()
	c.endSharing(nil)
	for _, call := range open {
		call.settle(Payload{}, reason)
	}
	close(c.done)
}

func (c *Conn) sendMessage(t Type, message any) error {
	body, err := msgpack.Marshal(message)
	if err != nil {
		return &ValueError{Path: t.String(), Reason: err.Error()}
	}
	return c.send(head{kind: t}, body)
}
