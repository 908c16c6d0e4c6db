// Package output writes the results of a command: as JSON, as lines of JSON, as text for
// people, as media files, or as files of tables.
package output

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
)

// Help describes the outputs of a run.
const Help = `--output takes one of the following:
  pretty   for people: text as it is, anything else like YAML; the default on a terminal
  json     one JSON document; the default elsewhere
  jsonl    one line per input, written as soon as it and all inputs before it are done
  FILE     the extension selects the format: .json, .jsonl, .txt (as pretty), .wav,
           .png, .npy, .bin, or, for a table, .csv, .tsv, .parquet, .arrow or .feather;
           the file appears when it is complete

With one input, the JSON document is its result. With several, it is a list of
{"input": …, "result": …} or {"input": …, "error": …}; each line of jsonl is such an
object, too.

Audio, images, tensors and bytes inside a result are written to WAV, PNG, NPY and BIN
files in --output-dir, named INPUT-NODE-PATH. In their place the document has
{"$file": "…", "type": "audio", "rate": 16000, …}.

A table is a list of its rows in JSON, [{"city": "Bern", "price": 2.5}, …], and pretty shows
its first rows.`

// Outcome is the result or the error of one input.
type Outcome struct {
	// Name identifies the input.
	Name string
	// Stem begins the names of the files that are made of the result.
	Stem  string
	Value any
	Err   error
}

// Writer writes the outcomes of all inputs of a run.
type Writer interface {
	// Write writes one outcome. The failure is the error of the outcome, or says why
	// the result cannot be written in this format; the caller may go on with the next
	// outcome. An err is that of the output itself.
	Write(o Outcome) (failure, err error)
	// Finish completes the output. If complete is false, because some inputs have no
	// outcome, Finish does not create the output file.
	Finish(complete bool) error
	// Discard removes what was written to an output file that is not finished. After
	// Finish it has no effect.
	Discard()
}

// Options are the settings of [New].
type Options struct {
	// Format is the value of --output. It is empty for the default.
	Format string
	// Dir is the folder for media files. If it is empty, it is the folder of the output
	// file, or else the current folder.
	Dir string
	// Many says that the command line asks for several inputs.
	Many   bool
	Stdout io.Writer
	Style  terminal.Style
	// NewExporter returns the exporter for results, which writes media files to dir.
	NewExporter func(dir string) *Exporter
}

// mediaExtensions are those of the files that hold a result itself.
var mediaExtensions = []string{".wav", ".png", ".npy", ".bin"}

// documentFormats are the formats of the other files, by extension.
var documentFormats = map[string]string{".json": "json", ".jsonl": "jsonl", ".txt": "pretty"}

// IsJSON reports whether a value of --output selects JSON or lines of JSON.
func IsJSON(format string) bool {
	return format == "json" || format == "jsonl" || slices.Contains([]string{".json", ".jsonl"}, filepath.Ext(format))
}

// New returns the writer that the options select. The caller must call Discard.
func New(o Options) (Writer, error) {
	if o.Format == "" {
		o.Format = "json"
		if terminal.Is(o.Stdout) {
			o.Format = "pretty"
		}
	}
	switch o.Format {
	case "pretty", "json", "jsonl":
		return newDocumentWriter(documentWriter{exporter: o.NewExporter(o.Dir), to: o.Stdout}, o.Format, o.Many, o.Style), nil
	}
	if info, err := os.Stat(o.Format); err == nil && info.IsDir() {
		return nil, failure.Usagef("--output %s is a folder; name a file in it", o.Format)
	}
	extension := strings.ToLower(filepath.Ext(o.Format))
	if slices.Contains(mediaExtensions, extension) {
		if o.Many {
			return nil, failure.Usagef("--output %s holds one result, but there are several inputs; use --output json with --output-dir, which writes a file for each", o.Format)
		}
		return &mediaWriter{path: o.Format, extension: extension}, nil
	}
	if format, ok := tablefile.FormatOf(o.Format); ok && extension != ".arrows" {
		if o.Many {
			return nil, failure.Usagef("--output %s holds one table, but there are several inputs; use --output jsonl, or run the command for each input", o.Format)
		}
		return &tableWriter{path: o.Format, format: format}, nil
	}
	format, ok := documentFormats[extension]
	if !ok {
		return nil, failure.Usagef("--output takes pretty, json, jsonl or a file that ends in .json, .jsonl, .txt, .wav, .png, .npy, .bin, .csv, .tsv, .parquet, .arrow or .feather, not %q", o.Format)
	}
	if o.Dir == "" {
		o.Dir = filepath.Dir(o.Format)
	}
	f, err := createFile(o.Format)
	if err != nil {
		return nil, err
	}
	w := documentWriter{exporter: o.NewExporter(o.Dir), to: f, file: f}
	return newDocumentWriter(w, format, o.Many, terminal.Style{}), nil
}

// newDocumentWriter returns the writer of a format.
func newDocumentWriter(w documentWriter, format string, many bool, style terminal.Style) Writer {
	switch {
	case format == "pretty":
		return &prettyWriter{documentWriter: w, many: many, style: style}
	case format == "jsonl":
		return &linesWriter{w}
	case many:
		return &listWriter{documentWriter: w}
	}
	return &jsonWriter{w}
}

// writeError adds what was done to the error of a write.
func writeError(err error) error { return runner.Wrap(err, runner.KindIO, "write the output") }
