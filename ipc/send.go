package ipc

import (
	"fmt"
	"math"
	"net"
	"time"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// coalesce is the size up to which a frame waits in the queue for a shared
// write; larger bodies are written from where they lie.
const coalesce = 64 << 10

// The beginnings of a call's body, an array of positional and named values.
var (
	noValue  = []byte{msgpcode.FixedArrayLow | 2, msgpcode.FixedArrayLow}
	oneValue = []byte{msgpcode.FixedArrayLow | 2, msgpcode.FixedArrayLow | 1}
	noPorts  = []byte{msgpcode.FixedMapLow}
)

// sendCall writes a call frame, laying the encoded arguments side by side. Its
// error is a *[ValueError], and nothing has been sent. A failure to write is
// not returned: it ends the connection, which settles the call.
func (c *Conn) sendCall(id uint64, args Args) error {
	var room [3][]byte // keeps the common call, of one value, off the heap
	parts := append(room[:0], noValue)
	var buffers [][]byte
	if args.Value != nil {
		parts[0] = oneValue
		parts = append(parts, args.Value.Body)
		buffers = args.Value.Buffers
	}
	if len(args.Ports) == 0 {
		parts = append(parts, noPorts)
	} else {
		parts = append(parts, appendMapLen(nil, len(args.Ports)))
	}
	for _, port := range args.Ports {
		parts = append(parts, appendStr(nil, port.Name), port.Value.Body)
		buffers = append(buffers[:len(buffers):len(buffers)], port.Value.Buffers...)
	}
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if err := c.limits.checkSend("input", size, buffers); err != nil {
		return err
	}
	_ = c.sendParts(TypeCall, id, size, parts, buffers)
	return nil
}

// send writes one frame without buffers.
func (c *Conn) send(t Type, id uint64, body []byte) error {
	if err := c.limits.checkSend(t.String(), len(body), nil); err != nil {
		return err
	}
	room := [1][]byte{body}
	return c.sendParts(t, id, len(body), room[:], nil)
}

// sendParts writes a frame whose body is in parts. Small frames of many callers
// share a write: each is queued, and whoever gets to write next writes all that
// is queued. Large frames are gathered from where they lie, without a copy.
func (c *Conn) sendParts(t Type, id uint64, size int, parts, buffers [][]byte) error {
	small := size <= coalesce && len(buffers) == 0
	if small {
		c.queue.Lock()
		c.queue.frames = appendHeader(c.queue.frames, t, id, size, nil)
		for _, part := range parts {
			c.queue.frames = append(c.queue.frames, part...)
		}
		c.queue.Unlock()
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.flush(); err != nil || small {
		return err
	}
	gather := make(net.Buffers, 0, 1+len(parts)+len(buffers))
	gather = append(gather, appendHeader(nil, t, id, size, buffers))
	gather = append(gather, parts...)
	gather = append(gather, buffers...)
	if _, err := gather.WriteTo(c.nc); err != nil {
		return c.cannotWrite(err)
	}
	return nil
}

// flush writes what is queued, the caller holding c.writing.
func (c *Conn) flush() error {
	c.queue.Lock()
	frames := c.queue.frames
	c.queue.frames = c.spare[:0]
	c.queue.Unlock()
	c.spare = frames
	if cap(frames) > 1<<20 {
		c.spare = nil // do not keep a burst's memory for ever
	}
	if err := c.writeErr(); err != nil {
		return err // what follows half a frame would be read as its rest
	}
	if len(frames) == 0 {
		return nil // another caller wrote ours along with its own
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
	c.calls.Unlock()
	_ = c.nc.SetReadDeadline(time.Now().Add(lastWords)) // fails when it is closed already
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
