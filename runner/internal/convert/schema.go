package convert

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/ipc/fields"
)

// A Direction says which way values of a Go type go.
type Direction int

const (
	// Sent is the direction of values that [ipc.Encode] encodes.
	Sent Direction = iota
	// Decoded is the direction of values that [Decode] stores.
	Decoded
)

// goKeyword is the keyword that names the Go type of a part of a schema.
const goKeyword = "x-go"

// Schema returns the JSON Schema of a Go type: of the values that are sent for it, or of
// those that can be decoded into it. Pointers that are sent count as not nil. The keyword
// x-go of each part names its Go type. Struct types are below $defs.
//
// The error is an *[Error] whose path begins with root. It names a part of the type that has
// no form on the wire, such as a channel.
func Schema(root string, t reflect.Type, d Direction) (ipc.Schema, error) {
	w := &schemaWriter{direction: d, defs: make(map[string]any), names: make(map[reflect.Type]string)}
	s, err := w.of(t)
	if err != nil {
		return nil, err.in(root)
	}
	if len(w.defs) > 0 {
		s["$defs"] = w.defs
	}
	text, encoding := json.Marshal(s)
	if encoding != nil {
		return nil, &Error{Path: root, Reason: encoding.Error(), Cause: encoding}
	}
	return text, nil
}

type part = map[string]any

// schemaWriter makes one schema.
type schemaWriter struct {
	direction Direction
	defs      part
	names     map[reflect.Type]string // of struct types that have a definition
}

// of returns the schema of a type.
func (w *schemaWriter) of(t reflect.Type) (part, *Error) {
	s, err := w.plain(t)
	if err != nil {
		return nil, err
	}
	if _, ok := s["$ref"]; !ok && len(s) > 0 {
		s[goKeyword] = typeName(t)
	}
	return s, nil
}

// typeName returns the name of a type as programs write it.
func typeName(t reflect.Type) string { return strings.ReplaceAll(t.String(), "interface {}", "any") }

// plain returns the schema of a type without its name.
func (w *schemaWriter) plain(t reflect.Type) (part, *Error) {
	if t.PkgPath() != "" {
		if s := w.named(t); s != nil {
			return s, nil
		}
	}
	if w.isTable(t) {
		return part{"x-gophersnake": "table"}, nil
	}
	text := w.isText(t)
	if text && w.direction == Sent {
		return part{"type": "string"}, nil
	}
	s, err := w.kind(t)
	switch {
	case !text || len(s) == 0 && err == nil:
		return s, err
	case err != nil: // text alone
		return part{"type": "string"}, nil
	}
	return union(part{"type": "string"}, s), nil
}

// union returns the schema of values that fit one of several schemas.
func union(all ...part) part {
	members := make([]any, len(all))
	for i, each := range all {
		members[i] = each
	}
	return part{"anyOf": members}
}

// known are the schemas of types that have a meaning beyond their kind.
var known = map[reflect.Type]part{
	reflect.TypeFor[time.Time]():       {"type": "string", "format": "date-time"},
	reflect.TypeFor[ipc.Tensor]():      {"x-gophersnake": "tensor"},
	reflect.TypeFor[ipc.Audio]():       {"x-gophersnake": "audio"},
	reflect.TypeFor[ipc.Image]():       {"x-gophersnake": "image"},
	reflect.TypeFor[ipc.Table]():       {"x-gophersnake": "table"},
	reflect.TypeFor[ipc.JSON]():        {"x-gophersnake": "json"},
	reflect.TypeFor[json.RawMessage](): {"x-gophersnake": "json"},
	reflect.TypeFor[ipc.Object]():      {"type": "object"},
	reflect.TypeFor[json.Number]():     {"type": "number"},
	reflect.TypeFor[big.Int]():         {"type": "integer"},
}

// named returns the schema of such a type; nil for any other.
func (w *schemaWriter) named(t reflect.Type) part {
	found, ok := known[t]
	if !ok {
		return nil
	}
	s := part{}
	for keyword, value := range found {
		s[keyword] = value
	}
	if k := t.Kind(); w.direction == Decoded && (k == reflect.Slice || k == reflect.Map) {
		return union(s, part{"type": "null"})
	}
	return s
}

// isTable reports whether values of the type are sent as tables, or decoded from them.
func (w *schemaWriter) isTable(t reflect.Type) bool {
	if w.direction == Sent {
		return t.Implements(reflect.TypeFor[ipc.TableMarshaler]())
	}
	return t.PkgPath() != "" && reflect.PointerTo(t).Implements(reflect.TypeFor[ipc.TableUnmarshaler]())
}

// isText reports whether values of the type are sent as text, or decoded from it.
func (w *schemaWriter) isText(t reflect.Type) bool {
	if w.direction == Sent {
		if t.Kind() == reflect.Pointer {
			if _, ok := known[t.Elem()]; ok {
				return false
			}
		}
		return t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
	}
	return t.PkgPath() != "" && t.Kind() != reflect.Interface &&
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// kind returns the schema of a type by its kind.
func (w *schemaWriter) kind(t reflect.Type) (part, *Error) {
	switch t.Kind() {
	case reflect.Interface:
		return part{}, nil
	case reflect.Bool:
		return part{"type": "boolean"}, nil
	case reflect.String:
		return part{"type": "string"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		largest := int64(math.MaxInt64) >> (64 - t.Bits())
		return integers(t.Bits(), float64(-largest-1), float64(largest)), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return integers(t.Bits(), 0, float64(uint64(math.MaxUint64)>>(64-t.Bits()))), nil
	case reflect.Float32, reflect.Float64:
		return part{"type": "number"}, nil
	case reflect.Pointer:
		s, err := w.of(t.Elem())
		if err != nil || w.direction == Sent || len(s) == 0 {
			return s, err
		}
		return union(s, part{"type": "null"}), nil
	case reflect.Slice, reflect.Array:
		return w.sequence(t)
	case reflect.Map:
		return w.stringMap(t)
	case reflect.Struct:
		return w.structure(t)
	}
	return nil, &Error{Reason: fmt.Sprintf("a Go value of type %s has no form on the wire", t)}
}

// integers returns the schema of integers. The bounds of 64 bits are left out: those of
// Python's integers on the wire are the same.
func integers(bits int, least, most float64) part {
	s := part{"type": "integer"}
	if bits < 64 {
		s["maximum"] = most
	}
	if bits < 64 || least == 0 {
		s["minimum"] = least
	}
	return s
}

// sequence returns the schema of a slice or an array.
func (w *schemaWriter) sequence(t reflect.Type) (part, *Error) {
	elem, levels := t, 0
	for elem.Kind() == reflect.Slice || elem.Kind() == reflect.Array {
		elem, levels = elem.Elem(), levels+1
	}
	isBytes := t.Elem().Kind() == reflect.Uint8
	if isBytes && w.direction == Sent {
		return part{"x-gophersnake": "bytes"}, nil
	}
	var all []part
	if isBytes {
		all = append(all, part{"x-gophersnake": "bytes"})
	}
	if k := t.Elem().Kind(); w.direction == Sent || k != reflect.Complex64 && k != reflect.Complex128 {
		item, err := w.of(t.Elem())
		if err != nil {
			return nil, err.in("[]")
		}
		list := part{"type": "array"}
		if len(item) > 0 {
			list["items"] = item
		}
		if t.Kind() == reflect.Array {
			list["minItems"], list["maxItems"] = t.Len(), t.Len()
		}
		if w.direction == Sent {
			return list, nil
		}
		all = append(all, list)
	}
	if isElement(elem.Kind()) {
		shape := make([]string, levels)
		for i := range shape {
			shape[i] = "*"
		}
		all = append(all, part{"x-gophersnake": "tensor", "x-dtype": dtypeOf(elem), "x-shape": shape})
	}
	if t.Kind() == reflect.Slice {
		all = append(all, part{"type": "null"})
	}
	return union(all...), nil
}

// dtypeOf returns the dtype of a Go type of elements.
func dtypeOf(elem reflect.Type) string {
	switch elem.Kind() {
	case reflect.Int:
		return "int64"
	case reflect.Uint:
		return "uint64"
	}
	return elem.Kind().String()
}

func (w *schemaWriter) stringMap(t reflect.Type) (part, *Error) {
	if t.Key().Kind() != reflect.String {
		return nil, &Error{Reason: fmt.Sprintf("a map whose keys are %s; keys must be strings", t.Key())}
	}
	value, err := w.of(t.Elem())
	if err != nil {
		return nil, err.in("[]")
	}
	s := part{"type": "object"}
	if len(value) > 0 {
		s["additionalProperties"] = value
	}
	if w.direction == Decoded {
		return union(s, part{"type": "null"}), nil
	}
	return s, nil
}

// structure returns a reference to the schema of a struct, which is made the first time.
func (w *schemaWriter) structure(t reflect.Type) (part, *Error) {
	if name, ok := w.names[t]; ok {
		return part{"$ref": "#/$defs/" + name}, nil
	}
	name := fmt.Sprintf("%d", len(w.names))
	w.names[t] = name
	properties := part{}
	required := []string{}
	for _, f := range fields.Of(t) {
		field := t.FieldByIndex(f.Index)
		s, err := w.of(field.Type)
		if err == nil && w.direction == Decoded {
			err = unreachable(t, f.Index)
		}
		if err != nil {
			return nil, err.in(field.Name)
		}
		properties[f.Name] = s
		if !f.MayBeOmitted() {
			required = append(required, f.Name)
		}
	}
	made := part{"type": "object", "properties": properties, goKeyword: typeName(t)}
	if w.direction == Sent {
		made["required"] = required
	}
	w.defs[name] = made
	return part{"$ref": "#/$defs/" + name}, nil
}

// unreachable returns an error if decoding cannot create the embedded struct of a field.
func unreachable(t reflect.Type, index []int) *Error {
	for i := 1; i < len(index); i++ {
		if outer := t.FieldByIndex(index[:i]); outer.Type.Kind() == reflect.Pointer && !outer.IsExported() {
			return &Error{Reason: "its embedded struct is a pointer of the unexported type " + outer.Type.String()}
		}
	}
	return nil
}
