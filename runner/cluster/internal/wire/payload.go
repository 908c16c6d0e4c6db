package wire

import (
	"encoding/binary"
	"errors"

	"github.com/gophersnake/gophersnake/ipc"
)

// AppendPayload adds an encoded value: the number of buffers, the lengths of the body and the
// buffers, the body and the buffers.
func AppendPayload(b []byte, p ipc.Payload) []byte {
	b = binary.AppendUvarint(b, uint64(len(p.Buffers)))
	b = binary.AppendUvarint(b, uint64(len(p.Body)))
	for _, buffer := range p.Buffers {
		b = binary.AppendUvarint(b, uint64(len(buffer)))
	}
	b = append(b, p.Body...)
	for _, buffer := range p.Buffers {
		b = append(b, buffer...)
	}
	return b
}

// PayloadRoom is what AppendPayload and a head need besides the value's own bytes.
const PayloadRoom = 64

// ErrPayload is the error of bytes that are not a payload.
var ErrPayload = errors.New("the message has no valid value")

// ReadPayload reads what AppendPayload has written. Its parts share the memory of b.
func ReadPayload(b []byte) (ipc.Payload, error) {
	limits := ipc.DefaultLimits()
	count, b, ok := readNumber(b)
	if !ok || count > uint64(limits.Buffers) || count > uint64(len(b)) {
		return ipc.Payload{}, ErrPayload
	}
	body, b, ok := readNumber(b)
	sizes := make([]uint64, count)
	for i := range sizes {
		if sizes[i], b, ok = readNumber(b); !ok {
			break
		}
	}
	if !ok || body > uint64(len(b)) {
		return ipc.Payload{}, ErrPayload
	}
	p := ipc.Payload{Body: b[:body:body]}
	b = b[body:]
	for _, size := range sizes {
		if size > uint64(len(b)) {
			return ipc.Payload{}, ErrPayload
		}
		p.Buffers, b = append(p.Buffers, b[:size:size]), b[size:]
	}
	if len(b) > 0 {
		return ipc.Payload{}, ErrPayload
	}
	return p, nil
}

func readNumber(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
