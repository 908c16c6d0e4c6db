package ipc

import (
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// These tests attack the supervisor as a hostile worker would. The package comment has the
// rule that they check.

// endsOutOfProtocol checks that a connection ends with a *ProtocolError that contains text.
func endsOutOfProtocol(t *testing.T, c *Conn, text string) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection does not end")
	}
	var violation *ProtocolError
	require.ErrorAs(t, c.Err(), &violation)
	assert.Contains(t, violation.Reason, text)
}

// lent makes a call with a shared input, and returns the segment once the peer holds one
// reference to it.
func lent(t *testing.T, c *Conn, p *sharingPeer, arena *Arena) *segment {
	input := shareTensor(t, arena, 1<<20)
	defer input.Release()
	go func() {
		f, _ := p.takeShared()
		p.send(frameResult, f.call, []byte{0xc0})
	}()
	_, err := c.NewCall(FrameCall, 0).Do(OneArg(input))
	require.NoError(t, err)
	return input.locations[0].segment
}

func TestEveryReleaseIsCheckedAgainstTheLoans(t *testing.T) {
	for name, c := range map[string]struct {
		release func(number uint64) [][2]uint64
		says    string
	}{
		"none of one that is lent":      {func(n uint64) [][2]uint64 { return [][2]uint64{{n, 0}} }, "releases no reference"},
		"none of one that was returned": {func(n uint64) [][2]uint64 { return [][2]uint64{{n, 1}, {n, 0}} }, "releases no reference"},
		"one more than it holds":        {func(n uint64) [][2]uint64 { return [][2]uint64{{n, 2}} }, "more than it was lent"},
		"the same twice":                {func(n uint64) [][2]uint64 { return [][2]uint64{{n, 1}, {n, 1}} }, "more than it was lent"},
		"a count that wraps":            {func(n uint64) [][2]uint64 { return [][2]uint64{{n, math.MaxUint64}} }, "more than it was lent"},
		"a number of its own":           {func(uint64) [][2]uint64 { return [][2]uint64{{ownedByWorker | 1, 1}} }, "which it was not lent"},
		"a number beyond 32 bits":       {func(n uint64) [][2]uint64 { return [][2]uint64{{n | 1<<32, 1}} }, "which it was not lent"},
		"an unknown number":             {func(n uint64) [][2]uint64 { return [][2]uint64{{n + 1, 1}} }, "which it was not lent"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := share(t)
			arena := NewArena(64<<20, time.Minute)
			defer arena.Close()
			s := lent(t, conn, p, arena)
			p.sendMessage(frameRelease, c.release(uint64(s.id)))
			endsOutOfProtocol(t, conn, c.says)
			require.Eventually(t, func() bool { return s.refs.Load() == 0 }, 10*time.Second, time.Millisecond)
			arena.mu.Lock()
			defer arena.mu.Unlock()
			assert.Len(t, arena.free, 1, "the segment is free once")
			assert.Equal(t, arena.total, arena.idle)
		})
	}
}

func TestAWorkerForgetsOnlyWhatItHasSent(t *testing.T) {
	for name, c := range map[string]struct {
		numbers any
		says    string
	}{
		"a number of the host's":      {[]uint64{5}, "forgets segment 5, which is not its own"},
		"a segment that was not sent": {[]uint64{ownedByWorker | 9}, "no descriptor has arrived"},
		"the same twice":              {[]uint64{ownedByWorker | 1, ownedByWorker | 1}, "no descriptor has arrived"},
		"a number beyond 32 bits":     {[]uint64{1<<32 | ownedByWorker | 1}, "is not an array of segments"},
		"a text":                      {[]any{"x"}, "is not an array of segments"},
		"a number instead of a list":  {7, "is not an array of segments"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := share(t)
			p.segment(1, 1<<16)
			p.sendMessage(frameForget, c.numbers)
			endsOutOfProtocol(t, conn, c.says)
			assert.Zero(t, conn.shared.mapped)
		})
	}
	t.Run("a segment that no frame has named", func(t *testing.T) {
		conn, p := share(t)
		p.segment(1, 1<<16)
		p.sendMessage(frameForget, []uint64{ownedByWorker | 1})
		go func() { p.send(frameResult, p.takeCall(), []byte{0xc0}) }()
		_, err := conn.NewCall(FrameCall, 0).Do(Args{})
		require.NoError(t, err)
		assert.Zero(t, conn.shared.mapped)
	})
}

// A goroutine may drop the last reference while the worker forgets the segment.
func TestASegmentIsDestroyedOnce(t *testing.T) {
	for range 500 {
		sh := &sharing{mapped: 1, bytes: 4096}
		s, err := createSegment(4096, &ownedSegment{sharing: sh})
		require.NoError(t, err)
		s.owner = &ownedSegment{segment: s, sharing: sh}
		s.charged = sh
		s.hold(1)
		var both sync.WaitGroup
		both.Go(func() { s.drop(1) })
		both.Go(s.orphan)
		both.Wait()
		s.destroy() // as the slower goroutine does, if both find the segment without an owner
		require.Zero(t, sh.mapped)
		require.Zero(t, sh.bytes)
	}
}

func TestAFrameCarriesOnlyWhatItsTypeMay(t *testing.T) {
	withBuffer := func(kind FrameType, body []byte) []byte {
		return encodeFrame(frame{kind: kind, call: 1, Payload: Payload{Body: body, Buffers: [][]byte{{1}}}})
	}
	large := func(kind FrameType) []byte { return headerOf(kind, 1, maxMessage+1, nil) }
	for name, c := range map[string]struct {
		frame []byte
		says  string
	}{
		"a log record with a buffer":     {withBuffer(frameLog, []byte{0x80}), "claims 1 buffers, more than the limit of 0"},
		"an error with a buffer":         {withBuffer(frameError, []byte{0x80}), "claims 1 buffers, more than the limit of 0"},
		"a release with a buffer":        {withBuffer(frameRelease, []byte{0x90}), "claims 1 buffers, more than the limit of 0"},
		"a pong with a body":             {encodeFrame(frame{kind: framePong, Payload: Payload{Body: []byte{0xc0}}}), "claims a body of 1 bytes"},
		"a log record of 16 MiB":         {large(frameLog), "claims a body of 16777217 bytes"},
		"an error of 16 MiB":             {large(frameError), "claims a body of 16777217 bytes"},
		"a report of progress of 16 MiB": {large(frameProgress), "claims a body of 16777217 bytes"},
		"a forget frame of 16 MiB":       {large(frameForget), "claims a body of 16777217 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := share(t)
			_, err := p.nc.Write(c.frame)
			require.NoError(t, err)
			endsOutOfProtocol(t, conn, c.says)
		})
	}
}

func TestACallIsNotAnsweredBeforeItIsSent(t *testing.T) {
	for _, kind := range []FrameType{frameResult, frameError, frameItem} {
		conn, p := connect(t, Events{})
		call := conn.NewCall(FrameCall, 0)
		body := []byte{0xc0}
		if kind == frameError {
			body = pack(t, RemoteError{Kind: FailureExecution})
		}
		p.send(kind, call.header.call, body)
		endsOutOfProtocol(t, conn, "not sent")
	}
}

func TestProgressOfACallThatWasNotSentEndsTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		calls []uint64
		says  string
	}{
		"before it is sent":  {[]uint64{1}, "about call 1, which the worker was not sent"},
		"never made":         {[]uint64{2}, "about call 2, which the worker was not sent"},
		"none":               {[]uint64{0}, "about call 0, which the worker was not sent"},
		"the largest number": {[]uint64{math.MaxUint64}, "which the worker was not sent"},
		"too many":           {make([]uint64, MaxAtOnce+1), "about 4097 calls, more than 4096"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := connect(t, Events{})
			call := conn.NewCall(FrameCall, 0)
			call.OnProgress = func(Progress) { t.Error("the call has not begun") }
			p.send(frameProgress, 0, pack(t, Progress{Calls: c.calls}))
			endsOutOfProtocol(t, conn, c.says)
		})
	}
}

func TestItemsBeyondTheBytesOfTheWindowEndTheConnection(t *testing.T) {
	c, p := connect(t, Events{})
	c.window = Window{Items: 16, Bytes: 1000}
	block := make(chan struct{})
	go func() {
		call := p.take().call
		// The caller takes at most two items before it blocks, because the window permits no
		// third one to wait. Two more may wait then, so the fifth one is too many.
		item := encodeFrame(frame{kind: frameItem, call: call, Payload: Payload{Body: pack(t, make([]byte, 600))}})
		for range 5 {
			_, _ = p.nc.Write(item) // fails once the connection has ended
		}
	}()
	go func() { _ = c.NewCall(FrameCall, 0).Items(Args{}, func(Payload) { <-block }) }()
	endsOutOfProtocol(t, c, "1000 bytes for which it had credit")
	close(block)
}

// sparse sends a segment of the peer's that takes no memory.
func (p *sharingPeer) sparse(number uint32, size int64) *segment {
	s, err := createSegment(1<<12, nil)
	require.NoError(p.t, err)
	fd, err := unix.MemfdCreate("sparse", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(p.t, err)
	require.NoError(p.t, unix.Dup2(fd, int(s.file.Fd())))
	require.NoError(p.t, unix.Close(fd))
	require.NoError(p.t, unix.Ftruncate(int(s.file.Fd()), size))
	_, err = unix.FcntlInt(s.file.Fd(), unix.F_ADD_SEALS, sizeSeals|futureWrite)
	require.NoError(p.t, err)
	s.id = number | ownedByWorker
	message := le.AppendUint64(le.AppendUint32(nil, s.id), uint64(size))
	_, _, err = p.channel.WriteMsgUnix(message, unix.UnixRights(int(s.file.Fd())), nil)
	require.NoError(p.t, err)
	p.t.Cleanup(s.destroy)
	return s
}

func TestSegmentsBeyondTheLimitAreNotMapped(t *testing.T) {
	const limit = 64 << 20
	for name, sizes := range map[string][]int64{
		"one of 64 MiB and a page": {limit + 4096},
		"one of 1 GiB":             {1 << 30},
		"one of 64 TiB":            {64 << 40},
		"several":                  {limit / 2, limit / 4, limit/4 + 4096},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := shareWithin(t, limit, 0)
			go func() {
				call := p.takeCall()
				var last *segment
				for i, size := range sizes {
					last = p.sparse(uint32(i+1), size)
				}
				p.answer(call, last, 0, 8)
			}()
			_, err := conn.NewCall(FrameCall, 0).Do(Args{})
			require.Error(t, err)
			endsOutOfProtocol(t, conn, "of the 67108864 that it may share")
			assert.Zero(t, conn.shared.mapped)
			assert.Zero(t, conn.shared.bytes)
		})
	}
}

// takeCall reads frames up to a call and returns its id.
func (p *sharingPeer) takeCall() uint64 {
	for {
		if f := p.peer.take(); f.call != 0 || p.t.Failed() {
			return f.call
		}
	}
}

// shareOne makes a call that is answered with a new segment.
func shareOne(t *testing.T, c *Conn, p *sharingPeer, number uint32, size int64) (Payload, error) {
	t.Helper()
	go func() { p.answer(p.takeCall(), p.sparse(number, size), 0, 1<<17) }()
	return c.NewCall(FrameCall, 0).Do(Args{})
}

func TestASegmentCountsUntilItIsUnmapped(t *testing.T) {
	conn, p := shareWithin(t, 64<<20, 0)
	first, err := shareOne(t, conn, p, 1, 48<<20)
	require.NoError(t, err)
	p.sendMessage(frameForget, []uint32{ownedByWorker | 1}) // the host still holds the result
	second, err := shareOne(t, conn, p, 2, 16<<20)
	require.NoError(t, err)
	first.Release()
	third, err := shareOne(t, conn, p, 3, 48<<20)
	require.NoError(t, err, "there is room again")
	p.sendMessage(frameForget, []uint32{ownedByWorker | 3})
	_, err = shareOne(t, conn, p, 4, 1<<20)
	require.Error(t, err)
	endsOutOfProtocol(t, conn, "its others have 67108864 of the 67108864 that it may share")
	second.Release()
	third.Release()
	assert.Zero(t, conn.shared.bytes)
}

func TestAWorkerMayHaveAsManySegmentsAsItsQuota(t *testing.T) {
	before := segmentQuotas.reserved
	conn, p := share(t)
	require.Greater(t, conn.shared.quota, 5)
	segmentQuotas.give(conn.shared.quota - 5)
	conn.shared.quota = 5
	var held []Payload
	for i := range uint32(5) {
		result, err := shareOne(t, conn, p, i+1, 1<<20)
		require.NoError(t, err)
		held = append(held, result)
	}
	_, err := shareOne(t, conn, p, 6, 1<<20)
	require.Error(t, err)
	endsOutOfProtocol(t, conn, "one segment more than the 5 that it may have")
	assert.Equal(t, before+5, segmentQuotas.reserved, "the results that outlive the worker count")
	for _, result := range held {
		result.Release()
	}
	assert.Equal(t, before, segmentQuotas.reserved)
}

func TestTheDescriptorsForSegmentsAreShared(t *testing.T) {
	for _, c := range []struct {
		limit  uint64
		quotas []int // of the first, the 64th and the 65th worker
	}{
		{1024, []int{8, 8, 0}},
		{4096, []int{32, 32, 0}},
		{20_000, []int{128, 128, 128}},
		{256, []int{8, 0, 0}},
		{1 << 30, []int{128, 128, 128}},
		{math.MaxUint64, []int{128, 128, 128}}, // no limit
		{0, []int{0, 0, 0}},
	} {
		q := quotas{limit: func() uint64 { return c.limit }}
		var taken []int
		for range 65 {
			taken = append(taken, q.take())
		}
		assert.Equal(t, c.quotas, []int{taken[0], taken[63], taken[64]}, "of %d", c.limit)
		assert.LessOrEqual(t, uint64(q.reserved), c.limit/2)
		for range 1000 {
			q.take()
		}
		assert.LessOrEqual(t, uint64(q.reserved), min(c.limit/2, mostSegments))
		q.give(taken[0])
		assert.Equal(t, taken[0], q.take())
	}
}

func TestAResultBeyondItsLimitIsNeitherMappedNorKept(t *testing.T) {
	conn, p := shareWithin(t, 1<<30, 1<<20)
	large, err := shareOne(t, conn, p, 1, 512<<20)
	require.NoError(t, err, "a small part of a large segment")
	large.Release()
	mapped := conn.shared.mapped
	go func() { p.answer(p.takeCall(), p.sparse(2, 64<<20), 0, 32<<20) }()
	result, err := conn.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	assert.Greater(t, result.Size(), 32<<20)
	assert.Equal(t, mapped, conn.shared.mapped)
	require.Error(t, result.Check("result", DefaultLimits()))

	go func() { // inline, after which the next frame is found
		call := p.takeCall()
		f := frame{kind: frameResult, call: call, Payload: Payload{Body: make([]byte, 3<<20), Buffers: [][]byte{make([]byte, 1<<20), make([]byte, 100)}}}
		_, err := p.nc.Write(encodeFrame(f))
		assert.NoError(t, err)
		p.send(frameResult, p.takeCall(), []byte{0xc0})
	}()
	result, err = conn.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	assert.Equal(t, 4<<20+100, result.Size())
	assert.Empty(t, result.Body)
	result, err = conn.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	assert.Equal(t, []byte{0xc0}, result.Body)

	go func() { p.send(frameResult, p.takeCall(), pack(t, make([]byte, 2<<20))) }()
	state, err := conn.NewCall(FrameSnapshot, 0).Do(Args{})
	require.NoError(t, err)
	assert.Len(t, state.Body, 2<<20+5, "a state is not a result")
}

// A worker stalls at each point of the protocol. Calls to another worker, the memory that
// both share, and the ends of the connections do not wait for it.
func TestAWorkerThatStallsDelaysNoOther(t *testing.T) {
	result := func(call uint64, segment uint32) []byte {
		f := headerOf(frameResult, call, 12, nil)
		le.PutUint32(f[16:], 1)
		f = le.AppendUint32(f, segment)
		f = le.AppendUint32(f, 0)
		f = le.AppendUint64(le.AppendUint64(f, 0), 8)
		return append(f, make([]byte, 12)...)
	}
	for name, stall := range map[string]func(p *sharingPeer, call uint64){
		"before it answers":       func(*sharingPeer, uint64) {},
		"in a header":             func(p *sharingPeer, call uint64) { _, _ = p.nc.Write(result(call, 0)[:10]) },
		"in the descriptors":      func(p *sharingPeer, call uint64) { _, _ = p.nc.Write(result(call, 0)[:headerSize+3]) },
		"in a body":               func(p *sharingPeer, call uint64) { _, _ = p.nc.Write(result(call, 0)[:headerSize+descriptorSize+5]) },
		"before an inline buffer": func(p *sharingPeer, call uint64) { _, _ = p.nc.Write(result(call, 0)) },
		"before a descriptor":     func(p *sharingPeer, call uint64) { _, _ = p.nc.Write(result(call, ownedByWorker|1)) },
		"in a forget frame":       func(p *sharingPeer, _ uint64) { p.sendMessage(frameForget, []uint32{ownedByWorker | 1}) },
		"after half a transfer": func(p *sharingPeer, call uint64) {
			_, _ = p.channel.Write([]byte{1})
			_, _ = p.nc.Write(result(call, ownedByWorker|1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad, p := share(t)
			good, q := share(t)
			arena := NewArena(64<<20, time.Minute)
			lent(t, bad, p, arena)
			stalled := make(chan struct{})
			go func() {
				call := p.takeCall()
				stall(p, call)
				close(stalled)
			}()
			var pending sync.WaitGroup
			pending.Go(func() {
				answer, err := bad.NewCall(FrameCall, 0).Do(Args{})
				assert.ErrorIs(t, err, ErrClosed)
				answer.Release()
			})
			<-stalled
			time.Sleep(5 * time.Millisecond) // so that the host reads it
			began := time.Now()
			for range 3 {
				lent(t, good, q, arena)
			}
			arena.Close() // destroys segments that were lent to both
			good.Close()
			bad.Close()
			pending.Wait()
			assert.Less(t, time.Since(began), time.Second)
		})
	}
}

// decodedBodies are encodings of many small parts, each in at most 1 MiB.
func decodedBodies(t *testing.T) map[string][]byte {
	list := func(item []byte, n int) []byte {
		body := []byte{0xdd, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
		for range n {
			body = append(body, item...)
		}
		return body
	}
	tensor, err := Encode("v", &Tensor{DType: Uint8, Shape: []int{1, 1, 1, 1, 1, 1, 1, 1}, Data: []byte{1}})
	require.NoError(t, err)
	entries := []byte{0xdf, 0, 1, 0, 0}
	for i := range 1 << 16 {
		entries = append(entries, 0xa4, byte('a'+i>>12), byte('a'+i>>8&15), byte('a'+i>>4&15), byte('a'+i&15), 0xc0)
	}
	return map[string][]byte{
		"nil":            list([]byte{0xc0}, 1<<16),
		"floats":         list([]byte{0xcb, 1, 2, 3, 4, 5, 6, 7, 8}, 1<<16),
		"empty arrays":   list([]byte{0x90}, 1<<16),
		"empty maps":     list([]byte{0x80}, 1<<16),
		"maps of one":    list([]byte{0x81, 0xa0, 0xc0}, 1<<16),
		"maps of nine":   list(append([]byte{0x89}, []byte("\xa1a\xc0\xa1b\xc0\xa1c\xc0\xa1d\xc0\xa1e\xc0\xa1f\xc0\xa1g\xc0\xa1h\xc0\xa1i\xc0")...), 1<<13),
		"one large map":  entries,
		"arrays of one":  list([]byte{0x91, 0xc0}, 1<<16),
		"nested arrays":  list([]byte{0x91, 0x91, 0x91, 0x91, 0x90}, 1<<14),
		"empty strings":  list([]byte{0xa0}, 1<<16),
		"short strings":  list([]byte{0xa1, 'x'}, 1<<16),
		"empty bytes":    list([]byte{0xc4, 0}, 1<<16),
		"timestamps":     list([]byte{0xd6, 0xff, 0, 0, 0, 1}, 1<<16),
		"small tensors":  list(tensor.Body, 1<<12),
		"JSON documents": list([]byte{0xd4, 4, '1'}, 1<<16),
	}
}

// The memory that Check counts is at least what decoding takes.
func TestTheMemoryOfADecodedValueIsNotUnderestimated(t *testing.T) {
	for name, body := range decodedBodies(t) {
		t.Run(name, func(t *testing.T) {
			c := cursor{b: body, maxDepth: 64}
			require.Nil(t, c.skip(0))
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			v, err := Payload{Body: body}.Checked().Decode("v", DefaultLimits())
			require.NoError(t, err)
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(v)
			assert.LessOrEqual(t, after.HeapAlloc-before.HeapAlloc, c.memory+64<<10)
		})
	}
}

func TestAValueThatTakesTooMuchMemoryIsRefused(t *testing.T) {
	limits := DefaultLimits()
	limits.Decoded = 1 << 20
	for name, body := range decodedBodies(t) {
		var invalid *ValueError
		p := Payload{Body: body}
		require.ErrorAs(t, p.Check("result", limits), &invalid, name)
		assert.Equal(t, "result", invalid.Path)
		assert.Contains(t, invalid.Reason, "when they are decoded, more than the limit of 1048576")
		_, err := p.Decode("result", limits)
		require.Error(t, err)
		require.NoError(t, p.Check("result", DefaultLimits()))
	}
	empty := make([]byte, 32<<20)
	for i := range empty {
		empty[i] = 0x90
	}
	copy(empty, []byte{0xdd, 1, 0xff, 0xff, 0xfb})
	require.ErrorContains(t, Payload{Body: empty}.Check("result", DefaultLimits()), "more than the limit of 536870912")
}

func TestAMessageThatTakesTooMuchMemoryEndsTheConnection(t *testing.T) {
	empty := make([]byte, 1<<20)
	for i := range empty {
		empty[i] = 0x90
	}
	list := append([]byte{0xdd, 0, 0x10, 0, 0}, empty...)
	in := func(key string) []byte { return append(append([]byte{0x81, 0xa0 | byte(len(key))}, key...), list...) }
	for kind, body := range map[FrameType][]byte{
		frameLog:      append([]byte("\x81\xa6fields\x81\xa1f"), list...),
		frameProgress: in("other"),
		frameError:    in("frames"),
	} {
		t.Run(kind.String(), func(t *testing.T) {
			conn, p := connect(t, Events{})
			p.send(kind, 0, body)
			endsOutOfProtocol(t, conn, "more than the limit of 33554432")
		})
	}
}
