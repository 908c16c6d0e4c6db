package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// sharing is the shared memory of one connection: the segments that its worker owns, and
// the loans, which are segments of other owners that were lent to the worker.
//
//	segment            count of buffer references   returned by
//	lent to worker     loan.count                   the worker's release frame, or end
//	owned by worker    ownedSegment.references      reclaim, in a release frame to the worker
//
// Release and forget frames to the worker are collected here. They are sent with the next
// small frame or, if there is none, by a timer.
type sharing struct {
	conn    *Conn
	channel *net.UnixConn
	due     atomic.Bool // there are releases or destroyed segments to report; set with mu held

	mu        sync.Mutex
	owned     map[uint32]*ownedSegment // by the worker's own numbers
	loans     map[uint32]*loan         // by the supervisor's numbers
	releases  map[uint32]int64         // references to the worker's segments that have been released, but not yet reported
	destroyed []uint32                 // segments that the worker must forget
	timed     bool                     // a timer will report what is due
	ended     bool

	freeAt  time.Time // when the last of the worker's segments became free
	tidying bool      // a timer will make the worker tidy up
}

// ownedSegment is a segment of the worker's. It is the owner of the mapped segment.
type ownedSegment struct {
	*segment
	sharing    *sharing
	number     uint32
	references int64 // by the worker's frames since references were last released
}

// loan is a segment that was lent to the worker, and how many references to it the worker
// has not released.
type loan struct {
	segment *segment
	count   int64
}

func newSharing(c *Conn, channel *net.UnixConn) *sharing {
	return &sharing{
		conn: c, channel: channel,
		owned: make(map[uint32]*ownedSegment), loans: make(map[uint32]*loan), releases: make(map[uint32]int64),
	}
}

// lend counts a reference to a segment in a frame that is about to be sent. With the first
// one it sends the worker the segment's descriptor.
func (sh *sharing) lend(s *segment) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended {
		return ErrClosed
	}
	l := sh.loans[s.id]
	if l == nil {
		if err := sendSegment(sh.channel, s); err != nil {
			return err
		}
		l = &loan{segment: s}
		sh.loans[s.id] = l
		s.mu.Lock()
		s.holders[sh] = true
		s.mu.Unlock()
	}
	l.count++
	s.hold(1)
	return nil
}

// errChannelFull reports that too many descriptors are in transit to a worker.
var errChannelFull = errors.New("the channel is full")

// resolve returns the location and the memory that a descriptor in a frame of the worker's
// names, and adds a reference to the segment. Only the reader of the connection calls it.
func (sh *sharing) resolve(d descriptor) (location, []byte, error) {
	s, err := sh.hold(d.segment)
	if err != nil {
		return location{}, nil, err
	}
	if size := uint64(s.size()); d.offset > size || d.size > size-d.offset {
		s.drop(1)
		return location{}, nil, &ProtocolError{Reason: fmt.Sprintf("a buffer of %d bytes at %d in segment %#x, which has %d", d.size, d.offset, d.segment, size)}
	}
	return location{s, int64(d.offset)}, s.view[d.offset : d.offset+d.size : d.offset+d.size], nil
}

// hold returns the segment with the given number and adds a reference to it. A segment of
// the worker's is received from the channel first if it is new.
func (sh *sharing) hold(number uint32) (*segment, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended { // the connection ended while this frame was being read
		return nil, ErrClosed
	}
	if number&ownedByWorker == 0 {
		l := sh.loans[number]
		if l == nil || l.count == 0 {
			return nil, &ProtocolError{Reason: fmt.Sprintf("the worker names segment %d, which it was not lent", number)}
		}
		l.segment.hold(1)
		return l.segment, nil
	}
	for sh.owned[number] == nil {
		if err := sh.receiveLocked(); err != nil {
			return nil, &ProtocolError{Reason: fmt.Sprintf("the worker names its segment %#x, but does not send its descriptor: %v", number, err)}
		}
	}
	o := sh.owned[number]
	o.references++
	o.hold(1)
	return o.segment, nil
}

// maxOwned bounds how many segments a worker can make the supervisor map.
const maxOwned = 1 << 14

// receiveLocked receives the next of the worker's segments from the channel.
func (sh *sharing) receiveLocked() error {
	number, s, err := receiveSegment(sh.channel)
	switch {
	case err != nil:
		return err
	case number&ownedByWorker == 0, sh.owned[number] != nil, len(sh.owned) >= maxOwned:
		s.destroy()
		return fmt.Errorf("it sends a segment numbered %#x when it has %d", number, len(sh.owned))
	}
	o := &ownedSegment{segment: s, sharing: sh, number: number}
	s.owner = o
	sh.owned[number] = o
	return nil
}

// reclaim implements segmentOwner: it releases the references of the worker's frames.
func (o *ownedSegment) reclaim(*segment) {
	sh := o.sharing
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// The worker may have referred to it again in the meantime.
	if o.refs.Load() == 0 && o.references > 0 && !sh.ended {
		sh.releases[o.number] += o.references
		o.references = 0
		sh.reportSoonLocked()
		sh.freeAt = time.Now()
		sh.tidyLaterLocked(tidyAfter)
	}
}

// tidyAfter is longer than a worker keeps a free segment. An idle worker executes no code
// that could destroy its free segments.
const tidyAfter = keepFree + time.Second

// tidyLaterLocked makes the worker destroy its free segments once none of them has become
// free for tidyAfter.
func (sh *sharing) tidyLaterLocked(after time.Duration) {
	if sh.tidying || sh.ended {
		return
	}
	sh.tidying = true
	time.AfterFunc(after, func() {
		sh.mu.Lock()
		sh.tidying = false
		rest := tidyAfter - time.Since(sh.freeAt)
		if rest > 0 {
			sh.tidyLaterLocked(rest)
		}
		idle := rest <= 0 && !sh.ended
		sh.mu.Unlock()
		if idle {
			sh.conn.sendQueued(appendRelease(nil, nil)) // it releases nothing, but the worker tidies up
		}
	})
}

// release handles a release frame of the worker's, which returns references to loans.
func (sh *sharing) release(f frame) error {
	return eachRelease(f, func(number, n uint64) error {
		sh.mu.Lock()
		l := sh.loans[uint32(number)]
		if number >= ownedByWorker || l == nil || n > uint64(l.count) {
			sh.mu.Unlock()
			return &ProtocolError{Reason: fmt.Sprintf("the worker releases segment %d %d times, which is more than it was lent", number, n)}
		}
		l.count -= int64(n)
		sh.mu.Unlock()
		l.segment.drop(int64(n))
		return nil
	})
}

// forgotten handles a forget frame of the worker's, which has destroyed segments that it
// owns.
func (sh *sharing) forgotten(f frame) error {
	var numbers []uint32
	if err := unmarshal(f, &numbers); err != nil {
		return err
	}
	for _, number := range numbers {
		sh.mu.Lock()
		o := sh.owned[number]
		delete(sh.owned, number)
		delete(sh.releases, number)
		sh.mu.Unlock()
		if o != nil {
			o.orphan()
		}
	}
	return nil
}

// forget makes the worker unmap a segment that has been destroyed.
func (sh *sharing) forget(s *segment) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended {
		return
	}
	delete(sh.loans, s.id)
	sh.destroyed = append(sh.destroyed, s.id)
	sh.reportSoonLocked()
}

// reportWithin is how long releases and forgotten segments may wait for a frame with
// which they can be sent.
const reportWithin = 2 * time.Millisecond

// reportSoonLocked makes the releases and destroyed segments be sent within reportWithin. It
// reuses a timer that is running: setting one for each call would wake the scheduler
// each time.
func (sh *sharing) reportSoonLocked() {
	if sh.ended {
		return
	}
	sh.due.Store(true)
	if sh.timed {
		return
	}
	sh.timed = true
	time.AfterFunc(reportWithin, func() {
		sh.mu.Lock()
		sh.timed = false
		sh.mu.Unlock()
		if frames := sh.appendDue(nil); len(frames) > 0 {
			sh.conn.sendQueued(frames)
		}
	})
}

// appendDue appends the frames that report releases and destroyed segments, if there are any.
func (sh *sharing) appendDue(frames []byte) []byte {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.due.Store(false)
	if len(sh.releases) > 0 {
		frames = appendRelease(frames, sh.releases)
		clear(sh.releases)
	}
	if len(sh.destroyed) > 0 {
		body, _ := msgpack.Marshal(sh.destroyed) // a list of numbers does not fail
		frames = append(appendHeader(frames, header{kind: frameForget}, len(body), Payload{}), body...)
		sh.destroyed = nil
	}
	return frames
}

// end returns all loans and abandons the worker's own segments to their remaining holders.
func (sh *sharing) end() {
	sh.mu.Lock()
	sh.ended = true
	loans, owned := sh.loans, sh.owned
	sh.loans, sh.owned = nil, nil
	sh.mu.Unlock()
	_ = sh.channel.Close()
	for _, l := range loans {
		l.segment.mu.Lock()
		delete(l.segment.holders, sh)
		l.segment.mu.Unlock()
		if l.count > 0 {
			l.segment.drop(l.count)
		}
	}
	for _, o := range owned {
		o.orphan()
	}
}

// Most calls with large data are accompanied by a release frame, so these frames are
// encoded and decoded by hand.

// appendRelease appends a release frame with the number of released references of each
// segment.
func appendRelease(frames []byte, released map[uint32]int64) []byte {
	body := make([]byte, 0, 64)
	body = append(body, msgpcode.Array32)
	body = binary.BigEndian.AppendUint32(body, uint32(len(released)))
	for number, n := range released {
		body = append(body, msgpcode.FixedArrayLow|2, msgpcode.Uint32)
		body = binary.BigEndian.AppendUint32(body, number)
		body = append(body, msgpcode.Uint64)
		body = binary.BigEndian.AppendUint64(body, uint64(n))
	}
	return append(appendHeader(frames, header{kind: frameRelease}, len(body), Payload{}), body...)
}

// eachRelease calls released for each segment in a release frame, with the number of
// references that are released.
func eachRelease(f frame, released func(number, n uint64) error) error {
	c := cursor{b: f.Body}
	count, ok := c.tokenOf(tokArray)
	for range count {
		parts, pair := c.tokenOf(tokArray)
		number, first := c.tokenOf(tokUint)
		n, second := c.tokenOf(tokUint)
		if !pair || parts != 2 || !first || !second {
			return errInvalidRelease
		}
		if err := released(number, n); err != nil {
			return err
		}
	}
	if !ok || c.i != len(c.b) {
		return errInvalidRelease
	}
	return nil
}

// tokenOf reads a token, returns its number, length or count, and reports whether it is of
// the given kind.
func (c *cursor) tokenOf(kind tokenKind) (uint64, bool) {
	t, err := c.token()
	return t.n, err == nil && t.kind == kind
}

var errInvalidRelease = &ProtocolError{Reason: "the body of a release frame is not an array of segments and counts"}
