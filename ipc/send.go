package ipc

import (
	"math"
	"net"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// coalesce is the size up to which a frame waits in the queue for a shared
// write; larger bodies are written from where they lie.
const coalesce = 64 << 10

// sendCall writes a call frame, laying the encoded arguments side by side.
func (c *Conn) sendCall(id uint64, args Args) error {
	var head [2]byte // array of 2, array of 0 or 1
	head[0] = msgpcode.FixedArrayLow | 2
	head[1] = msgpcode.FixedArrayLow
	size := len(head)
	var buffers [][]byte
	var parts [][]byte
	if args.Value != nil {
		head[1] |= 1
		parts = append(parts, head[:], args.Value.Body)
		size += len(args.Value.Body)
		buffers = args.Value.Buffers
	} else {
		parts = append(parts, head[:])
	}
	ports := appendMapLen(nil, len(args.Ports))
	parts = append(parts, ports)
	size += len(ports)
	for _, port := range args.Ports {
		name := appendStr(nil, port.Name)
		parts = append(parts, name, port.Value.Body)
		size += len(name) + len(port.Value.Body)
		buffers = append(buffers[:len(buffers):len(buffers)], port.Value.Buffers...)
	}
	if err := c.limits.checkSend("input", size, buffers); err != nil {
		return err
	}
	return c.sendParts(TypeCall, id, size, parts, buffers)
}

// send writes one frame.
func (c *Conn) send(t Type, id uint64, body []byte, buffers [][]byte) error {
	if err := c.limits.checkSend(t.String(), len(body), buffers); err != nil {
		return err
	}
	return c.sendParts(t, id, len(body), [][]byte{body}, buffers)
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
		c.fail(err)
		return c.Err()
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
	if len(frames) == 0 {
		return nil // another caller wrote ours along with its own
	}
	if _, err := c.nc.Write(frames); err != nil {
		c.fail(err)
		return c.Err()
	}
	return nil
}

func appendMapLen(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, msgpcode.FixedMapLow|byte(n))
	default:
		return append(dst, msgpcode.Map16, byte(n>>8), byte(n))
	}
}

func appendStr(dst []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		dst = append(dst, msgpcode.FixedStrLow|byte(n))
	case n <= math.MaxUint8:
		dst = append(dst, msgpcode.Str8, byte(n))
	default:
		dst = append(dst, msgpcode.Str16, byte(n>>8), byte(n))
	}
	return append(dst, s...)
}
