package ipc

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// structure writes a struct as a map of its exported fields, named and left
// out as encoding/json would, sorted by name.
func (e *encoder) structure(v reflect.Value, depth int) *ValueError {
	if err := e.enter(depth); err != nil {
		return err
	}
	var present [16]fieldValue
	fields := present[:0]
	for _, f := range fieldsOf(v.Type()) {
		value, err := v.FieldByIndexErr(f.index)
		if err != nil || f.leaveOut(value) { // an embedded pointer on the way is nil
			continue
		}
		fields = append(fields, fieldValue{f.name, value})
	}
	_ = e.out.EncodeMapLen(len(fields))
	for _, f := range fields {
		if err := e.key(f.name); err != nil {
			return err
		}
		if err := e.value(f.value.Interface(), depth+1); err != nil {
			return err.in(step(f.name))
		}
	}
	return nil
}

type fieldValue struct {
	name  string
	value reflect.Value
}

// field is a struct field as the json tag describes it.
type field struct {
	name                string
	index               []int
	omitEmpty, omitZero bool
}

func (f field) leaveOut(v reflect.Value) bool {
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

var structs sync.Map // of []field by reflect.Type

func fieldsOf(t reflect.Type) []field {
	if known, ok := structs.Load(t); ok {
		return known.([]field)
	}
	fields := readFields(t)
	structs.Store(t, fields)
	return fields
}

// readFields lists the fields of a struct and those promoted from embedded
// structs. Of two that have the same name the shallower one counts.
func readFields(t reflect.Type) []field {
	byName := map[string]field{}
	var closed [][]int // embedded fields whose own fields are not promoted
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
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
		if other, taken := byName[name]; taken && len(other.index) <= len(f.Index) {
			continue
		}
		has := func(option string) bool { return slices.Contains(strings.Split(options, ","), option) }
		byName[name] = field{name, f.Index, has("omitempty"), has("omitzero")}
	}
	fields := make([]field, 0, len(byName))
	for _, f := range byName {
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}

func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}
