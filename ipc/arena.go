package ipc

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"sync"
	"time"
)

// SharedFrom is the size in bytes from which a buffer travels in shared memory.
// Below it, the socket is as fast.
const SharedFrom = 128 << 10

// Arena is the shared memory that the supervisor itself owns: it holds what Go
// programs hand to Python nodes. Its segments are used again. A nil *Arena shares
// nothing. It is safe for concurrent use.
type Arena struct {
	limit int64
	wait  time.Duration

	mu     sync.Mutex
	free   []*Segment    // the one used last is at the end
	total  int64         // bytes of all segments
	idle   int64         // bytes of the free ones
	freed  chan struct{} // closed, and replaced, when a segment comes back
	timed  bool          // a timer will tidy up
	closed bool
}

// NewArena returns an arena whose segments take at most limit bytes, nil where that
// is 0. Who finds it full waits that long for room.
func NewArena(limit int64, wait time.Duration) *Arena {
	if limit <= 0 {
		return nil
	}
	return &Arena{limit: limit, wait: wait, freed: make(chan struct{})}
}

// FullError says that there was no room in shared memory within the time allowed.
type FullError struct {
	// Size is what was asked for, Held what is in use, and Limit what there is, in bytes.
	Size, Held, Limit int64
	Wait              time.Duration
}

func (e *FullError) Error() string {
	return fmt.Sprintf("shared memory is full: %d MiB of %d MiB are in use, and there was no room for %d MiB within %v",
		e.Held>>20, e.Limit>>20, e.Size>>20, e.Wait)
}

// Share moves the payload's large buffers into shared memory, into one segment
// and once, whoever the payload is sent to; the caller owes the result a
// [Payload.Release]. Where the system has no shared memory, the payload stays as it
// is. Its error is a *[FullError], a *[ValueError], or the context's.
func (a *Arena) Share(ctx context.Context, p Payload) (Payload, error) {
	if a == nil || p.places != nil {
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
	shared := Payload{Body: p.Body, Buffers: slices.Clone(p.Buffers), places: make([]place, len(p.Buffers))}
	offset := int64(0)
	for i, buffer := range p.Buffers {
		if len(buffer) < SharedFrom {
			continue
		}
		shared.places[i] = place{s, offset}
		shared.Buffers[i] = s.view[offset : offset+int64(len(buffer)) : offset+int64(len(buffer))]
		fill(shared.Buffers[i], buffer)
		offset += aligned(len(buffer))
	}
	return shared, nil
}

// Up to warm, a buffer and the segment that it is copied to fit into the caches of
// most machines. A copy of less than a piece goes through them.
const (
	warm  = 8 << 20
	piece = 256 << 10
)

// fill copies a buffer into a segment. What is not too large is copied in pieces: Go
// has one large copy go past the caches, but a segment that is used again is in them
// still, and its reader is to find the new data there.
func fill(segment, buffer []byte) {
	if len(buffer) > warm {
		copy(segment, buffer)
		return
	}
	for part := range slices.Chunk(buffer, piece) {
		segment = segment[copy(segment, part):]
	}
}

// aligned rounds up to what vector instructions like their data to begin at.
func aligned(n int) int64 { return (int64(n) + 63) &^ 63 }

// take returns a segment for size bytes, held once.
func (a *Arena) take(ctx context.Context, size int64) (*Segment, error) {
	class := sizeClass(size)
	if class > a.limit {
		return nil, &ValueError{Path: "input", Reason: fmt.Sprintf("it takes %d MiB of shared memory, more than the limit of %d MiB", class>>20, a.limit>>20)}
	}
	var patience <-chan time.Time
	for {
		a.mu.Lock()
		s, err := a.try(class)
		held, freed := a.total-a.idle, a.freed
		a.mu.Unlock()
		if s != nil || err != nil {
			return s, err
		}
		if patience == nil {
			timer := time.NewTimer(a.wait)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-freed:
		case <-patience:
			return nil, &FullError{Size: size, Held: held, Limit: a.limit, Wait: a.wait}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// try returns a free segment of the class, or makes one where the limit leaves room
// for it; the lock is held. Neither segment nor error means that there is no room.
func (a *Arena) try(class int64) (*Segment, error) {
	if a.closed {
		return nil, os.ErrClosed
	}
	for i := len(a.free) - 1; i >= 0; i-- {
		if s := a.free[i]; s.Size() == class {
			a.free = append(a.free[:i], a.free[i+1:]...)
			a.idle -= class
			s.hold(1)
			return s, nil
		}
	}
	for len(a.free) > 0 && a.total+class > a.limit {
		a.discard()
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

// discard ends the free segment that was used longest ago; the lock is held.
func (a *Arena) discard() {
	s := a.free[0]
	a.free = a.free[1:]
	a.idle -= s.Size()
	a.total -= s.Size()
	s.destroy()
}

const (
	// spareShare is the part of the limit that free segments may keep.
	spareShare = 4
	// restTime is how long a free segment is kept that nobody needs. Sizes differ
	// from call to call, and without an end each would leave its segments behind.
	restTime = 20 * time.Second
)

// took takes a segment back that nobody holds any more.
func (a *Arena) took(s *Segment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.refs.Load() > 0 { // taken again, before this came to it
		return
	}
	s.rested = time.Now()
	a.free = append(a.free, s)
	a.idle += s.Size()
	for a.closed && len(a.free) > 0 || len(a.free) > 1 && a.idle > a.limit/spareShare {
		a.discard()
	}
	if !a.timed && len(a.free) > 0 {
		a.timed = true
		time.AfterFunc(restTime, a.tidy)
	}
	close(a.freed)
	a.freed = make(chan struct{})
}

// tidy ends the segments that nobody has needed for a while.
func (a *Arena) tidy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.free) > 0 && time.Since(a.free[0].rested) >= restTime {
		a.discard()
	}
	if a.timed = len(a.free) > 0; a.timed {
		time.AfterFunc(restTime-time.Since(a.free[0].rested), a.tidy)
	}
}

// Close ends the segments that nobody holds; the others follow when they come back.
func (a *Arena) Close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for len(a.free) > 0 {
		a.discard()
	}
}

// sizeClass rounds a size up by a quarter at most, so that a few sizes of segments
// serve all buffers.
func sizeClass(size int64) int64 {
	const least = 64 << 10
	size = max(size, least)
	step := int64(1) << max(bits.Len64(uint64(size-1))-3, 12)
	return (size + step - 1) / step * step
}
