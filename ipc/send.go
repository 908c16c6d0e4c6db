package ipc

import (
	"fmt"
	"math"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// coalesce is the size up to which a frame waits in the queue for a shared
// write; larger bodies are written from where they lie.
const coalesce = 64 << 10

// The beginnings of the bodies of calls: an array of positional and named values,
// and of what opens a session: an array of the state to restore, if any.
var (
	noValue  = []byte{msgpcode.FixedArrayLow | 2, msgpcode.FixedArrayLow}
	oneValue = []byte{msgpcode.FixedArrayLow | 2, msgpcode.FixedArrayLow | 1}
	noPorts  = []byte{msgpcode.FixedMapLow}
	noState  = []byte{msgpcode.FixedArrayLow}
	aState   = []byte{msgpcode.FixedArrayLow | 1}
)

// sendCall writes the frame of a call, laying the encoded arguments side by side.
// Its error is a *[ValueError], and nothing has been sent. A failure to write is
// not returned: it ends the connection, which settles the call.
func (c *Conn) sendCall(call *Call, args Args) error {
	var room [3][]byte // keeps the common call, of one value, off the heap
	parts := room[:0]
	var input Payload // the buffers of all inputs
	switch call.head.kind {
	case TypeCall:
		parts, input = args.parts(parts)
	case TypeOpen:
		if args.given {
			parts, input = append(parts, aState, args.value.Body), args.value
		} else {
			parts = append(parts, noState)
		}
	}
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if err := c.limits.checkSend("input", size, input.Buffers); err != nil {
		return err
	}
	if c.shared != nil && input.places != nil {
		var err error
		if input, err = c.lend(input); err != nil {
			return nil // the connection has ended, and settles the call
		}
	}
	_ = c.sendParts(call.head, &call.order, size, parts, input)
	return nil
}

// parts returns the body of a call, in parts, and the buffers of all its inputs.
func (args Args) parts(parts [][]byte) ([][]byte, Payload) {
	var input Payload
	if args.given {
		parts = append(parts, oneValue, args.value.Body)
		input = args.value
	} else {
		parts = append(parts, noValue)
	}
	if len(args.Ports) == 0 {
		return append(parts, noPorts), input
	}
	parts = append(parts, appendMapLen(nil, len(args.Ports)))
	for _, port := range args.Ports {
		parts = append(parts, appendStr(nil, port.Name), port.Value.Body)
		input = input.beside(port.Value)
	}
	return parts, input
}

// lend hands the worker the segments of a payload that is about to be sent. Where
// too many are on their way already, the buffer goes through the socket.
func (c *Conn) lend(p Payload) (Payload, error) {
	places := p.places
	for i, at := range places {
		if at.segment == nil {
			continue
		}
		switch err := c.shared.lend(at.segment); {
		case err == errChannelFull:
			if &places[0] == &p.places[0] {
				p.places = slices.Clone(places) // others send the same payload
			}
			p.places[i] = place{}
		case err != nil:
			err = fmt.Errorf("hand over a segment: %w", err)
			c.fail(err)
			return p, err
		}
	}
	return p, nil
}

// beside returns the buffers of two payloads, one after the other.
func (p Payload) beside(other Payload) Payload {
	both := Payload{Buffers: append(p.Buffers[:len(p.Buffers):len(p.Buffers)], other.Buffers...)}
	if p.places != nil || other.places != nil {
		both.places = make([]place, len(both.Buffers))
		copy(both.places, p.places)
		copy(both.places[len(p.Buffers):], other.places)
	}
	return both
}

// send writes one frame without buffers.
func (c *Conn) send(h head, body []byte) error {
	if err := c.limits.checkSend(h.kind.String(), len(body), nil); err != nil {
		return err
	}
	room := [1][]byte{body}
	return c.sendParts(h, nil, len(body), room[:], Payload{})
}

// sendAtOnce writes an empty frame, and does not return before it has: it does not
// leave it to somebody who is writing already.
func (c *Conn) sendAtOnce(h head) error {
	return c.gather(h, nil, 0, nil, nil, Payload{})
}

// sendQueued writes whole frames, with what is queued.
func (c *Conn) sendQueued(frames []byte) {
	c.queue.Lock()
	c.queue.frames = append(c.queue.frames, frames...)
	c.queue.waiting.Store(true)
	c.queue.Unlock()
	_ = c.writeQueue() // a failure ends the connection, which is told elsewhere
}

// plenty is how many calls a worker has before it that is in no hurry for more.
const plenty = 16

// sendParts writes a frame whose body is in parts. Small frames of many callers
// share a write: while the worker has plenty to do, the first one in the queue gives the
// others a moment to join him, and leaves it to the second to write for both. Large
// frames are gathered from where they lie, without a copy. The order of a call, nil for
// other frames, is set as it takes its place on the wire.
func (c *Conn) sendParts(h head, order *atomic.Uint64, size int, parts [][]byte, p Payload) error {
	inline := p.inline()
	if size > coalesce || len(inline) > 0 {
		return c.gather(h, order, size, parts, inline, p)
	}
	place, unanswered := c.enqueue(h, order, size, parts, p)
	if place > 2 {
		return nil // somebody is writing, and goes on with what is queued
	}
	if place == 1 && unanswered > plenty {
		runtime.Gosched()
	}
	return c.writeQueue()
}

// enqueue puts a small frame into the queue, and returns its place there, from 1, and
// how many calls have not been answered.
func (c *Conn) enqueue(h head, order *atomic.Uint64, size int, parts [][]byte, p Payload) (place int, unanswered uint64) {
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	c.nextInLine(order)
	if c.shared != nil && c.shared.due.Load() {
		q.frames = c.shared.news(q.frames)
	}
	q.frames = appendSharedHeader(q.frames, h, size, p)
	for _, part := range parts {
		q.frames = append(q.frames, part...)
	}
	q.waiting.Store(true)
	q.small++
	return q.small, q.order - c.answers.Load()
}

// writeQueue writes what is queued. Where somebody else is writing already, he does
// it when he is done.
func (c *Conn) writeQueue() error {
	for c.queue.waiting.Load() && c.writing.TryLock() {
		err := c.flush(nil)
		c.writing.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// gather writes a frame from where its parts lie, behind what is queued.
func (c *Conn) gather(h head, order *atomic.Uint64, size int, parts, inline [][]byte, p Payload) error {
	c.writing.Lock()
	err := c.writeGathered(h, order, size, parts, inline, p)
	c.writing.Unlock()
	if err == nil {
		err = c.writeQueue() // who found somebody writing has left the rest to him
	}
	return err
}

// writeGathered is gather for a caller who holds c.writing.
func (c *Conn) writeGathered(h head, order *atomic.Uint64, size int, parts, inline [][]byte, p Payload) error {
	if err := c.flush(order); err != nil {
		return err
	}
	gather := make(net.Buffers, 0, 1+len(parts)+len(inline))
	gather = append(gather, appendSharedHeader(nil, h, size, p))
	gather = append(gather, parts...)
	gather = append(gather, inline...)
	if _, err := gather.WriteTo(c.nc); err != nil {
		return c.cannotWrite(err)
	}
	return nil
}

// nextInLine gives a call its place; the queue's lock is held.
func (c *Conn) nextInLine(order *atomic.Uint64) {
	if order != nil {
		c.queue.order++
		order.Store(c.queue.order)
	}
}

// inline returns the buffers that do not lie in shared memory.
func (p Payload) inline() [][]byte {
	if p.places == nil {
		return p.Buffers
	}
	var inline [][]byte
	for i, buffer := range p.Buffers {
		if p.places[i].segment == nil {
			inline = append(inline, buffer)
		}
	}
	return inline
}

// flush writes what is queued, the caller holding c.writing, who may give the order
// of a call that is to follow.
func (c *Conn) flush(follows *atomic.Uint64) error {
	c.queue.Lock()
	frames := c.queue.frames
	c.queue.frames = c.spare[:0]
	c.queue.small = 0
	c.queue.waiting.Store(false)
	c.nextInLine(follows)
	c.queue.Unlock()
	c.spare = frames
	if cap(frames) > 1<<20 {
		c.spare = nil // do not keep a burst's memory for ever
	}
	if err := c.writeErr(); err != nil {
		return err // what follows half a frame would be read as its rest
	}
	if len(frames) == 0 {
		return nil
	}
	if _, err := c.nc.Write(frames); err != nil {
		return c.cannotWrite(err)
	}
	return nil
}

// lastWords is how long reading goes on once writing has failed.
const lastWords = time.Second

// cannotWrite takes down that the connection cannot be written to any more, the
// caller holding c.writing. Reading goes on to its end, for a moment at most: a
// worker that is gone may have said why before it went.
func (c *Conn) cannotWrite(err error) error {
	err = fmt.Errorf("%w: %w", ErrClosed, err)
	c.calls.Lock()
	c.calls.writeErr = err
	_ = c.nc.SetReadDeadline(time.Now().Add(lastWords)) // fails when it is closed already
	c.calls.Unlock()
	return err
}

func (c *Conn) writeErr() error {
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.calls.writeErr
}

func appendMapLen(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, msgpcode.FixedMapLow|byte(n))
	case n <= math.MaxUint16:
		return append(dst, msgpcode.Map16, byte(n>>8), byte(n))
	default:
		return append(dst, msgpcode.Map32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

func appendStr(dst []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		dst = append(dst, msgpcode.FixedStrLow|byte(n))
	case n <= math.MaxUint8:
		dst = append(dst, msgpcode.Str8, byte(n))
	case n <= math.MaxUint16:
		dst = append(dst, msgpcode.Str16, byte(n>>8), byte(n))
	default:
		dst = append(dst, msgpcode.Str32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, s...)
}
