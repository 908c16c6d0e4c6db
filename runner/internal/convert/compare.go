package convert

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/ipc/fields"
	"github.com/gophersnake/gophersnake/runner/internal/schema"
)

// Compare compares a Go type with the schema of a node's input or result; an empty one fits
// every type. The error is an *[Error] if no value that is sent fits, or if some values that
// are returned do not, apart from their range and size. It names the part in the schema and
// in the type. The actor is the node in its text.
func Compare(t reflect.Type, d Direction, node ipc.Schema, actor string) error {
	goRoot, root, verb := "In", "input", "takes"
	if d == Decoded {
		goRoot, root, verb = "Out", "result", "returns"
	}
	goSchema, err := Schema(goRoot, t, d)
	if err != nil {
		return err
	}
	var found schema.Finding
	var goText, nodeText string
	if d == Decoded {
		found = schema.CompareDecoding(node, goSchema)
		goText, nodeText = found.Input, found.Output
	} else {
		found = schema.Compare(goSchema, node)
		goText, nodeText = found.Output, found.Input
	}
	if found.Verdict != schema.Never {
		return nil
	}
	e := &Error{
		Path:   root + found.Path,
		Reason: fmt.Sprintf("%s is %s, but %s %s %s", goPath(goRoot, t, found.Steps), goText, actor, verb, nodeText),
	}
	if d == Decoded && strings.HasSuffix(nodeText, " or null") {
		e.Hint = "use a pointer for a value that may be None"
	}
	return e
}

// goPath returns the Go expression for the part of a type that the steps of a schema's path
// lead to, such as In.Items[].Price. Steps are .KEY, [] and [INDEX].
func goPath(root string, t reflect.Type, steps []string) string {
	path := root
	for _, step := range steps {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		key, isKey := strings.CutPrefix(step, ".")
		switch k := t.Kind(); {
		case k == reflect.Struct && isKey:
			f := fieldFor(t, key)
			if f == nil {
				return path
			}
			path, t = path+"."+f.Name, f.Type
		case k == reflect.Map && isKey:
			path, t = path+fmt.Sprintf("[%q]", key), t.Elem()
		case k == reflect.Map || k == reflect.Slice || k == reflect.Array:
			path, t = path+step, t.Elem()
		default:
			return path
		}
	}
	return path
}

// fieldFor returns the field of a struct that has a key; nil if there is none.
func fieldFor(t reflect.Type, key string) *reflect.StructField {
	var folded *reflect.StructField
	for _, f := range fields.Of(t) {
		found := t.FieldByIndex(f.Index)
		switch {
		case f.Name == key:
			return &found
		case folded == nil && strings.EqualFold(f.Name, key):
			folded = &found
		}
	}
	return folded
}
