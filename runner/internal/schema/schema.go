// Package schema compares the JSON Schemas of nodes: whether what one node returns fits what
// another takes.
//
// It knows the keywords that the Python package writes, see ipc.Schema, and those that
// pydantic and msgspec add. It does not know all of JSON Schema: an assertion that it does
// not know leaves the comparison open.
package schema

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Verdict says whether the values of one schema fit another.
type Verdict int

const (
	// Fits means that every value does.
	Fits Verdict = iota
	// Open means that some values do, or that the schemas do not say.
	Open
	// Never means that no value does, apart from empty containers.
	Never
)

// Finding is the result of a comparison.
type Finding struct {
	Verdict Verdict
	// Path is the part of the value that does not fit, such as .items[].price. It is empty
	// for the whole value.
	Path string
	// Output and Input describe that part in both schemas, such as "text" and "an integer".
	Output, Input string
	// Steps are those of the path: .KEY, [] and [INDEX].
	Steps []string

	outPart, inPart object // what Output and Input describe
}

// object is a schema, or a part of one.
type object = map[string]any

// Compare reports whether the values that fit the schema output also fit the schema input.
// Both are JSON texts; an empty one stands for any value. A text that is no schema leaves the
// comparison open.
func Compare(output, input []byte) Finding { return compareTo(output, input, false) }

// CompareDecoding reports whether the values that fit the schema output can be decoded into
// the Go type whose schema is input; see convert.Schema. It differs from [Compare] in what Go
// types take: keys in other upper and lower case, what is in a JSON document, and tensors of
// any size, but no floats as integers. A value of a union must fit whichever member it is of:
// the verdict is Never if a member does not fit.
func CompareDecoding(output, input []byte) Finding { return compareTo(output, input, true) }

func compareTo(output, input []byte, decoding bool) Finding {
	out, in := parse(output), parse(input)
	if out == nil || in == nil {
		return Finding{Verdict: Open}
	}
	c := comparison{out: out, in: in, assumed: make(map[[2]string]bool), decoding: decoding}
	found := c.compare(out, in)
	if found.Verdict != Fits {
		found.Output = describe(out, found.outPart, 0) + found.Output
		found.Input = describe(in, found.inPart, 0) + found.Input
	}
	return found
}

// IsAny reports whether a schema says nothing about its values.
func IsAny(text []byte) bool {
	s := parse(text)
	return s != nil && isAny(s)
}

func parse(text []byte) object {
	if len(text) == 0 {
		return object{}
	}
	var s object
	if json.Unmarshal(text, &s) != nil {
		return nil
	}
	return s
}

// annotations are the keywords that do not restrict values. Those of definitions and
// references are resolved before.
var annotations = []string{
	"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator",
	"contentEncoding", "contentMediaType", "x-dtype", "x-shape", goKeyword, "$defs", "$schema", "$id", "$comment",
}

// known are the keywords that restrict values in a way that compare examines.
var known = []string{
	"type", "enum", "const", "anyOf", "oneOf", "format", "pattern", "minLength", "maxLength", "minimum", "maximum",
	"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "prefixItems", "items", "minItems", "maxItems", "properties",
	"required", "additionalProperties", "propertyNames", "minProperties", "maxProperties", kindKeyword,
}

const (
	// kindKeyword names what JSON does not have.
	kindKeyword = "x-gophersnake"
	// goKeyword names the type of a part of the schema of a Go type.
	goKeyword = "x-go"
)

func isAny(s object) bool {
	for key := range s {
		if !slices.Contains(annotations, key) {
			return false
		}
	}
	return true
}

// hasUnknown reports whether the schema has an assertion that compare does not examine.
func hasUnknown(s object) bool {
	for key := range s {
		if !slices.Contains(annotations, key) && !slices.Contains(known, key) {
			return true
		}
	}
	return false
}

// resolve follows references within the document. A reference to nothing is any value.
func resolve(root, s object) (resolved object, name string) {
	for range 100 { // a cycle of references alone
		ref, ok := s["$ref"].(string)
		if !ok {
			return s, name
		}
		name = strings.TrimPrefix(ref, "#/$defs/")
		s = part(part(root, "$defs"), name)
	}
	return object{}, name
}

// part returns a member that is a schema, an empty one if there is none.
func part(s object, key string) object {
	found, _ := s[key].(object)
	return found
}

// list returns a member that is a list of schemas.
func list(s object, key string) []object {
	items, _ := s[key].([]any)
	found := make([]object, 0, len(items))
	for _, item := range items {
		each, _ := item.(object)
		found = append(found, each)
	}
	return found
}

// members returns the schemas of a union; nil if the schema is none.
func members(s object) []object {
	if all := list(s, "anyOf"); len(all) > 0 {
		return all
	}
	if all := list(s, "oneOf"); len(all) > 0 {
		return all
	}
	types, _ := s["type"].([]any)
	all := make([]object, 0, len(types))
	for _, each := range types {
		one := make(object, len(s))
		for key, value := range s {
			one[key] = value
		}
		one["type"] = each
		all = append(all, one)
	}
	return all
}

// values returns the values that a schema lists, and whether it lists any.
func values(s object) ([]any, bool) {
	if only, ok := s["const"]; ok {
		return []any{only}, true
	}
	all, ok := s["enum"].([]any)
	return all, ok
}

func number(s object, key string, otherwise float64) float64 {
	if n, ok := s[key].(float64); ok {
		return n
	}
	return otherwise
}

func text(s object, key string) string {
	found, _ := s[key].(string)
	return found
}

// names are the words for the types of JSON.
var names = map[string]string{
	"string": "text", "integer": "an integer", "number": "a number", "boolean": "true or false", "null": "null",
	"array": "a list", "object": "a map", "bytes": "bytes", "tensor": "an array", "audio": "Audio", "image": "Image", "table": "a table",
	"json": "a JSON document",
}

// mostWords bounds the members of a union, and the unions in it, that describe names.
const mostWords = 5

// describe returns the words for a schema, which may be in so many unions.
func describe(root, s object, unions int) string {
	s, name := resolve(root, s)
	if goType := text(s, goKeyword); goType != "" {
		return goType
	}
	if all := members(s); len(all) > 0 && unions < mostWords {
		words := make([]string, 0, len(all))
		for _, each := range all[:min(len(all), mostWords)] {
			if w := describe(root, each, unions+1); !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
		return strings.Join(words, " or ")
	}
	if listed, ok := values(s); ok {
		words, _ := json.Marshal(listed[:min(len(listed), 10)])
		return "one of " + string(words)
	}
	word := names[text(s, "type")]
	if kind := text(s, kindKeyword); kind != "" {
		word = names[kind]
	}
	switch {
	case word == "":
		return "any value"
	case name != "" && text(s, "type") == "object":
		return word + " (" + cmp.Or(text(s, "title"), name) + ")"
	case text(s, "format") != "":
		return word + " (" + text(s, "format") + ")"
	case text(s, "x-dtype") != "" && s["x-shape"] != nil:
		return fmt.Sprintf("%s of %s and shape %v", word, text(s, "x-dtype"), s["x-shape"])
	case text(s, "x-dtype") != "":
		return word + " of " + text(s, "x-dtype")
	case s["x-shape"] != nil:
		return fmt.Sprintf("%s of shape %v", word, s["x-shape"])
	}
	return word
}
