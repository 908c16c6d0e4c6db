package ipc

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// cursor walks over encoded values and believes nothing: every length is held
// against the bytes that are there before it is used. It allocates only for
// extensions and errors, so checking a result on its way to the next node costs
// little.
type cursor struct {
	b       []byte
	i       int
	buffers [][]byte
	places  []place // of the buffers, where they are to be copied out of shared memory
	depth   int
	text    string // of b, where its strings are parts of it
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
		if !utf8.Valid(key) {
			return &ValueError{Reason: "a map key that is not UTF-8"}
		}
		if err := c.skip(depth + 1); err != nil {
			return err.in(step(string(key)))
		}
	}
	return nil
}
