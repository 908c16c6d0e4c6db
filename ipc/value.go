package ipc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5"
)

// The msgpack extension types: the standard timestamp, and those of this protocol.
const (
	extTimestamp = -1
	extTensor    = 1
	extAudio     = 2
	extImage     = 3
	extJSON      = 4
	extTable     = 5
	extLarge     = 6
)

// The forms of the data of extLarge.
const (
	formBytes = "bin"
	formText  = "str"
	formJSON  = "json"
)

// DType is the element type of a [Tensor], by its NumPy name.
type DType string

// The element types of a [Tensor].
const (
	Bool       DType = "bool"
	Int8       DType = "int8"
	Int16      DType = "int16"
	Int32      DType = "int32"
	Int64      DType = "int64"
	Uint8      DType = "uint8"
	Uint16     DType = "uint16"
	Uint32     DType = "uint32"
	Uint64     DType = "uint64"
	Float16    DType = "float16"
	BFloat16   DType = "bfloat16"
	Float32    DType = "float32"
	Float64    DType = "float64"
	Complex64  DType = "complex64"
	Complex128 DType = "complex128"
)

// Size returns the size of one element in bytes, or 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case Bool, Int8, Uint8:
		return 1
	case Int16, Uint16, Float16, BFloat16:
		return 2
	case Int32, Uint32, Float32:
		return 4
	case Int64, Uint64, Float64, Complex64:
		return 8
	case Complex128:
		return 16
	}
	return 0
}

// Element is the set of Go types that correspond to a [DType]. Float16 and BFloat16
// have no Go type; use [Tensor].Data for them.
type Element interface {
	bool | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 |
		float32 | float64 | complex64 | complex128
}

// Tensor is an n-dimensional array. In Python it is a numpy array if NumPy is
// installed, and a gophersnake.Tensor otherwise.
type Tensor struct {
	DType DType
	// Shape is the length of each dimension, at most 64 of them. A scalar has none.
	Shape []int
	// Data holds the elements in C order (row-major), each little-endian. Its length is
	// the product of Shape and the size of DType.
	Data []byte
}

// NewTensor returns a tensor of the given shape whose memory is that of data, on a
// little-endian machine without copying it. Its error is a *[ValueError] if the shape
// does not match the number of elements.
func NewTensor[T Element](data []T, shape ...int) (*Tensor, error) {
	t := &Tensor{DType: dtypeOf[T](), Shape: shape, Data: bytesOf(data)}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// Elements returns the elements of a tensor as a slice of T. The slice shares the
// tensor's memory if its alignment permits, and is a copy otherwise; booleans are
// always copied. Elements fails if the tensor holds another type or is not valid.
func Elements[T Element](t *Tensor) ([]T, error) {
	if want := dtypeOf[T](); t.DType != want {
		return nil, fmt.Errorf("the tensor holds %s, not %s", t.DType, want)
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	if t.DType == Bool {
		// A Go bool must be 0 or 1 in memory; for NumPy, any other byte is true as well.
		flags := make([]bool, len(t.Data))
		for i, b := range t.Data {
			flags[i] = b != 0
		}
		return any(flags).([]T), nil
	}
	return elementsOf[T](t.Data), nil
}

// check reports whether the dtype is known and the shape agrees with the data.
func (t *Tensor) check() *ValueError {
	size := t.DType.Size()
	if size == 0 {
		return &ValueError{Reason: fmt.Sprintf("unknown dtype %q", t.DType)}
	}
	if len(t.Shape) > maxDims {
		return tooManyDims(int64(len(t.Shape)))
	}
	n := uint64(size)
	for _, dim := range t.Shape {
		if dim < 0 {
			return &ValueError{Reason: fmt.Sprintf("negative dimension in shape %v", t.Shape)}
		}
		if dim > 0 && n > math.MaxInt64/uint64(dim) {
			return &ValueError{Reason: fmt.Sprintf("shape %v is larger than any memory", t.Shape)}
		}
		n *= uint64(dim)
	}
	if n != uint64(len(t.Data)) {
		return &ValueError{Reason: fmt.Sprintf("a tensor of %s and shape %v takes %d bytes, but has %d", t.DType, t.Shape, n, len(t.Data))}
	}
	return nil
}

// maxDims is the largest number of dimensions, which is NumPy's limit.
const maxDims = 64

func tooManyDims(n int64) *ValueError {
	return &ValueError{Reason: fmt.Sprintf("a tensor of %d dimensions, more than the limit of %d", n, maxDims)}
}

// Audio is a recording.
type Audio struct {
	// Samples are between -1 and 1, with the channels interleaved.
	Samples []float32
	// Rate is the number of samples per second of each channel.
	Rate     int
	Channels int
}

// Frames returns the number of samples per channel.
func (a *Audio) Frames() int {
	if a.Channels == 0 {
		return 0
	}
	return len(a.Samples) / a.Channels
}

func (a *Audio) check() *ValueError {
	switch {
	case a.Rate <= 0 || a.Rate > math.MaxInt32:
		return &ValueError{Reason: fmt.Sprintf("an audio rate of %d Hz", a.Rate)}
	case a.Channels <= 0 || a.Channels > math.MaxInt32:
		return &ValueError{Reason: fmt.Sprintf("audio with %d channels", a.Channels)}
	case len(a.Samples)%a.Channels != 0:
		return &ValueError{Reason: fmt.Sprintf("%d audio samples are no whole number of frames of %d channels", len(a.Samples), a.Channels)}
	}
	return nil
}

// Image is a picture or a video frame.
type Image struct {
	// Pixels are stored row by row from the top, without padding.
	Pixels []byte
	// Format is one of gray8, rgb8, bgr8, rgba8 and bgra8.
	Format        string
	Width, Height int
	// PTS is the presentation timestamp of a video frame in seconds, nil for a picture.
	PTS *float64
}

var bytesPerPixel = map[string]int{"gray8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}

func (m *Image) check() *ValueError {
	bpp := bytesPerPixel[m.Format]
	if bpp == 0 {
		return &ValueError{Reason: fmt.Sprintf("unknown image format %q", m.Format)}
	}
	const side = 1 << 20
	if m.Width < 0 || m.Height < 0 || m.Width > side || m.Height > side {
		return &ValueError{Reason: fmt.Sprintf("an image of %d × %d", m.Width, m.Height)}
	}
	if want := m.Width * m.Height * bpp; want != len(m.Pixels) {
		return &ValueError{Reason: fmt.Sprintf("an image of %d × %d in %s takes %d bytes, but has %d", m.Width, m.Height, m.Format, want, len(m.Pixels))}
	}
	return nil
}

// Table is a table whose columns have types, as an Arrow IPC stream: the schema, the
// dictionaries and the record batches. In Python it is a pyarrow.Table if pyarrow is installed,
// or what the node is annotated with. Package runner/arrow reads and writes tables.
type Table struct {
	// Stream is not checked by this package, and a worker may have written anything.
	Stream []byte
}

// check accepts any bytes: programs that read tables import an implementation of Arrow.
func (t *Table) check() *ValueError { return nil }

// TableMarshaler is implemented by types that [Encode] encodes as a [Table].
type TableMarshaler interface {
	MarshalTable() (*Table, error)
}

// TableUnmarshaler is implemented by types into which runner.Decode decodes a [Table].
type TableUnmarshaler interface {
	UnmarshalTable(table *Table) error
}

// JSON is the text of a JSON document. It is carried as it is, so that numbers keep
// their digits and objects the order of their members.
type JSON json.RawMessage

// MarshalJSON implements [json.Marshaler]. It returns the document itself.
func (j JSON) MarshalJSON() ([]byte, error) { return json.RawMessage(j).MarshalJSON() }

func (j JSON) check() *ValueError {
	switch {
	case !utf8.Valid(j):
		return &ValueError{Reason: "a JSON document that is not UTF-8"}
	case !json.Valid(j):
		return &ValueError{Reason: "not a JSON document"}
	}
	return nil
}

// Object is a map whose members have an order. A node receives it as a dict with that
// order. A Go map has none: encoding one writes its members in any order. Results contain
// objects in place of maps if the runner is told so, or if the payload is decoded after
// [Payload.Ordered].
type Object []Member

// Member is one key of an [Object] with its value.
type Member struct {
	Key   string
	Value any
}

// Get returns the value of a key, and whether the object has the key. If it has the key
// twice, the last one counts. Get searches the members one by one.
func (o Object) Get(key string) (any, bool) {
	for _, m := range slices.Backward(o) {
		if m.Key == key {
			return m.Value, true
		}
	}
	return nil, false
}

// MarshalJSON implements [json.Marshaler]. It keeps the order of the members.
func (o Object) MarshalJSON() ([]byte, error) { return appendJSON(make([]byte, 0, 128), o) }

// appendJSON appends a value as JSON text, the same as encoding/json writes without escapes for
// HTML. It writes objects and lists itself, because encoding/json would scan the text of a nested
// object once for each level above it, and common values, because that would allocate for each.
func appendJSON(text []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(text, "null"...), nil
	case bool:
		return strconv.AppendBool(text, v), nil
	case int64:
		return strconv.AppendInt(text, v, 10), nil
	case uint64:
		return strconv.AppendUint(text, v, 10), nil
	case float64:
		if abs := math.Abs(v); v == 0 || abs >= 1e-6 && abs < 1e21 { // others have an exponent, or are refused
			return strconv.AppendFloat(text, v, 'f', -1, 64), nil
		}
	case string:
		if isPlainText(v) {
			return append(append(append(text, '"'), v...), '"'), nil
		}
	case Object:
		text = append(text, '{')
		for i, m := range v {
			if i > 0 {
				text = append(text, ',')
			}
			if text, err = appendJSON(text, m.Key); err != nil {
				return nil, err
			}
			if text, err = appendJSON(append(text, ':'), m.Value); err != nil {
				return nil, err
			}
		}
		return append(text, '}'), nil
	case []any:
		text = append(text, '[')
		for i, item := range v {
			if i > 0 {
				text = append(text, ',')
			}
			if text, err = appendJSON(text, item); err != nil {
				return nil, err
			}
		}
		return append(text, ']'), nil
	}
	b := bytes.NewBuffer(text)
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false) // an encoder that is to escape does so with the text of a Marshaler
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// isPlainText reports whether a text is the same in JSON, between quotes.
func isPlainText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// EncodeMsgpack implements [msgpack.CustomEncoder] for objects in messages. Values are
// encoded by [Encode].
func (o Object) EncodeMsgpack(out *msgpack.Encoder) error {
	if err := out.EncodeMapLen(len(o)); err != nil {
		return err
	}
	for _, m := range o {
		if err := out.EncodeString(m.Key); err != nil {
			return err
		}
		if err := out.Encode(m.Value); err != nil {
			return err
		}
	}
	return nil
}

// checkSeconds refuses a time that Python's datetime cannot represent.
func checkSeconds(seconds int64) *ValueError {
	if seconds >= firstSecond && seconds <= lastSecond {
		return nil
	}
	return &ValueError{Reason: fmt.Sprintf("a timestamp of %d seconds since 1970; its year is not between 1 and 9999", seconds)}
}

var (
	firstSecond = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	lastSecond  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

func dtypeOf[T Element]() DType {
	var zero T
	switch any(zero).(type) {
	case bool:
		return Bool
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64:
		return Int64
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	case uint64:
		return Uint64
	case float32:
		return Float32
	case float64:
		return Float64
	case complex64:
		return Complex64
	default:
		return Complex128
	}
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// bytesOf returns elements as little-endian bytes. They share memory, except on a
// big-endian machine.
func bytesOf[T Element](s []T) []byte {
	if len(s) == 0 {
		return []byte{}
	}
	if !littleEndian {
		b, _ := binary.Append(nil, binary.LittleEndian, s) // cannot fail for elements of a fixed size
		return b
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

// elementsOf returns little-endian bytes as elements. They share memory if the alignment
// and the machine's byte order permit it.
func elementsOf[T Element](b []byte) []T {
	var zero T
	size := int(unsafe.Sizeof(zero))
	n := len(b) / size
	if n == 0 {
		return []T{}
	}
	if !littleEndian {
		s := make([]T, n)
		_, _ = binary.Decode(b, binary.LittleEndian, s) // cannot fail, because the sizes agree
		return s
	}
	if uintptr(unsafe.Pointer(&b[0]))%unsafe.Alignof(zero) != 0 {
		s := make([]T, n)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), n*size), b)
		return s
	}
	return slices.Clip(unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n))
}
