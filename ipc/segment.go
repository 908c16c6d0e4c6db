package ipc

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// segment is a piece of shared memory: a nameless file of a sealed size. Its descriptor
// is sent to each worker at most once; buffers inside it cross the socket as a segment
// number, an offset and a length.
//
// Only its owner can write to it, by the mapping that the owner made before it sealed the
// file. A segment of the supervisor's belongs to one domain for life; see [Domain].
//
// A segment is reference counted. Each payload that names it holds it, and so does each
// buffer reference that a worker has not released. When the count reaches 0, the
// segment returns to its owner.
type segment struct {
	id   uint32 // the supervisor's number of the segment
	file *os.File
	view []byte // the whole segment, mapped; read-only if a worker owns it

	domain Domain // of the workers that it may be lent to

	refs   atomic.Int64
	loaned atomic.Int64 // those of refs that are loans to workers
	// Guarded by the lock of the arena.
	freeAt   time.Time // when it became free
	isResult bool      // it holds the copy of a result

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

// newSegment returns the segment in a file that is mapped. It takes ownership of both.
func newSegment(file *os.File, view []byte, owner segmentOwner) *segment {
	id := lastSegment.Add(1) &^ ownedByWorker
	return &segment{id: id, file: file, view: view, owner: owner, holders: make(map[*sharing]bool)}
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

// isKept reports whether only loans hold the segment: the calls for which it was lent have
// ended, and workers have not released it.
func (s *segment) isKept() bool {
	loaned := s.loaned.Load()
	return loaned > 0 && s.refs.Load() == loaned && s.loaned.Load() == loaned
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

// maxKeptFraction is the divisor of the limit that bounds the memory which a worker may keep
// after the calls for which it was lent.
const maxKeptFraction = 4

// keepsTooMuchLocked reports whether the worker keeps so much that it is lent no further
// segment. Loans of calls that have not ended do not count. A single segment may be larger,
// because its release may be on its way.
func (sh *sharing) keepsTooMuchLocked() bool {
	allowed := sh.limit / maxKeptFraction
	if sh.lent <= allowed {
		return false
	}
	kept, segments := int64(0), 0
	for _, l := range sh.loans {
		if l.count > 0 && l.segment.isKept() {
			kept += l.segment.size()
			segments++
		}
	}
	return segments > 1 && kept > allowed
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
		closeAside(t.file)
		return nil, err
	}
	view, err := mapSegment(t.file, int64(t.size), false)
	if err != nil {
		_ = t.file.Close()
		return nil, err
	}
	return newSegment(t.file, view, nil), nil
}

// quotas divides the descriptors that this process can spend on the segments of workers. A
// worker's quota is reserved when it connects, so no worker can use up that of another one.
type quotas struct {
	limit func() uint64 // the descriptors that the process may have open

	mu       sync.Mutex
	reserved int
}

var segmentQuotas = quotas{limit: openFileLimit}

const (
	// quotaPart is the part of the descriptors for segments that one worker may have. They
	// are half of those that the process may have. When they are all reserved, further
	// workers own no segments.
	quotaPart = 64
	// leastQuota and mostQuota bound a quota.
	leastQuota, mostQuota = 8, 128
	// mostSegments bounds the segments of all workers, because mappings are limited, too:
	// Linux allows 65,530 in a process by default.
	mostSegments = 1 << 15
)

// take reserves the quota of one worker and returns it: how many segments the worker may own.
func (q *quotas) take() int {
	total := int(min(q.limit()/2, mostSegments))
	q.mu.Lock()
	defer q.mu.Unlock()
	n := max(0, min(max(total/quotaPart, leastQuota), mostQuota, total-q.reserved))
	q.reserved += n
	return n
}

// give returns n descriptors that were reserved.
func (q *quotas) give(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserved -= n
}
