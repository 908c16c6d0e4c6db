package ipc

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// cursor walks over encoded values and believes nothing: every length is held
// against the bytes that are there before it is used. It allocates only for
// errors, so checking a result on its way to the next node costs little.
type cursor struct {
	b       []byte
	i       int
	buffers [][]byte
	depth   int
}

func (c *cursor) truncated() *ValueError {
	return &ValueError{Reason: fmt.Sprintf("the encoding ends in the middle of a value, at byte %d", len(c.b))}
}

func (c *cursor) take(n uint64) ([]byte, *ValueError) {
	if n > uint64(len(c.b)-c.i) {
		return nil, c.truncated()
	}
	b := c.b[c.i : c.i+int(n)]
	c.i += int(n)
	return b, nil
}

// number takes a big-endian unsigned number of 1, 2, 4 or 8 bytes.
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
		return sized(tokInt, 1<<(code-msgpcode.Int8))
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

// skip walks over one value and checks it.
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
		if depth >= c.depth {
			return &ValueError{Reason: fmt.Sprintf("nested deeper than %d levels", c.depth)}
		}
		return c.skipArray(t.n, depth)
	case tokMap:
		if depth >= c.depth {
			return &ValueError{Reason: fmt.Sprintf("nested deeper than %d levels", c.depth)}
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
	if n > uint64(len(c.b)-c.i) { // each item takes a byte at least
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
		if err := invalidText(key); err != nil {
			return err
		}
		if err := c.skip(depth + 1); err != nil {
			return err.in(step(string(key)))
		}
	}
	return nil
}

// checkExtension checks an extension's payload, which is all that c holds.
func (c *cursor) checkExtension(id int8) *ValueError {
	if id == -1 {
		return c.checkTimestamp()
	}
	_, err := c.extensionValue(id)
	return asValueError(err)
}

func (c *cursor) checkTimestamp() *ValueError {
	nanos := uint64(0)
	switch len(c.b) {
	case 4:
	case 8:
		nanos = binary.BigEndian.Uint64(c.b) >> 34
	case 12:
		nanos = uint64(binary.BigEndian.Uint32(c.b))
	default:
		return &ValueError{Reason: fmt.Sprintf("a timestamp of %d bytes", len(c.b))}
	}
	if nanos > 999_999_999 {
		return &ValueError{Reason: fmt.Sprintf("a timestamp with %d nanoseconds", nanos)}
	}
	return nil
}

// extensionValue returns the value of an application extension, whose payload
// is all that c holds. Large data is viewed, not copied.
func (c *cursor) extensionValue(id int8) (any, error) {
	var v interface{ check() error }
	var err *ValueError
	switch id {
	case extTensor:
		v, err = c.tensor()
	case extAudio:
		v, err = c.audio()
	case extImage:
		v, err = c.image()
	case extJSON:
		v, c.i = JSON(c.b), len(c.b)
	default:
		err = &ValueError{Reason: fmt.Sprintf("unknown extension %d", id)}
	}
	switch {
	case err != nil:
		return nil, err
	case c.i != len(c.b):
		return nil, &ValueError{Reason: fmt.Sprintf("%d bytes follow inside extension %d", len(c.b)-c.i, id)}
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	return v, nil
}

func (c *cursor) tensor() (*Tensor, *ValueError) {
	t := &Tensor{}
	if err := c.array(3, "a tensor"); err != nil {
		return nil, err
	}
	dtype, err := c.str()
	if err != nil {
		return nil, err
	}
	t.DType = DType(dtype)
	dims, err := c.expect(tokArray)
	if err != nil {
		return nil, err
	}
	if dims.n > 64 {
		return nil, &ValueError{Reason: fmt.Sprintf("a tensor of %d dimensions", dims.n)}
	}
	t.Shape = make([]int, dims.n)
	for i := range t.Shape {
		if t.Shape[i], err = c.uint(math.MaxInt); err != nil {
			return nil, err
		}
	}
	t.Data, err = c.data()
	return t, err
}

func (c *cursor) audio() (*Audio, *ValueError) {
	a := &Audio{}
	err := c.array(3, "audio")
	if err == nil {
		a.Rate, err = c.uint(maxSafeLen)
	}
	if err == nil {
		a.Channels, err = c.uint(maxSafeLen)
	}
	if err != nil {
		return nil, err
	}
	data, err := c.data()
	if err != nil {
		return nil, err
	}
	if len(data)%4 != 0 {
		return nil, &ValueError{Reason: fmt.Sprintf("%d bytes are no whole number of float32 samples", len(data))}
	}
	a.Samples = elementsOf[float32](data)
	return a, nil
}

func (c *cursor) image() (*Image, *ValueError) {
	m := &Image{}
	err := c.array(5, "an image")
	if err == nil {
		m.Format, err = c.str()
	}
	if err == nil {
		m.Width, err = c.uint(maxSafeLen)
	}
	if err == nil {
		m.Height, err = c.uint(maxSafeLen)
	}
	if err != nil {
		return nil, err
	}
	pts, err := c.token()
	if err != nil {
		return nil, err
	}
	switch pts.kind {
	case tokNil:
	case tokFloat64:
		seconds := math.Float64frombits(pts.n)
		m.PTS = &seconds
	default:
		return nil, &ValueError{Reason: fmt.Sprintf("an image's pts is %s", pts.kind)}
	}
	m.Pixels, err = c.data()
	return m, err
}

func (c *cursor) expect(kind tokenKind) (token, *ValueError) {
	t, err := c.token()
	if err == nil && t.kind != kind {
		err = &ValueError{Reason: fmt.Sprintf("inside an extension: %s where %s belongs", t.kind, kind)}
	}
	return t, err
}

func (c *cursor) array(n uint64, what string) *ValueError {
	t, err := c.expect(tokArray)
	if err == nil && t.n != n {
		err = &ValueError{Reason: fmt.Sprintf("%s of %d parts instead of %d", what, t.n, n)}
	}
	return err
}

func (c *cursor) str() (string, *ValueError) {
	t, err := c.expect(tokStr)
	if err != nil {
		return "", err
	}
	b, err := c.take(t.n)
	return string(b), err
}

func (c *cursor) uint(limit uint64) (int, *ValueError) {
	t, err := c.expect(tokUint)
	if err == nil && t.n > limit {
		err = &ValueError{Reason: fmt.Sprintf("inside an extension: the number %d", t.n)}
	}
	return int(t.n), err
}

// data takes an extension's bytes: inside it, or the frame's next buffer.
func (c *cursor) data() ([]byte, *ValueError) {
	t, err := c.token()
	if err != nil {
		return nil, err
	}
	switch t.kind {
	case tokBin:
		return c.take(t.n)
	case tokNil:
		if len(c.buffers) == 0 {
			return nil, &ValueError{Reason: "a buffer is missing"}
		}
		b := c.buffers[0]
		c.buffers = c.buffers[1:]
		return b, nil
	}
	return nil, &ValueError{Reason: fmt.Sprintf("inside an extension: %s where data belongs", t.kind)}
}
