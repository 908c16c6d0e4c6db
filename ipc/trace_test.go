package ipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// timed returns an answer that says how long its call took.
func timed(f frame) []byte {
	b := encodeFrame(f)
	b[3] = hasTime
	head := binary.LittleEndian.AppendUint64(b[:headerSize:headerSize], f.worked)
	return append(head, b[headerSize:]...)
}

func TestACallSendsItsTraceAndLearnsItsTime(t *testing.T) {
	var logged []*Trace
	c, p := connect(t, Events{Log: func(_ LogRecord, trace *Trace) { logged = append(logged, trace) }})
	trace := &Trace{TraceID: [16]byte{1, 2}, SpanID: [8]byte{3}, Flags: 1, State: "a=b", Run: "r1"}
	go func() {
		got := make([]byte, headerSize+16+25+len(trace.State))
		_, err := io.ReadFull(p.nc, got)
		assert.NoError(t, err)
		assert.Equal(t, byte(hasContext), got[3])
		assert.Equal(t, uint32(25+3), binary.LittleEndian.Uint32(got[headerSize+12:]))
		assert.Equal(t, append(append(append(trace.TraceID[:0:0], trace.TraceID[:]...), trace.SpanID[:]...), "\x01a=b"...), got[headerSize+16:])
		_, err = io.CopyN(io.Discard, p.nc, int64(binary.LittleEndian.Uint32(got[4:])))
		assert.NoError(t, err)
		call := binary.LittleEndian.Uint64(got[8:])
		p.send(frameLog, 0, pack(t, LogRecord{Call: call}))
		p.send(frameLog, 0, pack(t, LogRecord{Call: call + 1}))
		_, err = p.nc.Write(timed(frame{kind: frameResult, call: call, worked: 7000, Payload: Payload{Body: []byte{0xc3}}}))
		assert.NoError(t, err)
	}()
	answer, err := c.NewCall(FrameCall, 0).Do(OneArg(Payload{Body: []byte{1}}).WithTrace(trace))
	require.NoError(t, err)
	assert.Equal(t, []byte{0xc3}, answer.Body)
	assert.Equal(t, 7*time.Microsecond, trace.Worked)
	assert.Equal(t, []*Trace{trace, nil}, logged, "a record of another call has no trace")
}

func TestALongTracestateIsNotSent(t *testing.T) {
	trace := &Trace{State: strings.Repeat("x", MaxTraceState+1)}
	assert.Len(t, trace.append(nil), 25)
	assert.Equal(t, 25, trace.size())
}

func TestACallWithoutATraceHasNoContext(t *testing.T) {
	assert.Len(t, appendHeader(nil, header{kind: FrameCall, call: 1}, 0, Payload{}), headerSize)
}

func TestAnswersMayHaveTheTimeOfTheCall(t *testing.T) {
	frames := []frame{
		{kind: frameResult, call: 1, worked: 1<<64 - 1, Payload: Payload{Body: []byte{0xc0}}},
		{kind: frameError, call: 2, worked: 5, Payload: Payload{Body: []byte{0x80}}},
		{kind: frameResult, call: 3, worked: 9, Payload: Payload{Body: []byte{1}, Buffers: [][]byte{{1, 2}}}},
	}
	var stream []byte
	for _, f := range frames {
		stream = append(stream, timed(f)...)
	}
	fr := newFrameReader(iotest.OneByteReader(bytes.NewReader(stream)), DefaultLimits())
	for _, want := range frames {
		got, err := fr.next()
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	one := timed(frames[0])
	for cut := 1; cut < len(one); cut++ {
		_, err := newFrameReader(bytes.NewReader(one[:cut]), DefaultLimits()).next()
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut after %d bytes", cut)
		fr := newFrameReader(nil, DefaultLimits())
		fr.w = copy(fr.buf, one[:cut])
		assert.False(t, fr.ready(), "a frame is not ready after %d of its bytes", cut)
	}
	for _, kind := range []FrameType{frameLog, frameItem, frameHello} {
		_, err := newFrameReader(bytes.NewReader(timed(frame{kind: kind})), DefaultLimits()).next()
		assert.ErrorContains(t, err, "has the flags 0x01, which it cannot have")
	}
}
