// Package tensor holds the tensors of the Open Inference Protocol: it decodes them from the
// binary form and from JSON, and encodes them. What it decodes comes from clients and is not
// trusted: it allocates no more than a small multiple of what it is given.
package tensor

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gophersnake/gophersnake/ipc"
)

// Type is a datatype of the protocol.
type Type string

// The datatypes. All but Bytes have the elements of an array in Python.
const (
	Bool    Type = "BOOL"
	Int8    Type = "INT8"
	Int16   Type = "INT16"
	Int32   Type = "INT32"
	Int64   Type = "INT64"
	Uint8   Type = "UINT8"
	Uint16  Type = "UINT16"
	Uint32  Type = "UINT32"
	Uint64  Type = "UINT64"
	Float16 Type = "FP16"
	Float32 Type = "FP32"
	Float64 Type = "FP64"
	BFloat  Type = "BF16"
	Bytes   Type = "BYTES"
)

// dtypes are the element types of arrays by datatype.
var dtypes = map[Type]ipc.DType{
	Bool: ipc.Bool, Int8: ipc.Int8, Int16: ipc.Int16, Int32: ipc.Int32, Int64: ipc.Int64,
	Uint8: ipc.Uint8, Uint16: ipc.Uint16, Uint32: ipc.Uint32, Uint64: ipc.Uint64,
	Float16: ipc.Float16, Float32: ipc.Float32, Float64: ipc.Float64, BFloat: ipc.BFloat16,
}

// TypeOf returns the datatype of the elements of an array, and false if the protocol has none.
func TypeOf(dtype ipc.DType) (Type, bool) {
	for t, d := range dtypes {
		if d == dtype {
			return t, true
		}
	}
	return "", false
}

// DType returns the element type of arrays; it is empty for Bytes.
func (t Type) DType() ipc.DType { return dtypes[t] }

// Tensor is a named tensor. The number of its elements is the product of its shape.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int
	// Data are the elements in C order, little-endian, unless the type is Bytes.
	Data []byte
	// Strings are the elements if the type is Bytes.
	Strings [][]byte
}

const (
	// mostDimensions is that of arrays; see [ipc.Tensor].
	mostDimensions = 64
	// mostElements bounds the product of the dimensions that are not 0, so that no size of an
	// array overflows.
	mostElements = 1 << 48
	// mostEmpty does so if another dimension is 0: an array without elements is as many lists.
	mostEmpty = 1 << 20
)

// New returns a tensor without elements, and how many of them its shape takes. The error says
// what is wrong with the datatype or the shape.
func New(name, datatype string, shape []int64) (t *Tensor, elements int, err error) {
	t = &Tensor{Name: name, Type: Type(datatype), Shape: make([]int, 0, min(len(shape), mostDimensions))}
	if t.Type != Bytes && t.Type.DType() == "" {
		return nil, 0, fmt.Errorf("tensor %q: there is no datatype %q", name, datatype)
	}
	if len(shape) > mostDimensions {
		return nil, 0, fmt.Errorf("tensor %q: it has %d dimensions, more than %d", name, len(shape), mostDimensions)
	}
	product, isEmpty := int64(1), false
	for _, n := range shape {
		if n < 0 {
			return nil, 0, fmt.Errorf("tensor %q: the shape %v has a negative dimension", name, shape)
		}
		t.Shape = append(t.Shape, int(n))
		if n == 0 {
			isEmpty = true
			continue
		}
		if product > mostElements/n {
			return nil, 0, fmt.Errorf("tensor %q: the shape %v has too many elements", name, shape)
		}
		product *= n
	}
	if isEmpty && product > mostEmpty {
		return nil, 0, fmt.Errorf("tensor %q: the shape %v is too large for one without elements", name, shape)
	}
	if isEmpty {
		return t, 0, nil
	}
	return t, int(product), nil
}

// FromBinary returns a tensor whose elements are in the binary form. It keeps the data.
func FromBinary(name, datatype string, shape []int64, data []byte) (*Tensor, error) {
	t, elements, err := New(name, datatype, shape)
	if err != nil {
		return nil, err
	}
	if t.Type == Bytes {
		t.Strings, err = splitStrings(data, elements)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		return t, nil
	}
	if size := t.Type.DType().Size(); len(data)%size != 0 || len(data)/size != elements {
		return nil, fmt.Errorf("tensor %q: the shape %v of %s takes %d elements of %d bytes, and there are %d bytes",
			name, shape, datatype, elements, size, len(data))
	}
	if t.Type == Bool {
		for _, b := range data {
			if b > 1 {
				return nil, fmt.Errorf("tensor %q: a BOOL is 0 or 1, not %d", name, b)
			}
		}
	}
	t.Data = data
	return t, nil
}

// lengthSize is the size of the length before each element of the type Bytes.
const lengthSize = 4

// splitStrings returns the elements of a tensor of the type Bytes.
func splitStrings(data []byte, elements int) ([][]byte, error) {
	if len(data)/lengthSize < elements {
		return nil, fmt.Errorf("%d bytes cannot be %d elements with their lengths", len(data), elements)
	}
	all := make([][]byte, 0, elements)
	for len(data) > 0 {
		if len(data) < lengthSize {
			return nil, fmt.Errorf("the data end within the length of element %d", len(all))
		}
		length := binary.LittleEndian.Uint32(data)
		data = data[lengthSize:]
		if uint64(length) > uint64(len(data)) {
			return nil, fmt.Errorf("element %d has %d bytes, and %d are left", len(all), length, len(data))
		}
		if len(all) == elements {
			return nil, fmt.Errorf("there are more elements than the %d of the shape", elements)
		}
		all = append(all, data[:length:length])
		data = data[length:]
	}
	if len(all) != elements {
		return nil, fmt.Errorf("there are %d elements, and the shape takes %d", len(all), elements)
	}
	return all, nil
}

// Elements returns the number of elements.
func (t *Tensor) Elements() int {
	if t.Type == Bytes {
		return len(t.Strings)
	}
	return len(t.Data) / t.Type.DType().Size()
}

// Binary returns the elements in the binary form. The error is that of a text that is too long.
func (t *Tensor) Binary() ([]byte, error) {
	if t.Type != Bytes {
		return t.Data, nil
	}
	size := 0
	for _, s := range t.Strings {
		if len(s) > math.MaxUint32 {
			return nil, fmt.Errorf("output %q: an element has %d bytes, more than the protocol can carry", t.Name, len(s))
		}
		size += lengthSize + len(s)
	}
	out := make([]byte, 0, size)
	for _, s := range t.Strings {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out, nil
}

// Array returns the tensor as an array. Its type must not be Bytes.
func (t *Tensor) Array() *ipc.Tensor {
	return &ipc.Tensor{DType: t.Type.DType(), Shape: t.Shape, Data: t.Data}
}
