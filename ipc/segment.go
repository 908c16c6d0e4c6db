package ipc

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Segment is a piece of shared memory: a file without a name, of a settled size,
// whose descriptor is handed to each worker once. What lies in it crosses the
// socket as a number, an offset and a length.
//
// A segment is counted: each payload that names it, and each mention that a
// worker has not given back, holds it. When nobody does, it goes home.
type Segment struct {
	id   uint32 // by which the supervisor's workers know it
	file *os.File
	view []byte // all of it, mapped

	refs   atomic.Int64
	rested time.Time // when nobody held it any more; the arena's

	mu      sync.Mutex
	home    home              // nil where its owner is gone
	holders map[*sharing]bool // the connections whose workers have its descriptor
}

// home is where a segment goes that nobody holds any more: its owner.
type home interface{ took(*Segment) }

// ownedByWorker is the bit of the numbers that workers give to their own segments.
const ownedByWorker = 1 << 31

var lastSegment atomic.Uint32

// newSegment maps a descriptor of size bytes, which it takes over.
func newSegment(file *os.File, size int64, owner home) (*Segment, error) {
	view, err := mapSegment(file, size)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	id := lastSegment.Add(1) &^ ownedByWorker
	return &Segment{id: id, file: file, view: view, home: owner, holders: make(map[*sharing]bool)}, nil
}

// Size returns the segment's size in bytes.
func (s *Segment) Size() int64 { return int64(len(s.view)) }

func (s *Segment) hold(n int64) { s.refs.Add(n) }

// drop gives n holds back.
func (s *Segment) drop(n int64) {
	switch left := s.refs.Add(-n); {
	case left < 0:
		panic(fmt.Sprintf("ipc: segment %d was given back %d times too often", s.id, -left))
	case left > 0:
		return
	}
	s.mu.Lock()
	owner := s.home
	s.mu.Unlock()
	if owner != nil {
		owner.took(s)
	} else {
		s.destroy()
	}
}

// orphan says that the owner is gone: the segment ends with its last hold.
func (s *Segment) orphan() {
	s.hold(1)
	s.mu.Lock()
	s.home = nil
	s.mu.Unlock()
	s.drop(1)
}

// destroy unmaps a segment that nobody holds, and has the workers forget it.
func (s *Segment) destroy() {
	s.mu.Lock()
	holders := s.holders
	s.holders = nil
	s.mu.Unlock()
	for holder := range holders {
		holder.forget(s)
	}
	_ = unmapSegment(s.view)
	_ = s.file.Close()
}

// place is where one buffer of a payload lies in shared memory. The zero place is
// that of a buffer in this process's own.
type place struct {
	segment *Segment
	offset  int64
}

// Release gives the shared memory of the payload's buffers back. Afterwards the
// payload, and what was decoded from it by [Payload.View], must not be used.
// Payloads without shared memory need no release, and it does them no harm.
func (p Payload) Release() {
	for _, at := range p.places {
		if at.segment != nil {
			at.segment.drop(1)
		}
	}
}

// at returns the place of the payload's i-th buffer.
func (p Payload) at(i int) place {
	if p.places == nil {
		return place{}
	}
	return p.places[i]
}
