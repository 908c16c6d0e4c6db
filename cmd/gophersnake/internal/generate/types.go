package generate

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// typ is a Go type.
type typ struct {
	// before and after surround the element: "[]" and "" for a slice.
	before string
	elem   *typ
	// name is the Go syntax of a type without an element.
	name string
	// named is the declaration of a type that the file declares.
	named *named
}

var anyType = &typ{name: "any"}

func basic(name string) *typ           { return &typ{name: name} }
func of(before string, elem *typ) *typ { return &typ{before: before, elem: elem} }
func (t *typ) isAny() bool             { return t.name == "any" }

// isNilable reports whether nil is a value of the type.
func (t *typ) isNilable() bool {
	return slices.Contains(nilable, t.name) || slices.Contains([]string{"[]", "*", "map[string]"}, t.before)
}

// nilable are the types without an element that have the value nil.
var nilable = []string{"any", "[]byte", "*ipc.Tensor", "*ipc.Audio", "*ipc.Image", "*ipc.Table", "ipc.JSON"}

// text returns the Go syntax of the type. The name of a named type is that of its class.
func (t *typ) text() string {
	switch {
	case t.named != nil:
		return t.named.class.name
	case t.elem != nil:
		return t.before + t.elem.text()
	}
	return t.name
}

// shape returns the syntax without the names of named types, which it adds to refs.
func (t *typ) shape(refs *[]*named) string {
	switch {
	case t.named != nil:
		*refs = append(*refs, t.named)
		return "@"
	case t.elem != nil:
		return t.before + t.elem.shape(refs)
	}
	return t.name
}

// optional returns a type that also has a value for nothing.
func (t *typ) optional() *typ {
	if t.isNilable() {
		return t
	}
	return of("*", t)
}

// named is a type that the file declares: a struct, or an enum of constants.
type named struct {
	want  string // the name, if no other type has it
	about string // follows the name in the comment
	doc   string
	sent  bool // values go to a node

	fields []field // of a struct
	base   string  // the type of an enum; empty for a struct
	values []any   // of an enum

	class *class
}

type field struct {
	key, name string
	typ       *typ
	omitted   bool // if it has no value
	doc       string
}

// reader makes the Go types of the schemas of one document.
type reader struct {
	root *schema
	sent bool
	// defs are the types of definitions. That of a definition which is being read is any,
	// unless it is a struct.
	defs map[string]*typ
	// open are the structs that are being read. A field in them that is such a struct is a
	// pointer: Go has no struct that contains itself.
	open map[*named]bool
}

// read returns the Go type of the values of a schema. The name is for a type in it that has
// none.
func read(text []byte, sent bool, name string) *typ {
	root := parse(text)
	r := &reader{root: root, sent: sent, defs: make(map[string]*typ), open: make(map[*named]bool)}
	return r.typ(root, name)
}

// typ returns the type of a part of the document.
func (r *reader) typ(s *schema, name string) *typ {
	s, def := s.resolve(r.root)
	if def == "" {
		return r.form(s, def, name)
	}
	if r.defs[def] == nil {
		r.defs[def] = anyType // if it contains itself, but is no struct
		r.defs[def] = r.form(s, def, name)
	}
	return r.defs[def]
}

// form returns the type of a schema by its form. The definition is empty if it has none.
func (r *reader) form(s *schema, def, name string) *typ {
	if all := s.members(r.root); len(all) > 0 {
		return r.union(all, name)
	}
	if all := s.values(); len(all) > 0 {
		return r.enum(s, all, name)
	}
	if s.Kind != "" {
		return r.special(s)
	}
	switch {
	case s.is("string") && s.Format == "date-time":
		return basic("time.Time")
	case s.is("string"):
		return basic("string")
	case s.is("integer"):
		return basic("int64")
	case s.is("number"):
		return basic("float64")
	case s.is("boolean"):
		return basic("bool")
	case s.is("array"):
		return r.list(s, name)
	case s.is("object"):
		return r.object(s, def, name)
	}
	return anyType
}

// special returns the type of what JSON does not have.
func (r *reader) special(s *schema) *typ {
	switch s.Kind {
	case "bytes":
		return basic("[]byte")
	case "audio":
		return basic("*ipc.Audio")
	case "image":
		return basic("*ipc.Image")
	case "table":
		return basic("*ipc.Table")
	case "json":
		return basic("ipc.JSON")
	case "tensor":
		if !r.sent {
			return tensor(s, elements)
		}
		return basic("*ipc.Tensor")
	}
	return anyType
}

// elements are the Go types of the elements of arrays.
var elements = map[string]string{
	"bool": "bool", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "uint8": "uint8", "uint16": "uint16",
	"uint32": "uint32", "uint64": "uint64", "float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64",
	"complex64": "complex64", "complex128": "complex128",
}

// listed are those of arrays that are sent as lists. A slice of bytes is not sent as one.
var listed = map[string]string{
	"bool": "bool", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "uint16": "uint16", "uint32": "uint32",
	"uint64": "uint64", "float16": "float32", "float32": "float32", "float64": "float64",
}

// tensor returns nested slices if the schema has a dtype and a number of dimensions.
func tensor(s *schema, elements map[string]string) *typ {
	elem, ok := elements[s.DType]
	if !ok || s.Shape == nil || slices.Contains(s.Shape, any("...")) {
		return basic("*ipc.Tensor")
	}
	t := basic(elem)
	for range s.Shape {
		t = of("[]", t)
	}
	return t
}

// union returns the type of a union: a pointer for a type or null, and any for most others.
func (r *reader) union(all []*schema, name string) *typ {
	var rest []*schema
	null := false
	for _, each := range all {
		switch found, _ := each.resolve(r.root); {
		case found.is("null"):
			null = true
		case !found.never:
			rest = append(rest, each)
		}
	}
	t := anyType
	switch {
	case len(rest) == 1:
		t = r.typ(rest[0], name)
	case len(rest) == 2:
		t = r.pair(rest[0], rest[1], name)
	}
	if null {
		return t.optional()
	}
	return t
}

// decimal is the pattern of Decimal in the schemas of the Python package.
const decimal = `^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$`

// pair returns the type of a union of two forms in which the same value may be sent.
func (r *reader) pair(a, b *schema, name string) *typ {
	switch {
	case !r.sent:
	case a.Kind == "table" && b.is("array"): // a table, or the records of a DataFrame
		return basic("*ipc.Table")
	case a.Kind == "tensor" && b.is("array") && b.Items == nil: // an array, or lists
		if len(a.Shape) == 0 {
			return basic("*ipc.Tensor")
		}
		return tensor(a, listed)
	case a.is("number") && b.is("string") && b.Pattern == decimal:
		return basic("string")
	case a.is("array") && len(a.PrefixItems) == 2 && b.is("number"): // a complex number
		return r.typ(a, name)
	}
	return anyType
}

// enum returns the type of one of some values.
func (r *reader) enum(s *schema, all []any, name string) *typ {
	values := slices.DeleteFunc(slices.Clone(all), func(v any) bool { return v == nil })
	base := ""
	for i, v := range values {
		of := ""
		switch v := v.(type) {
		case string:
			of = "string"
		case float64:
			if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
				of = "int64"
			}
		}
		if of == "" || i > 0 && of != base {
			return anyType
		}
		base = of
	}
	if base == "" {
		return anyType
	}
	n := &named{want: exported(name), about: "is one of the values that the annotation lists.", base: base, values: values, sent: r.sent}
	if s.Title != "" {
		n.want, n.about = exported(s.Title), fmt.Sprintf("is the enum %s of the Python code.", s.Title)
	}
	n.doc = s.Description
	t := &typ{named: n}
	if len(values) < len(all) {
		return t.optional()
	}
	return t
}

// list returns the type of a list: an array for a tuple of one type.
func (r *reader) list(s *schema, name string) *typ {
	if len(s.PrefixItems) == 0 {
		if s.Items == nil || s.Items.never {
			return of("[]", anyType)
		}
		return of("[]", r.typ(s.Items, name+"Item"))
	}
	first := r.typ(s.PrefixItems[0], name+"Item")
	var refs []*named
	shape := first.shape(&refs)
	for _, each := range s.PrefixItems[1:] {
		if r.typ(each, name+"Item").shape(&refs) != shape {
			first = anyType
		}
	}
	if len(refs) > 0 || first.isAny() { // places of different types
		return of("[]", anyType)
	}
	if fixed := s.Items != nil && s.Items.never && int(s.MinItems) == len(s.PrefixItems); fixed {
		return of(fmt.Sprintf("[%d]", len(s.PrefixItems)), first)
	}
	return of("[]", first)
}

// object returns the type of a map: a struct if its keys are known.
func (r *reader) object(s *schema, def, name string) *typ {
	if s.Properties == nil || len(s.Properties.keys) == 0 && s.Title == "" {
		value := anyType
		if s.Others != nil && !s.Others.never {
			value = r.typ(s.Others, name+"Value")
		}
		return of("map[string]", value)
	}
	if slices.ContainsFunc(s.Properties.keys, func(key string) bool { return !fitsTag(key) }) {
		return of("map[string]", anyType)
	}
	n := &named{want: exported(name), about: "has the keys that the annotation names.", doc: s.Description, sent: r.sent}
	if title := s.Title; title != "" {
		n.want, n.about = exported(title), fmt.Sprintf("is the class %s of the Python code.", title)
	}
	t := &typ{named: n}
	if def != "" {
		r.defs[def] = t // its fields may be of this type
	}
	r.open[n] = true
	defer delete(r.open, n)
	names := namespace{}
	for _, key := range s.Properties.keys {
		part := s.Properties.schemas[key]
		if part == nil {
			part = new(schema)
		}
		f := field{key: key, name: names.add(exported(key)), typ: r.typ(part, n.want+exported(key)), doc: part.Description}
		if r.contains(f.typ) {
			f.typ = f.typ.optional()
		}
		if !slices.Contains(s.Required, key) {
			f.typ, f.omitted = f.typ.optional(), true
		}
		if r.sent && f.omitted && len(part.Default) > 0 && string(part.Default) != "null" {
			f.doc = strings.TrimSpace(fmt.Sprintf("%s\nThe default is %s.", f.doc, compact(part.Default)))
		}
		n.fields = append(n.fields, f)
	}
	return t
}

// contains reports whether a value of the type contains a struct that is being read.
func (r *reader) contains(t *typ) bool {
	for t.elem != nil {
		if t.isNilable() {
			return false
		}
		t = t.elem
	}
	return r.open[t.named]
}

// compact returns a default in one line that is not too long.
func compact(value json.RawMessage) string {
	var v any
	if json.Unmarshal(value, &v) != nil {
		return "unknown"
	}
	text, _ := json.Marshal(v)
	if len(text) > 60 {
		return strings.ToValidUTF8(string(text[:60]), "") + "…"
	}
	return string(text)
}
