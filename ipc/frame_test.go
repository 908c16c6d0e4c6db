package ipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func encodeFrame(f Frame) []byte {
	b := appendHeader(nil, f.Type, f.Call, len(f.Body), f.Buffers)
	b = append(b, f.Body...)
	for _, buffer := range f.Buffers {
		b = append(b, buffer...)
	}
	return b
}

func TestFramesRoundTrip(t *testing.T) {
	frames := []Frame{
		{Type: TypePing, Call: 7},
		{Type: TypeCall, Call: 1<<64 - 1, Payload: Payload{Body: []byte{0xc0}}},
		{Type: TypeResult, Call: 2, Payload: Payload{Body: bytes.Repeat([]byte{1}, 200<<10), Buffers: [][]byte{{1, 2}, {}, bytes.Repeat([]byte{9}, 100<<10)}}},
		{Type: TypeLog, Payload: Payload{Body: bytes.Repeat([]byte{2}, 40<<10)}},
		{Type: TypeLog, Payload: Payload{Body: bytes.Repeat([]byte{3}, 40<<10)}},
	}
	var stream []byte
	for _, f := range frames {
		stream = append(stream, encodeFrame(f)...)
	}
	for name, src := range map[string]io.Reader{
		"at once":      bytes.NewReader(stream),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
		"data and EOF": iotest.DataErrReader(bytes.NewReader(stream)),
		"by halves":    iotest.HalfReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			fr := newFrameReader(src, DefaultLimits())
			for _, want := range frames {
				got, err := fr.next()
				require.NoError(t, err)
				assert.Equal(t, want, got)
			}
			_, err := fr.next()
			assert.Equal(t, io.EOF, err)
		})
	}
}

func TestFrameReaderRefuses(t *testing.T) {
	limits := Limits{Body: 100, Buffers: 2, BufferBytes: 1000, Depth: 4}
	good := func() []byte { return encodeFrame(Frame{Type: TypeResult, Call: 1, Payload: Payload{Body: []byte{1}}}) }
	withBuffers := func(sizes ...uint64) []byte {
		b := appendHeader(nil, TypeResult, 1, 1, make([][]byte, len(sizes)))
		for i, size := range sizes {
			binary.LittleEndian.PutUint64(b[headerSize+i*descriptorSize+16:], size)
		}
		return append(b, 1)
	}
	for name, c := range map[string]struct {
		frame []byte
		says  string
	}{
		"bad magic":         {append([]byte{'X'}, good()[1:]...), "begins with byte 0x58"},
		"other version":     {append([]byte{magic, 2}, good()[2:]...), "the peer speaks version 2"},
		"body of 4 GiB":     {binary.LittleEndian.AppendUint32(good()[:4:4], 1<<32-1), "claims a body of 4294967295 bytes"},
		"too many buffers":  {withBuffers(1, 1, 1), "claims 3 buffers"},
		"too large buffers": {withBuffers(600, 600), "more than 1000 bytes"},
		"wrapping sum":      {withBuffers(1, 1<<64-1), "more than 1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			frame := append(c.frame, make([]byte, headerSize)...)
			_, err := newFrameReader(bytes.NewReader(frame), limits).next()
			var perr *ProtocolError
			require.ErrorAs(t, err, &perr)
			assert.Contains(t, perr.Reason, c.says)
		})
	}
	shared := withBuffers(1)
	binary.LittleEndian.PutUint32(shared[headerSize:], 3)
	_, err := newFrameReader(bytes.NewReader(shared), limits).next()
	assert.ErrorContains(t, err, "names the shared segment 3")
	for cut := 1; cut < len(withBuffers(5)); cut++ {
		_, err := newFrameReader(bytes.NewReader(withBuffers(5)[:cut]), limits).next()
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut after %d bytes", cut)
	}
}
