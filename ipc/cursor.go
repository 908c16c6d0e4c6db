package ipc

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// cursor reads encoded values that are not trusted: it compares every length with the
// bytes that remain before it uses the length. It allocates only for extensions and
// errors, so checking a result before it is forwarded to the next node costs little.
type cursor struct {
	b         []byte
	i         int // offset of the next byte in b
	buffers   [][]byte
	locations []location // of the buffers, if those in shared memory are to be copied
	maxDepth  int        // for skip
	text      string     // b as a string of which decoded strings are parts; empty if they are copied
}

func (c *cursor) truncated() *ValueError {
	return &ValueError{Reason: fmt.Sprintf("the encoding ends in the middle of a value, at byte %d", len(c.b))}
}

// take returns the next n bytes of the body and advances past them.
func (c *cursor) take(n uint64) ([]byte, *ValueError) {
	if n > uint64(len(c.b)-c.i) {
		return nil, c.truncated()
	}
	b := c.b[c.i : c.i+int(n)]
	c.i += int(n)
	return b, nil
}

// number reads a big-endian unsigned number of 1, 2, 4 or 8 bytes.
func (c *cursor) number(size int) (uint64, *ValueError) {
	b, err := c.take(uint64(size))
	if err != nil {
		return 0, err
	}
	switch size {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	default:
		return binary.BigEndian.Uint64(b), nil
	}
}

// skip advances past one value, nested depth levels deep, and checks it.
func (c *cursor) skip(depth int) *ValueError {
	t, err := c.token()
	if err != nil {
		return err
	}
	switch t.kind {
	case tokStr:
		text, err := c.take(t.n)
		if err != nil {
			return err
		}
		return invalidText(text)
	case tokBin:
		_, err := c.take(t.n)
		return err
	case tokArray:
		if depth >= c.maxDepth {
			return &ValueError{Reason: fmt.Sprintf("nested deeper than %d levels", c.maxDepth)}
		}
		return c.skipArray(t.n, depth)
	case tokMap:
		if depth >= c.maxDepth {
			return &ValueError{Reason: fmt.Sprintf("nested deeper than %d levels", c.maxDepth)}
		}
		return c.skipMap(t.n, depth)
	case tokExt:
		payload, err := c.take(t.n)
		if err != nil {
			return err
		}
		inner := cursor{b: payload, buffers: c.buffers}
		err = inner.checkExtension(t.ext)
		c.buffers = inner.buffers
		return err
	}
	return nil
}

func (c *cursor) skipArray(n uint64, depth int) *ValueError {
	if n > uint64(len(c.b)-c.i) { // each item takes at least one byte
		return c.truncated()
	}
	for i := range n {
		if err := c.skip(depth + 1); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
	}
	return nil
}

func (c *cursor) skipMap(n uint64, depth int) *ValueError {
	if n > uint64(len(c.b)-c.i)/2 {
		return c.truncated()
	}
	for range n {
		t, err := c.token()
		if err != nil {
			return err
		}
		if t.kind != tokStr {
			return &ValueError{Reason: fmt.Sprintf("a map key is %s; keys must be strings", t.kind)}
		}
		key, err := c.take(t.n)
		if err != nil {
			return err
		}
		if !utf8.Valid(key) {
			return &ValueError{Reason: "a map key that is not UTF-8"}
		}
		if err := c.skip(depth + 1); err != nil {
			return err.in(step(string(key)))
		}
	}
	return nil
}

// token is the beginning of a value, before the bytes or items that it contains.
type token struct {
	kind tokenKind
	n    uint64 // the value of a scalar, the length of bytes, or the number of items
	ext  int8   // the type of an extension
}

type tokenKind uint8

const (
	tokNil tokenKind = iota
	tokBool
	tokUint
	tokInt
	tokFloat32
	tokFloat64
	tokStr
	tokBin
	tokArray
	tokMap
	tokExt
)

var tokenNames = [...]string{"nil", "a bool", "an integer", "an integer", "a float", "a float", "a string", "bytes", "an array", "a map", "an extension"}

func (k tokenKind) String() string { return tokenNames[k] }

// float returns the number of a float token.
func (t token) float() float64 {
	if t.kind == tokFloat32 {
		return float64(math.Float32frombits(uint32(t.n)))
	}
	return math.Float64frombits(t.n)
}

// token reads the beginning of the next value.
func (c *cursor) token() (token, *ValueError) {
	b, err := c.take(1)
	if err != nil {
		return token{}, err
	}
	code := b[0]
	sized := func(kind tokenKind, size int) (token, *ValueError) {
		n, err := c.number(size)
		return token{kind: kind, n: n}, err
	}
	switch {
	case code <= msgpcode.PosFixedNumHigh:
		return token{kind: tokUint, n: uint64(code)}, nil
	case code >= msgpcode.NegFixedNumLow:
		return token{kind: tokInt, n: uint64(int64(int8(code)))}, nil
	case msgpcode.IsFixedMap(code):
		return token{kind: tokMap, n: uint64(code & msgpcode.FixedMapMask)}, nil
	case msgpcode.IsFixedArray(code):
		return token{kind: tokArray, n: uint64(code & msgpcode.FixedArrayMask)}, nil
	case msgpcode.IsFixedString(code):
		return token{kind: tokStr, n: uint64(code & msgpcode.FixedStrMask)}, nil
	}
	switch code {
	case msgpcode.Nil:
		return token{kind: tokNil}, nil
	case msgpcode.False, msgpcode.True:
		return token{kind: tokBool, n: uint64(code - msgpcode.False)}, nil
	case msgpcode.Uint8, msgpcode.Uint16, msgpcode.Uint32, msgpcode.Uint64:
		return sized(tokUint, 1<<(code-msgpcode.Uint8))
	case msgpcode.Int8, msgpcode.Int16, msgpcode.Int32, msgpcode.Int64:
		size := 1 << (code - msgpcode.Int8)
		t, err := sized(tokInt, size)
		t.n = uint64(int64(t.n<<(64-8*size)) >> (64 - 8*size)) // sign extension
		return t, err
	case msgpcode.Float:
		return sized(tokFloat32, 4)
	case msgpcode.Double:
		return sized(tokFloat64, 8)
	case msgpcode.Str8, msgpcode.Str16, msgpcode.Str32:
		return sized(tokStr, 1<<(code-msgpcode.Str8))
	case msgpcode.Bin8, msgpcode.Bin16, msgpcode.Bin32:
		return sized(tokBin, 1<<(code-msgpcode.Bin8))
	case msgpcode.Array16, msgpcode.Array32:
		return sized(tokArray, 2<<(code-msgpcode.Array16))
	case msgpcode.Map16, msgpcode.Map32:
		return sized(tokMap, 2<<(code-msgpcode.Map16))
	case msgpcode.FixExt1, msgpcode.FixExt2, msgpcode.FixExt4, msgpcode.FixExt8, msgpcode.FixExt16:
		return c.extToken(token{kind: tokExt, n: 1 << (code - msgpcode.FixExt1)}, nil)
	case msgpcode.Ext8, msgpcode.Ext16, msgpcode.Ext32:
		return c.extToken(sized(tokExt, 1<<(code-msgpcode.Ext8)))
	}
	return token{}, &ValueError{Reason: fmt.Sprintf("byte %#02x begins no value", code)}
}

// extToken reads the extension type that follows an extension's length.
func (c *cursor) extToken(t token, err *ValueError) (token, *ValueError) {
	if err != nil {
		return t, err
	}
	id, err := c.number(1)
	t.ext = int8(id)
	return t, err
}
