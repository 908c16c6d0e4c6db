package ipc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallEnough keeps the fuzzers' seeds short; mutating long ones finds little.
const smallEnough = 512

func FuzzFrames(f *testing.F) {
	file := readVectors(f)
	for _, v := range file.Frames {
		if frame := octets(f, v.Frame); len(frame) <= smallEnough {
			f.Add(frame)
		}
	}
	for _, v := range file.RefusedFrames {
		f.Add(octets(f, v.Frame))
	}
	limits := Limits{Body: 1 << 16, Buffers: 16, BufferBytes: 1 << 16, Depth: 8}
	f.Fuzz(func(t *testing.T, stream []byte) {
		fr := newFrameReader(bytes.NewReader(stream), limits)
		var again []byte
		for {
			frame, err := fr.next()
			if err != nil {
				break
			}
			encoded := encodeFrame(frame)
			if stream[len(again)+3] == hasTime {
				encoded[3] = hasTime
				encoded = slices.Insert(encoded, headerSize, binary.LittleEndian.AppendUint64(nil, frame.worked)...)
			}
			again = append(again, encoded...)
			for _, message := range []any{&RemoteError{}, &LogRecord{}, &Progress{}, &Hello{}, &Description{}} {
				_ = unmarshal(frame, message)
			}
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatalf("the frames read are not what the stream holds: %x", again)
		}
	})
}

func FuzzDecode(f *testing.F) {
	file := readVectors(f)
	add := func(body any, buffers []any) {
		p := payloadOf(f, body, buffers)
		p.Buffers = append(p.Buffers, nil, nil)
		if len(p.Body) <= smallEnough && len(p.Buffers[0]) <= smallEnough {
			f.Add(p.Body, p.Buffers[0], p.Buffers[1], len(buffers))
		}
	}
	for _, v := range file.Values {
		add(v.Body, v.Buffers)
	}
	for _, v := range file.Refused {
		add(v.Body, v.Buffers)
	}
	f.Fuzz(func(t *testing.T, body, first, second []byte, buffers int) {
		p := Payload{Body: body, Buffers: [][]byte{first, second}[:min(max(buffers, 0), 2)]}
		checked := p.Check("v", DefaultLimits())
		v, err := p.Decode("v", DefaultLimits())
		if (checked == nil) != (err == nil) {
			t.Fatalf("Check says %v, Decode says %v", checked, err)
		}
		if err != nil {
			return
		}
		again, err := Encode("v", v)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if err := again.Check("v", DefaultLimits()); err != nil {
			t.Fatalf("what was encoded does not pass the check: %v", err)
		}
	})
}

// FuzzConn lets a worker say anything while a call is under way. The call must
// end, with an answer or an error, and so must the connection.
func FuzzConn(f *testing.F) {
	answer := encodeFrame(frame{kind: frameResult, call: 1, Payload: Payload{Body: []byte{0xc0}}})
	f.Add([]byte{})
	f.Add(answer)
	f.Add(append(answer, answer...))
	f.Add(encodeFrame(frame{kind: frameError, call: 1, Payload: Payload{Body: []byte("\x81\xa4kind\xa9execution")}}))
	f.Add(append(encodeFrame(frame{kind: frameLog, Payload: Payload{Body: []byte("\x81\xa7message\xa1x")}}), answer...))
	f.Add(append(encodeFrame(frame{kind: framePong, call: 1}), answer...))
	f.Add(encodeFrame(frame{kind: frameResult, call: 1, Payload: Payload{Body: []byte{0xc0}, Buffers: [][]byte{{1, 2}, {}}}}))
	for _, v := range readVectors(f).RefusedFrames {
		f.Add(octets(f, v.Frame))
	}
	hello := encodeFrame(frame{kind: frameHello, Payload: Payload{Body: []byte("\x81\xa8protocol\x01")}})
	ready := encodeFrame(frame{kind: frameReady, Payload: Payload{Body: []byte{0x80}}})
	limits := Limits{Body: 1 << 16, Buffers: 16, BufferBytes: 1 << 16, Depth: 8}
	f.Fuzz(func(t *testing.T, stream []byte) {
		host, worker := socketPair(t)
		go func() {
			_, _ = worker.Write(append(hello[:len(hello):len(hello)], ready...))
			reader := newFrameReader(worker, DefaultLimits())
			_, _ = reader.next() // setup
			_, _ = reader.next() // the call
			_, _ = worker.Write(stream)
			_ = worker.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, worker)
		}()
		c, _, _, err := Start(host, nil, Setup{Limits: SetupLimits{Limits: limits}}, Events{})
		require.NoError(t, err)
		_, err = c.NewCall(FrameCall, 0).Do(Args{})
		var remote *RemoteError
		if err != nil && !errors.As(err, &remote) && !errors.Is(err, ErrClosed) {
			t.Fatalf("the call ends with %v", err)
		}
		<-c.Done()
		require.ErrorIs(t, c.Err(), ErrClosed)
	})
}
