package ipc

import (
	"encoding/binary"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Release frames go along with most calls that take or return large data, so they
// are written and read by hand.

// appendRelease appends the release frame that says how many mentions of which
// segments are over.
func appendRelease(frames []byte, over map[uint32]int64) []byte {
	body := make([]byte, 0, 64)
	body = append(body, msgpcode.Array32)
	body = binary.BigEndian.AppendUint32(body, uint32(len(over)))
	for number, n := range over {
		body = append(body, msgpcode.FixedArrayLow|2, msgpcode.Uint32)
		body = binary.BigEndian.AppendUint32(body, number)
		body = append(body, msgpcode.Uint64)
		body = binary.BigEndian.AppendUint64(body, uint64(n))
	}
	frames = appendHeader(frames, TypeRelease, 0, len(body), nil)
	return append(frames, body...)
}

// mentions hands over what a release frame says: segments, and how many of their
// mentions are over.
func mentions(f Frame, over func(number, n uint64) error) error {
	c := cursor{b: f.Body}
	count, ok := c.head(tokArray)
	for range count {
		parts, pair := c.head(tokArray)
		number, first := c.head(tokUint)
		n, second := c.head(tokUint)
		if !pair || parts != 2 || !first || !second {
			return errNoRelease
		}
		if err := over(number, n); err != nil {
			return err
		}
	}
	if !ok || c.i != len(c.b) {
		return errNoRelease
	}
	return nil
}

// head takes a token of this kind, and returns its number, length or count.
func (c *cursor) head(kind tokenKind) (uint64, bool) {
	t, err := c.token()
	return t.n, err == nil && t.kind == kind
}

var errNoRelease = &ProtocolError{Reason: "the body of a release frame is no array of segments and counts"}
