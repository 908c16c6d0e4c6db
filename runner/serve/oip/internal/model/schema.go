package model

import (
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/tensor"
)

// schema is the JSON Schema of a value, as package ipc describes it.
type schema struct {
	keywords ipc.Object
	// definitions are those that references name.
	definitions ipc.Object
}

// parseSchema parses a schema. One that cannot be parsed accepts every value.
func parseSchema(text ipc.Schema) schema {
	doc, err := document.Parse(text)
	keywords, ok := doc.(ipc.Object)
	if err != nil || !ok {
		return schema{}
	}
	definitions, _ := member(keywords, "$defs").(ipc.Object)
	return schema{keywords, definitions}.resolved()
}

func member(o ipc.Object, key string) any {
	v, _ := o.Get(key)
	return v
}

// at returns the schema in a keyword.
func (s schema) at(v any) schema {
	keywords, _ := v.(ipc.Object)
	return schema{keywords, s.definitions}.resolved()
}

// mostReferences bounds a chain of references, which may be a circle.
const mostReferences = 16

// resolved returns the schema that a reference names.
func (s schema) resolved() schema {
	for range mostReferences {
		reference, ok := member(s.keywords, "$ref").(string)
		if !ok {
			return s
		}
		const prefix = "#/$defs/"
		if len(reference) < len(prefix) {
			return schema{}
		}
		s.keywords, _ = member(s.definitions, reference[len(prefix):]).(ipc.Object)
	}
	return schema{}
}

// The kinds of schemas: the types of JSON, the values of x-gophersnake, and
const kindAny = "any"

// kind returns what the values of a schema are, if it is not a union.
func (s schema) kind() string {
	if special, ok := member(s.keywords, "x-gophersnake").(string); ok {
		return special
	}
	if name, ok := member(s.keywords, "type").(string); ok {
		return name
	}
	if member(s.keywords, "properties") != nil {
		return "object"
	}
	return kindAny
}

// alternatives returns the members of a union but null, or the schema itself.
func (s schema) alternatives() []schema {
	union, ok := member(s.keywords, "anyOf").([]any)
	if !ok {
		return []schema{s}
	}
	var all []schema
	for _, v := range union {
		if of := s.at(v); of.kind() != "null" {
			all = append(all, of)
		}
	}
	return all
}

// of returns the first alternative that is of one of the kinds, in the order of these.
func (s schema) of(kinds ...string) (schema, bool) {
	all := s.alternatives()
	for _, kind := range kinds {
		if i := slices.IndexFunc(all, func(a schema) bool { return a.kind() == kind }); i >= 0 {
			return all[i], true
		}
	}
	return schema{}, false
}

// properties returns the members that objects have.
func (s schema) properties() ipc.Object {
	object, _ := s.of("object")
	all, _ := member(object.keywords, "properties").(ipc.Object)
	return all
}

// isRequired reports whether objects need a member.
func (s schema) isRequired(key string) bool {
	object, _ := s.of("object")
	required, _ := member(object.keywords, "required").([]any)
	return slices.Contains(required, any(key))
}

// items returns the schema of the items of a list.
func (s schema) items() schema { return s.at(member(s.keywords, "items")) }

// spec describes the tensors that hold the values of a schema.
func (s schema) spec(name string) Spec {
	if array, ok := s.of("tensor"); ok {
		return Spec{Name: name, Type: array.datatype(), Shape: array.shape()}
	}
	first := schema{}
	if all := s.alternatives(); len(all) > 0 {
		first = all[0]
	}
	one := []int{1}
	switch first.kind() {
	case "integer":
		return Spec{Name: name, Type: tensor.Int64, Shape: one}
	case "number":
		return Spec{Name: name, Type: tensor.Float64, Shape: one}
	case "boolean":
		return Spec{Name: name, Type: tensor.Bool, Shape: one}
	case "array":
		return first.listSpec(name)
	case kindAny:
		return Spec{Name: name, Shape: []int{-1}}
	}
	return Spec{Name: name, Type: tensor.Bytes, Shape: one}
}

// listSpec is spec for a list: that of its items, with one more dimension.
func (s schema) listSpec(name string) Spec {
	items := s.items()
	of := items.spec(name)
	_, isArray := items.of("tensor", "array")
	switch {
	case of.Type == "":
		of.Shape = []int{-1}
	case isArray:
		of.Shape = append([]int{-1}, of.Shape...)
	default:
		of.Shape = []int{-1}
	}
	return of
}

// datatype returns that of the arrays of a schema, empty if it is open.
func (s schema) datatype() tensor.Type {
	name, _ := member(s.keywords, "x-dtype").(string)
	t, _ := tensor.TypeOf(ipc.DType(name))
	return t
}

// shape returns that of the arrays of a schema, with -1 for what is open.
func (s schema) shape() []int {
	dimensions, ok := member(s.keywords, "x-shape").([]any)
	if !ok {
		return []int{-1}
	}
	all := make([]int, 0, len(dimensions))
	for _, d := range dimensions {
		if d == "..." {
			return []int{-1}
		}
		n, isNumber := d.(int64)
		if !isNumber {
			n = -1
		}
		all = append(all, int(n))
	}
	return all
}
