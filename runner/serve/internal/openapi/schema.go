package openapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// kindKey is the keyword of schemas for values that JSON does not have.
const kindKey = "x-gophersnake"

// formats are the content types that hold the kinds of values.
var formats = map[string][]string{
	"audio":  {"audio/wav"},
	"image":  {"image/png", "image/jpeg", "image/webp", "image/gif", "image/tiff", "image/bmp"},
	"tensor": {"application/x-npy"},
	"bytes":  {"application/octet-stream"},
	"table":  {"application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file", "application/vnd.apache.parquet", "text/csv", "text/tab-separated-values"},
	"text":   {"text/plain"},
}

// shape is a schema with the kinds of values that have files: those of [formats].
type shape struct {
	schema any
	kinds  []string
	isJSON bool // there are values that JSON can hold
}

// isText reports whether all values are text.
func (s shape) isText() bool {
	schema, _ := s.schema.(object)
	return schema["type"] == "string" && slices.Contains(s.kinds, "text")
}

// input is what an operation takes.
type input struct {
	shape
	ports    map[string]shape // nil unless a call has a map of inputs
	optional bool
}

// output is what an operation returns: a value, or a list of items, or a map of either.
type output struct {
	shape
	item any // the schema of a value of a stream
}

// bodies returns the bodies of requests.
func (b *builder) bodies(in input) object {
	content, read := object{}, b.service.Read
	if in.isJSON {
		body := media(in.schema)
		if v, ok := b.example(in.schema, 0); ok {
			body["example"] = v
		}
		content[typeJSON] = body
		content[typeLines] = object{"schema": object{"type": "string", "description": "An input in each line, as JSON.", "x-item-schema": in.schema}}
	}
	addFiles(content, in.kinds, read)
	if len(in.ports) > 0 {
		properties, encoding, required := object{}, object{}, []string{}
		for name, port := range in.ports {
			var types []string
			for _, kind := range port.kinds {
				types = append(types, kept(formats[kind], read)...)
			}
			if port.isJSON && !port.isText() {
				types = append(types, typeJSON)
			}
			properties[name], required = port.schema, append(required, name)
			encoding[name] = object{"contentType": strings.Join(types, ", ")}
		}
		slices.Sort(required)
		content[typeForm] = object{"schema": object{"type": "object", "properties": properties, "required": required, "additionalProperties": false}, "encoding": encoding}
	}
	return content
}

// content returns the bodies of answers.
func (out output) content(written []string) object {
	content := object{typeJSON: media(out.schema)}
	addFiles(content, out.kinds, written)
	return content
}

// addFiles adds the content types of the kinds that the service has.
func addFiles(content object, kinds, types []string) {
	for _, kind := range kinds {
		for _, t := range kept(formats[kind], types) {
			schema := object{"type": "string"}
			if kind != "text" {
				schema = object{"type": "string", "format": "binary", "contentMediaType": t}
			}
			content[t] = media(schema)
		}
	}
}

func kept(types, of []string) []string {
	return slices.DeleteFunc(slices.Clone(types), func(t string) bool { return !slices.Contains(of, t) })
}

// inputOf returns the input of a run: each source takes all of it.
func (b *builder) inputOf(p *Pipeline) input {
	var all []input
	for _, n := range p.Nodes {
		if slices.Contains(p.Sources, n.ID) {
			all = append(all, b.nodeInput(p, &n))
		}
	}
	if len(all) == 0 {
		return input{shape: anyShape(), optional: true}
	}
	if len(all) == 1 {
		return all[0]
	}
	joined, parts := all[0], []any{}
	for _, in := range all {
		parts = append(parts, in.schema)
		joined.kinds = kept(joined.kinds, in.kinds)
		joined.isJSON = joined.isJSON && in.isJSON
		joined.optional = joined.optional && in.optional
	}
	joined.schema = object{"allOf": parts}
	return joined
}

// nodeInput returns the input of a call of one node.
func (b *builder) nodeInput(p *Pipeline, n *Node) input {
	if len(n.Ports) == 0 {
		if len(n.Inputs) == 0 {
			return input{shape: anyShape(), optional: true}
		}
		s := b.shapeOf(n.Inputs[0].Schema, true, p.Name, n.ID, "in")
		return input{shape: s, optional: len(s.kinds) == len(formats)} // without a body, the value is null
	}
	in := input{shape: shape{isJSON: true}, ports: make(map[string]shape)}
	properties := object{}
	for _, name := range n.Ports {
		s := anyShape()
		for _, parameter := range slices.Concat(n.Inputs, n.Params) {
			if parameter.Name == name {
				s = b.shapeOf(parameter.Schema, true, p.Name, n.ID, name)
			}
		}
		in.ports[name], properties[name] = s, s.schema
		in.isJSON = in.isJSON && s.isJSON
	}
	in.schema = object{"type": "object", "properties": properties, "required": slices.Sorted(maps.Keys(in.ports)), "additionalProperties": false}
	return in
}

// outputOf returns the result of a run.
func (b *builder) outputOf(p *Pipeline) output {
	all, items := make(map[string]output), []any{}
	for _, id := range p.Sinks {
		all[id] = output{shape: shape{schema: object{}}, item: object{}}
		for i := range p.Nodes {
			if p.Nodes[i].ID == id {
				all[id] = b.nodeOutput(p, &p.Nodes[i], p.Many)
			}
		}
		items = append(items, all[id].item)
	}
	if len(p.Sinks) == 1 {
		return all[p.Sinks[0]]
	}
	properties := object{}
	for id, out := range all {
		properties[id] = out.schema
	}
	return output{
		shape: shape{schema: object{"type": "object", "properties": properties, "required": slices.Sorted(maps.Keys(all))}},
		item:  object{"anyOf": items},
	}
}

// nodeOutput returns what a call of one node returns, a list if it returns many values.
func (b *builder) nodeOutput(p *Pipeline, n *Node, isList bool) output {
	s := b.shapeOf(n.Output, false, p.Name, n.ID, "out")
	if isList {
		return output{shape: shape{schema: object{"type": "array", "items": s.schema}}, item: s.schema}
	}
	return output{shape: s, item: s.schema}
}

// anyShape is that of a value without a schema.
func anyShape() shape {
	return shape{schema: ref("schemas", "Value"), kinds: slices.Sorted(maps.Keys(formats)), isJSON: true}
}

// shapeOf converts a schema of a node. Its definitions become components, whose names begin with
// the given parts.
func (b *builder) shapeOf(raw ipc.Schema, isInput bool, parts ...string) shape {
	var schema any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if len(raw) == 0 || decoder.Decode(&schema) != nil {
		return b.untyped(isInput)
	}
	root, ok := schema.(object)
	if !ok || len(root) == 0 {
		return b.untyped(isInput)
	}
	c := &converter{isInput: isInput, prefix: parts}
	if definitions, ok := root["$defs"].(object); ok {
		delete(root, "$defs")
		for name, definition := range definitions {
			b.schemas[c.component(name)] = c.convert(definition)
		}
	}
	s := shape{isJSON: true}
	s.kinds, s.isJSON = kindsOf(root)
	s.schema = c.convert(root)
	return s
}

// untyped is the shape of a value without a schema: anything that can be sent, or anything.
func (b *builder) untyped(isInput bool) shape {
	s := anyShape()
	if !isInput {
		s.schema = object{}
	}
	return s
}

// kindsOf returns the kinds of values that a schema accepts and that can be files, and whether it
// accepts others.
func kindsOf(schema object) (kinds []string, isJSON bool) {
	if kind, ok := schema[kindKey].(string); ok && formats[kind] != nil {
		_, isJSON = schema["type"]
		return []string{kind}, isJSON
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		branches, _ := schema[keyword].([]any)
		for _, branch := range branches {
			if branch, ok := branch.(object); ok {
				more, json := kindsOf(branch)
				kinds, isJSON = append(kinds, more...), isJSON || json
			}
		}
		if branches != nil {
			slices.Sort(kinds)
			return slices.Compact(kinds), isJSON
		}
	}
	if t, _ := schema["type"].(string); t == "string" && schema["format"] == nil {
		return []string{"text"}, true
	}
	return nil, true
}

// converter converts the schemas of one node to those of a document.
type converter struct {
	isInput bool
	prefix  []string
}

func (c *converter) component(name string) string {
	return componentName(append(slices.Clone(c.prefix), name)...)
}

// The keywords whose values are schemas.
var (
	oneSchema   = []string{"items", "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames", "unevaluatedItems", "unevaluatedProperties"}
	manySchemas = []string{"anyOf", "oneOf", "allOf", "prefixItems"}
	mapSchemas  = []string{"properties", "patternProperties", "dependentSchemas"}
)

// convert converts a schema and those in it.
func (c *converter) convert(schema any) any {
	s, ok := schema.(object)
	if !ok {
		return schema // true or false
	}
	if len(s) == 0 && c.isInput {
		return ref("schemas", "Value")
	}
	for _, keyword := range oneSchema {
		if v, ok := s[keyword]; ok {
			s[keyword] = c.convert(v)
		}
	}
	for _, keyword := range manySchemas {
		list, _ := s[keyword].([]any)
		for i := range list {
			list[i] = c.convert(list[i])
		}
	}
	for _, keyword := range mapSchemas {
		properties, _ := s[keyword].(object)
		for name := range properties {
			properties[name] = c.convert(properties[name])
		}
	}
	if target, ok := s["$ref"].(string); ok {
		if name, ok := strings.CutPrefix(target, "#/$defs/"); ok {
			name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
			s["$ref"] = "#/components/schemas/" + c.component(name)
		}
	}
	return c.express(s)
}

// express says what the service adds to a schema: the range of integers, null for NaN, and the form
// of media in JSON.
func (c *converter) express(s object) any {
	if kind, ok := s[kindKey].(string); ok && formats[kind] != nil && s["type"] == nil {
		if c.isInput {
			s["description"] = "A file, in a body or a part of its own."
			s["not"] = object{} // JSON has none
			return s
		}
		return object{"allOf": []any{ref("schemas", "Media"), s}}
	}
	switch {
	case s["type"] == "integer" && c.isInput:
		for keyword, v := range int64Schema() {
			addDefault(s, keyword, v)
		}
	case s["type"] == "number" && c.isInput && s["anyOf"] == nil:
		s["anyOf"] = []any{int64Schema(), object{"not": object{"type": "integer"}}}
	case s["type"] == "object" && c.isInput:
		addDefault(s, "additionalProperties", ref("schemas", "Value"))
	case s["type"] == "number" && !c.isInput:
		return object{"anyOf": []any{s, object{"type": "null", "description": "NaN or an infinity"}}}
	}
	return s
}

// int64Schema returns the schema of the integers that a service reads.
func int64Schema() object {
	return object{"type": "integer", "minimum": int64(math.MinInt64), "maximum": uint64(math.MaxUint64)}
}

func addDefault(s object, keyword string, v any) {
	if _, ok := s[keyword]; !ok {
		s[keyword] = v
	}
}

// baseSchemas returns the schemas of each document.
func baseSchemas() object {
	text, flag, number := object{"type": "string"}, object{"type": "boolean"}, object{"type": "integer"}
	list := func(of any) object { return object{"type": "array", "items": of} }
	node := object{"type": "object", "required": []string{"node", "ready", "state"}, "properties": object{
		"node": text, "ready": flag, "state": text, "reason": text, "breaker": text,
		"machine_breakers": object{"type": "object", "additionalProperties": text},
		"workers":          object{"type": "object", "additionalProperties": number},
	}}
	pipeline := object{"type": "object", "required": []string{"ready", "state", "nodes"}, "properties": object{
		"ready": flag, "state": text, "reason": text, "nodes": list(node),
	}}
	return object{
		"Value": object{
			"description": "A JSON value. Integers have up to 64 bits.",
			"anyOf": []any{
				object{"type": []string{"null", "boolean", "string"}},
				int64Schema(),
				object{"type": "number", "not": object{"type": "integer"}},
				list(ref("schemas", "Value")),
				object{"type": "object", "additionalProperties": ref("schemas", "Value")},
			},
		},
		"Media": object{
			"description": "A recording, an image, an array, a table or bytes.",
			"type":        "object", "required": []string{"$base64", "content_type", "type"},
			"properties": object{"$base64": object{"type": "string", "contentEncoding": "base64"}, "content_type": text, "type": text},
		},
		"Problem": object{
			"type": "object", "required": []string{"type", "title", "status", "retryable"},
			"properties": object{
				"type": object{"type": "string", "format": "uri"}, "title": text, "status": number, "detail": text, "hint": text,
				"request_id": text, "retryable": flag, "retry_after": object{"type": "number", "description": "seconds"},
				"kind": text, "node": text, "operation": text, "attempt": number, "attempts": number, "exception": text, "path": text,
				"limit": text, "signal": text, "error": object{"type": "object", "description": "With --debug: all that is known."},
			},
		},
		"Health": object{"type": "object", "required": []string{"status"}, "properties": object{
			"status": text, "reason": text, "pipelines": object{"type": "object", "additionalProperties": pipeline},
		}},
		"Pipelines": object{"type": "object", "required": []string{"pipelines"}, "properties": object{
			"pipelines": list(object{"type": "object", "required": []string{"name", "url"}, "properties": object{"name": text, "description": text, "url": text}}),
		}},
		"Description": object{"type": "object", "required": []string{"name", "nodes", "connections", "sinks"}, "properties": object{
			"name": text, "description": text, "sinks": list(text), "nodes": list(object{"type": "object", "required": []string{"id"}}),
			"connections": list(object{"type": "object", "required": []string{"from", "to"}, "properties": object{"from": text, "to": text, "port": text}}),
		}},
	}
}
