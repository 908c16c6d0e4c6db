package ipc

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Version is the version of the protocol that this package implements.
const Version = 1

// FrameType is the type of a frame. The package comment describes the frames.
type FrameType uint8

// The frame types with which [Conn.NewCall] makes calls.
const (
	FrameCall     FrameType = 4  // calls the node
	FrameOpen     FrameType = 17 // opens a session
	FrameFinish   FrameType = 18 // finishes a session
	FrameSnapshot FrameType = 20 // returns the state of a session
)

const (
	frameHello    FrameType = 1
	frameSetup    FrameType = 2
	frameReady    FrameType = 3
	frameResult   FrameType = 5
	frameError    FrameType = 6
	frameCancel   FrameType = 7
	frameLog      FrameType = 8
	frameProgress FrameType = 9
	framePing     FrameType = 10
	framePong     FrameType = 11
	frameShutdown FrameType = 12
	frameRelease  FrameType = 13
	frameForget   FrameType = 14
	frameItem     FrameType = 15
	frameCredit   FrameType = 16
	frameDrop     FrameType = 19
)

var frameTypeNames = [...]string{
	frameHello: "hello", frameSetup: "setup", frameReady: "ready", FrameCall: "call",
	frameResult: "result", frameError: "error", frameCancel: "cancel", frameLog: "log",
	frameProgress: "progress", framePing: "ping", framePong: "pong", frameShutdown: "shutdown",
	frameRelease: "release", frameForget: "forget", frameItem: "item", frameCredit: "credit",
	FrameOpen: "open", FrameFinish: "finish", frameDrop: "drop", FrameSnapshot: "snapshot",
}

// String returns the name of the type in the package comment.
func (t FrameType) String() string {
	if int(t) < len(frameTypeNames) && frameTypeNames[t] != "" {
		return frameTypeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Limits bound the lengths that a frame may claim. They are checked before memory is
// allocated, and before a frame is sent.
type Limits struct {
	// Body is the largest msgpack body in bytes.
	Body int `msgpack:"body"`
	// Buffers is the largest number of buffers in one frame.
	Buffers int `msgpack:"buffers"`
	// BufferBytes is the largest total size of the buffers of one frame in bytes.
	BufferBytes int64 `msgpack:"buffer_bytes"`
	// Depth is the deepest nesting of arrays and maps in a value.
	Depth int `msgpack:"depth"`
	// Decoded is the most memory in bytes that a value may take when it is decoded, its
	// buffers not counted; 0 means no bound. A few bytes of the encoding can stand for many
	// bytes of memory; the package comment says how they are counted.
	Decoded int64 `msgpack:"decoded"`
}

// DefaultLimits returns the limits that both sides use by default.
func DefaultLimits() Limits {
	return Limits{Body: 256 << 20, Buffers: 4096, BufferBytes: 8 << 30, Depth: 64, Decoded: 512 << 20}
}

// maxMessage bounds the body of a frame that carries a message instead of a value, in bytes.
const maxMessage = 16 << 20

// bounds returns how many bytes the body of a frame of a type may have, and how many buffers
// the frame may have.
func (l Limits) bounds(t FrameType) (body, buffers int64) {
	switch t {
	case frameResult, frameItem, FrameCall, FrameOpen, frameSetup:
		return int64(l.Body), int64(l.Buffers)
	case framePong:
		return 0, 0
	}
	return min(int64(l.Body), maxMessage), 0
}

// Payload is an encoded value. It can be sent to a node as it is, without decoding it.
//
// Its buffers may be in shared memory. Each payload that a call returns, or that
// [Arena.Share] returns, must be released by [Payload.Release].
type Payload struct {
	// Body is the msgpack encoding.
	Body []byte
	// Buffers hold the large data to which the body refers, in order.
	Buffers [][]byte

	locations []location // of Buffers; nil if none is in shared memory
	checked   bool       // Check has found no fault
	ordered   bool       // decoding keeps the order of maps
	withheld  int        // the size of a result that was not read because it exceeds SetupLimits.Result
}

// location is the location of a buffer in shared memory. The zero location stands for a
// buffer in this process's own memory.
type location struct {
	segment *segment
	offset  int64
}

// Size returns the size of the payload in bytes, including its buffers. If the size of a
// result exceeds [SetupLimits].Result, the payload has that size but no content, and is not
// a valid value.
func (p Payload) Size() int {
	size := len(p.Body) + p.withheld
	for _, buffer := range p.Buffers {
		size += len(buffer)
	}
	return size
}

// Release releases the shared memory of the payload's buffers. Afterwards, neither the
// payload nor a value that [Payload.View] returned may be used. It has no effect on a
// payload without shared memory.
func (p Payload) Release() {
	for _, at := range p.locations {
		if at.segment != nil {
			at.segment.drop(1)
		}
	}
}

// withBuffersOf returns the buffers of p followed by those of other, without a body.
func (p Payload) withBuffersOf(other Payload) Payload {
	both := Payload{Buffers: append(p.Buffers[:len(p.Buffers):len(p.Buffers)], other.Buffers...)}
	if p.locations != nil || other.locations != nil {
		both.locations = make([]location, len(both.Buffers))
		copy(both.locations, p.locations)
		copy(both.locations[len(p.Buffers):], other.locations)
	}
	return both
}

// inline returns the buffers that are not in shared memory.
func (p Payload) inline() [][]byte {
	if p.locations == nil {
		return p.Buffers
	}
	var inline [][]byte
	for i, buffer := range p.Buffers {
		if p.locations[i].segment == nil {
			inline = append(inline, buffer)
		}
	}
	return inline
}

// frame is a frame that was received. Its body and buffers are the payload.
type frame struct {
	kind   FrameType
	call   uint64
	worked uint64 // nanoseconds that the call took in the worker, if its answer says so
	Payload
}

// Trace is the trace context of a call, in the terms of W3C Trace Context.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   byte
	// State is the tracestate. One of more than [MaxTraceState] bytes is not sent.
	State string
	// Run is the id of the run, for log records. It is not sent.
	Run string
	// Worked is how long the last call took in the worker, by its own word. It is set when the
	// call returns, and 0 if the worker did not answer it.
	Worked time.Duration
}

// MaxTraceState is the largest size of a tracestate in bytes. W3C Trace Context asks for as much.
const MaxTraceState = 512

// size returns the length of the trace context on the wire, 0 if t is nil.
func (t *Trace) size() int {
	if t == nil {
		return 0
	}
	n := len(t.TraceID) + len(t.SpanID) + 1
	if len(t.State) <= MaxTraceState {
		n += len(t.State)
	}
	return n
}

// append appends the trace context in its form on the wire, nothing if t is nil.
func (t *Trace) append(dst []byte) []byte {
	if t == nil {
		return dst
	}
	dst = append(dst, t.TraceID[:]...)
	dst = append(dst, t.SpanID[:]...)
	dst = append(dst, t.Flags)
	if len(t.State) <= MaxTraceState {
		dst = append(dst, t.State...)
	}
	return dst
}

// noteWorked stores how long a call took in the worker, at the end of the call. It does nothing
// if t is nil.
func (t *Trace) noteWorked(call *Call) {
	if t != nil {
		t.Worked = time.Duration(min(call.worked, math.MaxInt64))
	}
}

// header holds the fields of a frame's header other than the lengths.
type header struct {
	kind    FrameType
	call    uint64 // 0 for none
	session uint32 // 0 for none

	// The context of a call. It is sent only if one of these is set.
	deadline int64  // of the caller, in nanoseconds of the monotonic clock; 0 for none
	attempt  uint32 // 0 for the first one
	trace    *Trace // nil for none
}

const (
	magic          = 0x47
	headerSize     = 24
	descriptorSize = 24

	// hasContext is the flag of a frame whose header is followed by the context of the call.
	hasContext = 0x01
	// hasTime is the flag of an answer whose header is followed by the time that the call took
	// in the worker.
	hasTime  = 0x01
	timeSize = 8
)

// appendHeader appends the header, the context of the call and the buffer descriptors of a
// frame whose body has bodyLen bytes and whose buffers are those of p.
func appendHeader(dst []byte, h header, bodyLen int, p Payload) []byte {
	flags := byte(0)
	if h.deadline != 0 || h.attempt != 0 || h.trace != nil {
		flags = hasContext
	}
	dst = append(dst, magic, Version, byte(h.kind), flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(bodyLen))
	dst = binary.LittleEndian.AppendUint64(dst, h.call)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p.Buffers)))
	dst = binary.LittleEndian.AppendUint32(dst, h.session)
	if flags == hasContext {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(h.deadline))
		dst = binary.LittleEndian.AppendUint32(dst, max(h.attempt, 1))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(h.trace.size()))
		dst = h.trace.append(dst)
	}
	for i, b := range p.Buffers {
		number, offset := uint32(0), uint64(0) // inline
		if p.locations != nil && p.locations[i].segment != nil {
			number, offset = p.locations[i].segment.id, uint64(p.locations[i].offset)
		}
		dst = binary.LittleEndian.AppendUint32(dst, number)
		dst = binary.LittleEndian.AppendUint32(dst, 0)
		dst = binary.LittleEndian.AppendUint64(dst, offset)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(b)))
	}
	return dst
}
