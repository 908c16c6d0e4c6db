package ipc

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Version is the version of the protocol that this package speaks.
const Version = 1

// Type says what a frame means.
type Type uint8

// The frame types. Their bodies are described in the package comment.
const (
	TypeHello Type = iota + 1
	TypeSetup
	TypeReady
	TypeCall
	TypeResult
	TypeError
	TypeCancel
	TypeLog
	TypeProgress
	TypePing
	TypePong
	TypeShutdown
	TypeRelease
	TypeForget
	TypeItem
	TypeCredit
	TypeOpen
	TypeFinish
	TypeDrop
	TypeSnapshot
)

var typeNames = [...]string{
	TypeHello: "hello", TypeSetup: "setup", TypeReady: "ready", TypeCall: "call",
	TypeResult: "result", TypeError: "error", TypeCancel: "cancel", TypeLog: "log",
	TypeProgress: "progress", TypePing: "ping", TypePong: "pong", TypeShutdown: "shutdown",
	TypeRelease: "release", TypeForget: "forget", TypeItem: "item", TypeCredit: "credit",
	TypeOpen: "open", TypeFinish: "finish", TypeDrop: "drop", TypeSnapshot: "snapshot",
}

func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const (
	magic          = 0x47
	headerSize     = 24
	descriptorSize = 24
)

// Frame is one message as it stands on the wire.
type Frame struct {
	Type Type
	Call uint64
	Payload
}

// Payload is an encoded value: its msgpack body and the buffers that the body
// takes, in order. It is not read on its way from one node to the next.
//
// Buffers may lie in shared memory. Whoever gets such a payload owes it a
// [Payload.Release].
type Payload struct {
	Body    []byte
	Buffers [][]byte

	places []place // of the buffers; nil where none is shared
	sound  bool    // it has been checked
}

// Size is the length of the payload, its buffers included.
func (p Payload) Size() int {
	size := len(p.Body)
	for _, buffer := range p.Buffers {
		size += len(buffer)
	}
	return size
}

// appendHeader appends the fixed header and the buffer descriptors of a frame
// whose body has bodyLen bytes.
func appendHeader(dst []byte, t Type, call uint64, bodyLen int, buffers [][]byte) []byte {
	return appendSharedHeader(dst, head{kind: t, call: call}, bodyLen, Payload{Buffers: buffers})
}

// head is what the header of a frame that is sent says beside its lengths.
type head struct {
	kind    Type
	call    uint64
	session uint32 // 0 for none
}

// appendSharedHeader is appendHeader where buffers may lie in shared memory.
func appendSharedHeader(dst []byte, h head, bodyLen int, p Payload) []byte {
	dst = append(dst, magic, Version, byte(h.kind), 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(bodyLen))
	dst = binary.LittleEndian.AppendUint64(dst, h.call)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p.Buffers)))
	dst = binary.LittleEndian.AppendUint32(dst, h.session)
	for i, b := range p.Buffers {
		number, offset := uint32(0), uint64(0) // inline
		if at := p.at(i); at.segment != nil {
			number, offset = at.segment.id, uint64(at.offset)
		}
		dst = binary.LittleEndian.AppendUint32(dst, number)
		dst = binary.LittleEndian.AppendUint32(dst, 0)
		dst = binary.LittleEndian.AppendUint64(dst, offset)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(b)))
	}
	return dst
}

// checkSend refuses a frame that the other side would refuse.
func (l Limits) checkSend(what string, bodyLen int, buffers [][]byte) error {
	total := int64(0)
	for _, b := range buffers {
		total += int64(len(b))
	}
	var reason string
	switch {
	case int64(bodyLen) > min(int64(l.Body), math.MaxUint32):
		reason = fmt.Sprintf("it takes %d bytes, more than the limit of %d", bodyLen, min(int64(l.Body), math.MaxUint32))
	case len(buffers) > l.Buffers:
		reason = fmt.Sprintf("it holds %d large buffers, more than the limit of %d", len(buffers), l.Buffers)
	case total > l.BufferBytes:
		reason = fmt.Sprintf("its buffers take %d bytes, more than the limit of %d", total, l.BufferBytes)
	default:
		return nil
	}
	return &ValueError{Path: what, Reason: reason}
}
