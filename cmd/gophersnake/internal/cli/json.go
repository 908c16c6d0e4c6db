package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
)

// errSyntax is wrapped by the errors of what is no JSON at all.
var errSyntax = errors.New("this is not JSON")

// parseJSON reads one JSON document. Its integers are int64, or uint64 beyond
// that; an integer beyond 64 bits is refused rather than rounded.
func parseJSON(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("%w: %v", errSyntax, strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more follows after the document", errSyntax)
	}
	return plainNumbers("", document)
}

// plainNumbers replaces the numbers of a document by Go's.
func plainNumbers(path string, document any) (any, error) {
	var err error
	switch d := document.(type) {
	case json.Number:
		return plainNumber(path, d.String())
	case []any:
		for i := range d {
			if d[i], err = plainNumbers(fmt.Sprintf("%s[%d]", path, i), d[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range d {
			if d[key], err = plainNumbers(path+"."+key, d[key]); err != nil {
				return nil, err
			}
		}
	}
	return document, nil
}

func plainNumber(path, text string) (any, error) {
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
	e := runner.NewError(runner.KindSerialization, fmt.Sprintf("the number %s is beyond what 64 bits hold", shorten(text, 40)))
	e.Path = "input" + path
	return nil, e.WithHint("write it as text, in quotes")
}
