package ipc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// checkExtension checks the payload of an extension, which is the whole of c.
func (c *cursor) checkExtension(id int8) *ValueError {
	switch id {
	case extTimestamp:
		_, err := c.timestamp()
		return err
	case extLarge:
		form, data, err := c.large()
		if err == nil {
			err = checkLarge(form, data)
		}
		return err
	}
	_, err := c.extensionValue(id)
	return err
}

// large reads the payload of a large value, which is the whole of c: its form and its data, which
// is the frame's next buffer.
func (c *cursor) large() (form string, data []byte, err *ValueError) {
	if err = c.array(2, "a large value"); err == nil {
		form, err = c.str()
	}
	switch {
	case err != nil:
	case c.i != len(c.b)-1 || c.b[c.i] != msgpcode.Nil:
		err = &ValueError{Reason: "the data of a large value is not in a buffer"}
	default:
		data, err = c.data()
	}
	return form, data, err
}

// checkLarge checks the data of a large value.
func checkLarge(form string, data []byte) *ValueError {
	switch form {
	case formBytes:
		return nil
	case formText:
		return invalidText(data)
	case formJSON:
		return JSON(data).check()
	}
	return &ValueError{Reason: fmt.Sprintf("a large value of the unknown form %q", form)}
}

// largeValue decodes the payload of a large value, which is the whole of c. Only in a view do
// bytes share the memory of their buffer. Text and JSON are checked once more if they were in
// memory that a worker can write to.
func (c *cursor) largeValue() (any, *ValueError) {
	isCopy := len(c.locations) > 0 && c.locations[0].segment != nil
	form, data, err := c.large()
	if err != nil {
		return nil, err
	}
	if !isCopy && !(c.view && form == formBytes) {
		data = bytes.Clone(data)
	}
	if isCopy || c.view {
		err = checkLarge(form, data)
	}
	switch form {
	case formBytes:
		return data, err
	case formText:
		return unsafe.String(unsafe.SliceData(data), len(data)), err
	}
	return JSON(data), err
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
	case extTable:
		v, err = c.table()
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

func (c *cursor) table() (*Table, *ValueError) {
	if err := c.array(1, "a table"); err != nil {
		return nil, err
	}
	stream, err := c.data()
	if c.view {
		stream = bytes.Clone(stream)
	}
	return &Table{Stream: stream}, err
}

// array reads the beginning of an array of n items.
func (c *cursor) array(n uint64, what string) *ValueError {
	t, err := c.expect(tokArray)
	if err == nil && t.n != n {
		err = &ValueError{Reason: fmt.Sprintf("%s of %d parts instead of %d", what, t.n, n)}
	}
	return err
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

// Inline returns the payload as one piece of msgpack with the data of tensors, recordings,
// images, tables and large values in place, for programs that decode it without the package. A
// payload without buffers is returned as it is; another one is copied. The error is that of
// [Payload.Check].
func (p Payload) Inline(root string, limits Limits) ([]byte, error) {
	if !p.checked {
		if err := p.Check(root, limits); err != nil {
			return nil, err
		}
	}
	if len(p.Buffers) == 0 {
		return p.Body, nil
	}
	size := len(p.Body)
	for _, b := range p.Buffers {
		size += len(b) + 16
	}
	out := make([]byte, 0, size)
	c := cursor{b: p.Body, buffers: p.Buffers}
	copied := 0 // bytes of the body
	for c.i < len(c.b) {
		start := c.i
		t, err := c.token()
		switch {
		case err != nil:
			return nil, err.in(root)
		case t.kind == tokStr || t.kind == tokBin:
			_, err = c.take(t.n)
		case t.kind == tokExt:
			var payload []byte
			if payload, err = c.take(t.n); err == nil && refersToBuffer(t.ext, payload) {
				out = append(out, p.Body[copied:start]...)
				out = appendData(out, t.ext, payload[:len(payload)-1], c.buffers[0])
				copied, c.buffers = c.i, c.buffers[1:]
			}
		}
		if err != nil {
			return nil, err.in(root)
		}
	}
	return append(out, p.Body[copied:]...), nil
}

// refersToBuffer reports whether the data of a checked extension is in a buffer.
func refersToBuffer(id int8, payload []byte) bool {
	switch id {
	case extTensor, extAudio, extImage, extTable, extLarge:
	default:
		return false
	}
	c := cursor{b: payload, maxDepth: 2}
	fields, err := c.token()
	for i := uint64(1); i < fields.n && err == nil; i++ {
		err = c.skip(0)
	}
	return err == nil && c.i == len(payload)-1 && payload[c.i] == msgpcode.Nil
}

// appendData appends an extension whose payload is the fields and then the data, or a large value
// in its ordinary encoding.
func appendData(dst []byte, id int8, fields, data []byte) []byte {
	if id != extLarge {
		return appendExtension(dst, id, fields, data)
	}
	n := len(data)
	size := []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	c := cursor{b: fields}
	_ = c.array(2, "")
	switch form, _ := c.str(); form {
	case formText:
		dst = append(append(dst, msgpcode.Str32), size...)
	case formJSON:
		dst = append(append(append(dst, msgpcode.Ext32), size...), extJSON)
	default:
		dst = append(append(dst, msgpcode.Bin32), size...)
	}
	return append(dst, data...)
}

// appendExtension appends an extension whose payload is the fields and then the data.
func appendExtension(dst []byte, id int8, fields, data []byte) []byte {
	n := len(fields) + 5 + len(data)
	dst = append(dst, msgpcode.Ext32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n), byte(id))
	dst = append(dst, fields...)
	n = len(data)
	dst = append(dst, msgpcode.Bin32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(dst, data...)
}

// JoinPorts returns a map with the value of each port by its name. It shares the memory of
// the values.
func JoinPorts(ports []Port) Payload {
	joined := Payload{Body: appendMapLen(nil, len(ports)), checked: true}
	for _, port := range ports {
		body := append(appendStr(joined.Body, port.Name), port.Value.Body...)
		checked := joined.checked && port.Value.checked
		joined = joined.withBuffersOf(port.Value)
		joined.Body, joined.checked = body, checked
	}
	return joined
}
