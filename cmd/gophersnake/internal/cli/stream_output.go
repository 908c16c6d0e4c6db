package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
)

// streamOutput writes the results of a stream as they come.
type streamOutput struct {
	to     io.Writer
	file   *os.File // nil for standard output
	pretty bool
	style  style
	stem   string // begins the names of files
	// exporter makes documents of a node's results.
	exporter func(node string) *exporter
	// nodes says that each result is told with its node, for there are several sinks.
	nodes bool

	count  int
	warned bool
}

// newStreamOutput returns the output that --output asks for.
func (a *app) newStreamOutput(format string, in *streamInput) (*streamOutput, error) {
	o := &streamOutput{to: a.out, style: a.outStyle, stem: in.stem}
	switch format {
	case "":
		o.pretty = isTerminal(a.out)
		return o, nil
	case "pretty", "jsonl":
		o.pretty = format == "pretty"
		return o, nil
	case "json":
		return nil, usagef("a stream is no JSON document; --output jsonl writes each result in a line")
	}
	ending := strings.ToLower(filepath.Ext(format))
	if !slices.Contains([]string{".jsonl", ".txt"}, ending) {
		return nil, usagef("--output takes pretty, jsonl or a file that ends in .jsonl or .txt, not %q", format)
	}
	if info, err := os.Stat(format); err == nil && in.info != nil && os.SameFile(in.info, info) {
		return nil, usagef("--output %s is the input", format)
	}
	f, err := createStreamFile(format)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "write "+format)
	}
	o.to, o.file, o.style, o.pretty = f, f, style{}, ending == ".txt"
	return o, nil
}

func createStreamFile(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	return os.Create(path)
}

// above has results on a terminal go above the progress.
func (o *streamOutput) above(d *display) {
	if d.bars != nil && o.file == nil && isTerminal(o.to) {
		o.to = d.app.log
	}
}

// warnOnce warns of the first result that loses something, not of a million.
func (o *streamOutput) warnOnce(warn func(string, ...any)) func(string, ...any) {
	return func(message string, args ...any) {
		if !o.warned {
			o.warned = true
			warn(message, args...)
		}
	}
}

// streamRecord is a result among those of several sinks.
type streamRecord struct {
	Node   string `json:"node"`
	Result any    `json:"result"`
}

// take writes a result.
func (o *streamOutput) take(item runner.Item) error {
	// The exporter is made afresh: it remembers the names of files.
	doc, err := o.exporter(item.Node).document(fmt.Sprintf("%s-%d", o.stem, o.count+1), item.Value)
	if err != nil {
		return err
	}
	text, err := o.text(item.Node, doc)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(o.to, text); err != nil {
		return runner.Wrap(err, runner.KindIO, "write the output")
	}
	o.count++
	return nil
}

func (o *streamOutput) text(node string, doc any) (string, error) {
	if o.pretty {
		return o.prettyText(node, doc)
	}
	if o.nodes {
		doc = streamRecord{Node: node, Result: doc}
	}
	line, err := encodeJSON(doc, "")
	return string(line) + "\n", err
}

// prettyText is a result for people. What takes several lines is set off like an item
// of a list.
func (o *streamOutput) prettyText(node string, doc any) (string, error) {
	switch doc.(type) {
	case map[string]any, []any:
		doc = []any{doc}
	}
	text, err := prettyText(doc)
	if err == nil && o.nodes {
		text = o.style.bold(node) + "\n  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
	}
	return text, err
}

// close closes the file. What was written of it stays.
func (o *streamOutput) close() {
	if o.file != nil {
		_ = o.file.Close() // each result has been written, or has failed to be
	}
}
