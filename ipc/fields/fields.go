// Package fields says which fields of a struct are part of a value, under which names, and
// how the path to a part of a value is written. Encoding and decoding share it, so that a
// struct that is sent and received is the same.
package fields

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Field is a field of a struct that is part of its value.
type Field struct {
	// Name is the key of the field in the value.
	Name string
	// Index leads to the field, as in [reflect.Value.FieldByIndex].
	Index []int

	omitEmpty, omitZero bool
	viaPointer          bool // an embedded pointer leads to it
}

// MayBeOmitted reports whether the tag omits the field if it has some value, or if the
// embedded pointer that leads to it is nil.
func (f *Field) MayBeOmitted() bool { return f.omitEmpty || f.omitZero || f.viaPointer }

// IsOmitted reports whether the tag omits the field if it has this value.
func (f *Field) IsOmitted(v reflect.Value) bool {
	if f.omitZero && v.IsZero() {
		return true
	}
	if !f.omitEmpty {
		return false
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

var structs sync.Map // of []Field by reflect.Type

// Of returns the fields of a struct type, sorted by name. It computes them once for each
// type; the caller must not change them. It is safe for concurrent use.
//
// Names, omission and the promotion of embedded fields follow encoding/json. A field
// without a json tag has the name in its msgpack tag, if there is one.
func Of(t reflect.Type) []Field {
	if known, ok := structs.Load(t); ok {
		return known.([]Field)
	}
	found := read(t)
	structs.Store(t, found)
	return found
}

// read lists the fields of a struct and those promoted from embedded structs. Of two with
// the same name, the shallower one counts.
func read(t reflect.Type) []Field {
	byName := map[string]Field{}
	var closed [][]int // embedded fields whose own fields are not promoted
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("json")
		if !ok {
			tag = f.Tag.Get("msgpack")
		}
		name, options, _ := strings.Cut(tag, ",")
		inside := func(index []int) bool { return len(f.Index) > len(index) && slices.Equal(index, f.Index[:len(index)]) }
		switch {
		case slices.ContainsFunc(closed, inside):
			continue
		case f.Anonymous && (name != "" || !isStruct(f.Type)):
			closed = append(closed, f.Index)
		case f.Anonymous:
			continue // its fields follow
		}
		if !f.IsExported() || tag == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if other, taken := byName[name]; taken && len(other.Index) <= len(f.Index) {
			continue
		}
		has := func(option string) bool { return slices.Contains(strings.Split(options, ","), option) }
		byName[name] = Field{name, f.Index, has("omitempty"), has("omitzero"), hasPointer(t, f.Index)}
	}
	found := make([]Field, 0, len(byName))
	for _, f := range byName {
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// hasPointer reports whether an embedded pointer leads to a field.
func hasPointer(t reflect.Type, index []int) bool {
	for i := 1; i < len(index); i++ {
		if t.FieldByIndex(index[:i]).Type.Kind() == reflect.Pointer {
			return true
		}
	}
	return false
}

func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

// Step returns a key of a map as one step of a path, quoted if it would be ambiguous.
func Step(key string) string {
	if key == "" || strings.ContainsAny(key, ".[] \n\"") || len(key) > 64 {
		return fmt.Sprintf("[%.80q]", key)
	}
	return key
}

// Join puts a step before a path, with a dot between two names.
func Join(step, path string) string {
	if path == "" || path[0] == '[' {
		return step + path
	}
	return step + "." + path
}
