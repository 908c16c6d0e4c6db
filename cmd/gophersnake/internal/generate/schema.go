package generate

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// schema is a JSON Schema with the keywords that say something about a Go type.
type schema struct {
	Ref         string          `json:"$ref"`
	Type        json.RawMessage `json:"type"` // a string, or a list of strings
	Title       string          `json:"title"`
	Description string          `json:"description"`
	Default     json.RawMessage `json:"default"`
	Format      string          `json:"format"`
	Pattern     string          `json:"pattern"`
	Kind        string          `json:"x-gophersnake"`
	DType       string          `json:"x-dtype"`
	Shape       []any           `json:"x-shape"`
	Enum        []any           `json:"enum"`
	Const       json.RawMessage `json:"const"`
	AnyOf       []*schema       `json:"anyOf"`
	OneOf       []*schema       `json:"oneOf"`
	AllOf       []*schema       `json:"allOf"`
	Items       *schema         `json:"items"`
	PrefixItems []*schema       `json:"prefixItems"`
	MinItems    float64         `json:"minItems"`
	Properties  *properties     `json:"properties"`
	Required    []string        `json:"required"`
	Others      *schema         `json:"additionalProperties"`

	Defs map[string]*schema `json:"$defs"`

	never bool // the schema is false: there is no such value
}

// UnmarshalJSON reads a schema, which may also be true or false.
func (s *schema) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "true", "null":
		return nil
	case "false":
		s.never = true
		return nil
	}
	type plain schema
	return json.Unmarshal(text, (*plain)(s))
}

// parse reads a schema. A text that is none stands for any value.
func parse(text []byte) *schema {
	s := new(schema)
	if len(text) > 0 && json.Unmarshal(text, s) != nil {
		return new(schema)
	}
	return s
}

// resolve follows references to definitions. The name is that of the last one, empty if
// there was no reference. A reference to nothing is any value.
func (s *schema) resolve(root *schema) (found *schema, name string) {
	for range 100 { // a cycle of references alone
		if s == nil {
			break
		}
		if len(s.AllOf) == 1 && s.Ref == "" && s.Properties == nil {
			s = s.AllOf[0]
			continue
		}
		if s.Ref == "" {
			return s, name
		}
		name = strings.TrimPrefix(s.Ref, "#/$defs/")
		s = root.Defs[name]
	}
	return new(schema), ""
}

// types returns the JSON types that the schema names.
func (s *schema) types() []string {
	var one string
	var all []string
	if json.Unmarshal(s.Type, &one) == nil {
		return []string{one}
	}
	_ = json.Unmarshal(s.Type, &all)
	return all
}

// is reports whether the schema names one JSON type.
func (s *schema) is(name string) bool { return slices.Equal(s.types(), []string{name}) }

// values returns the values that the schema lists.
func (s *schema) values() []any {
	if len(s.Const) == 0 {
		return s.Enum
	}
	var only any
	_ = json.Unmarshal(s.Const, &only)
	return []any{only}
}

// members returns the schemas of a union, with those of unions in it; nil if it is none.
func (s *schema) members(root *schema) []*schema { return s.flat(root, make(map[*schema]bool)) }

// flat is members without those of the unions that were seen.
func (s *schema) flat(root *schema, seen map[*schema]bool) []*schema {
	if seen[s] {
		return nil
	}
	seen[s] = true
	if types := s.types(); len(types) > 1 && len(s.AnyOf)+len(s.OneOf) == 0 {
		var all []*schema
		for _, name := range types {
			one := *s
			one.Type, _ = json.Marshal(name)
			all = append(all, &one)
		}
		return all
	}
	var all []*schema
	for _, each := range append(slices.Clone(s.AnyOf), s.OneOf...) {
		found, name := each.resolve(root)
		switch isUnion := len(found.AnyOf)+len(found.OneOf) > 0 || len(found.types()) > 1; {
		case isUnion:
			all = append(all, found.flat(root, seen)...)
		case name != "":
			all = append(all, each) // so that its name is known
		default:
			all = append(all, found)
		}
	}
	return all
}

// properties are the properties of an object in their order.
type properties struct {
	keys    []string
	schemas map[string]*schema
}

// UnmarshalJSON reads the properties.
func (p *properties) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, &p.schemas); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return err
		}
		if name, ok := key.(string); ok && !slices.Contains(p.keys, name) {
			p.keys = append(p.keys, name)
		}
	}
	return nil
}
