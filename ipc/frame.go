package ipc

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Version is the version of the protocol that this package speaks.
const Version = 1

// Type says what a frame means.
type Type uint8

// The frame types. Their bodies are described in the package comment.
const (
	TypeHello Type = iota + 1
	TypeSetup
	TypeReady
	TypeCall
	TypeResult
	TypeError
	TypeCancel
	TypeLog
	TypeProgress
	TypePing
	TypePong
	TypeShutdown
)

var typeNames = [...]string{
	TypeHello: "hello", TypeSetup: "setup", TypeReady: "ready", TypeCall: "call",
	TypeResult: "result", TypeError: "error", TypeCancel: "cancel", TypeLog: "log",
	TypeProgress: "progress", TypePing: "ping", TypePong: "pong", TypeShutdown: "shutdown",
}

func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const (
	magic          = 0x47
	headerSize     = 24
	descriptorSize = 24
)

// Frame is one message as it stands on the wire.
type Frame struct {
	Type Type
	Call uint64
	Payload
}

// Payload is an encoded value: its msgpack body and the buffers that the body
// takes, in order. It is not read on its way from one node to the next.
type Payload struct {
	Body    []byte
	Buffers [][]byte
}

// appendHeader appends the fixed header and the buffer descriptors of a frame
// whose body has bodyLen bytes.
func appendHeader(dst []byte, t Type, call uint64, bodyLen int, buffers [][]byte) []byte {
	dst = append(dst, magic, Version, byte(t), 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(bodyLen))
	dst = binary.LittleEndian.AppendUint64(dst, call)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(buffers)))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	for _, b := range buffers {
		dst = binary.LittleEndian.AppendUint64(dst, 0) // segment 0: inline
		dst = binary.LittleEndian.AppendUint64(dst, 0)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(b)))
	}
	return dst
}

// checkSend refuses a frame that the other side would refuse.
func (l Limits) checkSend(what string, bodyLen int, buffers [][]byte) error {
	total := int64(0)
	for _, b := range buffers {
		total += int64(len(b))
	}
	var reason string
	switch {
	case bodyLen > l.Body:
		reason = fmt.Sprintf("it takes %d bytes, more than the limit of %d", bodyLen, l.Body)
	case len(buffers) > l.Buffers:
		reason = fmt.Sprintf("it holds %d large buffers, more than the limit of %d", len(buffers), l.Buffers)
	case total > l.BufferBytes:
		reason = fmt.Sprintf("its buffers take %d bytes, more than the limit of %d", total, l.BufferBytes)
	default:
		return nil
	}
	return &ValueError{Path: what, Reason: reason}
}

// frameReader takes frames off a stream. Small frames share one read; large
// bodies and buffers are read straight into the memory they stay in.
type frameReader struct {
	src    io.Reader
	limits Limits
	buf    []byte
	r, w   int // buf[r:w] has been read and not yet taken
}

func newFrameReader(src io.Reader, limits Limits) *frameReader {
	return &frameReader{src: src, limits: limits, buf: make([]byte, 64<<10)}
}

// ready reports whether a whole further frame, one without buffers, has been
// read ahead already.
func (fr *frameReader) ready() bool {
	h := fr.buf[fr.r:fr.w]
	return len(h) >= headerSize && binary.LittleEndian.Uint32(h[16:]) == 0 &&
		int64(len(h)) >= headerSize+int64(binary.LittleEndian.Uint32(h[4:]))
}

// peek returns the next n bytes, n at most len(buf), without taking them.
func (fr *frameReader) peek(n int) ([]byte, error) {
	for fr.w-fr.r < n {
		if fr.r == fr.w {
			fr.r, fr.w = 0, 0
		} else if len(fr.buf)-fr.r < n {
			copy(fr.buf, fr.buf[fr.r:fr.w])
			fr.r, fr.w = 0, fr.w-fr.r
		}
		m, err := fr.src.Read(fr.buf[fr.w:])
		fr.w += m
		if err != nil && fr.w-fr.r < n {
			if err == io.EOF && fr.w > fr.r {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return fr.buf[fr.r : fr.r+n], nil
}

// full fills dst, first from what has been read ahead.
func (fr *frameReader) full(dst []byte) error {
	n := copy(dst, fr.buf[fr.r:fr.w])
	fr.r += n
	if n == len(dst) {
		return nil
	}
	_, err := io.ReadFull(fr.src, dst[n:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// next reads one frame. It returns io.EOF only between frames, and a
// *ProtocolError for bytes that are no frame.
func (fr *frameReader) next() (Frame, error) {
	h, err := fr.peek(headerSize)
	if err != nil {
		return Frame{}, err
	}
	if h[0] != magic {
		return Frame{}, &ProtocolError{Reason: fmt.Sprintf("a frame begins with byte %#02x instead of %#02x", h[0], magic)}
	}
	if h[1] != Version {
		return Frame{}, &ProtocolError{Reason: fmt.Sprintf("the peer speaks version %d of the protocol, this side version %d", h[1], Version)}
	}
	f := Frame{Type: Type(h[2]), Call: binary.LittleEndian.Uint64(h[8:])}
	bodyLen := int64(binary.LittleEndian.Uint32(h[4:]))
	buffers := int64(binary.LittleEndian.Uint32(h[16:]))
	if bodyLen > int64(fr.limits.Body) {
		return Frame{}, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims a body of %d bytes, more than the limit of %d", f.Type, bodyLen, fr.limits.Body)}
	}
	if buffers > int64(fr.limits.Buffers) {
		return Frame{}, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims %d buffers, more than the limit of %d", f.Type, buffers, fr.limits.Buffers)}
	}
	fr.r += headerSize
	var sizes []uint64
	if buffers > 0 {
		if sizes, err = fr.descriptors(f.Type, int(buffers)); err != nil {
			return Frame{}, err
		}
	}
	if bodyLen > 0 {
		f.Body = make([]byte, bodyLen)
		if err := fr.full(f.Body); err != nil {
			return Frame{}, err
		}
	}
	if len(sizes) > 0 {
		f.Buffers = make([][]byte, len(sizes))
	}
	for i, size := range sizes {
		f.Buffers[i] = make([]byte, size)
		if err := fr.full(f.Buffers[i]); err != nil {
			return Frame{}, err
		}
	}
	return f, nil
}

func (fr *frameReader) descriptors(t Type, n int) ([]uint64, error) {
	table := make([]byte, n*descriptorSize)
	if err := fr.full(table); err != nil {
		return nil, err
	}
	sizes := make([]uint64, n)
	total := uint64(0)
	for i := range sizes {
		d := table[i*descriptorSize:]
		if segment := binary.LittleEndian.Uint32(d); segment != 0 {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a %s frame names the shared segment %d; this side takes inline buffers only", t, segment)}
		}
		sizes[i] = binary.LittleEndian.Uint64(d[16:])
		// The first check keeps the sum from wrapping around.
		if sizes[i] > uint64(fr.limits.BufferBytes) || total+sizes[i] > uint64(fr.limits.BufferBytes) {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims buffers of more than %d bytes in all", t, fr.limits.BufferBytes)}
		}
		total += sizes[i]
	}
	return sizes, nil
}
