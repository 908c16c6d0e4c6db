package openapi

import (
	"encoding/json"
	"strings"
)

// deepest bounds the depth of an example, since schemas may be recursive.
const deepest = 8

// texts are examples of the formats of text.
var texts = map[string]string{
	"":          "text",
	"date":      "2026-01-31",
	"date-time": "2026-01-31T12:00:00Z",
	"time":      "12:00:00Z",
	"uuid":      "3f1c0b9e-2d4a-4c61-9a52-0f6c1f7d8e21",
}

// example returns a value that a schema accepts, and false if it finds none.
func (b *builder) example(schema any, depth int) (any, bool) {
	s, ok := schema.(object)
	if !ok || depth > deepest {
		return nil, false
	}
	if target, ok := s["$ref"].(string); ok {
		return b.example(b.schemas[strings.TrimPrefix(target, "#/components/schemas/")], depth+1)
	}
	for _, keyword := range []string{"default", "const"} {
		if v, ok := s[keyword]; ok {
			return v, true
		}
	}
	if values, ok := s["enum"].([]any); ok && len(values) > 0 {
		return values[0], true
	}
	if s["type"] == nil {
		for _, keyword := range []string{"anyOf", "oneOf"} {
			branches, _ := s[keyword].([]any)
			for _, branch := range branches {
				if v, ok := b.example(branch, depth+1); ok {
					return v, true
				}
			}
		}
		return nil, false
	}
	return b.exampleOfType(s, depth)
}

func (b *builder) exampleOfType(s object, depth int) (any, bool) {
	switch s["type"] {
	case "object":
		return b.exampleObject(s, depth)
	case "array":
		return b.exampleArray(s, depth)
	case "string":
		format, _ := s["format"].(string)
		text, ok := texts[format]
		return text, ok && s["pattern"] == nil && s["minLength"] == nil && s["maxLength"] == nil
	case "integer", "number":
		return exampleNumber(s)
	case "boolean":
		return true, true
	case "null":
		return nil, true
	}
	return nil, false
}

// exampleObject returns an object with the required properties.
func (b *builder) exampleObject(s object, depth int) (any, bool) {
	if s["minProperties"] != nil || s["dependentRequired"] != nil || s["allOf"] != nil {
		return nil, false
	}
	properties, _ := s["properties"].(object)
	v := object{}
	for name := range stringsIn(s["required"]) {
		member, ok := b.example(properties[name], depth+1)
		if !ok {
			return nil, false
		}
		v[name] = member
	}
	return v, true
}

// exampleArray returns an array with one element, or as many as there must be.
func (b *builder) exampleArray(s object, depth int) (any, bool) {
	if s["maxItems"] != nil || s["uniqueItems"] != nil || s["contains"] != nil {
		return nil, false
	}
	elements, _ := s["prefixItems"].([]any)
	if elements == nil && s["minItems"] == nil {
		elements = []any{s["items"]}
	} else if elements == nil {
		return nil, false
	}
	v := []any{}
	for _, of := range elements {
		element, ok := b.example(of, depth+1)
		if !ok {
			return nil, false
		}
		v = append(v, element)
	}
	return v, true
}

// exampleNumber returns 1, or the least number.
func exampleNumber(s object) (any, bool) {
	if s["exclusiveMinimum"] != nil || s["exclusiveMaximum"] != nil || s["multipleOf"] != nil {
		return nil, false
	}
	least, isLimited := s["minimum"].(json.Number) // of the node
	most, isBounded := s["maximum"].(json.Number)
	from, _ := least.Float64()
	to, _ := most.Float64()
	if isLimited && from > 1 || isBounded && to < 1 {
		return least, isLimited
	}
	return 1, true
}

// stringsIn returns the texts in a list of a schema.
func stringsIn(list any) map[string]bool {
	texts := make(map[string]bool)
	switch list := list.(type) {
	case []any:
		for _, v := range list {
			if text, ok := v.(string); ok {
				texts[text] = true
			}
		}
	case []string:
		for _, text := range list {
			texts[text] = true
		}
	}
	return texts
}
