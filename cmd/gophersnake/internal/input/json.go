package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
)

// ErrSyntax is wrapped by the errors of [ParseJSON] for text that is not JSON.
var ErrSyntax = errors.New("invalid JSON")

// ParseJSON parses one JSON document. Integers become int64, or uint64 if they do not
// fit; an integer of more than 64 bits is an error, since a float64 would round it.
func ParseJSON(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSyntax, strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: unexpected data after the value", ErrSyntax)
	}
	return convertNumbers("", document)
}

// convertNumbers replaces each [json.Number] of a document by an int64, uint64 or float64.
// The path is the location of the document in the input, for error messages.
func convertNumbers(path string, document any) (any, error) {
	var err error
	switch d := document.(type) {
	case json.Number:
		return convertNumber(path, d.String())
	case []any:
		for i := range d {
			if d[i], err = convertNumbers(fmt.Sprintf("%s[%d]", path, i), d[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range d {
			if d[key], err = convertNumbers(path+"."+key, d[key]); err != nil {
				return nil, err
			}
		}
	}
	return document, nil
}

func convertNumber(path, text string) (any, error) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return u, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err == nil && strings.ContainsAny(text, ".eE") {
		return f, nil
	}
	e := runner.NewError(runner.KindSerialization, fmt.Sprintf("the number %s does not fit in 64 bits", terminal.Shorten(text, 40)))
	e.Path = "input" + path
	return nil, e.WithHint("write it as a string, in quotes")
}
