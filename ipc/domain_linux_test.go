package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

// memory returns a nameless file with the given seals.
func memory(t *testing.T, size int64, seals int) *os.File {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(fd, size))
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	require.NoError(t, err)
	return os.NewFile(uintptr(fd), "memory")
}

// borrowed is a segment of the supervisor's as a worker has it: the descriptor, and a mapping
// for reading.
func borrowed(t *testing.T) (lent Payload, file *os.File, mapping []byte) {
	c, p := share(t)
	arena := NewArena(64<<20, time.Minute)
	lent = shareTensor(t, arena, 1<<20)
	t.Cleanup(func() { lent.Release(); arena.Close() })
	got := make(chan *segment)
	go func() {
		f, table := p.takeShared()
		p.send(frameResult, f.call, []byte{0xc0})
		got <- p.host[table[0].segment]
	}()
	_, err := c.NewCall(FrameCall, 0).Do(OneArg(lent))
	require.NoError(t, err)
	s := <-got
	t.Cleanup(s.destroy)
	return lent, s.file, s.view
}

func TestABorrowerCannotWrite(t *testing.T) {
	lent, file, mapping := borrowed(t)
	fd := int(file.Fd())
	size := len(mapping)
	writable := unix.PROT_READ | unix.PROT_WRITE
	reopen := func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	}
	want := bytes.Clone(lent.Buffers[0])
	for name, write := range map[string]func() error{
		"write":       func() error { _, err := unix.Write(fd, []byte{1}); return err },
		"pwrite":      func() error { _, err := unix.Pwrite(fd, []byte{1}, 0); return err },
		"ftruncate":   func() error { return unix.Ftruncate(fd, 0) },
		"fallocate":   func() error { return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096) },
		"mmap":        func() error { _, err := unix.Mmap(fd, 0, size, writable, unix.MAP_SHARED); return err },
		"mprotect":    func() error { return unix.Mprotect(mapping, writable) },
		"MADV_REMOVE": func() error { return unix.Madvise(mapping, unix.MADV_REMOVE) },
		"/proc/self/mem": func() error {
			mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
			require.NoError(t, err)
			defer mem.Close()
			_, err = mem.WriteAt([]byte{1}, int64(uintptr(unsafe.Pointer(&mapping[0]))))
			return err
		},
		"mmap of the file opened again": func() error {
			again, err := reopen()
			require.NoError(t, err, "it can be opened, so that is not what refuses")
			defer unix.Close(again)
			_, err = unix.Mmap(again, 0, size, writable, unix.MAP_SHARED)
			return err
		},
		"pwrite to the file opened again": func() error {
			again, err := reopen()
			require.NoError(t, err)
			defer unix.Close(again)
			_, err = unix.Pwrite(again, []byte{1}, 0)
			return err
		},
		"splice": func() error {
			var ends [2]int
			require.NoError(t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
			defer unix.Close(ends[0])
			defer unix.Close(ends[1])
			_, err := unix.Write(ends[1], []byte{1})
			require.NoError(t, err)
			_, err = unix.Splice(ends[0], nil, fd, nil, 1, 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := write()
			refused := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EIO)
			require.True(t, refused, "%v", err)
			assert.Equal(t, want, lent.Buffers[0])
			assert.Equal(t, want, mapping[:len(want)])
		})
	}
	t.Run("a private mapping is a copy", func(t *testing.T) {
		private, err := unix.Mmap(fd, 0, size, writable, unix.MAP_PRIVATE)
		require.NoError(t, err)
		private[0]++
		assert.Equal(t, want, lent.Buffers[0])
		require.NoError(t, unix.Munmap(private))
	})
	t.Run("the owner still writes", func(t *testing.T) {
		lent.Buffers[0][0]++
		assert.Equal(t, want[0]+1, mapping[0])
	})
}

func TestTheSupervisorMapsAWorkersSegmentForReading(t *testing.T) {
	c, p := share(t)
	s := p.segment(1, 1<<16)
	go func() { p.answer(p.takeCall(), s, 0, 1<<15) }()
	result, err := c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	defer result.Release()
	require.Error(t, unix.Mprotect(result.locations[0].segment.view, unix.PROT_READ|unix.PROT_WRITE))
}

// secret fills a segment as far as it goes.
func secret(s *segment) {
	for i := range s.view {
		s.view[i] = 0x5e
	}
}

func TestSegmentsAreReusedOnlyWithinTheirDomain(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	in := func(d Domain) Payload {
		p, err := Encode("input", newTensor(t, 300<<10))
		require.NoError(t, err)
		p, err = arena.Share(t.Context(), d, p)
		require.NoError(t, err)
		return p
	}
	domains := []Domain{{}, NewDomain(), NewDomain()}
	first := make([]*segment, len(domains))
	for i, d := range domains {
		p := in(d)
		first[i] = p.locations[0].segment
		secret(first[i])
		p.Release()
	}
	for i, d := range domains {
		p := in(d)
		assert.Same(t, first[i], p.locations[0].segment)
		q := in(d) // there is no other free one
		s := q.locations[0].segment
		assert.NotContains(t, first, s)
		assert.Zero(t, bytes.Trim(s.view[300<<10:], "\x00"), "the rest of a new segment is empty")
		p.Release()
		q.Release()
	}
}

// isolatedPeer is share for an isolated worker, and for results that go to the given domain.
func isolatedPeer(t *testing.T, arena *Arena, results *Domain) (*Conn, *sharingPeer) {
	return shareWith(t, 0, SetupShared{Limit: 16 << 20, Domain: NewDomain(), Results: results, Arena: arena})
}

// takeSharedCall is takeShared for the next call. It skips other frames, and forgets the
// segments that the host has destroyed.
func (p *sharingPeer) takeSharedCall() (frame, []descriptor) {
	for {
		f, table := p.takeShared()
		if f.kind == FrameCall {
			return f, table
		}
		var numbers []uint32
		if f.kind == frameForget && assert.NoError(p.t, msgpack.Unmarshal(f.Body, &numbers)) {
			for _, number := range numbers {
				delete(p.host, number)
			}
		}
	}
}

// receive takes a call, answers it with nil, and returns the segment that it was lent. It is
// nil if the buffer went inline.
func (p *sharingPeer) receive(lent chan<- *segment) {
	f, table := p.takeSharedCall()
	if table[0].segment == 0 {
		_, err := p.frameReader.take(table[0].size)
		assert.NoError(p.t, err)
	}
	p.send(frameResult, f.call, []byte{0xc0})
	lent <- p.host[table[0].segment]
}

// sendTo sends a payload to a worker, and returns the segment that the worker maps for it.
func sendTo(t *testing.T, c *Conn, p *sharingPeer, value Payload) *segment {
	lent := make(chan *segment, 1)
	go p.receive(lent)
	_, err := c.NewCall(FrameCall, 0).Do(OneArg(value))
	require.NoError(t, err)
	return <-lent
}

// resultOf makes a call that the peer answers with a part of its segment.
func resultOf(t *testing.T, c *Conn, p *sharingPeer, kind FrameType, s *segment, offset, length int64) Payload {
	go func() { p.answer(p.takeCall(), s, offset, length) }()
	result, err := c.NewCall(kind, 0).Do(Args{})
	require.NoError(t, err)
	return result
}

func TestAnotherDomainIsLentOnlyTheBuffer(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	producer, p := share(t)
	s := p.segment(1, 1<<20)
	secret(s)
	value := bytes.Repeat([]byte{7}, 300<<10)
	copy(s.view[4096+16:], value)
	result := resultOf(t, producer, p, FrameCall, s, 4096+16, int64(len(value)))
	defer result.Release()
	sees := func(seen *segment) {
		t.Helper()
		assert.Len(t, bytes.Trim(seen.view, "\x00"), len(value), "nothing is beside the value")
		assert.Equal(t, 1, bytes.Count(seen.view, value))
	}
	strict, q := isolatedPeer(t, arena, nil)
	seen := sendTo(t, strict, q, result)
	sees(seen)
	other, o := isolatedPeer(t, arena, nil)
	sees(sendTo(t, other, o, result))
	again := sendTo(t, producer, p, result)
	assert.Equal(t, s.view, again.view, "its own domain is lent the segment itself")

	// An isolated worker returns what it was lent.
	back := resultOf(t, strict, q, FrameCall, &segment{id: strictNumber(strict), view: seen.view}, 16, int64(len(value)))
	assert.Equal(t, value, back.Buffers[0])
	require.NotNil(t, back.locations[0].segment, "it is not copied, because nobody can change it")
	secret(back.locations[0].segment) // what the segment holds besides
	copy(back.Buffers[0], value)
	sees(sendTo(t, other, o, back))
	back.Release()
	strict.Close()
	other.Close()
	allFree(t, arena)
}

// strictNumber returns the number of the only segment that a worker is lent.
func strictNumber(c *Conn) uint32 {
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	for number := range c.shared.loans {
		return number
	}
	return 0
}

func TestAnIsolatedProducerCannotChangeItsResult(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	consumers := NewDomain()
	consumer, q := shareWith(t, 0, SetupShared{Limit: 16 << 20, Domain: consumers, Arena: arena})
	for name, results := range map[string]*Domain{
		"for the host":                   nil,
		"for another isolated node":      &consumers,
		"for nodes that are not":         {},
		"for another one than the first": new(NewDomain()),
	} {
		t.Run(name, func(t *testing.T) {
			producer, p := isolatedPeer(t, arena, results)
			s := p.segment(1, 1<<20)
			value := bytes.Repeat([]byte{7}, 300<<10)
			copy(s.view[4096:], value)
			result := resultOf(t, producer, p, FrameCall, s, 4096, int64(len(value)))
			secret(s)
			assert.Equal(t, value, result.Buffers[0])
			if results != nil {
				assert.Equal(t, *results, result.locations[0].segment.domain)
			}
			seen := sendTo(t, consumer, q, result)
			if results != nil { // otherwise it is in memory of this process, and goes inline
				assert.Len(t, bytes.Trim(seen.view, "\x00"), len(value))
				assert.Contains(t, string(seen.view), string(value))
			}
			viewed, err := result.View("result", DefaultLimits())
			require.NoError(t, err)
			assert.Equal(t, value, viewed.(*Tensor).Data)
			decoded, err := result.Decode("result", DefaultLimits())
			require.NoError(t, err)

			f := p.peer.take() // before the result is released
			assert.Equal(t, frameRelease, f.kind)
			var pairs [][2]uint64
			require.NoError(t, msgpack.Unmarshal(f.Body, &pairs))
			assert.Equal(t, [][2]uint64{{ownedByWorker | 1, 1}}, pairs)
			result.Release()
			assert.Equal(t, value, decoded.(*Tensor).Data)
			producer.Close()
		})
	}
	consumer.Close()
	allFree(t, arena)
}

func TestTheStateOfASessionStaysInItsDomain(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	consumers := NewDomain()
	c, p := isolatedPeer(t, arena, &consumers)
	s := p.segment(1, 1<<20)
	for kind, want := range map[FrameType]Domain{FrameSnapshot: c.shared.domain, FrameFinish: consumers, FrameCall: consumers} {
		result := resultOf(t, c, p, kind, s, 0, 300<<10)
		assert.Equal(t, want, result.locations[0].segment.domain, kind)
		result.Release()
	}
}

// A frame may name the same bytes thousands of times.
func TestBuffersThatOverlapAreCopiedOnce(t *testing.T) {
	const size, times = 1 << 20, 1000
	for _, arena := range []*Arena{nil, NewArena(64<<20, time.Minute)} {
		c, p := isolatedPeer(t, arena, &Domain{})
		s := p.segment(1, size)
		for i := range s.view {
			s.view[i] = byte(i * 7)
		}
		tensor := func(n int) []byte {
			one, err := Encode("result", &Tensor{DType: Uint8, Shape: []int{n}, Data: make([]byte, n)})
			require.NoError(t, err)
			return one.Body
		}
		payload := Payload{}
		body := []byte{0xdc, byte(times >> 8), byte(times & 0xff)}
		for i := range times {
			n := size - 16*i
			body = append(body, tensor(n)...)
			payload.Buffers = append(payload.Buffers, s.view[:n])
			payload.locations = append(payload.locations, location{s, int64(16 * i)})
		}
		go func() {
			call := p.takeCall()
			_, err := p.nc.Write(append(appendHeader(nil, header{kind: frameResult, call: call}, len(body), payload), body...))
			assert.NoError(t, err)
		}()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		result, err := c.NewCall(FrameCall, 0).Do(Args{})
		require.NoError(t, err)
		runtime.ReadMemStats(&after)
		for i, b := range result.Buffers {
			require.Len(t, b, size-16*i)
			require.Equal(t, byte(16*i*7), b[0])
		}
		if arena == nil {
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4*size))
		} else {
			arena.mu.Lock()
			assert.Equal(t, int64(size), arena.total)
			arena.mu.Unlock()
		}
		result.Release()
		c.Close()
		if arena != nil {
			allFree(t, arena)
			arena.Close()
		}
	}
}

func TestWithoutRoomACopyGoesInline(t *testing.T) {
	arena := NewArena(4<<20, time.Hour)
	defer arena.Close()
	input := shareTensor(t, arena, 3<<20)
	defer input.Release()
	strict, q := isolatedPeer(t, arena, nil)
	f := make(chan frame, 1)
	go func() {
		q.shared = nil // so that a segment would be refused
		got, err := q.next()
		assert.NoError(t, err)
		q.send(frameResult, got.call, []byte{0xc0})
		f <- got
	}()
	_, err := strict.NewCall(FrameCall, 0).Do(OneArg(input))
	require.NoError(t, err)
	assert.Equal(t, input.Buffers, (<-f).Buffers)
	assert.NotNil(t, input.locations[0].segment, "the payload of the caller is as it was")
}

func TestResultsLeaveRoomForInputs(t *testing.T) {
	arena := NewArena(4<<20, time.Millisecond)
	defer arena.Close()
	c, p := isolatedPeer(t, arena, &Domain{})
	s := p.segment(1, 1<<20)
	var results []Payload
	for range 6 {
		result := resultOf(t, c, p, FrameCall, s, 0, 1<<20)
		assert.Len(t, result.Buffers[0], 1<<20)
		results = append(results, result)
	}
	shareTensor(t, arena, 2<<20).Release()
	for _, result := range results {
		result.Release()
	}
	allFree(t, arena)
}

// allFree checks that all segments of an arena have been released.
func allFree(t *testing.T, arena *Arena) {
	t.Helper()
	arena.mu.Lock()
	defer arena.mu.Unlock()
	assert.Zero(t, arena.copied)
	assert.Equal(t, arena.total, arena.idle)
}

func TestAPieceKeepsItsAlignment(t *testing.T) {
	s := &segment{view: make([]byte, 1<<16)}
	for i := range s.view {
		s.view[i] = byte(i * 31)
	}
	p := Payload{}
	for _, at := range [][2]int64{{4, 100}, {100, 8}, {203, 50}, {8192, 4096}, {9000, 5000}, {60000, 0}} {
		p.Buffers = append(p.Buffers, s.view[at[0]:at[0]+at[1]])
		p.locations = append(p.locations, location{s, at[0]})
	}
	want := make([][]byte, len(p.Buffers))
	for i, b := range p.Buffers {
		want[i] = bytes.Clone(b)
	}
	pieces, size := p.piecesIn(func(*segment) bool { return true })
	assert.Len(t, pieces, 4)
	to := &segment{view: make([]byte, size)}
	before := p.locations[:len(p.locations):len(p.locations)]
	copied := Payload{Buffers: append([][]byte{}, p.Buffers...), locations: append([]location{}, p.locations...)}
	copied.copyTo(to, pieces)
	for i, at := range copied.locations {
		assert.True(t, bytes.Equal(want[i], copied.Buffers[i]))
		assert.Same(t, to, at.segment)
		assert.Equal(t, before[i].offset%alignment, at.offset%alignment)
	}
	p.copyOut(pieces)
	for i := range p.locations {
		assert.True(t, bytes.Equal(want[i], p.Buffers[i]))
		assert.Nil(t, p.locations[i].segment)
	}
}

func TestWithinADomainNothingIsCopiedNorAllocated(t *testing.T) {
	arena := NewArena(64<<20, time.Minute)
	defer arena.Close()
	input := shareTensor(t, arena, 1<<20)
	defer input.Release()
	c, _ := share(t)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		p := input
		if c.shared.adopt(&p) != nil || &p.locations[0] != &input.locations[0] {
			t.Error("it was copied")
		}
	}))
}
