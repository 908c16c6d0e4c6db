package ipc

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// sharing is one connection's part in shared memory: the segments that its worker
// owns, and those that its worker was lent.
type sharing struct {
	conn    *Conn
	channel *net.UnixConn

	mu    sync.Mutex
	owned map[uint32]*ownedSegment // by the worker's own numbers
	loans map[uint32]*loan         // by the supervisor's numbers
	back  map[uint32]int64         // mentions that the worker is to be told are over
	gone  []uint32                 // segments that the worker is to forget
	due   atomic.Bool              // there is something to tell the worker; set with mu held
	timed bool                     // a timer will tell it
	ended bool

	rested  time.Time // when a segment of the worker's came to rest last
	tidying bool      // a timer will have the worker tidy up
}

// ownedSegment is a segment of the worker's, and the segment's home.
type ownedSegment struct {
	*Segment
	sharing *sharing
	number  uint32
	// mentions is how often the worker named it since it was last given back.
	mentions int64
}

// loan is a segment that the worker was lent, and how often it was named to it.
type loan struct {
	segment *Segment
	count   int64
}

func newSharing(c *Conn, channel *net.UnixConn) *sharing {
	return &sharing{
		conn: c, channel: channel,
		owned: make(map[uint32]*ownedSegment), loans: make(map[uint32]*loan), back: make(map[uint32]int64),
	}
}

// resolve returns the place and the memory that a descriptor names, held once. It
// is called by whoever reads the connection.
func (sh *sharing) resolve(number uint32, offset, length uint64) (place, []byte, error) {
	s, err := sh.hold(number)
	if err != nil {
		return place{}, nil, err
	}
	if size := uint64(s.Size()); offset > size || length > size-offset {
		s.drop(1)
		return place{}, nil, &ProtocolError{Reason: fmt.Sprintf("a buffer of %d bytes at %d in segment %#x, which has %d", length, offset, number, size)}
	}
	return place{s, int64(offset)}, s.view[offset : offset+length : offset+length], nil
}

func (sh *sharing) hold(number uint32) (*Segment, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended { // by another goroutine, while this frame was being read
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
		if err := sh.takeOver(); err != nil {
			return nil, &ProtocolError{Reason: fmt.Sprintf("the worker names its segment %#x, but does not hand it over: %v", number, err)}
		}
	}
	o := sh.owned[number]
	o.mentions++
	o.hold(1)
	return o.Segment, nil
}

// maxOwned bounds how many segments a worker can make its host map.
const maxOwned = 1 << 14

// takeOver takes the next of the worker's segments; the lock is held.
func (sh *sharing) takeOver() error {
	number, s, err := takeOver(sh.channel)
	switch {
	case err != nil:
		return err
	case number&ownedByWorker == 0, sh.owned[number] != nil, len(sh.owned) >= maxOwned:
		s.destroy()
		return fmt.Errorf("it hands over a segment numbered %#x, its %d. one", number, len(sh.owned)+1)
	}
	o := &ownedSegment{Segment: s, sharing: sh, number: number}
	s.home = o
	sh.owned[number] = o
	return nil
}

// took is told of a segment of the worker's that nobody holds any more.
func (o *ownedSegment) took(*Segment) {
	sh := o.sharing
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// It may have been named again before this came to it.
	if o.refs.Load() == 0 && o.mentions > 0 && !sh.ended {
		sh.back[o.number] += o.mentions
		o.mentions = 0
		sh.tellSoon()
		sh.rested = time.Now()
		sh.tidyLater(tidyTime)
	}
}

// tidyTime is longer than a worker keeps a free segment that it does not need: an
// idle one has no moment of its own to end them.
const tidyTime = restTime + time.Second

// tidyLater sees to it that the worker ends its segments once none has come to rest
// for that long; the lock is held.
func (sh *sharing) tidyLater(after time.Duration) {
	if sh.tidying || sh.ended {
		return
	}
	sh.tidying = true
	time.AfterFunc(after, func() {
		sh.mu.Lock()
		sh.tidying = false
		rest := tidyTime - time.Since(sh.rested)
		if rest > 0 {
			sh.tidyLater(rest)
		}
		idle := rest <= 0 && !sh.ended
		sh.mu.Unlock()
		if idle {
			sh.conn.sendQueued(appendRelease(nil, nil)) // it gives nothing back, but has the worker look
		}
	})
}

// errChannelFull says that too many descriptors are on their way to a worker.
var errChannelFull = errors.New("the channel is full")

// lend takes down that a frame names a segment to the worker, which gets its
// descriptor with the first one.
func (sh *sharing) lend(s *Segment) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended {
		return ErrClosed
	}
	l := sh.loans[s.id]
	if l == nil {
		if err := handOver(sh.channel, s); err != nil {
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

// release handles a worker's release frame.
func (sh *sharing) release(f Frame) error {
	return mentions(f, func(number, n uint64) error {
		sh.mu.Lock()
		l := sh.loans[uint32(number)]
		if number >= ownedByWorker || l == nil || n > uint64(l.count) {
			sh.mu.Unlock()
			return &ProtocolError{Reason: fmt.Sprintf("the worker gives segment %d back %d times, which is more than it was lent", number, n)}
		}
		l.count -= int64(n)
		sh.mu.Unlock()
		l.segment.drop(int64(n))
		return nil
	})
}

// forgotten handles a worker's forget frame: those segments of its own are no more.
func (sh *sharing) forgotten(f Frame) error {
	var numbers []uint32
	if err := unmarshal(f, &numbers); err != nil {
		return err
	}
	for _, number := range numbers {
		sh.mu.Lock()
		o := sh.owned[number]
		delete(sh.owned, number)
		delete(sh.back, number)
		sh.mu.Unlock()
		if o != nil {
			o.orphan()
		}
	}
	return nil
}

// forget has the worker unmap a segment that is no more.
func (sh *sharing) forget(s *Segment) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.ended {
		return
	}
	delete(sh.loans, s.id)
	sh.gone = append(sh.gone, s.id)
	sh.tellSoon()
}

// tellWithin is how long what the worker is to be told may wait for a call to go
// along with.
const tellWithin = 2 * time.Millisecond

// tellSoon sees to it that the worker is told; the lock is held. A timer that runs
// already will do: setting one for each call would wake the scheduler each time.
func (sh *sharing) tellSoon() {
	if sh.ended {
		return
	}
	sh.due.Store(true)
	if sh.timed {
		return
	}
	sh.timed = true
	time.AfterFunc(tellWithin, func() {
		sh.mu.Lock()
		sh.timed = false
		sh.mu.Unlock()
		if frames := sh.news(nil); len(frames) > 0 {
			sh.conn.sendQueued(frames)
		}
	})
}

// news appends the frames that tell the worker what is over, if there are any.
func (sh *sharing) news(frames []byte) []byte {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.due.Store(false)
	if len(sh.back) > 0 {
		frames = appendRelease(frames, sh.back)
		clear(sh.back)
	}
	if len(sh.gone) > 0 {
		frames = appendMessage(frames, TypeForget, sh.gone)
		sh.gone = nil
	}
	return frames
}

func appendMessage(frames []byte, t Type, message any) []byte {
	body, _ := msgpack.Marshal(message) // lists of numbers do not fail
	frames = appendHeader(frames, t, 0, len(body), nil)
	return append(frames, body...)
}

// end gives back all that the worker held, and lets its own segments go.
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
