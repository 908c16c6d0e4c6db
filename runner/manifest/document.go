package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// syntaxError is the reason why a text is not a document.
type syntaxError struct {
	Position
	message string
}

// parseDocument parses a text into the tree of its one document. JSON and YAML give
// the same tree.
func parseDocument(name string, data []byte) (*yaml.Node, *syntaxError) {
	if len(data) > MaxSize {
		return nil, &syntaxError{Position{1, 1}, fmt.Sprintf("the file is larger than %d MiB, the limit for a manifest", MaxSize>>20)}
	}
	if i := invalidUTF8(data); i >= 0 {
		return nil, &syntaxError{positionAt(data, i), "the file is not UTF-8 text; save it as UTF-8"}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	text := bytes.TrimSpace(data)
	switch {
	case len(text) == 0:
		return nil, emptyDocument()
	case filepath.Ext(name) == ".json", text[0] == '{' && json.Valid(data):
		return parseJSON(data)
	}
	return parseYAML(data)
}

func emptyDocument() *syntaxError {
	return &syntaxError{Position{1, 1}, "the file is empty; a pipeline begins with version: v1"}
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// positionAt returns the position of an offset.
func positionAt(data []byte, offset int) Position {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return Position{bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1}
}

// parseYAML parses the one document of a YAML text.
func parseYAML(data []byte) (*yaml.Node, *syntaxError) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := decoder.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return nil, emptyDocument()
	case err != nil:
		return nil, invalidYAML(data, err)
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, invalidYAML(data, err)
	default:
		return nil, &syntaxError{
			Position{second.Line, second.Column},
			"a second YAML document begins here; a file holds one pipeline",
		}
	}
	return doc.Content[0], nil
}

// yamlHints explain the parser's most common messages.
var yamlHints = map[string]string{
	"did not find expected key":                      "the indentation or a colon is wrong",
	"did not find expected '-' indicator":            "indent all items of a list alike, and begin each with -",
	"mapping values are not allowed in this context": "the indentation is wrong, or the value before needs quotes",
	"found character that cannot start any token":    "quote values that begin with a special character",
	"found unexpected end of stream":                 "a quote is not closed",
}

var yamlMessage = regexp.MustCompile(`(?s)^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// invalidYAML returns the parser's error with a better position. The parser often
// reports the beginning of the block that it could not finish. The wrong line is the
// last one of the shortest prefix of the text that fails with the same message.
func invalidYAML(data []byte, err error) *syntaxError {
	match := yamlMessage.FindStringSubmatch(err.Error())
	message := match[2]
	line, _ := strconv.Atoi(match[1])
	if len(data) <= 256<<10 { // the search parses the text several times
		line = shortestFailure(data, message)
	}
	lines := strings.Split(string(data), "\n")
	line = min(max(line, 1), len(lines))
	text := lines[line-1]
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	hint := yamlHints[message]
	if spaces, _, tab := strings.Cut(indent, "\t"); tab {
		hint = "indent with spaces, not with tabs"
		indent = spaces
	}
	if hint != "" {
		message += "; " + hint
	}
	return &syntaxError{Position{line, len(indent) + 1}, "invalid YAML: " + message}
}

// shortestFailure returns the number of lines in the shortest prefix of the text that
// fails with the given message.
func shortestFailure(data []byte, message string) int {
	var ends []int
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	ends = append(ends, len(data))
	return 1 + sort.Search(len(ends)-1, func(i int) bool {
		decoder := yaml.NewDecoder(bytes.NewReader(data[:ends[i]]))
		for {
			if err := decoder.Decode(new(yaml.Node)); errors.Is(err, io.EOF) {
				return false
			} else if err != nil {
				return yamlMessage.FindStringSubmatch(err.Error())[2] == message
			}
		}
	})
}

// parseJSON parses a JSON text into the tree that the same YAML would give. A YAML
// parser does not accept all JSON: YAML has no surrogate pairs, and no keys of more
// than 1024 characters.
func parseJSON(data []byte) (*yaml.Node, *syntaxError) {
	// This checks the depth of nesting too, so that treeBuilder may recurse.
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		at := max(int(syntax.Offset)-1, 0)
		if strings.HasPrefix(syntax.Error(), "unexpected end") {
			at = len(bytes.TrimRight(data, " \t\r\n"))
		}
		return nil, &syntaxError{positionAt(data, at), "invalid JSON: " + syntax.Error()}
	}
	b := &treeBuilder{data: data, tokens: json.NewDecoder(bytes.NewReader(data)), position: Position{1, 1}}
	b.tokens.UseNumber()
	return b.value(), nil
}

// treeBuilder builds the tree of a text that is valid JSON.
type treeBuilder struct {
	data   []byte
	tokens *json.Decoder
	// position is that of offset, which is the start of the last token.
	position Position
	offset   int
}

// next returns the next token and its position.
func (b *treeBuilder) next() (json.Token, Position) {
	begin := int(b.tokens.InputOffset())
	for strings.IndexByte(" \t\r\n,:", b.data[begin]) >= 0 {
		begin++
	}
	for _, c := range string(b.data[b.offset:begin]) {
		b.position.Column++
		if c == '\n' {
			b.position = Position{b.position.Line + 1, 1}
		}
	}
	b.offset = begin
	token, _ := b.tokens.Token()
	return token, b.position
}

func (b *treeBuilder) value() *yaml.Node {
	token, at := b.next()
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: at.Line, Column: at.Column}
	switch t := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for b.tokens.More() { // keys and values alternate, as in a YAML node
			n.Content = append(n.Content, b.value())
		}
		b.next()
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
