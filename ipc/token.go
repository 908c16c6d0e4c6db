package ipc

import (
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// token is the head of a value: what it is, and its number, length or count.
type token struct {
	kind tokenKind
	n    uint64
	ext  int8
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

// float is the number of a float token.
func (t token) float() float64 {
	if t.kind == tokFloat32 {
		return float64(math.Float32frombits(uint32(t.n)))
	}
	return math.Float64frombits(t.n)
}

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
		t.n = uint64(int64(t.n<<(64-8*size)) >> (64 - 8*size)) // extend the sign
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

func (c *cursor) extToken(t token, err *ValueError) (token, *ValueError) {
	if err != nil {
		return t, err
	}
	id, err := c.number(1)
	t.ext = int8(id)
	return t, err
}
