package model

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/media"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/tensor"
)

// Input returns the input of the pipeline for the tensors of a request: the value of the only
// one if it has the name of the parameter, or else a map with the value of each.
func (m *Model) Input(tensors []*tensor.Tensor) (any, error) {
	names := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		if names[t.Name] {
			return nil, serve.Malformed(fmt.Sprintf("the input %q occurs twice", t.Name), "")
		}
		names[t.Name] = true
	}
	if m.parameter == "" {
		if len(tensors) > 0 {
			return nil, serve.Malformed(fmt.Sprintf("the model %q takes no inputs", m.Name), "")
		}
		return nil, nil
	}
	properties := m.input.properties()
	if len(properties) == 0 && len(tensors) == 1 && names[m.parameter] {
		return m.input.value(tensors[0])
	}
	object, isOpen := m.input.of("object", kindAny)
	values := ipc.Object{}
	for _, t := range tensors {
		of, isKnown := properties.Get(t.Name)
		if !isKnown && (!isOpen || len(properties) > 0) {
			return nil, m.unknownInput(t.Name)
		}
		if !isKnown {
			of = member(object.keywords, "additionalProperties")
		}
		v, err := m.input.at(of).value(t)
		if err != nil {
			return nil, err
		}
		values = append(values, ipc.Member{Key: t.Name, Value: v})
	}
	if len(values) == 0 {
		return nil, m.unknownInput("")
	}
	return values, nil
}

func (m *Model) unknownInput(name string) error {
	hint := "its input is " + m.parameter
	if len(m.Inputs) > 1 {
		hint = "its inputs are " + m.Inputs[0].Name
		for _, s := range m.Inputs[1:] {
			hint += ", " + s.Name
		}
	}
	if name == "" {
		return serve.Malformed("the request has no inputs", hint)
	}
	return serve.Malformed(fmt.Sprintf("the model %q has no input %q", m.Name, name), hint)
}

// value returns the value of a tensor for a schema. One that does not fit the schema is passed
// as it is: the node's own check then refuses it, with a message that names both types.
func (s schema) value(t *tensor.Tensor) (any, error) {
	if t.Type == tensor.Bytes {
		return s.textValue(t)
	}
	if _, ok := s.of("tensor", kindAny); ok {
		return t.Array(), nil
	}
	_, isScalar := s.of("integer", "number", "boolean")
	_, isList := s.of("array")
	switch {
	case isScalar && t.Elements() == 1:
		return scalar(t)
	case isList:
		return t.Nested(nil)
	}
	return t.Array(), nil
}

// scalar returns the only element of a tensor.
func scalar(t *tensor.Tensor) (any, error) {
	flat := *t
	flat.Shape = nil
	return flat.Nested(nil)
}

// textValue returns the value of a tensor of the type BYTES.
func (s schema) textValue(t *tensor.Tensor) (any, error) {
	list, isList := s.of("array")
	if len(t.Strings) == 1 {
		if of, ok := s.of("string", "bytes", "audio", "image", "table", "json", "object", kindAny); ok || !isList {
			return of.text(t.Name, t.Strings[0])
		}
	}
	items := list.items()
	shape := *t
	if len(shape.Shape) == 0 {
		shape.Shape = []int{1}
	}
	return shape.Nested(func(text []byte) (any, error) {
		of, _ := items.of("string", "bytes", "audio", "image", "table", "json", "object", kindAny)
		return of.text(t.Name, text)
	})
}

// text returns the value of one element of the type BYTES.
func (s schema) text(name string, text []byte) (v any, err error) {
	switch s.kind() {
	case "bytes":
		return text, nil
	case "audio":
		var audio *ipc.Audio
		audio, err = media.DecodeWAV(text)
		v = audio
	case "image":
		var image *ipc.Image
		image, err = media.DecodeImage(text)
		v = image
	case "table":
		return &ipc.Table{Stream: bytes.Clone(text)}, nil
	case "json", "object":
		v, err = document.Parse(text)
	case "string":
		if !utf8.Valid(text) {
			err = document.NotUTF8(text, 0, "the text")
		}
		v = string(text)
	default:
		if !utf8.Valid(text) {
			return text, nil
		}
		return string(text), nil
	}
	if err != nil {
		return nil, serve.Malformed(fmt.Sprintf("input %q: %s", name, err), "")
	}
	return v, nil
}
