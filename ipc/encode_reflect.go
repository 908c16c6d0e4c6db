package ipc

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/ipc/fields"
)

// reflected encodes a value whose type has no case in [encoder.value], by its kind.
func (e *encoder) reflected(v reflect.Value, depth int) *ValueError {
	if done, err := e.known(v.Interface()); done {
		return err
	}
	switch v.Kind() {
	case reflect.Bool:
		_ = e.out.EncodeBool(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		_ = e.out.EncodeInt(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		_ = e.out.EncodeUint(v.Uint())
	case reflect.Float32, reflect.Float64:
		_ = e.out.EncodeFloat64(v.Float())
	case reflect.String:
		return e.text(v.String())
	case reflect.Pointer:
		return e.pointer(v, depth)
	case reflect.Slice, reflect.Array:
		return e.sequence(v, depth)
	case reflect.Map:
		return e.stringMap(v, depth)
	case reflect.Struct:
		return e.structure(v, depth)
	default:
		return &ValueError{Reason: fmt.Sprintf("a Go value of type %s has no form on the wire", v.Type()), Hint: kindHints[v.Kind()]}
	}
	return nil
}

// kindHints say what to pass instead of a value whose kind has no encoding.
var kindHints = map[reflect.Kind]string{
	reflect.Chan:          "pass what it delivers as a slice, or send each value into a stream",
	reflect.Func:          "pass what it returns",
	reflect.Complex64:     "pass a slice of its real(…) and imag(…)",
	reflect.Complex128:    "pass a slice of its real(…) and imag(…)",
	reflect.Uintptr:       "pass it as a uint64",
	reflect.UnsafePointer: "pass the bytes that it points to",
}

// known encodes a type that has a better encoding than its kind: some of the standard
// library's, and text marshalers. It reports whether v is of such a type.
func (e *encoder) known(v any) (bool, *ValueError) {
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
		return false, nil
	}
	switch v := v.(type) {
	case *time.Time: // as a time.Time, not as text
		return false, nil
	case json.RawMessage:
		return true, e.json(JSON(v))
	case json.Number:
		return true, e.number(v)
	case *big.Int:
		return true, e.number(json.Number(v.String()))
	case big.Int:
		return true, e.number(json.Number(v.String()))
	case TableMarshaler:
		table, err := v.MarshalTable()
		if err != nil {
			return true, &ValueError{Reason: err.Error()}
		}
		return true, e.table(table)
	case error:
		return true, &ValueError{Reason: fmt.Sprintf("an error (%T) has no form on the wire", v), Hint: "pass the text of its Error()"}
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		if err != nil {
			return true, &ValueError{Reason: fmt.Sprintf("%T: %v", v, err)}
		}
		return true, e.text(string(text))
	}
	return false, nil
}

// number encodes a number that is given by its digits, as an integer if it is one.
func (e *encoder) number(n json.Number) *ValueError {
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		_ = e.out.EncodeInt(i)
		return nil
	}
	if u, err := strconv.ParseUint(string(n), 10, 64); err == nil {
		_ = e.out.EncodeUint(u)
		return nil
	}
	if _, ok := new(big.Int).SetString(string(n), 10); ok {
		return &ValueError{Reason: fmt.Sprintf("the integer %s is beyond 64 bits", n), Hint: "pass it as a string"}
	}
	f, err := n.Float64()
	if err != nil {
		return &ValueError{Reason: fmt.Sprintf("the number %q is no float64", string(n)), Hint: "pass it as a string"}
	}
	_ = e.out.EncodeFloat64(f)
	return nil
}

// pointer encodes the value that a pointer leads to. Pointers add no depth to the
// encoded value, so their number is bounded here: a pointer can lead back to itself.
func (e *encoder) pointer(v reflect.Value, depth int) *ValueError {
	for hops := 0; v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface; hops++ {
		if v.IsNil() {
			_ = e.out.EncodeNil()
			return nil
		}
		if err := e.enter(hops); err != nil {
			return err
		}
		if hops > 0 && v.Kind() == reflect.Pointer {
			if done, err := e.known(v.Interface()); done {
				return err
			}
		}
		v = v.Elem()
	}
	return e.value(v.Interface(), depth)
}

// sequence encodes a slice or an array, as bytes if its elements are bytes.
func (e *encoder) sequence(v reflect.Value, depth int) *ValueError {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if v.Kind() == reflect.Array && !v.CanAddr() {
			addressable := reflect.New(v.Type()).Elem()
			addressable.Set(v)
			v = addressable
		}
		e.blob(v.Bytes())
		return nil
	}
	if err := e.enter(depth); err != nil {
		return err
	}
	_ = e.out.EncodeArrayLen(v.Len())
	for i := range v.Len() {
		if err := e.value(v.Index(i).Interface(), depth+1); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
	}
	return nil
}

// stringMap encodes a map, whose keys must be strings.
func (e *encoder) stringMap(v reflect.Value, depth int) *ValueError {
	if v.Type().Key().Kind() != reflect.String {
		return &ValueError{
			Reason: fmt.Sprintf("a map whose keys are %s; keys must be strings", v.Type().Key()),
			Hint:   "pass a map of fmt.Sprint of its keys",
		}
	}
	if err := e.enter(depth); err != nil {
		return err
	}
	_ = e.out.EncodeMapLen(v.Len())
	for iter := v.MapRange(); iter.Next(); {
		if err := e.key(iter.Key().String()); err != nil {
			return err
		}
		if err := e.value(iter.Value().Interface(), depth+1); err != nil {
			return err.in(fields.Step(iter.Key().String()))
		}
	}
	return nil
}

// structure encodes a struct as a map of its exported fields, sorted by name; see
// [fields.Of].
func (e *encoder) structure(v reflect.Value, depth int) *ValueError {
	if err := e.enter(depth); err != nil {
		return err
	}
	var array [16]fieldValue
	present := array[:0]
	all := fields.Of(v.Type())
	for i := range all {
		f := &all[i]
		value, err := v.FieldByIndexErr(f.Index)
		if err != nil || f.IsOmitted(value) { // err: an embedded pointer to the field is nil
			continue
		}
		present = append(present, fieldValue{f.Name, value})
	}
	_ = e.out.EncodeMapLen(len(present))
	for _, f := range present {
		if err := e.key(f.name); err != nil {
			return err
		}
		if err := e.value(f.value.Interface(), depth+1); err != nil {
			return err.in(fields.Step(f.name))
		}
	}
	return nil
}

type fieldValue struct {
	name  string
	value reflect.Value
}
