package ipc

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSharedFrames lets a worker that has sent two segments send anything during a call,
// including releases and references to segments. The call ends, no memory outside of a
// segment is read, and no segment stays mapped.
func FuzzSharedFrames(f *testing.F) {
	own := func(number uint32, offset, size uint64) []byte {
		d := le.AppendUint32(nil, number|ownedByWorker)
		d = le.AppendUint32(d, 0)
		return le.AppendUint64(le.AppendUint64(d, offset), size)
	}
	message := func(kind FrameType, v any) []byte {
		return encodeFrame(frame{kind: kind, Payload: Payload{Body: packed(f, v)}})
	}
	// result is a result whose value uses the buffers with these descriptors.
	result := func(table ...[]byte) []byte {
		body := []byte{0xdc, 0, byte(len(table))}
		for _, d := range table {
			size := le.Uint64(d[16:])
			inner := []byte{0x93, 0xa5, 'u', 'i', 'n', 't', '8', 0x91, 0xcd, byte(size >> 8), byte(size), 0xc0}
			body = append(append(body, 0xc7, byte(len(inner)), extTensor), inner...)
		}
		frame := headerOf(frameResult, 1, len(body), nil)
		le.PutUint32(frame[16:], uint32(len(table)))
		for _, d := range table {
			frame = append(frame, d...)
		}
		return append(frame, body...)
	}
	f.Add(result(own(1, 0, 4096)))
	f.Add(result(own(2, 4096, 0), own(1, 100, 200), own(2, 0, 1)))
	f.Add(result(own(1, 4000, 97)))
	f.Add(result(own(3, 0, 1)))
	f.Add(result(own(1, 1<<63, 1<<63)))
	f.Add(append(message(frameForget, []uint32{1 | ownedByWorker, 1 | ownedByWorker}), result(own(1, 0, 8))...))
	f.Add(append(result(own(1, 0, 8)), message(frameForget, []uint32{1 | ownedByWorker})...))
	f.Add(append(message(frameRelease, [][2]uint64{{5, 1}}), result()...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		sendShared(t, stream, Domain{})
		sendShared(t, stream, NewDomain())
	})
}

// sendShared makes a call to a worker of the domain, which sends the stream.
func sendShared(t *testing.T, stream []byte, domain Domain) {
	limits := Limits{Body: 1 << 16, Buffers: 16, BufferBytes: 1 << 20, Depth: 8}
	before := openDescriptors(t)
	host, worker := socketPair(t)
	channel, other := channelPair(t)
	for number := range uint32(2) {
		s, err := createSegment(4096, nil)
		require.NoError(t, err)
		s.id = (number + 1) | ownedByWorker
		require.NoError(t, sendSegment(other, s))
		s.destroy()
	}
	require.NoError(t, other.Close()) // so that receiving does not wait for more
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = worker.Write(encodeFrame(frame{kind: frameHello, Payload: Payload{Body: []byte("\x81\xa8protocol\x01")}}))
		_, _ = worker.Write(encodeFrame(frame{kind: frameReady, Payload: Payload{Body: []byte{0x80}}}))
		reader := newFrameReader(worker, DefaultLimits())
		_, _ = reader.next() // setup
		_, _ = reader.next() // the call
		_, _ = worker.Write(stream)
		_ = worker.(*net.UnixConn).CloseWrite()
		_, _ = io.Copy(io.Discard, worker)
		_ = worker.Close()
	}()
	setup := Setup{Limits: SetupLimits{Limits: limits}, Shared: &SetupShared{From: SharedFrom, Limit: 1 << 20, Domain: domain}}
	c, _, _, err := Start(host, channel, setup, Events{})
	require.NoError(t, err)
	p, err := c.NewCall(FrameCall, 0).Do(Args{})
	if err != nil {
		requireKnown(t, err)
	} else if _, err := p.Decode("result", limits); err == nil {
		_, err = p.View("result", limits)
		require.NoError(t, err)
	}
	for _, at := range p.locations {
		require.False(t, domain.isIsolated() && at.segment != nil, "nothing is left in memory that the worker can change")
	}
	p.Release()
	<-c.Done()
	<-gone
	require.ErrorIs(t, c.Err(), ErrClosed)
	// Arenas of other tests may have destroyed a segment in the meantime.
	awaitDescriptors(t, len(before), "no descriptor stays behind")
	require.Subset(t, before, openDescriptors(t), "no descriptor stays behind")
}
