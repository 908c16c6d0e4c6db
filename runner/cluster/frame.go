package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// The versions of the protocol between clients and machines. A program speaks all versions
// from the oldest to the newest; the two sides use the newest that both speak.
const (
	newestProtocol = 1
	oldestProtocol = 1
)

// frameKind is the first byte of a message behind the version.
type frameKind byte

// Requests go to the subject of a machine's target. One subscription takes all requests of a
// target, so that they arrive in the order in which a client sent them.
const (
	frameCall      frameKind = iota + 1 // run the target
	frameCancel                         // the caller of a call has left
	frameWithdraw                       // give a call back that has not begun
	frameInventory                      // which of these calls are not known?
	framePing                           // is the other side there?
	frameOpen                           // run the target for a stream
	frameCalls                          // a group of calls
)

// Answers go to the reply subject of a request.
const (
	frameResult   frameKind = iota + 32 // the value of a call
	frameFailure                        // the error of a call
	frameRefusal                        // the call has not begun, and another machine may take it
	frameUnknown                        // the answer to an inventory
	framePong                           // the answer to a ping
	frameAnswers                        // a group of answers to calls
	frameProgress                       // what a node reports of a call or stream, before its answer
)

// Frames of a stream, which both sides send: the client to the subject of the target, with the
// reply subject of the stream, and the machine to that.
const (
	frameItem frameKind = iota + 64 // an item or a value
	frameFlow                       // what has arrived, what may be sent, and what was sent
)

// Flags of a call, a stream, a result or a failure.
const (
	flagClaimed  = 1 << iota // the content is in the value store; the frame has its name
	flagMayWait              // the machine may queue the call if it has no free worker
	flagDeadline             // the call has a deadline
	flagOnce                 // the caller retries the call itself
	flagGroups               // the caller reads groups of answers
	flagLent                 // the content that is claimed stays in the value store, for further calls
	flagProgress             // the caller wants progress frames; an older machine sends none
)

// refusal says why a machine did not take a call.
type refusal byte

const (
	refusedBusy      refusal = iota + 1 // no worker is free, and the call must not wait here
	refusedFull                         // the queue is full
	refusedLeaving                      // the machine drains
	refusedWithdrawn                    // the call was queued, and its client has asked for it
	refusedUnready                      // a node cannot serve calls at the moment
	refusedBreaker                      // the caller's circuit breaker for the machine is open
)

func (r refusal) String() string {
	switch r {
	case refusedBusy:
		return "no worker is free"
	case refusedFull:
		return "the queue is full"
	case refusedLeaving:
		return "the machine drains"
	case refusedWithdrawn:
		return "the call was given back"
	case refusedBreaker:
		return "its circuit breaker is open"
	case refusedUnready:
		return "a node cannot serve calls"
	}
	return fmt.Sprintf("refusal %d", byte(r))
}

// load is how busy a target of a machine is. Each answer has it, so that clients know it
// without a message of its own.
type load struct {
	Slots   int `json:"slots"`   // calls that it takes at once
	Active  int `json:"active"`  // calls that it has taken
	Waiting int `json:"waiting"` // calls in its queue
}

// callHead is what a call frame says before its value.
type callHead struct {
	flags   byte
	timeout time.Duration // until the deadline, if there is one
	waited  time.Duration // since the caller has made the call
}

var errFrame = errors.New("the message is not a frame of this protocol")

// appendHead begins a frame.
func appendHead(b []byte, kind frameKind, flags byte) []byte {
	return append(b, newestProtocol, byte(kind), flags)
}

func appendCall(b []byte, kind frameKind, h callHead) []byte {
	b = appendHead(b, kind, h.flags)
	b = binary.AppendUvarint(b, uint64(max(h.timeout, 0)))
	return binary.AppendUvarint(b, uint64(max(h.waited, 0)))
}

func appendAnswer(b []byte, kind frameKind, flags byte, l load) []byte {
	b = appendHead(b, kind, flags)
	b = binary.AppendUvarint(b, uint64(l.Slots))
	b = binary.AppendUvarint(b, uint64(l.Active))
	return binary.AppendUvarint(b, uint64(l.Waiting))
}

// cursor reads a frame. After a failure it reads zeros.
type cursor struct {
	rest   []byte
	failed bool
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) take(n uint64) []byte {
	if c.failed || n > uint64(len(c.rest)) {
		c.failed = true
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.failed = true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// number reads an integer that fits an int32.
func (c *cursor) number() int {
	v := c.uvarint()
	if v > 1<<31-1 {
		c.failed = true
		return 0
	}
	return int(v)
}

func (c *cursor) duration() time.Duration {
	v := c.uvarint()
	if v > 1<<63-1 {
		c.failed = true
		return 0
	}
	return time.Duration(v)
}

func (c *cursor) load() load {
	return load{Slots: c.number(), Active: c.number(), Waiting: c.number()}
}

// head reads the beginning of a frame. A frame of a version that this program does not speak
// is an error.
func (c *cursor) head() (kind frameKind, flags byte, err error) {
	version := c.byte()
	kind, flags = frameKind(c.byte()), c.byte()
	if c.failed {
		return 0, 0, errFrame
	}
	if version < oldestProtocol || version > newestProtocol {
		return 0, 0, fmt.Errorf("%w: it has version %d, and this program speaks %s", errFrame, version, versions(oldestProtocol, newestProtocol))
	}
	return kind, flags, nil
}

// appendMember adds a frame of a call to a group.
func appendMember(b []byte, name string, frame []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	return append(binary.AppendUvarint(b, uint64(len(frame))), frame...)
}

// member reads a frame of a group, and the name of its call: a token of a subject. It reports
// whether there was one.
func (c *cursor) member() (name, frame []byte, ok bool) {
	name, frame = c.take(c.uvarint()), c.take(c.uvarint())
	for _, b := range name {
		c.failed = c.failed || !wire.IsPlain(b)
	}
	return name, frame, !c.failed && len(name) > 0
}

// payload reads a value that fills the rest of the frame.
func (c *cursor) payload() (ipc.Payload, error) {
	if c.failed {
		return ipc.Payload{}, errFrame
	}
	return wire.ReadPayload(c.rest)
}

// appendDocument adds a msgpack document to a frame.
func appendDocument(b []byte, v any) ([]byte, error) {
	doc, err := msgpack.Marshal(v)
	return append(b, doc...), err
}

// document decodes the rest of a frame.
func (c *cursor) document(v any) error {
	if c.failed {
		return errFrame
	}
	if err := msgpack.Unmarshal(c.rest, v); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

// versions describes a range of protocol versions.
func versions(oldest, newest int) string {
	if oldest == newest {
		return fmt.Sprintf("version %d", newest)
	}
	return fmt.Sprintf("versions %d to %d", oldest, newest)
}

// The subjects, below one root so that permissions can name them:
//
//	gophersnake.hello                      a client asks all machines for their announcements
//	gophersnake.beat.PIPELINE              the announcements of a pipeline, by its machines
//	gophersnake.alive.MACHINE              answers pings
//	gophersnake.call.PIPELINE.MACHINE.…    a target: run, or node.ID
//
// Answers go to the inbox of the client, a subject of _INBOX.
const (
	subjectRoot  = "gophersnake"
	subjectHello = subjectRoot + ".hello"
)

func beatSubject(pipeline string) string { return subjectRoot + ".beat." + wire.Token(pipeline) }

func aliveSubject(machine string) string { return subjectRoot + ".alive." + machine }

// callGroup is the prefix of a machine's targets for a pipeline.
func callGroup(pipeline, machine string) string {
	return subjectRoot + ".call." + wire.Token(pipeline) + "." + machine
}

// targetName is the part of a target's subject behind the group: that of a run if node is
// empty.
func targetName(node string) string {
	if node == "" {
		return "run"
	}
	return "node." + wire.Token(node)
}

// serviceName makes any name the name of a NATS micro service, which may only have letters,
// digits, _ and -. Different names may become the same; metadata has the right one.
func serviceName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if !wire.IsPlain(c) {
			b[i] = '-'
		}
	}
	if len(b) == 0 {
		return "-"
	}
	return string(b)
}
