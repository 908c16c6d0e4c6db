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

// fault is what keeps a text from being a document.
type fault struct {
	Position
	message string
}

// parseDocument reads a text into the tree of its one document. JSON becomes the
// same tree as YAML.
func parseDocument(name string, data []byte) (*yaml.Node, *fault) {
	if len(data) > MaxSize {
		return nil, &fault{Position{1, 1}, fmt.Sprintf("the file is larger than %d MiB; a pipeline is text that people write", MaxSize>>20)}
	}
	if i := invalidUTF8(data); i >= 0 {
		return nil, &fault{positionAt(data, i), "the file is not UTF-8 text; save it as UTF-8"}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	text := bytes.TrimSpace(data)
	switch {
	case len(text) == 0:
		return nil, errEmpty()
	case filepath.Ext(name) == ".json", text[0] == '{' && json.Valid(data):
		return parseJSON(data)
	}
	return parseYAML(data)
}

func errEmpty() *fault {
	return &fault{Position{1, 1}, "the file is empty; a pipeline begins with version: v1"}
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

// parseYAML reads the one document of a YAML text.
func parseYAML(data []byte) (*yaml.Node, *fault) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, further yaml.Node
	err := decoder.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errEmpty()
	case err != nil:
		return nil, yamlFault(data, err)
	}
	switch err := decoder.Decode(&further); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, yamlFault(data, err)
	default:
		return nil, &fault{
			Position{further.Line, further.Column},
			"a second YAML document begins here; a file holds one pipeline",
		}
	}
	return doc.Content[0], nil
}

// yamlHints say in a user's words what the usual messages of the parser mean.
var yamlHints = map[string]string{
	"did not find expected key":                      "the indentation or a colon is wrong",
	"did not find expected '-' indicator":            "the items of a list are indented alike, each begins with -",
	"mapping values are not allowed in this context": "the indentation is wrong, or the value before has to be quoted",
	"found character that cannot start any token":    "quote values that begin with a special character",
	"found unexpected end of stream":                 "a quote is not closed",
}

var yamlMessage = regexp.MustCompile(`(?s)^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// yamlFault finds out where a text fails. The parser often names the beginning of
// the block in which it gave up; the line at fault is the last one of the shortest
// beginning of the text that fails alike.
func yamlFault(data []byte, err error) *fault {
	match := yamlMessage.FindStringSubmatch(err.Error())
	message := match[2]
	line, _ := strconv.Atoi(match[1])
	if len(data) <= 256<<10 { // it takes several attempts
		line = shortestFailure(data, message)
	}
	lines := strings.Split(string(data), "\n")
	line = min(max(line, 1), len(lines))
	text := lines[line-1]
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	hint := yamlHints[message]
	if strings.Contains(indent, "\t") {
		hint = "indent with spaces, not with tabs"
		indent = indent[:strings.Index(indent, "\t")]
	}
	if hint != "" {
		message += "; " + hint
	}
	return &fault{Position{line, len(indent) + 1}, "this is not YAML: " + message}
}

// shortestFailure returns how many lines it takes for the text to fail with the
// given message.
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
