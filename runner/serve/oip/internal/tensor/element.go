package tensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/x448/float16"
)

// FromValues returns a tensor whose elements are those of a JSON value: a list of all of them,
// or lists that are nested as the shape says. Numbers are int64, uint64 or float64.
func FromValues(name, datatype string, shape []int64, data any) (*Tensor, error) {
	t, elements, err := New(name, datatype, shape)
	if err != nil {
		return nil, err
	}
	leaves, ok := flat(data, elements)
	if !ok {
		leaves, ok = nested(nil, data, t.Shape)
	}
	if !ok {
		return nil, fmt.Errorf("tensor %q: the data do not have the %d elements of the shape %v", name, elements, shape)
	}
	return t, t.addAll(elements, func(i int) any { return leaves[i] })
}

// FromList returns a tensor whose elements are those of a list with a length: bool, int64, uint64,
// float64, or bytes.
func FromList(name, datatype string, shape []int64, length int, at func(i int) any) (*Tensor, error) {
	t, elements, err := New(name, datatype, shape)
	if err == nil && length != elements {
		err = fmt.Errorf("tensor %q: there are %d elements of %s, and the shape %v takes %d", name, length, datatype, shape, elements)
	}
	if err != nil {
		return nil, err
	}
	return t, t.addAll(elements, at)
}

// addAll appends the elements, of which there are none yet.
func (t *Tensor) addAll(elements int, at func(i int) any) error {
	if t.Type == Bytes {
		t.Strings = make([][]byte, 0, elements)
	} else {
		t.Data = make([]byte, 0, elements*t.Type.DType().Size())
	}
	for i := range elements {
		if err := t.add(at(i)); err != nil {
			return fmt.Errorf("tensor %q: element %d: %w", t.Name, i, err)
		}
	}
	return nil
}

// flat returns the elements of a list without lists in it.
func flat(data any, elements int) ([]any, bool) {
	list, ok := data.([]any)
	if !ok || len(list) != elements {
		return nil, false
	}
	for _, v := range list {
		if _, isList := v.([]any); isList {
			return nil, false
		}
	}
	return list, true
}

// nested appends the elements of lists that are nested as a shape says.
func nested(all []any, v any, shape []int) ([]any, bool) {
	list, isList := v.([]any)
	if len(shape) == 0 {
		return append(all, v), !isList
	}
	if !isList || len(list) != shape[0] {
		return nil, false
	}
	for _, item := range list {
		var ok bool
		if all, ok = nested(all, item, shape[1:]); !ok {
			return nil, false
		}
	}
	return all, true
}

// add appends an element.
func (t *Tensor) add(v any) error {
	switch t.Type {
	case Bytes:
		if content, ok := v.([]byte); ok {
			t.Strings = append(t.Strings, content)
			return nil
		}
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("a BYTES is text in JSON, not %v", v)
		}
		t.Strings = append(t.Strings, []byte(text))
		return nil
	case Bool:
		return t.addBool(v)
	case Float16, BFloat, Float32, Float64:
		return t.addFloat(v)
	}
	return t.addInteger(v)
}

func (t *Tensor) addBool(v any) error {
	switch v {
	case true, int64(1):
		t.Data = append(t.Data, 1)
	case false, int64(0):
		t.Data = append(t.Data, 0)
	default:
		return fmt.Errorf("a BOOL is true or false, not %v", v)
	}
	return nil
}

func (t *Tensor) addFloat(v any) error {
	var f float64
	switch v := v.(type) {
	case float64:
		f = v
	case int64:
		f = float64(v)
	case uint64:
		f = float64(v)
	default:
		return fmt.Errorf("a %s is a number, not %v", t.Type, v)
	}
	t.AppendFloat(f)
	return nil
}

// AppendFloat appends an element, rounded to the type, which must be one of floats.
func (t *Tensor) AppendFloat(f float64) {
	switch t.Type {
	case Float16:
		t.Data = binary.LittleEndian.AppendUint16(t.Data, float16.Fromfloat32(float32(f)).Bits())
	case BFloat:
		t.Data = binary.LittleEndian.AppendUint16(t.Data, bfloat(float32(f)))
	case Float32:
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(float32(f)))
	default:
		t.Data = binary.LittleEndian.AppendUint64(t.Data, math.Float64bits(f))
	}
}

// bfloat returns the upper half of a number, rounded to the nearest, and to even between two.
func bfloat(f float32) uint16 {
	bits := math.Float32bits(f)
	if math.IsNaN(float64(f)) {
		return uint16(bits>>16) | 1<<6
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

var errRange = errors.New("it is out of the range of the datatype")

func (t *Tensor) addInteger(v any) error {
	negative, magnitude, err := integer(v)
	if err != nil {
		return fmt.Errorf("a %s is an integer, not %v", t.Type, v)
	}
	size := t.Type.DType().Size()
	bits := uint(8 * size)
	isSigned := t.Type[0] == 'I'
	switch {
	case negative && (!isSigned || magnitude > 1<<(bits-1)):
		return errRange
	case !negative && isSigned && magnitude > 1<<(bits-1)-1, !negative && bits < 64 && magnitude >= 1<<bits:
		return errRange
	}
	if negative {
		magnitude = -magnitude
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], magnitude)
	t.Data = append(t.Data, word[:size]...)
	return nil
}

// integer returns the sign and the absolute value of an integer, which may be written as a float.
func integer(v any) (negative bool, magnitude uint64, err error) {
	switch v := v.(type) {
	case int64:
		if v < 0 {
			return true, -uint64(v), nil
		}
		return false, uint64(v), nil
	case uint64:
		return false, v, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) <= 1<<53 {
			return integer(int64(v))
		}
	}
	return false, 0, errRange
}

// Values returns the elements as values of JSON: bool, int64, uint64, float64, and text. NaN and
// infinities become nil. The error is that of bytes that are not UTF-8.
func (t *Tensor) Values() ([]any, error) {
	all := make([]any, 0, t.Elements())
	if t.Type == Bytes {
		for _, s := range t.Strings {
			if !utf8.Valid(s) {
				return nil, fmt.Errorf("output %q: JSON cannot hold its bytes, which are not UTF-8", t.Name)
			}
			all = append(all, string(s))
		}
		return all, nil
	}
	size := t.Type.DType().Size()
	for data := t.Data; len(data) >= size; data = data[size:] {
		v := t.Type.element(data)
		if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			v = nil
		}
		all = append(all, v)
	}
	return all, nil
}

// element returns the first of the elements in some data: a bool, int64, uint64 or float64.
func (t Type) element(data []byte) any {
	order := binary.LittleEndian
	switch t {
	case Bool:
		return data[0] != 0
	case Int8:
		return int64(int8(data[0]))
	case Int16:
		return int64(int16(order.Uint16(data)))
	case Int32:
		return int64(int32(order.Uint32(data)))
	case Int64:
		return int64(order.Uint64(data))
	case Uint8:
		return uint64(data[0])
	case Uint16:
		return uint64(order.Uint16(data))
	case Uint32:
		return uint64(order.Uint32(data))
	case Uint64:
		return order.Uint64(data)
	case Float16:
		return float64(float16.Frombits(order.Uint16(data)).Float32())
	case BFloat:
		return float64(math.Float32frombits(uint32(order.Uint16(data)) << 16))
	case Float32:
		return float64(math.Float32frombits(order.Uint32(data)))
	}
	return math.Float64frombits(order.Uint64(data))
}

// Nested returns the elements in lists that are nested as the shape says; without dimensions,
// the element. convert is called for each of a tensor of the type Bytes.
func (t *Tensor) Nested(convert func([]byte) (any, error)) (any, error) {
	next := 0
	size := t.Type.DType().Size()
	element := func() (any, error) {
		i := next
		next++
		if t.Type == Bytes {
			return convert(t.Strings[i])
		}
		return t.Type.element(t.Data[i*size:]), nil
	}
	return nest(t.Shape, element)
}

func nest(shape []int, element func() (any, error)) (any, error) {
	if len(shape) == 0 {
		return element()
	}
	list := make([]any, 0)
	for range shape[0] {
		v, err := nest(shape[1:], element)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}
