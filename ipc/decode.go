package ipc

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Decode returns the value as nil, bool, int64, uint64 (only beyond int64),
// float64, string, []byte, []any, map[string]any, time.Time, *[Tensor],
// *[Audio], *[Image] or [JSON]. Large tensors, recordings and images view the
// payload's buffers, but those in shared memory are copied, so that the value
// outlives the payload. Where a map has a key twice, the last one counts. A
// payload that is no such value is a *[ValueError], whose path begins with root.
func (p Payload) Decode(root string, limits Limits) (any, error) {
	return p.decode(root, limits, p.places)
}

// View is [Payload.Decode] without copies: what lies in shared memory is viewed
// there, and must not be used once the payload is released, nor ever be changed.
func (p Payload) View(root string, limits Limits) (any, error) {
	return p.decode(root, limits, nil)
}

// joined is the size of bodies up to which the strings of a value share one piece
// of memory, which is one allocation instead of many. In larger ones, a string that
// is kept would keep too much.
const joined = 512

// decode copies the buffers that are in these places.
func (p Payload) decode(root string, limits Limits, places []place) (any, error) {
	// The check comes first, over the whole value: a count is held against the
	// bytes that follow, but counts nested in each other could still ask for
	// far more memory than there are bytes.
	if !p.sound {
		if err := p.Check(root, limits); err != nil {
			return nil, err
		}
	}
	c := cursor{b: p.Body, buffers: p.Buffers, places: places}
	if len(p.Body) <= joined {
		c.text = string(p.Body)
	}
	v, err := c.value()
	if err != nil {
		return nil, err.in(root)
	}
	return v, nil
}

// Checked returns the payload for which [Payload.Check] has found nothing, so that
// decoding it does not check it again.
func (p Payload) Checked() Payload {
	p.sound = true
	return p
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

// value builds the Go value of a payload that has been checked.
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
		return c.taken(b), nil
	}
	// What is handed out must not change under a payload that goes on elsewhere.
	b = append([]byte{}, b...)
	if t.kind == tokBin {
		return b, nil
	}
	inner := cursor{b: b, buffers: c.buffers, places: c.places}
	if t.ext == extTimestamp {
		return inner.timestamp()
	}
	v, err := inner.extensionValue(t.ext)
	c.buffers, c.places = inner.buffers, inner.places
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

// taken returns the bytes that were taken last as a string.
func (c *cursor) taken(b []byte) string {
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
