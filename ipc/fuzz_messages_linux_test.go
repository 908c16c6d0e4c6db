package ipc

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// workerFrames returns the frames that a worker can send, each with a body that a real one
// would have.
func workerFrames(f *testing.F) map[FrameType][]byte {
	return map[FrameType][]byte{
		frameHello:    packed(f, Hello{Protocol: Version, Package: "0.1.0", Python: "3.11.7", Implementation: "cpython", PID: 7}),
		frameReady:    packed(f, Description{Name: "n", Params: []Parameter{{Name: "p", Default: new("1")}}, Inputs: []Parameter{{Name: "x", Required: true}}}),
		frameResult:   packed(f, map[string]any{"a": []any{1, "b", nil, 2.5}}),
		frameItem:     packed(f, []any{int64(1)}),
		frameLog:      packed(f, LogRecord{Level: "info", Logger: "l", Message: "m", Time: 1.5, Fields: map[string]any{"k": []any{1}}}),
		frameProgress: packed(f, Progress{Message: "half way", Fraction: new(0.5), Calls: []uint64{1}}),
		frameRelease:  packed(f, [][2]uint64{{1, 2}}),
		frameForget:   packed(f, []uint64{1 << 31, 5}),
		framePong:     {},
		frameError: packed(f, RemoteError{Kind: FailureExecution, Stage: StageCall, Text: "Traceback", RetryAfterSeconds: new(0.1), Fatal: true,
			ExitCode: new(3), Exception: Exception{Class: "E", Message: "m", Notes: []string{"n"}, Frames: []TracebackFrame{{File: "f", Line: 2}},
				Cause: &Exception{Class: "C", Relation: "cause"}}}),
	}
}

func packed(f *testing.F, v any) []byte {
	body, err := msgpack.Marshal(v)
	require.NoError(f, err)
	return body
}

// FuzzMessages lets a worker send valid frames with any bodies during setup and a call. Each
// body is a message or causes an error of the right kind.
func FuzzMessages(f *testing.F) {
	for kind, body := range workerFrames(f) {
		for when := range byte(3) {
			f.Add(when, byte(kind), body)
			f.Add(when, byte(kind), append(body[:len(body):len(body)], 0xc0))
			f.Add(when, byte(kind), []byte{0xc0})
		}
	}
	f.Add(byte(2), byte(frameForget), []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add(byte(2), byte(frameError), []byte("\x81\xa5cause\x81\xa5cause\x81\xa5cause\xc0"))
	limits := Limits{Body: 1 << 16, Buffers: 16, BufferBytes: 1 << 16, Depth: 8}
	f.Fuzz(func(t *testing.T, when, kind byte, body []byte) {
		frames := [][]byte{
			encodeFrame(frame{kind: frameHello, Payload: Payload{Body: []byte("\x81\xa8protocol\x01")}}),
			encodeFrame(frame{kind: frameReady, Payload: Payload{Body: []byte{0x80}}}),
			encodeFrame(frame{kind: frameResult, call: 1, Payload: Payload{Body: []byte{0xc0}}}),
		}
		call := uint64(0)
		if when %= 3; when == 2 {
			call = 1
		}
		// It replaces one of the frames, or precedes it if its type may occur there.
		said := encodeFrame(frame{kind: FrameType(kind), call: call, Payload: Payload{Body: body}})
		switch FrameType(kind) {
		case frameLog, frameProgress, frameRelease, frameForget, framePong, frameItem:
			said = append(said, frames[when]...)
		}
		frames[when] = said
		host, worker := socketPair(t)
		channel, other := channelPair(t)
		defer other.Close()
		go func() {
			for _, each := range frames {
				_, _ = worker.Write(each)
			}
			_ = worker.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, worker)
		}()
		setup := Setup{Limits: SetupLimits{Limits: limits}, Shared: &SetupShared{From: SharedFrom, Limit: 1 << 20}}
		c, _, _, err := Start(host, channel, setup, Events{
			Log:      func(r LogRecord, _ *Trace) { _, _ = msgpack.Marshal(r) },
			Progress: func(p Progress) { _, _ = msgpack.Marshal(p) },
		})
		if err != nil {
			require.Nil(t, c)
			requireKnown(t, err)
			return
		}
		_, err = c.NewCall(FrameCall, 0).Do(Args{})
		if err != nil {
			requireKnown(t, err)
		}
		<-c.Done()
		require.ErrorIs(t, c.Err(), ErrClosed)
	})
}

// requireKnown checks that an error is of one of the documented kinds and has a text.
func requireKnown(t *testing.T, err error) {
	var remote *RemoteError
	var protocol *ProtocolError
	switch {
	case errors.As(err, &remote):
		_, _ = remote.RetryAfter()
	case errors.As(err, &protocol), errors.Is(err, ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
	default:
		t.Fatalf("it ends with %T: %v", err, err)
	}
	require.NotEmpty(t, err.Error())
}
