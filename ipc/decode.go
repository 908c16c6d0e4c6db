package ipc

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/gophersnake/gophersnake/ipc/fields"
)

// Decode returns the value as nil, bool, int64, uint64 (only beyond the range of int64),
// float64, string, []byte, []any, map[string]any, [time.Time], *[Tensor], *[Audio],
// *[Image], *[Table] or [JSON]. Large tensors, recordings, images and tables share the memory of
// the payload's buffers, except for buffers in shared memory, which are copied so that the value
// outlives the payload. Large bytes, texts and JSON documents are copied in any case. Parts of an isolated worker's result that overlap in the
// worker's memory may overlap in the value. If a map contains a key twice, the last one
// counts. After [Payload.Ordered], an [Object] takes the place of each map.
//
// If the payload is not a valid value, the error is a *[ValueError] whose path begins
// with root.
func (p Payload) Decode(root string, limits Limits) (any, error) {
	return p.decode(root, limits, p.locations, false)
}

// View is [Payload.Decode] without copies: the parts of the value that are in shared
// memory must not be changed, nor used after the payload has been released. The memory of a
// worker is mapped for reading only, so writing to it ends the program. Tables, texts and JSON
// documents are copied nevertheless: they are checked first, and the worker could change them
// afterwards.
func (p Payload) View(root string, limits Limits) (any, error) {
	return p.decode(root, limits, nil, true)
}

// sharedText is the size of a body up to which the strings of a value share one
// allocation. In a larger one, a single string that is kept would retain too much.
const sharedText = 512

// decode decodes the payload, and copies the buffers that have one of the locations. The others
// of a view may be in memory that a worker can write to.
func (p Payload) decode(root string, limits Limits, locations []location, view bool) (any, error) {
	// The whole value is checked first: each count is compared with the bytes that
	// follow, but nested counts together could still claim far more memory than there
	// are bytes.
	if !p.checked {
		if err := p.Check(root, limits); err != nil {
			return nil, err
		}
	}
	c := cursor{b: p.Body, buffers: p.Buffers, locations: locations, view: view, ordered: p.ordered}
	if len(p.Body) <= sharedText {
		c.text = string(p.Body)
	}
	v, err := c.value()
	if err != nil {
		return nil, err.in(root)
	}
	return v, nil
}

// Checked returns the payload marked as checked, so that decoding does not check it
// again. The caller must have checked it by [Payload.Check].
func (p Payload) Checked() Payload {
	p.checked = true
	return p
}

// Ordered returns the payload marked so that decoding returns each map as an [Object], with
// its members in the order in which they were encoded.
func (p Payload) Ordered() Payload {
	p.ordered = true
	return p
}

// Check verifies, without decoding it, that the payload is one well-formed value that
// uses all of its buffers. Its error is a *[ValueError] whose path begins with root.
func (p Payload) Check(root string, limits Limits) error {
	c := cursor{b: p.Body, buffers: p.Buffers, maxDepth: limits.Depth}
	err := c.skip(0)
	switch {
	case err != nil:
	case c.i != len(c.b):
		err = &ValueError{Reason: fmt.Sprintf("%d bytes follow the value", len(c.b)-c.i)}
	case len(c.buffers) != 0:
		err = &ValueError{Reason: fmt.Sprintf("%d buffers belong to no value", len(c.buffers))}
	case limits.Decoded > 0 && c.memory > uint64(limits.Decoded):
		err = &ValueError{Reason: fmt.Sprintf("its %d bytes take about %d bytes of memory when they are decoded, more than the limit of %d; an array of numbers takes less", len(c.b), c.memory, limits.Decoded)}
	default:
		return nil
	}
	return err.in(root)
}

// cursor reads encoded values that are not trusted: it compares every length with the
// bytes that remain before it uses the length. It allocates only for extensions and
// errors, so checking a result before it is forwarded to the next node costs little.
type cursor struct {
	b         []byte
	i         int // offset of the next byte in b
	buffers   [][]byte
	locations []location // of the buffers, if those in shared memory are to be copied
	view      bool       // those in shared memory are not copied
	maxDepth  int        // for skip
	memory    uint64     // the decoded values that skip has passed take at most that many bytes
	ordered   bool       // maps become objects
	text      string     // b as a string of which decoded strings are parts; empty if they are copied
}

// tooDeep returns the error of a value that is nested too deep. Its hint is for the node that
// returned the value.
func (c *cursor) tooDeep() *ValueError {
	return &ValueError{
		Reason: fmt.Sprintf("nested deeper than %d levels", c.maxDepth),
		Hint:   "instead of x, return gophersnake.Json.dump(x), or less nesting",
	}
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

// The memory in bytes that decoded values take at most, in Go or in Python. The package
// comment lists them for the implementers of decoders.
const (
	memoryOfValue = 32  // any value, with its place in an array or a map
	memoryOfText  = 32  // str and bin, besides their bytes
	memoryOfArray = 64  // array
	memoryOfMap   = 320 // map that is not empty; an empty one takes memoryOfArray
	memoryOfKey   = 64  // each key of a map, besides its bytes
	memoryOfExt   = 256 // an extension, besides its payload
)

// skip advances past one value, nested depth levels deep, and checks it.
func (c *cursor) skip(depth int) *ValueError {
	t, err := c.token()
	if err != nil {
		return err
	}
	c.memory += memoryOfValue
	switch t.kind {
	case tokStr:
		text, err := c.take(t.n)
		if err != nil {
			return err
		}
		c.memory += memoryOfText + t.n
		return invalidText(text)
	case tokBin:
		_, err := c.take(t.n)
		c.memory += memoryOfText + t.n
		return err
	case tokArray:
		if depth >= c.maxDepth {
			return c.tooDeep()
		}
		return c.skipArray(t.n, depth)
	case tokMap:
		if depth >= c.maxDepth {
			return c.tooDeep()
		}
		return c.skipMap(t.n, depth)
	case tokExt:
		payload, err := c.take(t.n)
		if err != nil {
			return err
		}
		c.memory += memoryOfExt + t.n
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
	c.memory += memoryOfArray
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
	if n == 0 {
		c.memory += memoryOfArray
		return nil
	}
	c.memory += memoryOfMap + n*memoryOfKey
	for range n {
		t, err := c.token()
		if err != nil {
			return err
		}
		if t.kind != tokStr {
			return &ValueError{
				Reason: fmt.Sprintf("a map key is %s; keys must be strings", t.kind),
				Hint:   "instead of x, return {str(key): value for key, value in x.items()}",
			}
		}
		key, err := c.take(t.n)
		if err != nil {
			return err
		}
		c.memory += t.n
		if !utf8.Valid(key) {
			return &ValueError{Reason: "a map key that is not UTF-8"}
		}
		if err := c.skip(depth + 1); err != nil {
			return err.in(fields.Step(string(key)))
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

// value returns the next value, in a body that has been checked.
func (c *cursor) value() (any, *ValueError) {
	t, err := c.token()
	if err != nil {
		return nil, err
	}
	switch t.kind {
	case tokNil:
		return nil, nil
	case tokBool:
		return t.n != 0, nil
	case tokInt:
		return int64(t.n), nil
	case tokUint:
		if t.n <= math.MaxInt64 {
			return int64(t.n), nil
		}
		return t.n, nil
	case tokFloat32, tokFloat64:
		return t.float(), nil
	case tokArray:
		return c.list(t.n)
	case tokMap:
		if c.ordered {
			return c.object(t.n)
		}
		return c.stringMap(t.n)
	}
	b, err := c.take(t.n)
	switch {
	case err != nil:
		return nil, err
	case t.kind == tokStr:
		return c.asString(b), nil
	}
	// The value may be changed while the payload is forwarded, so they share no bytes.
	b = append([]byte{}, b...)
	if t.kind == tokBin {
		return b, nil
	}
	inner := cursor{b: b, buffers: c.buffers, locations: c.locations, view: c.view}
	if t.ext == extTimestamp {
		return inner.timestamp()
	}
	var v any
	if t.ext == extLarge {
		v, err = inner.largeValue()
	} else {
		v, err = inner.extensionValue(t.ext)
	}
	c.buffers, c.locations = inner.buffers, inner.locations
	return v, err
}

func (c *cursor) list(n uint64) (any, *ValueError) {
	items := make([]any, n)
	for i := range items {
		var err *ValueError
		if items[i], err = c.value(); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (c *cursor) stringMap(n uint64) (any, *ValueError) {
	items := make(map[string]any, n)
	for range n {
		key, err := c.str()
		if err != nil {
			return nil, err
		}
		if items[key], err = c.value(); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// object is stringMap for an ordered value. A key that occurs twice keeps its first place
// and its last value, as in Python.
func (c *cursor) object(n uint64) (any, *ValueError) {
	members := make(Object, 0, n)
	places := make(map[string]int, n)
	for range n {
		key, err := c.str()
		if err != nil {
			return nil, err
		}
		value, err := c.value()
		if err != nil {
			return nil, err
		}
		if place, again := places[key]; again {
			members[place].Value = value
			continue
		}
		places[key] = len(members)
		members = append(members, Member{key, value})
	}
	return members, nil
}

// str reads a string.
func (c *cursor) str() (string, *ValueError) {
	t, err := c.expect(tokStr)
	if err != nil {
		return "", err
	}
	b, err := c.take(t.n)
	return c.asString(b), err
}

// expect reads a token that must be of the given kind.
func (c *cursor) expect(kind tokenKind) (token, *ValueError) {
	t, err := c.token()
	if err == nil && t.kind != kind {
		err = &ValueError{Reason: fmt.Sprintf("inside an extension: %s instead of %s", t.kind, kind)}
	}
	return t, err
}

// asString returns b, the bytes that were taken last, as a string.
func (c *cursor) asString(b []byte) string {
	if c.text != "" {
		return c.text[c.i-len(b) : c.i]
	}
	return string(b)
}

func invalidText(b []byte) *ValueError {
	if utf8.Valid(b) {
		return nil
	}
	return &ValueError{Reason: "a string that is not UTF-8"}
}
