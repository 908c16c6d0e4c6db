package ipc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Decode returns the value as nil, bool, int64, uint64 (only beyond the range of int64),
// float64, string, []byte, []any, map[string]any, [time.Time], *[Tensor], *[Audio],
// *[Image] or [JSON]. Large tensors, recordings and images share the memory of the
// payload's buffers, except for buffers in shared memory, which are copied so that the
// value outlives the payload. If a map contains a key twice, the last one counts.
//
// If the payload is not a valid value, the error is a *[ValueError] whose path begins
// with root.
func (p Payload) Decode(root string, limits Limits) (any, error) {
	return p.decode(root, limits, p.locations)
}

// View is [Payload.Decode] without copies: the parts of the value that are in shared
// memory must not be changed, nor used after the payload has been released.
func (p Payload) View(root string, limits Limits) (any, error) {
	return p.decode(root, limits, nil)
}

// sharedText is the size of a body up to which the strings of a value share one
// allocation. In a larger one, a single string that is kept would retain too much.
const sharedText = 512

// decode decodes the payload, and copies the buffers that have one of the locations.
func (p Payload) decode(root string, limits Limits, locations []location) (any, error) {
	// The whole value is checked first: each count is compared with the bytes that
	// follow, but nested counts together could still claim far more memory than there
	// are bytes.
	if !p.checked {
		if err := p.Check(root, limits); err != nil {
			return nil, err
		}
	}
	c := cursor{b: p.Body, buffers: p.Buffers, locations: locations}
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
	default:
		return nil
	}
	return err.in(root)
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
	inner := cursor{b: b, buffers: c.buffers, locations: c.locations}
	if t.ext == extTimestamp {
		return inner.timestamp()
	}
	v, err := inner.extensionValue(t.ext)
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

// checkExtension checks the payload of an extension, which is the whole of c.
func (c *cursor) checkExtension(id int8) *ValueError {
	if id == extTimestamp {
		_, err := c.timestamp()
		return err
	}
	_, err := c.extensionValue(id)
	return err
}

// timestamp decodes the payload of a timestamp, which is the whole of c.
func (c *cursor) timestamp() (time.Time, *ValueError) {
	var seconds, nanos uint64
	switch len(c.b) {
	case 4:
		seconds = uint64(binary.BigEndian.Uint32(c.b))
	case 8:
		both := binary.BigEndian.Uint64(c.b)
		seconds, nanos = both&(1<<34-1), both>>34
	case 12:
		seconds, nanos = binary.BigEndian.Uint64(c.b[4:]), uint64(binary.BigEndian.Uint32(c.b))
	default:
		return time.Time{}, &ValueError{Reason: fmt.Sprintf("a timestamp of %d bytes", len(c.b))}
	}
	if nanos > 999_999_999 {
		return time.Time{}, &ValueError{Reason: fmt.Sprintf("a timestamp with %d nanoseconds", nanos)}
	}
	return time.Unix(int64(seconds), int64(nanos)).UTC(), checkSeconds(int64(seconds))
}

// extensionValue decodes the payload of an application extension, which is the whole of
// c. The value shares the memory of c.
func (c *cursor) extensionValue(id int8) (any, *ValueError) {
	var v interface{ check() *ValueError }
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
	case c.i != len(c.b):
		err = &ValueError{Reason: fmt.Sprintf("%d bytes follow inside extension %d", len(c.b)-c.i, id)}
	default:
		err = v.check()
	}
	return v, err
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
	if dims.n > maxDims {
		return nil, tooManyDims(int64(dims.n))
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
	case tokFloat32, tokFloat64:
		seconds := pts.float()
		m.PTS = &seconds
	default:
		return nil, &ValueError{Reason: fmt.Sprintf("an image's pts is %s; it must be a float or nil", pts.kind)}
	}
	m.Pixels, err = c.data()
	return m, err
}

// expect reads a token that must be of the given kind.
func (c *cursor) expect(kind tokenKind) (token, *ValueError) {
	t, err := c.token()
	if err == nil && t.kind != kind {
		err = &ValueError{Reason: fmt.Sprintf("inside an extension: %s instead of %s", t.kind, kind)}
	}
	return t, err
}

// array reads the beginning of an array of n items.
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
	return c.asString(b), err
}

// maxSafeLen is the largest length that fits into an int on every platform.
const maxSafeLen = math.MaxInt32

// uint reads a size, which an encoder may have written as a signed integer.
func (c *cursor) uint(limit uint64) (int, *ValueError) {
	t, err := c.token()
	switch {
	case err != nil:
	case t.kind == tokInt && int64(t.n) < 0:
		err = &ValueError{Reason: fmt.Sprintf("inside an extension: the number %d", int64(t.n))}
	case t.kind != tokUint && t.kind != tokInt:
		err = &ValueError{Reason: fmt.Sprintf("inside an extension: %s instead of a size", t.kind)}
	case t.n > limit:
		err = &ValueError{Reason: fmt.Sprintf("inside an extension: the number %d", t.n)}
	}
	return int(t.n), err
}

// data reads the data of an extension: the bytes inside it, or the frame's next buffer.
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
		if c.locations != nil {
			if c.locations[0].segment != nil {
				b = bytes.Clone(b)
			}
			c.locations = c.locations[1:]
		}
		return b, nil
	}
	return nil, &ValueError{Reason: fmt.Sprintf("inside an extension: %s instead of data", t.kind)}
}
