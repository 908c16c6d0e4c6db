package convert

import (
	"fmt"
	"math"
	"reflect"

	"github.com/gophersnake/gophersnake/ipc"
)

// sequence stores a list, bytes or a tensor in a slice or an array. An array must have the
// length of the value.
func sequence(v any, target reflect.Value, depth int) *Error {
	switch v := v.(type) {
	case nil:
		if target.Kind() == reflect.Slice {
			target.SetZero()
			return nil
		}
	case []any:
		return list(v, target, depth)
	case []byte:
		if target.Type().Elem().Kind() == reflect.Uint8 {
			return byteString(v, target)
		}
	case *ipc.Tensor:
		if v != nil {
			return tensor(v, target)
		}
	}
	if target.Type().Elem().Kind() == reflect.Uint8 {
		return mismatch("bytes", v)
	}
	return mismatch("a list", v)
}

func list(items []any, target reflect.Value, depth int) *Error {
	switch out := target.Addr().Interface().(type) {
	case *[]any:
		*out = items
		return nil
	case *[]float64:
		if all, ok := floats[float64](items); ok {
			*out = all
			return nil
		}
	case *[]float32:
		if all, ok := floats[float32](items); ok {
			*out = all
			return nil
		}
	}
	if err := resize(target, len(items), "items"); err != nil {
		return err
	}
	for i, item := range items {
		if err := value(item, target.Index(i), depth+1); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
	}
	return nil
}

// floats returns a list whose items are all float64 in the range of T, and false for others.
// It is much faster than storing them one by one.
func floats[T float32 | float64](items []any) ([]T, bool) {
	all := make([]T, len(items))
	for i, item := range items {
		f, ok := item.(float64)
		if all[i] = T(f); !ok || math.IsInf(float64(all[i]), 0) && !math.IsInf(f, 0) {
			return nil, false
		}
	}
	return all, true
}

// resize makes a new slice of n items. An array must have as many.
func resize(target reflect.Value, n int, what string) *Error {
	if target.Kind() == reflect.Slice {
		target.Set(reflect.MakeSlice(target.Type(), n, n))
		return nil
	}
	if target.Len() != n {
		return &Error{Reason: fmt.Sprintf("expected %d %s, got %d", target.Len(), what, n)}
	}
	return nil
}

func byteString(b []byte, target reflect.Value) *Error {
	if target.Kind() == reflect.Slice {
		target.SetBytes(b)
		return nil
	}
	if err := resize(target, len(b), "bytes"); err != nil {
		return err
	}
	copy(target.Bytes(), b) // not reflect.Copy, which takes no named type of bytes
	return nil
}
