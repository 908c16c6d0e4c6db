package ipc

import (
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

// segment is a piece of shared memory: a nameless file of a sealed size. Its descriptor
// is sent to each worker at most once; buffers inside it cross the socket as a segment
// number, an offset and a length.
//
// A segment is reference counted. Each payload that names it holds it, and so does each
// buffer reference that a worker has not released. When the count reaches 0, the
// segment returns to its owner.
type segment struct {
	id   uint32 // the supervisor's number of the segment
	file *os.File
	view []byte // the whole segment, mapped

	refs   atomic.Int64
	freeAt time.Time // when it became free; guarded by the lock of the arena

	charged *sharing // the connection whose worker it counts against; nil for the supervisor's own

	mu        sync.Mutex
	owner     segmentOwner      // nil once the owner is gone
	holders   map[*sharing]bool // the connections whose workers have its descriptor
	destroyed bool
}

// segmentOwner receives a segment back when its reference count reaches 0. By the time
// that reclaim runs, the segment may be in use again.
type segmentOwner interface{ reclaim(*segment) }

// ownedByWorker is the bit that is set in the numbers of the segments that workers own.
const ownedByWorker = 1 << 31

var lastSegment atomic.Uint32

// newSegment maps a descriptor of size bytes. It takes ownership of the file.
func newSegment(file *os.File, size int64, owner segmentOwner) (*segment, error) {
	view, err := mapSegment(file, size)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	id := lastSegment.Add(1) &^ ownedByWorker
	return &segment{id: id, file: file, view: view, owner: owner, holders: make(map[*sharing]bool)}, nil
}

// size returns the segment's size in bytes.
func (s *segment) size() int64 { return int64(len(s.view)) }

// hold adds n references.
func (s *segment) hold(n int64) { s.refs.Add(n) }

// drop removes n references. The last one returns the segment to its owner, or destroys
// it if the owner is gone.
func (s *segment) drop(n int64) {
	switch left := s.refs.Add(-n); {
	case left < 0:
		panic(fmt.Sprintf("ipc: segment %d was released %d times too often", s.id, -left))
	case left > 0:
		return
	}
	s.mu.Lock()
	owner := s.owner
	s.mu.Unlock()
	if owner != nil {
		owner.reclaim(s)
	} else {
		s.destroy()
	}
}

// orphan records that the owner is gone. The last reference then destroys the segment.
func (s *segment) orphan() {
	s.hold(1)
	s.mu.Lock()
	s.owner = nil
	s.mu.Unlock()
	s.drop(1)
}

// destroy unmaps a segment without references, and makes the workers forget it. Only the
// first call has an effect: while one goroutine drops the last reference, another may orphan
// the segment, and both then find that it has neither references nor an owner.
func (s *segment) destroy() {
	s.mu.Lock()
	holders, again := s.holders, s.destroyed
	s.holders, s.destroyed = nil, true
	s.mu.Unlock()
	if again {
		return
	}
	for holder := range holders {
		holder.forget(s)
	}
	_ = unmapSegment(s.view)
	_ = s.file.Close()
	if s.charged != nil {
		s.charged.refund(s.size())
	}
}

// transfer is a segment as its owner has sent it: not yet checked nor mapped.
type transfer struct {
	number uint32 // the owner's number
	size   uint64 // as the owner claims
	file   *os.File
}

// open checks and maps the segment. It takes ownership of the file, also if it fails.
func (t transfer) open() (*segment, error) {
	if err := checkSegment(t.file, t.size); err != nil {
		_ = t.file.Close()
		return nil, err
	}
	return newSegment(t.file, int64(t.size), nil)
}

// SharedFrom is the size in bytes from which a buffer travels in shared memory. For a
// smaller one, the socket is as fast.
const SharedFrom = 128 << 10

// Arena is the shared memory that the supervisor itself owns. It holds the large values
// that Go programs send to Python nodes, and reuses its segments. It is safe for
// concurrent use. A nil *Arena shares nothing.
type Arena struct {
	limit int64
	wait  time.Duration

	mu     sync.Mutex
	free   []*segment    // the segments without references; the last one was used last
	total  int64         // bytes of all segments
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
// can be sent to any number of workers, and must be released by [Payload.Release]. Share
// returns the payload as it is if it has no large buffers, or if the system does not
// support shared memory. It blocks while the arena is full. Its error is a *[FullError], a
// *[ValueError] if the payload is larger than the limit, or the cause of the context's end.
func (a *Arena) Share(ctx context.Context, p Payload) (Payload, error) {
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
	s, err := a.take(ctx, size)
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
		shared.Buffers[i] = s.view[offset : offset+int64(len(buffer)) : offset+int64(len(buffer))]
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

// aligned rounds n up to an alignment that suits vector instructions.
func aligned(n int) int64 { return (int64(n) + 63) &^ 63 }

// take returns a segment of at least size bytes with one reference. It blocks while the
// arena is full.
func (a *Arena) take(ctx context.Context, size int64) (*segment, error) {
	class := sizeClass(size)
	if class > a.limit {
		return nil, &ValueError{Path: "input", Reason: fmt.Sprintf("it takes %d MiB of shared memory, more than the limit of %d MiB", class>>20, a.limit>>20)}
	}
	var timeout <-chan time.Time
	for {
		a.mu.Lock()
		s, err := a.tryTakeLocked(class)
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

// tryTakeLocked returns a free segment of the class, or creates one if the limit permits.
// It returns neither a segment nor an error if there is no room.
func (a *Arena) tryTakeLocked(class int64) (*segment, error) {
	if a.closed {
		return nil, os.ErrClosed
	}
	for i := len(a.free) - 1; i >= 0; i-- {
		if s := a.free[i]; s.size() == class {
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
