package ipc

import (
	"encoding/binary"
	"fmt"
	"io"
)

// frameReader takes frames off a stream. Small frames share one read; large
// bodies and buffers are read straight into the memory they stay in.
type frameReader struct {
	src    io.Reader
	first  io.Reader // reads src where a frame is to begin
	limits Limits
	// shared finds what a descriptor names; nil where no memory is shared.
	shared *sharing
	buf    []byte
	r, w   int  // buf[r:w] has been read and not yet taken
	fresh  bool // something has been read since somebody looked
}

func newFrameReader(src io.Reader, limits Limits) *frameReader {
	return &frameReader{src: src, first: src, limits: limits, buf: make([]byte, 64<<10)}
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
		src := fr.src
		if fr.r == fr.w {
			fr.r, fr.w = 0, 0
			src = fr.first
		} else if len(fr.buf)-fr.r < n {
			copy(fr.buf, fr.buf[fr.r:fr.w])
			fr.r, fr.w = 0, fr.w-fr.r
		}
		m, err := src.Read(fr.buf[fr.w:])
		fr.fresh = true
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
	fr.fresh = true
	_, err := io.ReadFull(fr.src, dst[n:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// believed is how much memory a claimed length gets before its bytes have come.
// It is generous, because what lies beyond it is copied as it grows.
const believed = 64 << 20

// take reads n bytes into memory of their own. Beyond what is believed, the
// memory at most doubles what has come already.
func (fr *frameReader) take(n uint64) ([]byte, error) {
	b := make([]byte, min(n, believed))
	for filled := 0; ; {
		if err := fr.full(b[filled:]); err != nil {
			return nil, err
		}
		if filled = len(b); uint64(filled) == n {
			return b, nil
		}
		larger := make([]byte, min(n, 2*uint64(filled)))
		copy(larger, b)
		b = larger
	}
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
	if h[3] != 0 {
		return Frame{}, &ProtocolError{Reason: fmt.Sprintf("a frame has the flags %#02x, of which this version knows none", h[3])}
	}
	if session := binary.LittleEndian.Uint32(h[20:]); session != 0 {
		return Frame{}, &ProtocolError{Reason: fmt.Sprintf("a %s frame names session %d; only what the supervisor sends belongs to one", Type(h[2]), session)}
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
	var room [2]descriptor // keeps the usual few off the heap
	table := room[:0]
	if buffers > 0 {
		if table, err = fr.descriptors(table, f.Type, int(buffers)); err != nil {
			return Frame{}, err
		}
	}
	if bodyLen > 0 {
		if f.Body, err = fr.take(uint64(bodyLen)); err != nil {
			return Frame{}, err
		}
	}
	if err := fr.buffers(&f.Payload, table); err != nil {
		f.Release()
		return Frame{}, err
	}
	return f, nil
}

// buffers reads the inline buffers, and finds the shared ones.
func (fr *frameReader) buffers(p *Payload, table []descriptor) (err error) {
	if len(table) > 0 {
		p.Buffers = make([][]byte, len(table))
	}
	for i, d := range table {
		if d.segment == 0 {
			p.Buffers[i], err = fr.take(d.size)
		} else {
			if p.places == nil {
				p.places = make([]place, len(table))
			}
			p.places[i], p.Buffers[i], err = fr.shared.resolve(d.segment, d.offset, d.size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// descriptor says where a buffer is: in a segment, or inline where that is 0.
type descriptor struct {
	segment      uint32
	offset, size uint64
}

// descriptors appends the descriptors that follow.
func (fr *frameReader) descriptors(table []descriptor, t Type, n int) ([]descriptor, error) {
	total := uint64(0)
	for range n {
		d, err := fr.peek(descriptorSize)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		fr.r += descriptorSize
		segment := binary.LittleEndian.Uint32(d)
		if segment != 0 && fr.shared == nil {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a %s frame names the shared segment %d; this side takes inline buffers only", t, segment)}
		}
		found := descriptor{segment, binary.LittleEndian.Uint64(d[8:]), binary.LittleEndian.Uint64(d[16:])}
		if reserved := binary.LittleEndian.Uint32(d[4:]); reserved != 0 || segment == 0 && found.offset != 0 {
			return nil, &ProtocolError{Reason: fmt.Sprintf("in a %s frame's buffer descriptor the reserved part is %d and the offset %d; both are 0 for inline bytes", t, reserved, found.offset)}
		}
		// The first check keeps the sum from wrapping around.
		size := found.size
		if size > uint64(fr.limits.BufferBytes) || total+size > uint64(fr.limits.BufferBytes) {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims buffers of more than %d bytes in all", t, fr.limits.BufferBytes)}
		}
		total += size
		table = append(table, found)
	}
	return table, nil
}
