package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
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
	limit   int64       // bounds bytes
	domain  Domain      // of the worker
	results *Domain     // see SetupShared
	arena   *Arena      // for copies; may be nil
	quota   int         // bounds mapped
	due     atomic.Bool // there are releases or destroyed segments to report; set with mu held

	mu        sync.Mutex
	owned     map[uint32]*ownedSegment // by the worker's own numbers
	mapped    int                      // segments of the worker's that are mapped, including those it has forgotten
	bytes     int64                    // their sizes
	loans     map[uint32]*loan         // by the supervisor's numbers
	lent      int64                    // the sizes of the loans with references
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

// newSharing returns the shared memory of a connection. It takes a quota from segmentQuotas,
// which end gives back.
func newSharing(c *Conn, channel *net.UnixConn, setup *SetupShared) *sharing {
	return &sharing{
		conn: c, channel: channel, limit: setup.Limit, quota: segmentQuotas.take(),
		domain: setup.Domain, results: setup.Results, arena: setup.Arena,
		owned: make(map[uint32]*ownedSegment), loans: make(map[uint32]*loan), releases: make(map[uint32]int64),
	}
}

// lend counts a reference to a segment of the worker's domain in a frame that is about to be
// sent. With the first one it sends the worker the segment's descriptor. Its error is
// errKeepsTooMuch or errChannelFull if the buffer has to go inline.
func (sh *sharing) lend(s *segment) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended {
		return ErrClosed
	}
	l := sh.loans[s.id]
	if (l == nil || l.count == 0) && sh.keepsTooMuchLocked() {
		return errKeepsTooMuch
	}
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
	if l.count++; l.count == 1 {
		sh.lent += s.size()
	}
	s.hold(1)
	s.loaned.Add(1)
	return nil
}

// errKeepsTooMuch reports that a worker has not released what it was lent for earlier calls.
var errKeepsTooMuch = errors.New("the worker keeps too much of what it was lent")

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
	return location{s, int64(d.offset)}, part(s.view, int64(d.offset), int(d.size)), nil
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
	o, err := sh.ownedLocked(number)
	if err != nil {
		return nil, err
	}
	o.references++
	o.hold(1)
	return o.segment, nil
}

// ownedLocked returns the worker's segment with the given number. It first receives the
// segments that the worker has sent, up to that one.
func (sh *sharing) ownedLocked(number uint32) (*ownedSegment, error) {
	for sh.owned[number] == nil {
		switch err := sh.receiveLocked(); {
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENOMEM): // not the worker's fault
			return nil, fmt.Errorf("receive the worker's segment %#x: %w", number, err)
		case err != nil:
			return nil, &ProtocolError{Reason: fmt.Sprintf("the worker names its segment %#x, but sends no valid descriptor of it: %v", number, err)}
		}
	}
	return sh.owned[number], nil
}

// errNotTransferred reports that no segment is waiting on a channel.
var errNotTransferred = errors.New("no descriptor has arrived")

// receiveLocked receives the next of the worker's segments from the channel, without
// blocking. It maps the segment only if the worker's limit and quota permit.
func (sh *sharing) receiveLocked() error {
	t, err := receiveTransfer(sh.channel)
	if err != nil {
		return err
	}
	if err := sh.admitLocked(t); err != nil {
		closeAside(t.file)
		return err
	}
	s, err := t.open()
	if err != nil {
		return err
	}
	o := &ownedSegment{segment: s, sharing: sh, number: t.number}
	s.owner, s.charged, s.domain = o, sh, sh.domain
	sh.owned[t.number] = o
	sh.mapped++
	sh.bytes += s.size()
	return nil
}

// admitLocked refuses a segment that may not be mapped. A sparse segment counts by its size,
// because reading it allocates the memory.
func (sh *sharing) admitLocked(t transfer) error {
	switch {
	case t.number&ownedByWorker == 0:
		return fmt.Errorf("it sends a segment numbered %#x, which is not a worker's number", t.number)
	case sh.owned[t.number] != nil:
		return fmt.Errorf("it sends two segments numbered %#x", t.number)
	case sh.mapped >= sh.quota:
		return fmt.Errorf("it sends one segment more than the %d that it may have", sh.quota)
	case t.size > uint64(sh.limit-sh.bytes):
		return fmt.Errorf("it sends a segment of %d bytes, and its others have %d of the %d that it may share", t.size, sh.bytes, sh.limit)
	}
	return nil
}

// refund takes a segment that was destroyed out of the worker's account.
func (sh *sharing) refund(size int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.mapped--
	sh.bytes -= size
	if sh.ended {
		segmentQuotas.give(1)
	}
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

// release handles a release frame of the worker's, which returns references to loans. Each
// entry releases at least one reference: a release of none would return a segment without
// references to its owner again, which might have lent it to another call by then.
func (sh *sharing) release(f frame) error {
	return eachRelease(f, func(number, n uint64) error {
		l, err := sh.takeBack(number, n)
		if err != nil {
			return err
		}
		l.segment.drop(int64(n))
		return nil
	})
}

// takeBack reduces the worker's references to a loan by n, and returns the loan.
func (sh *sharing) takeBack(number, n uint64) (*loan, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var l *loan
	if number < ownedByWorker {
		l = sh.loans[uint32(number)]
	}
	switch {
	case sh.ended:
		return nil, ErrClosed
	case l == nil:
		return nil, &ProtocolError{Reason: fmt.Sprintf("the worker releases segment %d, which it was not lent", number)}
	case n == 0:
		return nil, &ProtocolError{Reason: fmt.Sprintf("the worker releases no reference to segment %d", number)}
	case n > uint64(l.count):
		return nil, &ProtocolError{Reason: fmt.Sprintf("the worker releases segment %d %d times, which is more than it was lent: it holds %d", number, n, l.count)}
	}
	if l.count -= int64(n); l.count == 0 {
		sh.lent -= l.segment.size()
	}
	l.segment.loaned.Add(-int64(n))
	return l, nil
}

// forgotten handles a forget frame of the worker's, which has destroyed segments that it
// owns. The worker can only forget what it has sent, once.
func (sh *sharing) forgotten(f frame) error {
	c := cursor{b: f.Body}
	count, ok := c.tokenOf(tokArray)
	for range count {
		number, isUint := c.tokenOf(tokUint)
		if !isUint || number > math.MaxUint32 {
			return errInvalidForget
		}
		o, err := sh.disown(uint32(number))
		if err != nil {
			return err
		}
		o.orphan()
	}
	if !ok || c.i != len(c.b) {
		return errInvalidForget
	}
	return nil
}

// disown removes a segment from those that the worker owns, and returns it.
func (sh *sharing) disown(number uint32) (*ownedSegment, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended {
		return nil, ErrClosed
	}
	if number&ownedByWorker == 0 {
		return nil, &ProtocolError{Reason: fmt.Sprintf("the worker forgets segment %d, which is not its own", number)}
	}
	o, err := sh.ownedLocked(number)
	if err != nil {
		return nil, err
	}
	delete(sh.owned, number)
	delete(sh.releases, number)
	return o, nil
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
	segmentQuotas.give(sh.quota - sh.mapped) // refund gives the rest
	sh.mu.Unlock()
	closeAside(sh.channel) // descriptors that the worker has sent may wait in it
	for _, l := range loans {
		l.segment.mu.Lock()
		delete(l.segment.holders, sh)
		l.segment.mu.Unlock()
		if l.count > 0 {
			l.segment.loaned.Add(-l.count)
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

var (
	errInvalidRelease = &ProtocolError{Reason: "the body of a release frame is not an array of segments and counts"}
	errInvalidForget  = &ProtocolError{Reason: "the body of a forget frame is not an array of segments"}
)
