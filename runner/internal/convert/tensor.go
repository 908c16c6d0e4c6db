package convert

import (
	"fmt"
	"math"
	"reflect"

	"github.com/x448/float16"

	"github.com/gophersnake/gophersnake/ipc"
)

// emptyRows is the most rows of a tensor without elements that become slices: its shape
// costs no bytes on the wire, so a worker may claim any number.
const emptyRows = 1 << 16

// tensor stores a tensor in nested slices or arrays, one level for each dimension. If the
// elements have the same type as those of the tensor, the slices are parts of its memory.
func tensor(t *ipc.Tensor, target reflect.Value) *Error {
	elem, levels := target.Type(), 0
	for elem.Kind() == reflect.Slice || elem.Kind() == reflect.Array {
		elem, levels = elem.Elem(), levels+1
	}
	if levels != len(t.Shape) || !isElement(elem.Kind()) {
		return mismatch("a "+target.Type().String(), t)
	}
	rows := 1
	for _, dim := range t.Shape[:levels-1] {
		if rows *= dim; rows == 0 {
			break
		}
		if len(t.Data) == 0 && rows > emptyRows {
			return mismatch(fmt.Sprintf("at most %d empty lists", emptyRows), t)
		}
	}
	flat, err := elements(t, elem)
	if err != nil {
		return err
	}
	return nest(flat, t.Shape, target)
}

// isElement reports whether the elements of a tensor can be of a kind.
func isElement(kind reflect.Kind) bool {
	return kind >= reflect.Bool && kind <= reflect.Complex128 && kind != reflect.Uintptr
}

// nest stores elements in slices or arrays of the given shape.
func nest(flat reflect.Value, shape []int, target reflect.Value) *Error {
	n := shape[0]
	if len(shape) == 1 && target.Kind() == reflect.Slice {
		target.Set(flat.Slice3(0, n, n).Convert(target.Type()))
		return nil
	}
	if err := resize(target, n, "items"); err != nil {
		return err
	}
	if len(shape) == 1 {
		reflect.Copy(target.Slice(0, n), flat)
		return nil
	}
	for i := range n {
		size := flat.Len() / n
		if err := nest(flat.Slice(i*size, (i+1)*size), shape[1:], target.Index(i)); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
	}
	return nil
}

// elements returns the elements of a tensor as a slice of a type.
func elements(t *ipc.Tensor, elem reflect.Type) (reflect.Value, *Error) {
	flat, err := native(t)
	if err != nil {
		return reflect.Value{}, &Error{Reason: err.Error(), Cause: err}
	}
	if flat.Type().Elem() == elem {
		return flat, nil
	}
	if wide, ok := flat.Interface().([]float64); ok && elem == reflect.TypeFor[float32]() {
		if narrow, ok := narrowed(wide); ok {
			return reflect.ValueOf(narrow), nil
		}
	}
	made := reflect.MakeSlice(reflect.SliceOf(elem), flat.Len(), flat.Len())
	for i := range flat.Len() {
		if err := element(flat.Index(i), made.Index(i)); err != nil {
			return made, err.in(position(t.Shape, i))
		}
	}
	return made, nil
}

// narrowed returns float64 as float32, and false if one of them is out of range. NumPy makes
// float64 of most things, so this is the most frequent conversion.
func narrowed(wide []float64) ([]float32, bool) {
	narrow := make([]float32, len(wide))
	for i, f := range wide {
		if narrow[i] = float32(f); math.IsInf(float64(narrow[i]), 0) && !math.IsInf(f, 0) {
			return nil, false
		}
	}
	return narrow, true
}

// native returns the elements of a tensor as a slice of the Go type that corresponds to its
// dtype. It is float32 for the types of 16 bits, which Go does not have.
func native(t *ipc.Tensor) (reflect.Value, error) {
	switch t.DType {
	case ipc.Bool:
		return slice[bool](t)
	case ipc.Int8:
		return slice[int8](t)
	case ipc.Int16:
		return slice[int16](t)
	case ipc.Int32:
		return slice[int32](t)
	case ipc.Int64:
		return slice[int64](t)
	case ipc.Uint8:
		return slice[uint8](t)
	case ipc.Uint16:
		return slice[uint16](t)
	case ipc.Uint32:
		return slice[uint32](t)
	case ipc.Uint64:
		return slice[uint64](t)
	case ipc.Float32:
		return slice[float32](t)
	case ipc.Complex64:
		return slice[complex64](t)
	case ipc.Complex128:
		return slice[complex128](t)
	case ipc.Float16, ipc.BFloat16:
		return half(t)
	}
	return slice[float64](t) // refuses any other type
}

func slice[T ipc.Element](t *ipc.Tensor) (reflect.Value, error) {
	all, err := ipc.Elements[T](t)
	return reflect.ValueOf(all), err
}

// half returns floats of 16 bits as float32, which holds all of them exactly.
func half(t *ipc.Tensor) (reflect.Value, error) {
	bits, err := ipc.Elements[uint16](&ipc.Tensor{DType: ipc.Uint16, Shape: t.Shape, Data: t.Data})
	all := make([]float32, len(bits))
	for i, b := range bits {
		if t.DType == ipc.Float16 {
			all[i] = float16.Frombits(b).Float32()
		} else {
			all[i] = math.Float32frombits(uint32(b) << 16)
		}
	}
	return reflect.ValueOf(all), err
}

// element stores an element of a tensor in another type, as [number] does.
func element(from, to reflect.Value) *Error {
	switch {
	case from.CanFloat() && to.CanFloat():
		return float(from.Float(), to)
	case from.CanComplex() && to.CanComplex():
		if to.OverflowComplex(from.Complex()) {
			return mismatch("a number in the range of complex64", from.Complex())
		}
		to.SetComplex(from.Complex())
		return nil
	case from.Kind() == reflect.Bool && to.Kind() == reflect.Bool:
		to.SetBool(from.Bool())
		return nil
	case from.CanInt() && (to.CanInt() || to.CanUint() || to.CanFloat()):
		return number(from.Int(), to)
	case from.CanUint() && (to.CanInt() || to.CanUint() || to.CanFloat()):
		return number(from.Uint(), to)
	}
	expected := "an integer"
	switch {
	case to.Kind() == reflect.Bool:
		expected = "a bool"
	case to.CanFloat(), to.CanComplex():
		expected = "a number"
	}
	return mismatch(expected, from.Interface())
}

// scalarTensor stores the only element of a tensor without dimensions.
func scalarTensor(t *ipc.Tensor, target reflect.Value) *Error {
	flat, err := native(t)
	if err != nil {
		return &Error{Reason: err.Error(), Cause: err}
	}
	if flat.Type().Elem() == target.Type() {
		target.Set(flat.Index(0))
		return nil
	}
	return element(flat.Index(0), target)
}

// position returns the path to an element of a tensor.
func position(shape []int, at int) string {
	path := ""
	for i := len(shape) - 1; i >= 0; i-- {
		path = fmt.Sprintf("[%d]", at%shape[i]) + path
		at /= shape[i]
	}
	return path
}
