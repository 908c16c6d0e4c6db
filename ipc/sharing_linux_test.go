package ipc

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// sharingPeer is a peer with shared memory. It numbers its own segments, and maps those of the
// host as they arrive.
type sharingPeer struct {
	*peer
	channel *net.UnixConn
	host    map[uint32]*segment
	own     map[uint32]*segment
}

// share starts a connection to a peer that shares memory.
func share(t *testing.T) (*Conn, *sharingPeer) {
	return shareWithin(t, 1<<30, 0)
}

// shareWithin is share with a limit of the peer's segments and one of its results.
func shareWithin(t *testing.T, limit, result int64) (*Conn, *sharingPeer) {
	return shareWith(t, result, SetupShared{Limit: limit})
}

// shareWith is share with a limit of the peer's results and settings of the shared memory.
func shareWith(t *testing.T, result int64, shared SetupShared) (*Conn, *sharingPeer) {
	shared.From = SharedFrom
	host, worker := socketPair(t)
	hostChannel, file, err := NewChannel()
	require.NoError(t, err)
	channel, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() { _ = channel.Close() })
	p := &sharingPeer{
		peer:    &peer{t: t, nc: worker, frameReader: newFrameReader(worker, DefaultLimits())},
		channel: channel.(*net.UnixConn), host: map[uint32]*segment{}, own: map[uint32]*segment{},
	}
	p.shared = &sharing{} // the reader of the peer takes descriptors; take resolves them
	go func() {
		p.send(frameHello, 0, pack(t, Hello{Protocol: Version, PID: 42}))
		assert.Equal(t, frameSetup, p.peer.take().kind)
		p.send(frameReady, 0, pack(t, Description{Name: "echo"}))
	}()
	setup := Setup{Limits: SetupLimits{Limits: DefaultLimits(), Result: result}, Shared: &shared}
	c, _, _, err := Start(host, hostChannel, setup, Events{})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, p
}

// takeShared reads a frame whose buffers lie in segments of the host's, and
// returns the frame with the table of its descriptors.
func (p *sharingPeer) takeShared() (frame, []descriptor) {
	h, err := p.peek(headerSize)
	require.NoError(p.t, err)
	f := frame{kind: FrameType(h[2]), call: le.Uint64(h[8:])}
	body, n := le.Uint32(h[4:]), int(le.Uint32(h[16:]))
	p.r += headerSize
	table, err := p.descriptors(nil, f.kind, n)
	require.NoError(p.t, err)
	f.Body, err = p.frameReader.take(uint64(body))
	require.NoError(p.t, err)
	for _, d := range table {
		for d.segment != 0 && p.host[d.segment] == nil {
			number, s, err := receiveSegment(p.channel)
			require.NoError(p.t, err)
			p.host[number] = s
		}
	}
	return f, table
}

// receiveSegment receives and maps the next segment that was sent.
func receiveSegment(channel *net.UnixConn) (uint32, *segment, error) {
	t, err := receiveTransfer(channel)
	if err != nil {
		return 0, nil, err
	}
	s, err := t.open()
	return t.number, s, err
}

// segment creates a segment that the peer owns, and sends it.
func (p *sharingPeer) segment(number uint32, size int64) *segment {
	s, err := createSegment(size, nil)
	require.NoError(p.t, err)
	s.id = number | ownedByWorker
	p.own[s.id] = s
	require.NoError(p.t, sendSegment(p.channel, s))
	return s
}

// answer sends a result that is a tensor at that location.
func (p *sharingPeer) answer(call uint64, s *segment, offset, length int64) {
	tensor, err := Encode("result", &Tensor{DType: Uint8, Shape: []int{int(length)}, Data: make([]byte, max(length, SharedFrom))[:length]})
	require.NoError(p.t, err)
	payload := Payload{Buffers: [][]byte{s.view[:min(length, s.size())]}, locations: []location{{s, offset}}}
	frame := appendHeader(nil, header{kind: frameResult, call: call}, len(tensor.Body), payload)
	le.PutUint64(frame[headerSize+16:], uint64(length))
	_, err = p.nc.Write(append(frame, tensor.Body...))
	assert.NoError(p.t, err)
}

// sendMessage sends a frame that belongs to no call.
func (p *sharingPeer) sendMessage(t FrameType, message any) { p.send(t, 0, pack(p.t, message)) }

func newTensor(t *testing.T, n int) *Tensor {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7)
	}
	tensor, err := NewTensor(data, n)
	require.NoError(t, err)
	return tensor
}

func shareTensor(t *testing.T, a *Arena, n int) Payload {
	p, err := Encode("input", newTensor(t, n))
	require.NoError(t, err)
	p, err = a.Share(t.Context(), Domain{}, p)
	require.NoError(t, err)
	return p
}

func TestAnInputIsLentAndReturned(t *testing.T) {
	c, p := share(t)
	arena := NewArena(64<<20, time.Minute)
	input := shareTensor(t, arena, 1<<20)
	s := input.locations[0].segment
	for round := range int64(3) {
		go func() {
			f, table := p.takeShared()
			got := p.host[table[0].segment].view[table[0].offset:][:table[0].size]
			assert.Equal(t, input.Buffers[0], got)
			p.send(frameResult, f.call, []byte{0xc0})
		}()
		_, err := c.NewCall(FrameCall, 0).Do(OneArg(input))
		require.NoError(t, err)
		assert.Equal(t, 2+round, s.refs.Load(), "the input's own, and a loan for each mention")
	}
	input.Release()
	p.sendMessage(frameRelease, [][2]uint64{{uint64(s.id), 2}})
	p.sendMessage(frameRelease, [][2]uint64{{uint64(s.id), 1}})
	require.Eventually(t, func() bool { return s.refs.Load() == 0 }, 10*time.Second, time.Millisecond)

	again := shareTensor(t, arena, 1<<20)
	assert.Same(t, s, again.locations[0].segment, "segments are used again")
	again.Release()
	arena.Close()
}

func TestAWorkersSegmentIsForwardedAndReleased(t *testing.T) {
	producer, p := share(t)
	consumer, q := share(t)
	s := p.segment(1, 1<<20)
	copy(s.view[4096:], "hello")
	go func() { p.answer(p.peer.take().call, s, 4096, 500<<10) }()
	result, err := producer.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	assert.Equal(t, "hello", string(result.Buffers[0][:5]))

	go func() {
		f, table := q.takeShared()
		assert.Equal(t, uint64(4096), table[0].offset)
		assert.Equal(t, "hello", string(q.host[table[0].segment].view[4096:4101]), "the same memory")
		assert.Less(t, len(f.Body), 100, "none of it is in the frame")
		q.sendMessage(frameRelease, [][2]uint64{{uint64(table[0].segment), 1}})
		q.send(frameResult, f.call, []byte{0xc0})
	}()
	_, err = consumer.NewCall(FrameCall, 0).Do(OneArg(result))
	require.NoError(t, err)
	result.Release()

	f := p.peer.take() // sent without a call
	assert.Equal(t, frameRelease, f.kind)
	var pairs [][2]uint64
	require.NoError(t, msgpack.Unmarshal(f.Body, &pairs))
	assert.Equal(t, [][2]uint64{{ownedByWorker | 1, 1}}, pairs)
}

func TestAResultOutlivesItsWorker(t *testing.T) {
	before := len(openDescriptors(t))
	c, p := share(t)
	s := p.segment(1, 1<<20)
	copy(s.view, "last words")
	go func() { p.answer(p.peer.take().call, s, 0, 1<<20) }()
	result, err := c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	s.destroy()
	c.Close()
	assert.Equal(t, "last words", string(result.Buffers[0][:10]))
	v, err := result.Decode("result", DefaultLimits())
	require.NoError(t, err)
	result.Release()
	assert.Equal(t, "last words", string(v.(*Tensor).Data[:10]), "what was decoded outlives the memory")
	_ = p.channel.Close()
	_ = p.nc.Close()
	awaitDescriptors(t, before, "no descriptor stays behind")
}

func TestTheLoansOfADeadConsumerAreReturned(t *testing.T) {
	c, p := share(t)
	arena := NewArena(64<<20, time.Minute)
	input := shareTensor(t, arena, 1<<20)
	go func() {
		_, _ = p.takeShared()
		_ = p.nc.Close()
	}()
	_, err := c.NewCall(FrameCall, 0).Do(OneArg(input))
	require.ErrorIs(t, err, ErrClosed)
	assert.Equal(t, int64(1), input.locations[0].segment.refs.Load())
	input.Release()
	arena.Close()
}

func TestSharingRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		speak func(p *sharingPeer, call uint64)
		says  string
	}{
		"a segment that was not lent": {func(p *sharingPeer, id uint64) { p.answer(id, &segment{id: 77, view: make([]byte, 8)}, 0, 8) }, "segment 77, which it was not lent"},
		"a location beyond its end":   {func(p *sharingPeer, id uint64) { p.answer(id, p.segment(1, 1<<16), 1<<16-4, 8) }, "a buffer of 8 bytes at 65532"},
		"an offset that wraps":        {func(p *sharingPeer, id uint64) { p.answer(id, p.segment(1, 1<<16), -4, 8) }, "a buffer of 8 bytes at 18446744073709551612"},
		"too many releases":           {func(p *sharingPeer, _ uint64) { p.sendMessage(frameRelease, [][2]uint64{{5, 1}}) }, "releases segment 5, which it was not lent"},
		"a number of the host's": {func(p *sharingPeer, id uint64) {
			s := p.segment(1, 1<<16)
			s.id = 9
			_ = sendSegment(p.channel, s)
			p.answer(id, &segment{id: ownedByWorker | 5, view: make([]byte, 8)}, 0, 8)
		}, "a segment numbered 0x9"},
		"a segment that is not sealed against writing": {func(p *sharingPeer, id uint64) {
			f := memory(p.t, 1<<16, sizeSeals|unix.F_SEAL_SEAL)
			defer f.Close()
			_ = sendSegment(p.channel, &segment{id: ownedByWorker | 5, file: f, view: make([]byte, 1<<16)})
			p.answer(id, &segment{id: ownedByWorker | 5, view: make([]byte, 8)}, 0, 8)
		}, "not sealed against writing"},
		"a size that is not sealed": {func(p *sharingPeer, id uint64) {
			f, _ := os.CreateTemp(p.t.TempDir(), "segment")
			defer f.Close()
			_ = f.Truncate(1 << 16)
			_ = sendSegment(p.channel, &segment{id: ownedByWorker | 5, file: f, view: make([]byte, 1<<16)})
			p.answer(id, &segment{id: ownedByWorker | 5, view: make([]byte, 8)}, 0, 8)
		}, "sends no valid descriptor of it"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := share(t)
			go func() { c.speak(p, p.peer.take().call) }()
			_, err := conn.NewCall(FrameCall, 0).Do(Args{})
			var perr *ProtocolError
			require.ErrorAs(t, err, &perr)
			assert.Contains(t, perr.Reason, c.says)
		})
	}
}

func TestAFullArenaWaitsForRoom(t *testing.T) {
	arena := NewArena(4<<20, time.Hour)
	first, second := shareTensor(t, arena, 2<<20), shareTensor(t, arena, 2<<20)
	got := make(chan Payload)
	var waiting sync.WaitGroup
	waiting.Go(func() { got <- shareTensor(t, arena, 2<<20) })
	first.Release()
	third := <-got
	waiting.Wait()
	third.Release()
	second.Release()

	arena = NewArena(4<<20, time.Millisecond)
	first = shareTensor(t, arena, 3<<20)
	p, err := Encode("input", newTensor(t, 2<<20))
	require.NoError(t, err)
	_, err = arena.Share(t.Context(), Domain{}, p)
	var full *FullError
	require.ErrorAs(t, err, &full)
	assert.EqualError(t, err, "shared memory is full: 3 MiB of 4 MiB are in use, and there was no room for 2 MiB within 1ms")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = NewArena(0, 0).Share(ctx, Domain{}, p)
	require.NoError(t, err, "without an arena, nothing is shared")
	first.Release()

	p, err = Encode("input", newTensor(t, 8<<20))
	require.NoError(t, err)
	_, err = arena.Share(t.Context(), Domain{}, p)
	assert.ErrorContains(t, err, "more than the limit of 4 MiB")
	arena.Close()
}

func TestAnArenaKeepsFewFreeSegments(t *testing.T) {
	before := len(openDescriptors(t))
	arena := NewArena(64<<20, time.Minute)
	var held []Payload
	for range 16 {
		held = append(held, shareTensor(t, arena, 3<<20))
	}
	for _, p := range held {
		p.Release()
	}
	assert.LessOrEqual(t, arena.idle, int64(64<<20/maxIdleFraction))
	assert.Equal(t, arena.idle, arena.total)
	arena.Close()
	awaitDescriptors(t, before, "no descriptor stays behind")
}

func TestAnArenaDestroysSegmentsThatStayFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arena := NewArena(1<<30, time.Minute)
		defer arena.Close()
		has := func(segments int, size int64) {
			t.Helper()
			synctest.Wait()
			arena.mu.Lock()
			defer arena.mu.Unlock()
			assert.Len(t, arena.free, segments)
			assert.Equal(t, size, arena.total)
			assert.Equal(t, size, arena.idle)
		}
		for size := 1 << 20; size <= 16<<20; size <<= 1 {
			shareTensor(t, arena, size).Release()
		}
		has(5, 31<<20)
		time.Sleep(keepFree / 2)
		shareTensor(t, arena, 16<<20).Release()
		time.Sleep(keepFree/2 + time.Millisecond)
		has(1, 16<<20) // the one that was used is kept
		time.Sleep(keepFree)
		has(0, 0)
		shareTensor(t, arena, 1<<20).Release()
		time.Sleep(keepFree)
		has(0, 0)
	})
}

func TestSizeClassesWasteAQuarterAtMost(t *testing.T) {
	for size := int64(1); size < 1<<34; size += 1 + size/7 {
		class := sizeClass(size)
		assert.GreaterOrEqual(t, class, size)
		if size > 64<<10 {
			assert.LessOrEqual(t, class, size+size/4, size)
		}
		assert.Zero(t, class%4096)
	}
}

// A connection may end while its reader is about to receive a segment.
func TestAnEndedConnectionTakesNoSegment(t *testing.T) {
	c, p := share(t)
	s := p.segment(1, 1<<16)
	c.shared.mu.Lock()
	c.shared.ended, c.shared.owned = true, nil // as end begins; the channel is still open
	c.shared.mu.Unlock()
	_, _, err := c.shared.resolve(descriptor{segment: s.id, size: 8})
	assert.ErrorIs(t, err, ErrClosed)
}

// A worker can write to its memory after a text in it was checked.
func TestATextInSharedMemoryIsCheckedWhereItCannotChange(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	for _, v := range []any{strings.Repeat("a", LargeFrom), JSON(`"` + strings.Repeat("a", LargeFrom) + `"`)} {
		encoded, err := Encode("v", v)
		require.NoError(t, err)
		p, err := arena.Share(t.Context(), Domain{}, encoded)
		require.NoError(t, err)
		require.NotNil(t, p.locations)
		require.NoError(t, p.Check("v", DefaultLimits()))
		p = p.Checked()
		for _, decode := range []func(string, Limits) (any, error){p.Decode, p.View} {
			p.Buffers[0][5] = 'a'
			got, err := decode("v", DefaultLimits())
			require.NoError(t, err)
			p.Buffers[0][5] = 0xff
			assert.Equal(t, v, got, "it is a copy")
			_, err = decode("v", DefaultLimits())
			assert.ErrorContains(t, err, "UTF-8")
		}
		p.Release()
	}
}

func TestBytesAreViewsOfSharedMemoryInAViewAlone(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	encoded, err := Encode("v", make([]byte, LargeFrom))
	require.NoError(t, err)
	inline, err := encoded.Decode("v", DefaultLimits())
	require.NoError(t, err)
	p, err := arena.Share(t.Context(), Domain{}, encoded)
	require.NoError(t, err)
	decoded, err := p.Decode("v", DefaultLimits())
	require.NoError(t, err)
	view, err := p.View("v", DefaultLimits())
	require.NoError(t, err)
	p.Buffers[0][5], encoded.Buffers[0][5] = 7, 8
	assert.Equal(t, byte(7), view.([]byte)[5])
	assert.Zero(t, decoded.([]byte)[5])
	assert.Zero(t, inline.([]byte)[5], "others may be sent the same payload")
	p.Release()
}
