package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseJSON reads a JSON text into the tree that the same YAML would have. JSON is
// not read as YAML because it is not quite a part of it: YAML knows no surrogate
// pairs, and no keys beyond 1024 characters.
func parseJSON(data []byte) (*yaml.Node, *fault) {
	// This checks the nesting too, so that the reader below can recurse.
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		at := max(int(syntax.Offset)-1, 0)
		if strings.HasPrefix(syntax.Error(), "unexpected end") {
			at = len(bytes.TrimRight(data, " \t\r\n"))
		}
		return nil, &fault{positionAt(data, at), "this is not JSON: " + syntax.Error()}
	}
	r := &jsonReader{data: data, tokens: json.NewDecoder(bytes.NewReader(data)), at: Position{1, 1}}
	r.tokens.UseNumber()
	return r.value(), nil
}

// jsonReader reads a text that is known to be JSON.
type jsonReader struct {
	data   []byte
	tokens *json.Decoder
	// at is the position of offset.
	at     Position
	offset int
}

// next returns the next token and where it begins.
func (r *jsonReader) next() (json.Token, Position) {
	begin := int(r.tokens.InputOffset())
	for strings.IndexByte(" \t\r\n,:", r.data[begin]) >= 0 {
		begin++
	}
	for _, c := range string(r.data[r.offset:begin]) {
		r.at.Column++
		if c == '\n' {
			r.at = Position{r.at.Line + 1, 1}
		}
	}
	r.offset = begin
	token, _ := r.tokens.Token()
	return token, r.at
}

func (r *jsonReader) value() *yaml.Node {
	token, at := r.next()
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: at.Line, Column: at.Column}
	switch t := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for r.tokens.More() { // keys and values alike
			n.Content = append(n.Content, r.value())
		}
		r.next()
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", "false"
		if t {
			n.Value = "true"
		}
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n
}
