package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// documentWriter is embedded in the writers of documents. It writes to standard output or
// to a file.
type documentWriter struct {
	exporter *Exporter
	to       io.Writer
	file     *atomicFile // nil for standard output
}

// Finish implements [Writer].
func (d documentWriter) Finish(complete bool) error {
	if !complete || d.file == nil {
		return nil
	}
	return d.file.commit()
}

// Discard implements [Writer].
func (d documentWriter) Discard() {
	if d.file != nil {
		d.file.discard()
	}
}

func (d documentWriter) writeText(text string) error {
	if _, err := io.WriteString(d.to, text); err != nil {
		return writeError(err)
	}
	return nil
}

// document returns the document for the result of an outcome, or the error of the outcome.
func (d documentWriter) document(o Outcome) (any, error) {
	if o.Err != nil {
		return nil, o.Err
	}
	return d.exporter.Document(o.Stem, o.Value)
}

// record is the JSON form of one outcome among several.
type record struct {
	Input  string           `json:"input"`
	Result *json.RawMessage `json:"result,omitempty"`
	Error  any              `json:"error,omitempty"`
}

// encodeRecord returns the record of an outcome as one line of JSON, and the failure that
// the record holds, if any.
func (d documentWriter) encodeRecord(o Outcome) (line []byte, failed error) {
	doc, failed := d.document(o)
	if failed == nil {
		var text []byte
		if text, failed = document.Encode(doc, ""); failed == nil {
			line, failed = document.Encode(record{Input: o.Name, Result: (*json.RawMessage)(&text)}, "")
		}
	}
	if failed != nil {
		line, _ = document.Encode(record{Input: o.Name, Error: failure.Document(failed)}, "") // cannot fail: it holds only text
	}
	return line, failed
}

// jsonWriter writes one result as a JSON document.
type jsonWriter struct{ documentWriter }

func (j *jsonWriter) Write(o Outcome) (failed, err error) {
	doc, failed := j.document(o)
	if failed != nil {
		return failed, nil
	}
	text, failed := document.Encode(doc, "  ")
	if failed != nil {
		return failed, nil
	}
	return nil, j.writeText(string(text) + "\n")
}

// linesWriter writes one record per line.
type linesWriter struct{ documentWriter }

func (l *linesWriter) Write(o Outcome) (failed, err error) {
	line, failed := l.encodeRecord(o)
	return failed, l.writeText(string(line) + "\n")
}

// listWriter writes a JSON list of records.
type listWriter struct {
	documentWriter
	count int
}

func (l *listWriter) Write(o Outcome) (failed, err error) {
	line, failed := l.encodeRecord(o)
	separator := ",\n  "
	if l.count == 0 {
		separator = "[\n  "
	}
	l.count++
	return failed, l.writeText(separator + string(line))
}

// Finish implements [Writer].
func (l *listWriter) Finish(complete bool) error {
	end := "\n]\n"
	if l.count == 0 {
		end = "[]\n"
	}
	if err := l.writeText(end); err != nil {
		return err
	}
	return l.documentWriter.Finish(complete)
}

// prettyWriter writes results for people. It leaves out failures, which the caller
// reports.
type prettyWriter struct {
	documentWriter
	many  bool // write the name of each input, too
	style terminal.Style
	count int
}

func (p *prettyWriter) Write(o Outcome) (failed, err error) {
	doc, failed := p.document(o)
	if failed != nil {
		return failed, nil
	}
	text, failed := prettyText(doc)
	if failed != nil {
		return failed, nil
	}
	if p.many {
		heading := p.style.Bold(terminal.Shorten(o.Name, 100)) + "\n"
		if p.count > 0 {
			heading = "\n" + heading
		}
		p.count++
		text = heading + terminal.Indent(text)
	}
	return nil, p.writeText(text)
}

// prettyText returns a string and a file reference as they are, and any other document as
// YAML. The text ends with a line feed. It is for people, so it is made printable.
func prettyText(doc any) (string, error) {
	text, err := plainText(doc)
	return runner.Printable(text), err
}

func plainText(doc any) (string, error) {
	switch d := doc.(type) {
	case string:
		return strings.TrimSuffix(d, "\n") + "\n", nil
	case fileReference:
		return d.String() + "\n", nil
	case tableDocument:
		return d.String() + "\n", nil
	}
	var b strings.Builder
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	node, err := yamlNode(doc)
	if err == nil {
		err = encoder.Encode(node)
	}
	if err != nil {
		return "", runner.Wrap(err, runner.KindSerialization, "write the result")
	}
	return b.String(), nil
}

// yamlNode returns a document as the tree that package yaml writes, in which maps have an
// order.
func yamlNode(doc any) (*yaml.Node, error) {
	node := &yaml.Node{}
	switch d := doc.(type) {
	case ipc.Object:
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
		for _, m := range d {
			for _, each := range []any{m.Key, m.Value} {
				content, err := yamlNode(each)
				if err != nil {
					return nil, err
				}
				node.Content = append(node.Content, content)
			}
		}
		return node, nil
	case []any:
		node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		for _, item := range d {
			content, err := yamlNode(item)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, content)
		}
		return node, nil
	case json.Number: // its type is a string, but it needs no quotes
		node.Kind, node.Value = yaml.ScalarNode, d.String()
		return node, nil
	}
	return node, node.Encode(doc)
}

// mediaWriter writes one result, which is audio, an image, a tensor or bytes, to a file.
type mediaWriter struct{ path, extension string }

func (m *mediaWriter) Write(o Outcome) (failed, err error) {
	if o.Err != nil {
		return o.Err, nil
	}
	media, isMedia := document.MediaOf(o.Value)
	_, isTable := o.Value.(*ipc.Table)
	switch {
	case isTable:
		return runner.NewError(runner.KindSerialization, m.path+" cannot hold the result: it is a table").
			WithHint("use a file name that ends in .csv, .tsv, .parquet, .arrow or .feather"), nil
	case !isMedia:
		return runner.NewError(runner.KindSerialization, fmt.Sprintf("%s cannot hold the result: it is %s", m.path, typeName(o.Value))).
			WithHint("use --output json: audio, images and tensors inside the result are written to files"), nil
	case media.Extension != m.extension:
		return runner.NewError(runner.KindSerialization, fmt.Sprintf("%s cannot hold the result: it is of type %s", m.path, media.Type)).
			WithHint("use a file name that ends in " + media.Extension), nil
	}
	return writeFile(m.path, media.Write), nil
}

// Finish implements [Writer]; the file is complete already.
func (m *mediaWriter) Finish(bool) error { return nil }

// Discard implements [Writer].
func (m *mediaWriter) Discard() {}

// typeName names the type of a value in a message.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a bool"
	case int64, uint64, float64:
		return "a number"
	case string:
		return "text"
	case []any:
		return "a list"
	case ipc.Object, map[string]any:
		return "a map"
	}
	return fmt.Sprintf("a %T", v)
}
