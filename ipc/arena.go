package ipc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// SharedFrom is the size in bytes from which the data of a tensor, a recording, an image or a
// table travels in a buffer instead of the body, and from which a buffer travels in shared
// memory. For smaller ones, the socket is as fast.
const SharedFrom = 16 << 10

// LargeFrom is the size in bytes from which bytes, text and JSON documents travel in a buffer.
const LargeFrom = 32 << 10

// Domain is a group of workers that may see each other's shared memory. The zero Domain is
// that of all workers that are not isolated. An isolated node has a domain of its own, which
// all its workers share, also later ones.
//
// A segment of the supervisor's belongs to one domain for life. It only ever holds what is
// for that domain, and is lent to no worker of another one. So it never shows a worker what
// is for others, not even in the parts that a value does not use.
//
//	a value for a worker is in               the worker is lent
//	a segment of its own domain              that segment
//	a segment of another domain, or of a     a copy of the value's buffers, in a segment of the
//	worker that is not isolated              worker's domain; inline if the arena has no room
//
// A worker that is not isolated shares its own segments with its domain. The segments of an
// isolated worker are read once: its values are copied when they arrive, before they are
// checked, because the worker can still change the segments.
type Domain struct{ number uint64 }

var lastDomain atomic.Uint64

// NewDomain returns a domain that has no workers yet.
func NewDomain() Domain { return Domain{lastDomain.Add(1)} }

func (d Domain) isIsolated() bool { return d != Domain{} }

// Arena is the shared memory that the supervisor itself owns. It holds the large values
// that Go programs send to Python nodes, and those that are copied from one [Domain] to
// another. It reuses its segments within their domain. It is safe for concurrent use. A nil
// *Arena shares nothing.
type Arena struct {
	limit int64
	wait  time.Duration

	mu     sync.Mutex
	free   []*segment    // the segments without references; the last one was used last
	total  int64         // bytes of all segments
	copied int64         // bytes of those that hold copies of results
	idle   int64         // bytes of the free ones
	freed  chan struct{} // closed, and replaced, when a segment becomes free
	timed  bool          // a timer will call tidy
	closed bool
}

// NewArena returns an arena whose segments take at most limit bytes, and which waits at
// most that long for room when it is full. It returns nil if the limit is 0.
func NewArena(limit int64, wait time.Duration) *Arena {
	if limit <= 0 {
		return nil
	}
	return &Arena{limit: limit, wait: wait, freed: make(chan struct{})}
}

// FullError reports that an [Arena] had no room for a value within the time allowed.
type FullError struct {
	// Size is the size that was requested, Held the size of the segments in use, and
	// Limit the limit of the arena, in bytes.
	Size, Held, Limit int64
	// Wait is the time that was allowed.
	Wait time.Duration
}

// Error returns the sizes and the time in one line.
func (e *FullError) Error() string {
	return fmt.Sprintf("shared memory is full: %d MiB of %d MiB are in use, and there was no room for %d MiB within %v",
		e.Held>>20, e.Limit>>20, e.Size>>20, e.Wait)
}

// Share copies the payload's large buffers into one segment of shared memory. The result
// can be sent to any number of workers, and must be released by [Payload.Release]. Those of
// other domains than the given one are sent a further copy, each time. Share returns the
// payload as it is if it has no large buffers, or if the system does not support shared
// memory. It blocks while the arena is full. Its error is a *[FullError], a
// *[ValueError] if the payload is larger than the limit, or the cause of the context's end.
func (a *Arena) Share(ctx context.Context, domain Domain, p Payload) (Payload, error) {
	if a == nil || p.locations != nil {
		return p, nil
	}
	size, parts := int64(0), int64(0)
	for _, buffer := range p.Buffers {
		if len(buffer) >= SharedFrom {
			size += aligned(len(buffer))
			parts++
		}
	}
	if parts == 0 {
		return p, nil
	}
	s, err := a.take(ctx, domain, size)
	if errors.Is(err, errors.ErrUnsupported) {
		return p, nil
	}
	if err != nil {
		return Payload{}, err
	}
	s.hold(parts - 1)
	shared := Payload{Body: p.Body, Buffers: slices.Clone(p.Buffers), locations: make([]location, len(p.Buffers))}
	offset := int64(0)
	for i, buffer := range p.Buffers {
		if len(buffer) < SharedFrom {
			continue
		}
		shared.locations[i] = location{s, offset}
		shared.Buffers[i] = part(s.view, offset, len(buffer))
		fill(shared.Buffers[i], buffer)
		offset += aligned(len(buffer))
	}
	return shared, nil
}

const (
	// maxCached is the size up to which a buffer and its copy in a segment fit into the
	// caches of most machines.
	maxCached = 8 << 20
	// cachedPiece is a size that Go copies through the caches.
	cachedPiece = 256 << 10
)

// fill copies a buffer into a segment. Go copies a large buffer past the caches. But a
// reused segment is still in them, and its reader should find the new data there. So
// buffers that fit are copied in pieces.
func fill(segment, buffer []byte) {
	if len(buffer) > maxCached {
		copy(segment, buffer)
		return
	}
	for part := range slices.Chunk(buffer, cachedPiece) {
		segment = segment[copy(segment, part):]
	}
}

// alignment suits vector instructions.
const alignment = 64

// aligned rounds n up to the alignment.
func aligned(n int) int64 { return (int64(n) + alignment - 1) &^ (alignment - 1) }

// take returns a segment of the domain, of at least size bytes and with one reference. It
// blocks while the arena is full.
func (a *Arena) take(ctx context.Context, domain Domain, size int64) (*segment, error) {
	class := sizeClass(size)
	if class > a.limit {
		return nil, &ValueError{Path: "input", Reason: fmt.Sprintf("it takes %d MiB of shared memory, more than the limit of %d MiB", class>>20, a.limit>>20)}
	}
	var timeout <-chan time.Time
	for {
		a.mu.Lock()
		s, err := a.tryTakeLocked(domain, class)
		held, freed := a.total-a.idle, a.freed
		a.mu.Unlock()
		if s != nil || err != nil {
			return s, err
		}
		if timeout == nil {
			timer := time.NewTimer(a.wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-freed:
		case <-timeout:
			return nil, &FullError{Size: size, Held: held, Limit: a.limit, Wait: a.wait}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// maxResultFraction is the divisor of the limit that bounds the size of the segments with
// copies of results. The rest stays for inputs, whatever isolated workers return.
const maxResultFraction = 2

// tryTake returns a segment of the domain, of at least size bytes and with one reference. It
// returns nil if that is not possible at once. isResult says that it is for a result.
func (a *Arena) tryTake(domain Domain, size int64, isResult bool) *segment {
	if a == nil {
		return nil
	}
	class := sizeClass(size)
	a.mu.Lock()
	defer a.mu.Unlock()
	if isResult && class > a.limit/maxResultFraction-a.copied {
		return nil
	}
	s, err := a.tryTakeLocked(domain, class)
	if err != nil {
		return nil // the arena is closed, or the system has no memory or no descriptors
	}
	if s != nil && isResult {
		s.isResult = true
		a.copied += class
	}
	return s
}

// tryTakeLocked returns a free segment of the domain and the class, or creates one if the
// limit permits. It returns neither a segment nor an error if there is no room.
func (a *Arena) tryTakeLocked(domain Domain, class int64) (*segment, error) {
	if a.closed {
		return nil, os.ErrClosed
	}
	for i := len(a.free) - 1; i >= 0; i-- {
		if s := a.free[i]; s.size() == class && s.domain == domain {
			a.free = append(a.free[:i], a.free[i+1:]...)
			a.idle -= class
			s.hold(1)
			return s, nil
		}
	}
	for len(a.free) > 0 && a.total+class > a.limit {
		a.discardOldestLocked()
	}
	if a.total+class > a.limit {
		return nil, nil
	}
	s, err := createSegment(class, a)
	if err != nil {
		return nil, err
	}
	s.domain = domain
	a.total += class
	s.hold(1)
	return s, nil
}

// discardOldestLocked destroys the free segment that has been free for longest.
func (a *Arena) discardOldestLocked() {
	s := a.free[0]
	a.free = a.free[1:]
	a.idle -= s.size()
	a.total -= s.size()
	s.destroy()
}

const (
	// maxIdleFraction is the divisor of the limit that bounds the size of the free segments.
	maxIdleFraction = 4
	// keepFree is how long a free segment is kept. Sizes differ from call to call, so
	// without this bound the segments of each size would accumulate.
	keepFree = 20 * time.Second
)

// reclaim implements segmentOwner: it makes a segment free.
func (a *Arena) reclaim(s *segment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.refs.Load() > 0 { // it was taken again in the meantime
		return
	}
	if s.isResult {
		s.isResult = false
		a.copied -= s.size()
	}
	s.freeAt = time.Now()
	a.free = append(a.free, s)
	a.idle += s.size()
	for a.closed && len(a.free) > 0 || len(a.free) > 1 && a.idle > a.limit/maxIdleFraction {
		a.discardOldestLocked()
	}
	if !a.timed && len(a.free) > 0 {
		a.timed = true
		time.AfterFunc(keepFree, a.tidy)
	}
	close(a.freed)
	a.freed = make(chan struct{})
}

// tidy destroys the segments that have been free for keepFree.
func (a *Arena) tidy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.free) > 0 && time.Since(a.free[0].freeAt) >= keepFree {
		a.discardOldestLocked()
	}
	if a.timed = len(a.free) > 0; a.timed {
		time.AfterFunc(keepFree-time.Since(a.free[0].freeAt), a.tidy)
	}
}

// Close destroys the segments that are free. The others follow when their last payload is
// released. [Arena.Share] must not be called any more.
func (a *Arena) Close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for len(a.free) > 0 {
		a.discardOldestLocked()
	}
}

// sizeClass rounds a size up by at most a quarter, so that segments of few sizes serve
// buffers of all sizes.
func sizeClass(size int64) int64 {
	const least = 64 << 10
	size = max(size, least)
	step := int64(1) << max(bits.Len64(uint64(size-1))-3, 12)
	return (size + step - 1) / step * step
}

// adopt gives the worker access to the buffers of a payload that are in segments of other
// domains: it makes the payload refer to copies in one segment of the worker's domain, which
// it returns with one reference. If there is no such buffer, or no room for the copies, it
// returns nil. For lack of room, the buffers become inline ones. The original payload must
// not be released before the frame has been written.
func (sh *sharing) adopt(p *Payload) *segment {
	pieces, size := p.piecesIn(func(s *segment) bool { return s.domain != sh.domain })
	if len(pieces) == 0 {
		return nil
	}
	p.Buffers, p.locations = slices.Clone(p.Buffers), slices.Clone(p.locations) // others may send the same payload
	s := sh.arena.tryTake(sh.domain, size, false)
	if s != nil {
		p.copyTo(s, pieces)
		return s
	}
	for _, piece := range pieces {
		for _, i := range piece.buffers {
			p.locations[i] = location{}
		}
	}
	return nil
}

// detach copies the buffers of a received payload that are in segments of the isolated worker
// itself, which can change them at any time, and releases these segments. If the value is for
// others, the copies are in a segment of their domain, and if not, in one of the worker's
// domain. Without a domain, or without room, they are in memory of this process.
func (sh *sharing) detach(p *Payload, forOthers bool) {
	pieces, size := p.piecesIn(func(s *segment) bool { return s.charged == sh })
	if len(pieces) == 0 {
		return
	}
	domain := &sh.domain
	if forOthers {
		domain = sh.results
	}
	var s *segment
	if domain != nil {
		s = sh.arena.tryTake(*domain, size, true)
	}
	if s != nil {
		p.copyTo(s, pieces)
	} else {
		p.copyOut(pieces)
	}
	for _, piece := range pieces {
		n := int64(len(piece.buffers))
		piece.segment.drop(n)
		if s != nil {
			s.hold(n)
		}
	}
	if s != nil {
		s.drop(1)
	}
}

// piece is a part of a segment in which buffers of a payload are. Buffers that overlap are in
// one piece, so that the pieces are never larger than the segments.
type piece struct {
	segment  *segment
	from, to int64
	buffers  []int // the indexes of the buffers
}

// piecesIn returns the pieces that hold the payload's buffers in the chosen segments, and the
// size of a segment with copies of them.
func (p Payload) piecesIn(chosen func(*segment) bool) (pieces []piece, size int64) {
	var order []int
	for i, at := range p.locations {
		if at.segment != nil && chosen(at.segment) {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := p.locations[i], p.locations[j]
		return cmp.Or(cmp.Compare(a.segment.id, b.segment.id), cmp.Compare(a.offset, b.offset))
	})
	for _, i := range order {
		at := p.locations[i]
		end := at.offset + int64(len(p.Buffers[i]))
		if n := len(pieces); n > 0 && pieces[n-1].segment == at.segment && at.offset < pieces[n-1].to {
			last := &pieces[n-1]
			last.to, last.buffers = max(last.to, end), append(last.buffers, i)
			continue
		}
		pieces = append(pieces, piece{at.segment, at.offset, end, []int{i}})
	}
	for _, c := range pieces {
		_, size = c.place(size)
	}
	return pieces, size
}

func (c piece) memory() []byte { return c.segment.view[c.from:c.to] }

// place returns the offsets of the beginning and the end of a copy of the piece, in a segment
// that is used up to an offset. The beginning is aligned as the piece is, and the end is rounded up.
func (c piece) place(used int64) (start, end int64) {
	start = used + c.from%alignment
	return start, aligned(int(start + c.to - c.from))
}

// copyTo copies pieces into a segment and makes their buffers refer to the copies. It counts
// no references.
func (p *Payload) copyTo(s *segment, pieces []piece) {
	start, used := int64(0), int64(0)
	for _, c := range pieces {
		start, used = c.place(used)
		fill(s.view[start:start+c.to-c.from], c.memory())
		for _, i := range c.buffers {
			offset := start + p.locations[i].offset - c.from
			p.locations[i] = location{s, offset}
			p.Buffers[i] = part(s.view, offset, len(p.Buffers[i]))
		}
	}
}

// copyOut copies pieces into memory of this process and makes their buffers refer to the
// copies. Buffers of one piece share its memory.
func (p *Payload) copyOut(pieces []piece) {
	for _, c := range pieces {
		memory := bytes.Clone(c.memory())
		for _, i := range c.buffers {
			p.Buffers[i] = part(memory, p.locations[i].offset-c.from, len(p.Buffers[i]))
			p.locations[i] = location{}
		}
	}
}

// part returns n bytes of memory at an offset, without room to grow.
func part(memory []byte, offset int64, n int) []byte {
	end := offset + int64(n)
	return memory[offset:end:end]
}
