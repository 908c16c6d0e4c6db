package cluster

import (
	"encoding/binary"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// outbox sends the calls of a client, or the answers of a machine, in the order in which they were
// added. One goroutine sends those that are added at about the same time: small ones with the same
// receiver as a group, which is one message. A message costs both sides and the server more than
// what a small call says, and if each call sent its own, most writes would have one message.
type outbox struct {
	conn *nats.Conn
	kind frameKind // of groups
	// address returns the subjects of a group.
	address func(receiver string, members []mail) (subject, reply string)
	failed  func(members []mail, err error)
	wake    chan struct{}
	groups  []group // of the goroutine: those that are being made
	frame   []byte  // of the goroutine: for a group

	mu     sync.Mutex
	queue  []mail
	number uint64 // of the last message
	closed bool   // there is no goroutine any more
}

// mail is a message of its own, or a member of a group.
type mail struct {
	subject, reply string
	data           []byte
	// receiver is the subject or inbox of the groups that the message may be in, and name that of its
	// call. Both are empty if it must be a message of its own. Such messages overtake nothing.
	receiver, name string
	// numbered, if not nil, gets the number of the message: those with lower numbers are sent before.
	numbered *atomic.Uint64
}

// group is members of a message for one receiver.
type group struct {
	receiver string
	members  []mail
	size     int
}

const (
	// largestMember and largestGroup bound messages of groups, in bytes: what is larger gains
	// nothing, and values keep the memory of their message.
	largestMember = 2 << 10
	largestGroup  = 32 << 10
	// mostGroups bounds the groups that are made at the same time.
	mostGroups = 16
	// memberRoom is more than the lengths before a member take.
	memberRoom = 2 * binary.MaxVarintLen32
)

func newOutbox(conn *nats.Conn, kind frameKind) *outbox {
	return &outbox{conn: conn, kind: kind, wake: make(chan struct{}, 1)}
}

// add sends a message soon. It may be called with the lock of a client held; failed is then called
// only for messages without a reply subject.
func (o *outbox) add(m mail) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.number++
	if m.numbered != nil {
		m.numbered.Store(o.number)
	}
	if o.closed {
		o.send(&m)
		return
	}
	o.queue = append(o.queue, m)
	if len(o.queue) == 1 {
		o.wake <- struct{}{}
	}
}

// sendNow sends a message that may overtake others with lower numbers, but none with higher ones
// overtakes it. It blocks while the connection is busy.
func (o *outbox) sendNow(m *nats.Msg, numbered *atomic.Uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.number++
	numbered.Store(o.number)
	return o.conn.PublishMsg(m)
}

// run sends messages until end is closed.
func (o *outbox) run(end <-chan struct{}) {
	var batch []mail
	for isOver := false; ; {
		select {
		case <-o.wake:
		case <-end:
			isOver = true
		}
		runtime.Gosched() // other calls that are about to begin or end come along
		o.mu.Lock()
		batch, o.queue = o.queue, batch[:0]
		o.closed = isOver && len(batch) == 0
		o.mu.Unlock()
		if o.closed {
			return
		}
		o.deliver(batch)
		clear(batch)
	}
}

// deliver sends messages, those with names in groups.
func (o *outbox) deliver(batch []mail) {
	largest := min(largestGroup, int(o.conn.MaxPayload()))
	for i := range batch {
		m := &batch[i]
		if m.name == "" || len(m.data) > largestMember {
			o.flushAll()
			o.send(m)
			continue
		}
		g := o.group(m.receiver)
		size := len(m.name) + len(m.data) + memberRoom
		if g.size+size+memberRoom > largest {
			o.flush(g)
		}
		g.members = append(g.members, *m)
		g.size += size
	}
	o.flushAll()
}

// group returns the group of a receiver.
func (o *outbox) group(receiver string) *group {
	for i := range o.groups {
		if o.groups[i].receiver == receiver {
			return &o.groups[i]
		}
	}
	if len(o.groups) == mostGroups {
		o.flushAll()
	}
	if len(o.groups) < cap(o.groups) { // its memory is used again
		o.groups = o.groups[:len(o.groups)+1]
	} else {
		o.groups = append(o.groups, group{})
	}
	g := &o.groups[len(o.groups)-1]
	g.receiver = receiver
	return g
}

func (o *outbox) flushAll() {
	for i := range o.groups {
		o.flush(&o.groups[i])
		o.groups[i].receiver = ""
	}
	o.groups = o.groups[:0]
}

// flush sends a group. One member is a message of its own.
func (o *outbox) flush(g *group) {
	if len(g.members) == 1 {
		o.send(&g.members[0])
	} else if len(g.members) > 1 {
		subject, reply := o.address(g.receiver, g.members)
		o.frame = appendHead(o.frame[:0], o.kind, 0)
		for i := range g.members {
			o.frame = appendMember(o.frame, g.members[i].name, g.members[i].data)
		}
		if err := publish(o.conn, subject, reply, o.frame); err != nil {
			o.failed(g.members, err)
		}
	}
	clear(g.members)
	g.members, g.size = g.members[:0], 0
}

func (o *outbox) send(m *mail) {
	if err := publish(o.conn, m.subject, m.reply, m.data); err != nil {
		o.failed([]mail{*m}, err)
	}
}

// publish sends a message, with a subject for answers if reply is not empty.
func publish(conn *nats.Conn, subject, reply string, data []byte) error {
	if reply == "" {
		return conn.Publish(subject, data)
	}
	return conn.PublishRequest(subject, reply, data)
}

// lastToken returns the part of a subject behind its last dot.
func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
