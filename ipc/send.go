package ipc

import (
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sendQueue holds the small frames that wait for the next write. A caller that finds the
// connection being written to leaves its frame to the goroutine that writes.
type sendQueue struct {
	waiting atomic.Bool // frames is not empty; set with mu held

	mu     sync.Mutex
	frames []byte
	count  int    // how many small frames have been queued since the last write
	order  uint64 // Call.Order of the last call that took its place on the wire
}

const (
	// maxQueued is the size up to which a body is copied into the queue. Larger ones are
	// written without a copy.
	maxQueued = 64 << 10
	// busyCalls is how many unanswered calls make a worker busy: more calls can wait a
	// moment without leaving it idle.
	busyCalls = 16
)

// send sends a frame without buffers, with one body.
func (c *Conn) send(h header, body []byte) error {
	room := [1][]byte{body}
	return c.sendFrame(h.kind.String(), h, nil, room[:], Payload{})
}

// sendFrame sends a frame whose body is the concatenation of parts and whose buffers are
// those of p. If the frame belongs to a call that is to be counted, call is the call, and
// otherwise nil.
//
// If the frame exceeds the limits, nothing is sent and the error is a *[ValueError] with the
// given path. Any other error also ends the connection, at once or after a moment in which
// the worker's last frames are read.
//
// Small frames of several callers share a write: while the worker is busy, the first caller
// in the queue yields so that others can join, and the second one writes for both. Large
// frames are written without a copy.
func (c *Conn) sendFrame(path string, h header, call *Call, parts [][]byte, p Payload) error {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if err := c.limits.checkSend(path, size, p.Buffers); err != nil {
		return err
	}
	inline := p.Buffers
	if p.locations != nil {
		copies, err := c.lend(&p)
		if err != nil {
			return err
		}
		switch {
		case copies != nil && call != nil:
			call.copies = copies // until the end of the call, so that the worker does not keep them before
		case copies != nil:
			defer copies.drop(1)
		}
		inline = p.inline()
	}
	if size > maxQueued || len(inline) > 0 {
		return c.writeThrough(h, call, size, parts, inline, p)
	}
	place, unanswered := c.enqueue(h, call, size, parts, p)
	if place > 2 {
		return nil // another caller writes, and continues with what is queued
	}
	if place == 1 && unanswered > busyCalls {
		runtime.Gosched()
	}
	return c.writeQueue()
}

// checkSend refuses a frame that the peer would refuse. Its error is a *[ValueError]
// with the given path.
func (l Limits) checkSend(path string, bodyLen int, buffers [][]byte) error {
	total := int64(0)
	for _, b := range buffers {
		total += int64(len(b))
	}
	var reason string
	switch {
	case int64(bodyLen) > min(int64(l.Body), math.MaxUint32):
		reason = fmt.Sprintf("it takes %d bytes, more than the limit of %d", bodyLen, min(int64(l.Body), math.MaxUint32))
	case len(buffers) > l.Buffers:
		reason = fmt.Sprintf("it holds %d large buffers, more than the limit of %d", len(buffers), l.Buffers)
	case total > l.BufferBytes:
		reason = fmt.Sprintf("its buffers take %d bytes, more than the limit of %d", total, l.BufferBytes)
	default:
		return nil
	}
	return &ValueError{Path: path, Reason: reason}
}

// lend gives the worker access to the segments of a payload that is about to be sent. If some
// are of another domain, it returns a segment with copies, whose reference the caller drops
// once the frame has been sent, or its call has ended. If too many descriptors are in
// transit, the worker keeps too much, or there is no room for a copy, it makes the buffer an
// inline one.
func (c *Conn) lend(p *Payload) (copies *segment, err error) {
	if c.shared == nil {
		p.locations = nil
		return nil, nil
	}
	copies = c.shared.adopt(p)
	original := p.locations
	for i, at := range original {
		if at.segment == nil {
			continue
		}
		switch err := c.shared.lend(at.segment); {
		case errors.Is(err, errChannelFull), errors.Is(err, errKeepsTooMuch):
			if &p.locations[0] == &original[0] {
				p.locations = slices.Clone(original) // others may send the same payload
			}
			p.locations[i] = location{}
		case err != nil:
			err = fmt.Errorf("send a segment: %w", err)
			c.fail(err)
			if copies != nil {
				copies.drop(1)
			}
			return nil, err
		}
	}
	return copies, nil
}

// enqueue adds a small frame to the queue. It returns the frame's place there, from 1, and
// how many calls have not been answered.
func (c *Conn) enqueue(h header, call *Call, size int, parts [][]byte, p Payload) (place int, unanswered uint64) {
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if call != nil {
		q.order++
		call.order.Store(q.order)
	}
	if c.shared != nil && c.shared.due.Load() {
		q.frames = c.shared.appendDue(q.frames)
	}
	q.frames = appendHeader(q.frames, h, size, p)
	for _, part := range parts {
		q.frames = append(q.frames, part...)
	}
	q.waiting.Store(true)
	q.count++
	return q.count, q.order - c.answers.Load()
}

// sendQueued sends whole frames, together with the queued ones.
func (c *Conn) sendQueued(frames []byte) {
	c.queue.mu.Lock()
	c.queue.frames = append(c.queue.frames, frames...)
	c.queue.waiting.Store(true)
	c.queue.mu.Unlock()
	_ = c.writeQueue() // a failure ends the connection, which its calls report
}

// writeQueue writes the queued frames. If another goroutine is writing, it leaves them to
// that goroutine.
func (c *Conn) writeQueue() error {
	for c.queue.waiting.Load() && c.writing.TryLock() {
		err := c.flushLocked(nil)
		c.writing.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// writeThrough writes a frame after the queued ones, without copying its parts. When it
// returns, the frame has been written.
func (c *Conn) writeThrough(h header, call *Call, size int, parts, inline [][]byte, p Payload) error {
	c.writing.Lock()
	err := c.flushLocked(call)
	if err == nil {
		pieces := make(net.Buffers, 0, 1+len(parts)+len(inline))
		pieces = append(pieces, appendHeader(nil, h, size, p))
		pieces = append(pieces, parts...)
		pieces = append(pieces, inline...)
		last := c.written
		if call != nil {
			last = call.order.Load()
		}
		if n, failed := pieces.WriteTo(c.conn); failed != nil {
			err = c.writeFailedLocked(failed, n, last)
		} else {
			c.written = last
		}
	}
	c.writing.Unlock()
	if err != nil {
		return err
	}
	return c.writeQueue() // callers that found the connection locked have left their frames
}

// flushLocked writes the queued frames. If a call is given, its frame is about to be written
// next, and flushLocked counts it. c.writing is held.
func (c *Conn) flushLocked(next *Call) error {
	q := &c.queue
	q.mu.Lock()
	frames := q.frames
	q.frames = c.spare[:0]
	q.count = 0
	q.waiting.Store(false)
	last := q.order
	if next != nil {
		q.order++
		next.order.Store(q.order)
	}
	q.mu.Unlock()
	c.spare = frames
	if cap(frames) > 1<<20 {
		c.spare = nil // do not keep the memory of a burst forever
	}
	if c.role.writeErr != nil {
		return c.role.writeErr // a frame may have been cut off, and the next one would be read as its rest
	}
	if len(frames) == 0 {
		return nil
	}
	if n, err := c.conn.Write(frames); err != nil {
		return c.writeFailedLocked(err, int64(n), last)
	}
	c.written = last
	return nil
}

// exitReportTime is how long reading continues after writing has failed.
const exitReportTime = time.Second

// writeFailedLocked records that the connection cannot be written to any more, and from which
// call on none was written: n bytes of the frames up to the call with the order last were.
// Reading continues for a moment, because a worker that has exited may have reported why.
// c.writing is held.
func (c *Conn) writeFailedLocked(err error, n int64, last uint64) error {
	if n == 0 {
		last = c.written
	}
	c.unwritten.CompareAndSwap(0, last+1)
	err = fmt.Errorf("%w: %w", ErrClosed, err)
	c.role.endAfter(exitReportTime, err)
	return err
}
