package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gophersnake/gophersnake/runner"
)

const outputHelp = `The output is one of:
  pretty   for people: text as it is, anything else like YAML; default on a terminal
  json     one document; default elsewhere
  jsonl    one line for each input, as soon as it and those before it are done
  FILE     by its ending: .json, .jsonl, .txt (as pretty), .wav, .png, .npy, .bin;
           it is there when it is complete, and not before

Of one input, json is the result itself. Of several, it is a list of
{"input": …, "result": …} or {"input": …, "error": …}, as the lines of jsonl are.

Audio, images, tensors and bytes inside a result become files: WAV, PNG, NPY and
BIN in --output-dir, named INPUT-NODE-PATH. In their place the document has
{"$file": "…", "type": "audio", "rate": 16000, …}.`

// output takes the outcomes of all inputs, one after the other.
type output interface {
	// take takes one outcome. The failure is that of the input: its run's error, or
	// a result that no document holds. The error is that of the output itself.
	take(o outcome) (failure, err error)
	// finish ends the output. One that is not complete, because not all inputs were
	// done, leaves no file behind.
	finish(complete bool) error
	// discard gives up an output that was not finished; else it does nothing.
	discard()
}

// outputOptions say where results go.
type outputOptions struct {
	format string // of --output; empty for the default
	dir    string // of --output-dir; empty for the default
	many   bool
	stdout io.Writer
	style  style
	// exporter makes documents of results, its files in dir.
	exporter func(dir string) *exporter
}

// valueEndings are the files that hold a result itself.
var valueEndings = []string{".wav", ".png", ".npy", ".bin"}

func isJSONFormat(format string) bool {
	return format == "json" || format == "jsonl" || slices.Contains([]string{".json", ".jsonl"}, filepath.Ext(format))
}

// newOutput returns the output that the flags ask for.
func newOutput(o outputOptions) (output, error) {
	if o.format == "" {
		o.format = "json"
		if isTerminal(o.stdout) {
			o.format = "pretty"
		}
	}
	switch o.format {
	case "pretty", "json", "jsonl":
		docs := documents{exporter: o.exporter(o.dir), to: o.stdout, commit: func() error { return nil }, drop: func() {}}
		return docs.as(o.format, o), nil
	}
	if info, err := os.Stat(o.format); err == nil && info.IsDir() {
		return nil, usagef("--output %s is a folder; name a file in it", o.format)
	}
	ending := strings.ToLower(filepath.Ext(o.format))
	if slices.Contains(valueEndings, ending) {
		if o.many {
			return nil, usagef("--output %s holds one result, but there are several inputs; use --output json with --output-dir, which writes a file for each", o.format)
		}
		return &valueFile{path: o.format, ending: ending}, nil
	}
	if !slices.Contains([]string{".json", ".jsonl", ".txt"}, ending) {
		return nil, usagef("--output takes pretty, json, jsonl or a file that ends in .json, .jsonl, .txt, .wav, .png, .npy or .bin, not %q", o.format)
	}
	if o.dir == "" {
		o.dir = filepath.Dir(o.format)
	}
	f, err := createFile(o.format)
	if err != nil {
		return nil, err
	}
	buffer := bufio.NewWriter(f)
	docs := documents{exporter: o.exporter(o.dir), to: buffer, drop: f.discard, commit: func() error {
		if err := buffer.Flush(); err != nil {
			return f.failed(err)
		}
		return f.commit()
	}}
	o.style = style{}
	return docs.as(map[string]string{".json": "json", ".jsonl": "jsonl", ".txt": "pretty"}[ending], o), nil
}

// documents is what the outputs of documents share.
type documents struct {
	exporter *exporter
	to       io.Writer
	commit   func() error // puts a file in its place
	drop     func()
}

func (d documents) as(format string, o outputOptions) output {
	switch {
	case format == "pretty":
		return &prettyOutput{documents: d, many: o.many, style: o.style}
	case format == "jsonl":
		return &linesOutput{d}
	case o.many:
		return &listOutput{documents: d}
	}
	return &jsonOutput{d}
}

func (d documents) finish(complete bool) error {
	if !complete {
		return nil // and discard follows
	}
	return d.commit()
}

func (d documents) discard() { d.drop() }

func (d documents) write(text string) error {
	if _, err := io.WriteString(d.to, text); err != nil {
		return runner.Wrap(err, runner.KindIO, "write the output")
	}
	return nil
}

// document is the result of one outcome, or its own error.
func (d documents) document(o outcome) (any, error) {
	if o.err != nil {
		return nil, o.err
	}
	return d.exporter.document(o.source.stem, o.value)
}

// record is one outcome among several.
type record struct {
	Input  string           `json:"input"`
	Result *json.RawMessage `json:"result,omitempty"`
	Error  any              `json:"error,omitempty"`
}

// encode returns a record as one line of JSON, and the failure that it tells of.
func (d documents) encode(o outcome) (line []byte, failure error) {
	doc, failure := d.document(o)
	if failure == nil {
		var text []byte
		if text, failure = encodeJSON(doc, ""); failure == nil {
			line, failure = encodeJSON(record{Input: o.source.name, Result: (*json.RawMessage)(&text)}, "")
		}
	}
	if failure != nil {
		line, _ = encodeJSON(record{Input: o.source.name, Error: errorValue(failure)}, "") // text only
	}
	return line, failure
}

// encodeJSON leaves <, > and & as they are; it ends without a line end.
func encodeJSON(v any, indent string) ([]byte, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(v); err != nil {
		return nil, runner.Wrap(err, runner.KindSerialization, "write the result as JSON")
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// jsonOutput is the one result.
type jsonOutput struct{ documents }

func (j *jsonOutput) take(o outcome) (failure, err error) {
	doc, failure := j.document(o)
	if failure != nil {
		return failure, nil
	}
	text, err := encodeJSON(doc, "  ")
	if err != nil {
		return err, nil
	}
	return nil, j.write(string(text) + "\n")
}

// linesOutput is a record a line.
type linesOutput struct{ documents }

func (l *linesOutput) take(o outcome) (failure, err error) {
	line, failure := l.encode(o)
	return failure, l.write(string(line) + "\n")
}

// listOutput is a list of records.
type listOutput struct {
	documents
	count int
}

func (l *listOutput) take(o outcome) (failure, err error) {
	line, failure := l.encode(o)
	before := ",\n  "
	if l.count == 0 {
		before = "[\n  "
	}
	l.count++
	return failure, l.write(before + string(line))
}

func (l *listOutput) finish(complete bool) error {
	end := "\n]\n"
	if l.count == 0 {
		end = "[]\n"
	}
	if err := l.write(end); err != nil {
		return err
	}
	return l.documents.finish(complete)
}

// prettyOutput is for people.
type prettyOutput struct {
	documents
	many  bool
	style style
	count int
}

func (p *prettyOutput) take(o outcome) (failure, err error) {
	doc, failure := p.document(o)
	if failure != nil {
		return failure, nil
	}
	text, err := prettyText(doc)
	if err != nil {
		return err, nil
	}
	if p.many {
		head := p.style.bold(shorten(o.source.name, 100)) + "\n"
		if p.count > 0 {
			head = "\n" + head
		}
		p.count++
		text = head + "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
	}
	return nil, p.write(text)
}

// prettyText is a text as it is, and anything else as YAML.
func prettyText(doc any) (string, error) {
	switch d := doc.(type) {
	case string:
		return strings.TrimSuffix(d, "\n") + "\n", nil
	case fileRef:
		return d.String() + "\n", nil
	}
	var b strings.Builder
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(doc); err != nil {
		return "", runner.Wrap(err, runner.KindSerialization, "write the result")
	}
	return b.String(), nil
}

// valueFile is a file that holds a result itself.
type valueFile struct{ path, ending string }

func (f *valueFile) take(o outcome) (failure, err error) {
	if o.err != nil {
		return o.err, nil
	}
	ref, encode, ending := describeFile(o.value)
	switch {
	case encode == nil:
		return runner.NewError(runner.KindSerialization, fmt.Sprintf("%s cannot hold the result: it is %s", f.path, typeName(o.value))).
			WithHint("use --output json: audio, images and tensors inside the result become files"), nil
	case ending != f.ending:
		return runner.NewError(runner.KindSerialization, fmt.Sprintf("%s cannot hold the result: it is of type %s", f.path, ref.Type)).
			WithHint("let the file end in " + ending), nil
	}
	return writeFile(f.path, encode), nil
}

func (f *valueFile) finish(bool) error { return nil }
func (f *valueFile) discard()          {}

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
	case map[string]any:
		return "a map"
	}
	return fmt.Sprintf("a %T", v)
}
