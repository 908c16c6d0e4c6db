// Package convert converts the values that nodes return to Go types: [Decode] is the
// opposite of [ipc.Encode], and takes the same struct tags.
package convert

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/ipc/fields"
)

// Error reports a value that does not fit its Go type.
type Error struct {
	// Path is the path to the part of the value that does not fit.
	Path string
	// Reason names the type that was expected and what is there instead.
	Reason string
	// Hint says what to do about it. It may be empty.
	Hint string
	// Cause is the error of a method of the Go type, or nil.
	Cause error
}

// Error returns the path and the reason.
func (e *Error) Error() string { return e.Path + ": " + e.Reason }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// in puts a step before the path.
func (e *Error) in(step string) *Error {
	e.Path = fields.Join(step, e.Path)
	return e
}

// mismatch returns the error of a value that is not of the kind that its target takes.
func mismatch(expected string, v any) *Error {
	e := &Error{Reason: fmt.Sprintf("expected %s, got %s", expected, describe(v))}
	if v == nil {
		e.Hint = "use a pointer for a value that may be nil"
	}
	return e
}

// Decode stores v in the variable that out points to. The error is an *[Error] whose path
// begins with root. After an error, parts of the variable may have been set.
//
// Decode copies neither bytes, tensors, recordings, images, tables nor values that already have the
// type of their target, so the variable may share memory with v. It is safe for concurrent
// use with different variables.
func Decode(root string, v, out any) error {
	target := reflect.ValueOf(out)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return &Error{Path: root, Reason: fmt.Sprintf("a value is decoded into a pointer that is not nil, not into %T", out)}
	}
	if err := value(v, target.Elem(), 0); err != nil {
		return err.in(root)
	}
	return nil
}

// maxDepth is how deep values are nested on the wire. It also ends the decoding of a value
// that contains itself.
var maxDepth = ipc.DefaultLimits().Depth

// value stores v, nested depth levels deep, in the target.
func value(v any, target reflect.Value, depth int) *Error {
	if depth > maxDepth {
		return &Error{Reason: fmt.Sprintf("nested deeper than %d levels, or a cycle", maxDepth)}
	}
	switch v := v.(type) {
	case ipc.JSON:
		if !takesDocuments(target.Type()) {
			return jsonDocument(v, target, depth)
		}
	case *ipc.Tensor:
		if v != nil && len(v.Shape) == 0 && isElement(target.Kind()) {
			return scalarTensor(v, target)
		}
	}
	if target.Type().PkgPath() != "" {
		if done, err := named(v, target); done {
			return err
		}
	}
	switch target.Kind() {
	case reflect.Interface:
		return dynamic(v, target)
	case reflect.Pointer:
		return pointer(v, target, depth)
	case reflect.Bool:
		b, ok := v.(bool)
		if !ok {
			return mismatch("a bool", v)
		}
		target.SetBool(b)
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			return mismatch("a string", v)
		}
		target.SetString(s)
	case reflect.Slice, reflect.Array:
		return sequence(v, target, depth)
	case reflect.Map:
		return stringMap(v, target, depth)
	case reflect.Struct:
		return structure(v, target, depth)
	default:
		return number(v, target)
	}
	return nil
}

// named stores v in a target whose type has methods or a meaning beyond its kind. It
// reports whether it did.
func named(v any, target reflect.Value) (bool, *Error) {
	switch out := target.Addr().Interface().(type) {
	case *time.Time:
		if at, ok := v.(time.Time); ok {
			*out = at
			return true, nil
		}
		if _, ok := v.(string); !ok {
			return true, mismatch("a time", v)
		}
	case *ipc.Tensor:
		return true, media(v, out, "a tensor")
	case *ipc.Audio:
		return true, media(v, out, "audio")
	case *ipc.Image:
		return true, media(v, out, "an image")
	case *ipc.Table:
		return true, media(v, out, "a table")
	case ipc.TableUnmarshaler:
		return true, table(v, out, target)
	case *ipc.JSON:
		return true, document(v, (*[]byte)(out))
	case *json.RawMessage:
		return true, document(v, (*[]byte)(out))
	case *ipc.Object:
		return true, object(v, out)
	case *json.Number:
		return true, digits(v, out)
	case *big.Int:
		return true, bigInt(v, out)
	}
	text, ok := v.(string)
	if !ok {
		return false, nil
	}
	out, ok := target.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok {
		return false, nil
	}
	if err := out.UnmarshalText([]byte(text)); err != nil {
		e := mismatch("a "+target.Type().String(), v)
		e.Reason, e.Cause = fmt.Sprintf("%s: %v", e.Reason, err), err
		return true, e
	}
	return true, nil
}

// table decodes a table by the method of its target.
func table(v any, out ipc.TableUnmarshaler, target reflect.Value) *Error {
	t, ok := v.(*ipc.Table)
	if !ok || t == nil {
		return mismatch("a table", v)
	}
	if err := out.UnmarshalTable(t); err != nil {
		return &Error{Reason: fmt.Sprintf("not a valid %s: %v", target.Type(), err), Cause: err}
	}
	return nil
}

// media stores a tensor, a recording, an image or a table.
func media[T any](v any, out *T, expected string) *Error {
	m, ok := v.(*T)
	if !ok || m == nil {
		return mismatch(expected, v)
	}
	*out = *m
	return nil
}

// dynamic stores v in an interface, as it is.
func dynamic(v any, target reflect.Value) *Error {
	switch {
	case v == nil:
		target.SetZero()
	case target.NumMethod() == 0, reflect.TypeOf(v).Implements(target.Type()):
		target.Set(reflect.ValueOf(v))
	default:
		return mismatch("a "+target.Type().String(), v)
	}
	return nil
}

// pointer stores nil, or v in the variable that the pointer leads to, which is created if
// there is none.
func pointer(v any, target reflect.Value, depth int) *Error {
	if v == nil {
		target.SetZero()
		return nil
	}
	if from := reflect.TypeOf(v); from == target.Type() {
		target.Set(reflect.ValueOf(v))
		return nil
	}
	if target.IsNil() {
		created := reflect.New(target.Type().Elem())
		if err := value(v, created.Elem(), depth+1); err != nil {
			return err
		}
		target.Set(created)
		return nil
	}
	return value(v, target.Elem(), depth+1)
}

// stringMap stores a map in a new one.
func stringMap(v any, target reflect.Value, depth int) *Error {
	t := target.Type()
	if t.Key().Kind() != reflect.String {
		return &Error{Reason: fmt.Sprintf("a map whose keys are %s; keys must be strings", t.Key())}
	}
	size, isMap := lengthOf(v)
	switch {
	case v == nil:
		target.SetZero()
		return nil
	case !isMap:
		return mismatch("a map", v)
	}
	if same, ok := v.(map[string]any); ok && t == reflect.TypeFor[map[string]any]() {
		target.Set(reflect.ValueOf(same))
		return nil
	}
	made := reflect.MakeMapWithSize(t, size)
	for key, item := range members(v) {
		held := reflect.New(t.Elem()).Elem()
		if err := value(item, held, depth+1); err != nil {
			return err.in(fields.Step(key))
		}
		made.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), held)
	}
	target.Set(made)
	return nil
}

// structure stores a map in the fields of a struct. Keys without a field are ignored, and
// fields without a key stay as they are.
func structure(v any, target reflect.Value, depth int) *Error {
	size, isMap := lengthOf(v)
	if !isMap {
		return mismatch("a map", v)
	}
	all := fields.Of(target.Type())
	found := 0
	var missing []*fields.Field
	for i := range all {
		f := &all[i]
		item, ok := member(v, f.Name)
		if !ok {
			missing = append(missing, f)
			continue
		}
		found++
		if err := field(item, f, target, depth); err != nil {
			return err.in(fields.Step(f.Name))
		}
	}
	if found == size || len(missing) == 0 {
		return nil
	}
	return folded(v, all, missing, target, depth)
}
