package ipc

import (
	"bytes"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Decode returns the value as nil, bool, int64, uint64 (only beyond int64),
// float64, string, []byte, []any, map[string]any, time.Time, *[Tensor],
// *[Audio], *[Image] or [JSON]. Large tensors and images view the payload's
// buffers. A payload that is no such value is a *[ValueError], whose path
// begins with root.
func (p Payload) Decode(root string, limits Limits) (any, error) {
	// The check bounds every length, so what follows can trust them.
	if err := p.Check(root, limits); err != nil {
		return nil, err
	}
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.src.Reset(p.Body)
	d.in.Reset(&d.src)
	d.buffers = p.Buffers
	v, err := d.value()
	d.buffers = nil
	if err != nil {
		return nil, &ValueError{Path: root, Reason: err.Error()}
	}
	return v, nil
}

var decoders = sync.Pool{New: func() any {
	return &decoder{in: msgpack.NewDecoder(nil)}
}}

// decoder builds the Go value of a payload that has been checked.
type decoder struct {
	src     bytes.Reader
	in      *msgpack.Decoder
	buffers [][]byte
}

func (d *decoder) value() (any, error) {
	code, err := d.in.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case code == msgpcode.Nil:
		return nil, d.in.DecodeNil()
	case code == msgpcode.True, code == msgpcode.False:
		return d.in.DecodeBool()
	case code == msgpcode.Uint64:
		n, err := d.in.DecodeUint64()
		if n <= 1<<63-1 {
			return int64(n), err
		}
		return n, err
	case msgpcode.IsFixedNum(code), code >= msgpcode.Uint8 && code <= msgpcode.Int64:
		return d.in.DecodeInt64()
	case code == msgpcode.Float, code == msgpcode.Double:
		return d.in.DecodeFloat64()
	case msgpcode.IsString(code):
		return d.in.DecodeString()
	case msgpcode.IsBin(code):
		b, err := d.in.DecodeBytes()
		if b == nil {
			b = []byte{}
		}
		return b, err
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		return d.array()
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		return d.stringMap()
	default:
		return d.extension(code)
	}
}

func (d *decoder) array() (any, error) {
	n, err := d.in.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
	items := make([]any, n)
	for i := range items {
		if items[i], err = d.value(); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (d *decoder) stringMap() (any, error) {
	n, err := d.in.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	items := make(map[string]any, n)
	for range n {
		key, err := d.in.DecodeString()
		if err != nil {
			return nil, err
		}
		if items[key], err = d.value(); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (d *decoder) extension(code byte) (any, error) {
	if id := d.peekExtension(code); id == -1 {
		t, err := d.in.DecodeTime()
		return t.UTC(), err
	}
	id, n, err := d.in.DecodeExtHeader()
	if err != nil {
		return nil, err
	}
	payload := make([]byte, n)
	if err := d.in.ReadFull(payload); err != nil {
		return nil, err
	}
	c := cursor{b: payload, buffers: d.buffers}
	v, err := c.extensionValue(id)
	d.buffers = c.buffers
	return v, err
}

// peekExtension reads an extension's type without taking it, because the
// library reads a timestamp only from its first byte on.
func (d *decoder) peekExtension(code byte) int8 {
	at := len1(code)
	pos := d.src.Size() - int64(d.src.Len())
	var b [1]byte
	// The decoder has not taken the first byte: PeekCode put it back.
	if _, err := d.src.ReadAt(b[:], pos+int64(at)); err != nil {
		return 0
	}
	return int8(b[0])
}

// len1 is the distance from an extension's first byte to its type.
func len1(code byte) int {
	switch code {
	case msgpcode.Ext8:
		return 2
	case msgpcode.Ext16:
		return 3
	case msgpcode.Ext32:
		return 5
	default:
		return 1
	}
}

// Check reports whether the payload is one well-formed value whose buffers are
// all taken, without building it. Its error is a *[ValueError], whose path
// begins with root.
func (p Payload) Check(root string, limits Limits) error {
	c := cursor{b: p.Body, buffers: p.Buffers, depth: limits.Depth}
	err := c.skip(0)
	switch {
	case err != nil:
	case c.i != len(c.b):
		err = &ValueError{Reason: fmt.Sprintf("%d bytes follow the value", len(c.b)-c.i)}
	case len(c.buffers) != 0:
		err = &ValueError{Reason: fmt.Sprintf("%d buffers belong to no value", len(c.buffers))}
	default:
		return nil
	}
	return err.in(root)
}

func invalidText(b []byte) *ValueError {
	if utf8.Valid(b) {
		return nil
	}
	return &ValueError{Reason: "a string that is not UTF-8"}
}
