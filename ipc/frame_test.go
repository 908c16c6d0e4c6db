package ipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// headerOf returns the header and the inline descriptors of a frame.
func headerOf(kind FrameType, call uint64, bodyLen int, buffers [][]byte) []byte {
	return appendHeader(nil, header{kind: kind, call: call}, bodyLen, Payload{Buffers: buffers})
}

func encodeFrame(f frame) []byte {
	b := headerOf(f.kind, f.call, len(f.Body), f.Buffers)
	b = append(b, f.Body...)
	for _, buffer := range f.Buffers {
		b = append(b, buffer...)
	}
	return b
}

func TestFramesRoundTrip(t *testing.T) {
	frames := []frame{
		{kind: framePing, call: 7},
		{kind: FrameCall, call: 1<<64 - 1, Payload: Payload{Body: []byte{0xc0}}},
		{kind: frameResult, call: 2, Payload: Payload{Body: bytes.Repeat([]byte{1}, 200<<10), Buffers: [][]byte{{1, 2}, {}, bytes.Repeat([]byte{9}, 100<<10)}}},
		{kind: frameLog, Payload: Payload{Body: bytes.Repeat([]byte{2}, 40<<10)}},
		{kind: frameLog, Payload: Payload{Body: bytes.Repeat([]byte{3}, 40<<10)}},
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
	good := func() []byte {
		return encodeFrame(frame{kind: frameResult, call: 1, Payload: Payload{Body: []byte{1}}})
	}
	withBuffers := func(sizes ...uint64) []byte {
		b := headerOf(frameResult, 1, 1, make([][]byte, len(sizes)))
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
			stream := slices.Concat(c.frame, make([]byte, headerSize))
			_, err := newFrameReader(bytes.NewReader(stream), limits).next()
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
