package output

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// StreamHelp describes the outputs of a stream.
const StreamHelp = `--output takes one of the following:
  pretty  for people: text as it is, anything else like YAML; the default on a terminal
  jsonl   one line per result; if several nodes are sinks (nothing consumes their
          values), a line is {"node": …, "result": …}; the default elsewhere
  FILE    the extension selects the format: .jsonl, or .txt (as pretty); the file grows
          with each result

Audio, images, tensors and bytes inside a result are written to files, as for run.`

// StreamOptions are the settings of [NewStream].
type StreamOptions struct {
	// Format is the value of --output. It is empty for the default.
	Format string
	// Dir is the folder for media files. If it is empty, it is the folder of the output
	// file, or else the current folder.
	Dir string
	// Stem begins the names of media files.
	Stem string
	// Input describes the input file, which the output must not overwrite. It is nil
	// for standard input.
	Input os.FileInfo
	// InputFiles are the absolute paths of files that media files must not overwrite.
	InputFiles []string
	// ShowNodes says that each result is written with the name of its node.
	ShowNodes bool
	// Warn is called for the first result that JSON cannot express, not for every one.
	Warn   func(message string, args ...any)
	Stdout io.Writer
	Style  terminal.Style
}

// Stream writes the results of a stream as they arrive.
type Stream struct {
	options StreamOptions
	to      io.Writer
	file    *os.File // nil for standard output
	pretty  bool
	count   int
	warned  bool
}

// NewStream returns the output of a stream that the options select. The caller must call
// Close.
func NewStream(o StreamOptions) (*Stream, error) {
	s := &Stream{options: o, to: o.Stdout}
	switch o.Format {
	case "":
		s.pretty = terminal.Is(o.Stdout)
		return s, nil
	case "pretty", "jsonl":
		s.pretty = o.Format == "pretty"
		return s, nil
	case "json":
		return nil, failure.Usagef("the output of a stream cannot be one JSON document; --output jsonl writes one result per line")
	}
	extension := strings.ToLower(filepath.Ext(o.Format))
	if !slices.Contains([]string{".jsonl", ".txt"}, extension) {
		return nil, failure.Usagef("--output takes pretty, jsonl or a file that ends in .jsonl or .txt, not %q", o.Format)
	}
	if info, err := os.Stat(o.Format); err == nil && o.Input != nil && os.SameFile(o.Input, info) {
		return nil, failure.Usagef("--output %s is the input", o.Format)
	}
	if o.Dir == "" {
		s.options.Dir = filepath.Dir(o.Format)
	}
	f, err := createStreamFile(o.Format)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "write "+o.Format)
	}
	s.to, s.file, s.pretty = f, f, extension == ".txt"
	s.options.Style = terminal.Style{}
	return s, nil
}

func createStreamFile(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	return os.Create(path)
}

// Redirect makes the results that would go to a terminal go to another writer.
func (s *Stream) Redirect(to io.Writer) {
	if s.file == nil && terminal.Is(s.to) {
		s.to = to
	}
}

// Count returns the number of results that were written.
func (s *Stream) Count() int { return s.count }

// streamRecord is the JSON form of a result of one node among several.
type streamRecord struct {
	Node   string `json:"node"`
	Result any    `json:"result"`
}

// Write writes a result.
func (s *Stream) Write(item runner.Item) error {
	// A new exporter for each result, since it remembers the names of all its files.
	exporter := NewExporter(s.options.Dir, item.Node, s.warnOnce, s.options.InputFiles)
	doc, err := exporter.Document(fmt.Sprintf("%s-%d", s.options.Stem, s.count+1), item.Value)
	if err != nil {
		return err
	}
	text, err := s.textOf(item.Node, doc)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(s.to, text); err != nil {
		return writeError(err)
	}
	s.count++
	return nil
}

func (s *Stream) warnOnce(message string, args ...any) {
	if !s.warned {
		s.warned = true
		s.options.Warn(message, args...)
	}
}

func (s *Stream) textOf(node string, doc any) (string, error) {
	if s.pretty {
		return s.prettyTextOf(node, doc)
	}
	if s.options.ShowNodes {
		doc = streamRecord{Node: node, Result: doc}
	}
	line, err := document.Encode(doc, "")
	return string(line) + "\n", err
}

// prettyTextOf returns a result for people. A list or a map is written as an item of a
// list, which separates it from the next one.
func (s *Stream) prettyTextOf(node string, doc any) (string, error) {
	switch doc.(type) {
	case ipc.Object, []any:
		doc = []any{doc}
	}
	text, err := prettyText(doc)
	if err == nil && s.options.ShowNodes {
		text = s.options.Style.Bold(node) + "\n" + terminal.Indent(text)
	}
	return text, err
}

// Close closes the output file, which keeps the results that were written.
func (s *Stream) Close() {
	if s.file != nil {
		_ = s.file.Close() // each write has reported its own error
	}
}
