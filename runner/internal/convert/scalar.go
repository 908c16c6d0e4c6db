package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"

	"github.com/gophersnake/gophersnake/ipc"
)

// number stores a number in a target whose kind is one.
func number(v any, target reflect.Value) *Error {
	if n, ok := v.(json.Number); ok {
		v = parsed(n)
	}
	switch target.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		switch n := v.(type) {
		case int64:
			if !target.OverflowInt(n) {
				target.SetInt(n)
				return nil
			}
		case uint64, *big.Int: // beyond the range of int64
		default:
			return mismatch("an integer", v)
		}
		return mismatch(integerRange(target.Type()), v)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		switch n := v.(type) {
		case int64:
			if n >= 0 && !target.OverflowUint(uint64(n)) {
				target.SetUint(uint64(n))
				return nil
			}
		case uint64:
			if !target.OverflowUint(n) {
				target.SetUint(n)
				return nil
			}
		case *big.Int:
		default:
			return mismatch("an integer", v)
		}
		return mismatch(integerRange(target.Type()), v)
	case reflect.Float32, reflect.Float64:
		return float(v, target)
	}
	return &Error{Reason: fmt.Sprintf("a Go value of type %s cannot hold %s", target.Type(), describe(v))}
}

// float stores a number in a float. An integer that a float64 cannot hold exactly is
// refused.
func float(v any, target reflect.Value) *Error {
	var f float64
	exact := true
	switch n := v.(type) {
	case float64:
		f = n
	case int64:
		f = float64(n)
		exact = f < 1<<63 && int64(f) == n
	case uint64:
		f = float64(n)
		exact = f < 1<<64 && uint64(f) == n
	case *big.Int:
		exact = false
	default:
		return mismatch("a number", v)
	}
	if !exact {
		return mismatch("a number that a float64 holds exactly", v)
	}
	if target.OverflowFloat(f) {
		return mismatch("a number in the range of float32", v)
	}
	target.SetFloat(f)
	return nil
}

// integerRange returns the integers that a type holds.
func integerRange(t reflect.Type) string {
	if t.Kind() >= reflect.Uint {
		return fmt.Sprintf("an integer from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	}
	largest := int64(math.MaxInt64) >> (64 - t.Bits())
	return fmt.Sprintf("an integer from %d to %d", -largest-1, largest)
}

// digits stores a number as its digits.
func digits(v any, out *json.Number) *Error {
	switch n := v.(type) {
	case int64:
		*out = json.Number(strconv.FormatInt(n, 10))
	case uint64:
		*out = json.Number(strconv.FormatUint(n, 10))
	case float64:
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return mismatch("a finite number", v)
		}
		*out = json.Number(strconv.FormatFloat(n, 'g', -1, 64))
	case json.Number:
		*out = n
	default:
		return mismatch("a number", v)
	}
	return nil
}

// bigInt stores an integer of any size.
func bigInt(v any, out *big.Int) *Error {
	if n, ok := v.(json.Number); ok {
		v = parsed(n)
	}
	switch n := v.(type) {
	case int64:
		out.SetInt64(n)
	case uint64:
		out.SetUint64(n)
	case *big.Int:
		out.Set(n)
	default:
		return mismatch("an integer", v)
	}
	return nil
}

// document stores the text of a JSON document.
func document(v any, out *[]byte) *Error {
	switch v := v.(type) {
	case nil:
		*out = nil
	case ipc.JSON:
		*out = v
	default:
		return mismatch("a JSON document", v)
	}
	return nil
}

// takesDocuments reports whether a type, or what it points to, takes a JSON document as it
// is.
func takesDocuments(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer && t.Name() == "" {
		t = t.Elem()
	}
	return t.Kind() == reflect.Interface || t == reflect.TypeFor[ipc.JSON]() || t == reflect.TypeFor[json.RawMessage]()
}

// jsonDocument stores the value that a JSON document contains.
func jsonDocument(text ipc.JSON, target reflect.Value, depth int) *Error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return &Error{Reason: "not a JSON document: " + err.Error(), Cause: err}
	}
	return value(plain(v), target, depth+1)
}

// plain replaces the numbers in a value from a JSON document, as far as 64 bits hold them.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		n := parsed(v)
		if _, large := n.(*big.Int); !large {
			return n
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = plain(v[key])
		}
	}
	return v
}

// parsed returns the number as an int64, a uint64, a float64 or, beyond these, a *big.Int.
// A number that is none of them stays as it is.
func parsed(n json.Number) any {
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(string(n), 10, 64); err == nil {
		return u
	}
	if large, ok := new(big.Int).SetString(string(n), 10); ok {
		return large
	}
	if f, err := strconv.ParseFloat(string(n), 64); err == nil {
		return f
	}
	return n
}
