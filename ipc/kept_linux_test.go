package ipc

import (
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// zeros is a stream of n zero bytes.
type zeros struct{ n int }

func (z *zeros) Read(b []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(len(b), z.n)
	z.n -= n
	return n, nil
}

// allocatedBy returns how many bytes f allocates.
func allocatedBy(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func TestALargeBufferIsNotCopiedAgainAndAgain(t *testing.T) {
	const size = 4*maxUpfront + 1
	got := allocatedBy(func() {
		b, err := newFrameReader(&zeros{size}, DefaultLimits()).take(size)
		require.NoError(t, err)
		assert.Len(t, b, size)
	})
	assert.LessOrEqual(t, got, int64(size+maxUpfront+1<<20))
}

func TestAClaimWithoutItsBytesCostsLittle(t *testing.T) {
	got := allocatedBy(func() {
		_, err := newFrameReader(&zeros{maxUpfront - 1}, DefaultLimits()).take(4 << 30)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
	assert.LessOrEqual(t, got, int64(maxUpfront+1<<20))
}

// claim sends the beginning of a result that claims inline buffers of the given sizes.
func (p *sharingPeer) claim(call uint64, sizes ...int) {
	buffers := make([][]byte, len(sizes))
	h := appendHeader(nil, header{kind: frameResult, call: call}, 1, Payload{Buffers: buffers})
	for i, size := range sizes {
		le.PutUint64(h[headerSize+i*descriptorSize+16:], uint64(size))
	}
	_, err := p.nc.Write(append(h, 0xc0))
	assert.NoError(p.t, err)
}

func TestTheInlineBuffersOfAFrameAreBoundedAsSharedMemoryIs(t *testing.T) {
	for name, c := range map[string]struct {
		limit int64
		sizes []int
	}{
		"one buffer":       {100 << 20, []int{100<<20 + 1}},
		"several together": {100 << 20, []int{40 << 20, 40 << 20, 40 << 20}},
		"a low limit":      {1 << 20, []int{leastInline + 1}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := shareWithin(t, c.limit, 0)
			go func() { p.claim(p.takeCall(), c.sizes...) }()
			_, err := conn.NewCall(FrameCall, 0).Do(Args{})
			require.ErrorIs(t, err, ErrClosed)
			endsOutOfProtocol(t, conn, "claims inline buffers of more than")
		})
	}
	t.Run("small buffers within it", func(t *testing.T) {
		conn, p := shareWithin(t, 1<<20, 0)
		go func() {
			call := p.takeCall()
			result, err := Encode("result", []any{newTensor(t, 1<<20), newTensor(t, 1<<20)})
			assert.NoError(t, err)
			frame := append(appendHeader(nil, header{kind: frameResult, call: call}, len(result.Body), result), result.Body...)
			for _, b := range result.Buffers {
				frame = append(frame, b...)
			}
			_, err = p.nc.Write(frame)
			assert.NoError(t, err)
		}()
		result, err := conn.NewCall(FrameCall, 0).Do(Args{})
		require.NoError(t, err)
		assert.Len(t, result.Buffers, 2)
	})
}

func TestTheBoundOfInlineBuffersIsThatOfSharedMemoryUnlessItIsSet(t *testing.T) {
	wire := DefaultLimits()
	for want, setup := range map[int64]Setup{
		wire.BufferBytes: {Limits: SetupLimits{Limits: wire}},
		1 << 30:          {Limits: SetupLimits{Limits: wire}, Shared: &SetupShared{Limit: 1 << 30}},
		leastInline:      {Limits: SetupLimits{Limits: wire}, Shared: &SetupShared{Limit: 1}},
		2 << 30:          {Limits: SetupLimits{Limits: wire, Inline: 2 << 30}, Shared: &SetupShared{Limit: 1 << 30}},
		3 << 30:          {Limits: SetupLimits{Limits: wire, Inline: 3 << 30}},
	} {
		assert.Equal(t, want, setup.inlineBound())
	}
}

// keep sends an input in a segment of size bytes to a peer that does not release it. It
// reports whether the input was lent.
func keep(t *testing.T, c *Conn, p *sharingPeer, arena *Arena, size int) bool {
	t.Helper()
	input := shareTensor(t, arena, size)
	defer input.Release()
	return sendTo(t, c, p, input) != nil
}

func TestAWorkerThatKeepsItsInputsGetsFurtherOnesInline(t *testing.T) {
	arena := NewArena(64<<20, 10*time.Millisecond)
	defer arena.Close()
	c, p := shareWith(t, 0, SetupShared{Limit: 64 << 20, Arena: arena})
	lent := 0
	for range 40 {
		if keep(t, c, p, arena, 4<<20) {
			lent++
		}
	}
	assert.Equal(t, 5, lent, "the last one was lent when it kept a quarter of the limit")
	require.NoError(t, c.Err())
	neighbor, q := shareWith(t, 0, SetupShared{Limit: 64 << 20, Arena: arena})
	assert.True(t, keep(t, neighbor, q, arena, 40<<20), "the rest is for others")

	for number := range p.host {
		p.sendMessage(frameRelease, [][2]uint64{{uint64(number), 1}})
	}
	require.Eventually(t, func() bool {
		c.shared.mu.Lock()
		defer c.shared.mu.Unlock()
		return c.shared.lent == 0
	}, 10*time.Second, time.Millisecond)
	assert.True(t, keep(t, c, p, arena, 4<<20), "it is lent memory again once it has released what it kept")
}

func TestOneValueThatIsLargerThanTheBoundIsLent(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	c, p := shareWith(t, 0, SetupShared{Limit: 64 << 20, Arena: arena})
	for range 3 {
		require.True(t, keep(t, c, p, arena, 40<<20))
		for number := range p.host {
			p.sendMessage(frameRelease, [][2]uint64{{uint64(number), 1}})
		}
	}
}

// The memory of calls that have not ended is not kept.
func TestTheInputsOfConcurrentCallsAreLent(t *testing.T) {
	for name, domain := range map[string]Domain{"in the segment of the input": {}, "as copies for another domain": NewDomain()} {
		t.Run(name, func(t *testing.T) {
			arena := NewArena(64<<20, 10*time.Millisecond)
			defer arena.Close()
			c, p := shareWith(t, 0, SetupShared{Limit: 64 << 20, Domain: domain, Arena: arena})
			var calls sync.WaitGroup
			var open []uint64
			for range 6 {
				input := shareTensor(t, arena, 5<<20)
				calls.Go(func() {
					defer input.Release()
					_, err := c.NewCall(FrameCall, 0).Do(OneArg(input))
					assert.NoError(t, err)
				})
				f, table := p.takeSharedCall()
				assert.NotZero(t, table[0].segment, "it is lent")
				open = append(open, f.call)
			}
			c.shared.mu.Lock()
			for _, l := range c.shared.loans {
				assert.False(t, l.segment.isKept())
			}
			c.shared.mu.Unlock()
			require.NoError(t, c.Err())
			for _, call := range open {
				p.send(frameResult, call, []byte{0xc0})
			}
			calls.Wait()
		})
	}
}
