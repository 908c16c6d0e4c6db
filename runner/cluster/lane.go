package cluster

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// lane is one side of a stream between a client and a machine: it sends frames to the other
// side in order, and takes those of the other side in order. Both sides are the same.
//
// A receiver grants credit: how many frames the other side may have sent in total. It grants
// more as its consumer takes frames, so a slow consumer stops the sender, and at most a window
// of frames waits on either side. Ends, failures and checkpoints need no credit.
//
// NATS may lose messages when a server dies. So frames have numbers, a sender keeps those that
// are not acknowledged, and once a second the client tells the machine how many it has sent,
// and the machine answers the same. A side that misses frames asks for them again.
type lane struct {
	post   func(frame []byte) // sends a frame; it does not block
	arrive func(arrival)      // takes a frame that is next, with the lock held
	window int

	// The lock guards the rest. It is that of the owner.
	mu      *sync.Mutex
	changed *sync.Cond // the lane has more credit, or has ended

	sent, acked, allowed uint64   // frames of this side: sent, acknowledged, and allowed by the other side
	kept                 [][]byte // those from acked to sent

	received, taken, granted uint64 // frames of the other side: arrived, taken by the consumer, and allowed
	ended                    bool   // nothing is sent or taken any more

	claimed []arrival // the last frames of this side whose contents are in the value store
}

// arrival is a frame of the other side of a lane.
type arrival struct {
	flags   byte
	sink    string // the node that has returned the value, if the machine sends it
	content []byte // or its name in the value store
}

// Flags of items, besides flagClaimed.
const (
	flagEnd   = 1 << (iota + 4) // no item follows
	flagFault                   // the stream has failed; the content is the failure
	flagSave                    // the machine is to take a checkpoint behind this item
	flagState                   // the content is a checkpoint
)

// Flags of flow frames.
const (
	flagAsk   = 1 << (iota + 4) // the other side is to send its own
	flagAgain                   // the other side is to send its unacknowledged frames again
)

func newLane(mu *sync.Mutex, window int, post func([]byte), arrive func(arrival)) *lane {
	return &lane{post: post, arrive: arrive, window: window, mu: mu, changed: sync.NewCond(mu)}
}

// mayLocked reports whether the other side takes an item.
func (l *lane) mayLocked() bool { return l.sent < l.allowed && !l.ended }

// sendLocked sends a frame; see [lane.mayLocked].
func (l *lane) sendLocked(a arrival) {
	l.sent++
	b := appendHead(make([]byte, 0, len(a.content)+len(a.sink)+wire.PayloadRoom), frameItem, a.flags)
	b = binary.AppendUvarint(b, l.sent)
	b = binary.AppendUvarint(b, uint64(len(a.sink)))
	b = append(append(b, a.sink...), a.content...)
	l.kept = append(l.kept, b)
	l.post(b)
	if a.flags&flagClaimed != 0 {
		// The other side has taken all but the last ones, because it has granted credit.
		l.claimed = append(l.claimed, a)
		l.claimed = l.claimed[max(0, len(l.claimed)-l.window-2):]
	}
}

// flowLocked tells the other side what has arrived here, what it may send, and what was sent.
func (l *lane) flowLocked(flags byte) {
	l.granted = l.taken + uint64(l.window)
	b := appendHead(nil, frameFlow, flags)
	for _, n := range []uint64{l.received, l.granted, l.sent} {
		b = binary.AppendUvarint(b, n)
	}
	l.post(b)
}

// takenLocked notes that the consumer has taken a frame. It grants credit for several at once.
func (l *lane) takenLocked() {
	l.taken++
	if l.granted-l.taken <= uint64(l.window)/2 && !l.ended {
		l.flowLocked(0)
	}
}

// handleLocked processes a frame of the other side.
func (l *lane) handleLocked(kind frameKind, flags byte, c *cursor) {
	if l.ended {
		return
	}
	if kind == frameItem {
		l.itemLocked(flags, c)
		return
	}
	received, allowed, sent := c.uvarint(), c.uvarint(), c.uvarint()
	if c.failed || received > l.sent {
		return
	}
	if received > l.acked {
		n := received - l.acked
		clear(l.kept[:n])
		l.kept = l.kept[n:]
		l.acked = received
	}
	l.allowed = max(l.allowed, allowed)
	if flags&flagAgain != 0 {
		for _, frame := range l.kept {
			l.post(frame)
		}
	}
	switch {
	case sent > l.received: // nothing overtakes, so they are lost
		l.flowLocked(flagAgain)
	case flags&flagAsk != 0, l.granted == 0: // the other side is ready, and has no credit yet
		l.flowLocked(0)
	}
	l.changed.Broadcast()
}

// itemLocked takes an item. One that has arrived before, or whose predecessor has not, is
// dropped.
func (l *lane) itemLocked(flags byte, c *cursor) {
	number := c.uvarint()
	sink := c.take(c.uvarint())
	if c.failed || number != l.received+1 {
		return
	}
	l.received++
	l.arrive(arrival{flags, string(sink), c.rest})
	if flags&(flagEnd|flagFault) != 0 {
		l.flowLocked(0) // an acknowledgment, for which the other side waits
	}
}

// endLocked ends the lane on this side. It returns the contents in the value store that the other
// side may not have taken.
func (l *lane) endLocked() []arrival {
	left := l.claimed
	l.ended, l.kept, l.claimed = true, nil, nil
	l.changed.Broadcast()
	return left
}

// pack returns the frame of a content, which goes to the value store if it is too large for a
// message. Then stored is its name.
func (c *Conn) pack(ctx context.Context, flags byte, sink string, content []byte, room int) (a arrival, stored string, err error) {
	a = arrival{flags, sink, content}
	if int64(len(content)+len(sink)+room) > c.nc.MaxPayload() {
		if stored, err = c.values.Put(ctx, content); err != nil {
			return a, "", err
		}
		a.flags, a.content = flags|flagClaimed, []byte(stored)
	}
	return a, stored, nil
}

// unpack returns the content of a frame.
func (c *Conn) unpack(ctx context.Context, a arrival) ([]byte, error) {
	if a.flags&flagClaimed == 0 {
		return a.content, nil
	}
	return c.values.Take(ctx, string(a.content))
}

// dropAll deletes the contents in the value store of frames that nothing takes.
func (c *Conn) dropAll(all []arrival) {
	for _, a := range all {
		if a.flags&flagClaimed != 0 {
			c.values.Drop(string(a.content))
		}
	}
}

// packValue is pack for a value.
func (c *Conn) packValue(ctx context.Context, flags byte, sink string, p ipc.Payload) (arrival, string, error) {
	size := p.Size() + wire.PayloadRoom + 16*len(p.Buffers)
	return c.pack(ctx, flags, sink, wire.AppendPayload(make([]byte, 0, size), p), wire.PayloadRoom)
}
