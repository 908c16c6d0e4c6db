package convert

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/ipc/fields"
)

// lengthOf returns the number of members of a map, and whether v is one.
func lengthOf(v any) (int, bool) {
	switch v := v.(type) {
	case map[string]any:
		return len(v), true
	case ipc.Object:
		return len(v), true
	}
	return 0, false
}

// member returns the value of a key of a map.
func member(v any, key string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		item, ok := v[key]
		return item, ok
	case ipc.Object:
		return v.Get(key)
	}
	return nil, false
}

// members iterates over the members of a map.
func members(v any) iter.Seq2[string, any] {
	switch v := v.(type) {
	case map[string]any:
		return maps.All(v)
	case ipc.Object:
		return func(yield func(string, any) bool) {
			for _, m := range v {
				if !yield(m.Key, m.Value) {
					return
				}
			}
		}
	}
	return func(func(string, any) bool) {}
}

// field stores the value of one field of a struct. Embedded pointers on the way to it are
// created.
func field(item any, f *fields.Field, target reflect.Value, depth int) *Error {
	for i, index := range f.Index {
		if i > 0 && target.Kind() == reflect.Pointer {
			if target.IsNil() {
				if !target.CanSet() {
					return &Error{Reason: "its embedded struct is a nil pointer of the unexported type " + target.Type().String()}
				}
				target.Set(reflect.New(target.Type().Elem()))
			}
			target = target.Elem()
		}
		target = target.Field(index)
	}
	return value(item, target, depth+1)
}

// folded stores the keys that name a missing field but for upper and lower case, as
// encoding/json does. Of several such keys, the first one in the order of strings counts.
func folded(v any, all []fields.Field, missing []*fields.Field, target reflect.Value, depth int) *Error {
	var keys []string
	for key := range members(v) {
		if _, exact := slices.BinarySearchFunc(all, key, func(f fields.Field, key string) int { return strings.Compare(f.Name, key) }); !exact {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, f := range missing {
		i := slices.IndexFunc(keys, func(key string) bool { return strings.EqualFold(key, f.Name) })
		if i < 0 {
			continue
		}
		item, _ := member(v, keys[i])
		if err := field(item, f, target, depth); err != nil {
			return err.in(fields.Step(keys[i]))
		}
	}
	return nil
}

// object stores a map as an object. The members of a Go map are sorted by key.
func object(v any, out *ipc.Object) *Error {
	switch v := v.(type) {
	case nil:
		*out = nil
	case ipc.Object:
		*out = v
	case map[string]any:
		made := make(ipc.Object, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			made = append(made, ipc.Member{Key: key, Value: v[key]})
		}
		*out = made
	default:
		return mismatch("a map", v)
	}
	return nil
}
