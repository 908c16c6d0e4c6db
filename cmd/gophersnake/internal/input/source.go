// Package input reads the inputs that a command line names: for a run, a set of values;
// for a stream, items one by one.
package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/media"
)

// Help describes the inputs of a run.
const Help = `An input is one of the following; the first match counts:
  -             standard input: JSON, a recording, an image, a Parquet or Arrow file, or
                otherwise text, without the line feed at its end
  @FILE         the content of a file; @*.wav is a pattern
  path:FILE     the absolute path of a file or folder, as text; path:*.mp3 is a pattern
  bytes:FILE    the content of a file as bytes, whatever it is; bytes:*.mp3 is a pattern
  table:FILE    a table, whatever the name of its file: Parquet or Arrow, or else CSV;
                table:- is standard input, table:*.txt is a pattern
  JSON          a JSON value: 42, "text", {"key": [1, 2]}
  FILE          the content of an existing file
  PATTERN       the content of each file that matches, one input per file: 'clips/*.wav'
  text          anything else

The extension of a file says how to read it: .wav as Audio; .png, .jpg, .webp, .gif, .tif
and .bmp as an Image, upright; .csv, .tsv, .parquet, .arrow, .feather and .arrows as a
table; .json as a JSON value; .jsonl as one input per line. Other recordings and images,
such as .mp3 and .heic, are refused: convert them, or use path: or bytes:. Any other file
is read as text if it is valid UTF-8, otherwise as bytes.

The first line of a CSV file names the columns. A column is of integers, numbers, booleans,
dates or times if all of its fields are, and otherwise of text; an empty field is a null.

JSON and text are UTF-8; a byte order mark is skipped, and other encodings are refused.
JSON objects keep the order of their keys. Integers have at most 64 bits.`

// Source is one input of a run.
type Source struct {
	// Name identifies the input in messages.
	Name string
	// Stem begins the names of the files that are made of the input's result.
	Stem string
	read func() (any, error)
}

// Load reads the input. If the context ends, Load returns its cause at once, although a
// read of a pipe or a keyboard may still block in the background.
func (s Source) Load(ctx context.Context) (any, error) {
	type loaded struct {
		value any
		err   error
	}
	done := make(chan loaded, 1)
	go func() {
		value, err := s.read()
		done <- loaded{value, err}
	}()
	select {
	case l := <-done:
		return l.value, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Set is the inputs of one command line.
type Set struct {
	Sources []Source
	// Many reports whether the command line asks for several inputs. A pattern does,
	// even if only one file matches, so that the form of the output does not depend on
	// the number of matches.
	Many bool
	// None reports whether the command line names no input.
	None bool
	// Files are the absolute paths of the input files. No output may overwrite them.
	Files []string
}

// Resolve finds the sources that the arguments of a command line name. Without
// arguments, the only source is null. Resolve reads only .jsonl files; the sources read
// the rest. It calls warn for arguments that are probably mistakes.
func Resolve(stdin io.Reader, warn func(message string, args ...any), arguments []string, opts ...Option) (Set, error) {
	r := &resolver{stdin: stdin, warn: warn}
	for _, opt := range opts {
		opt(r)
	}
	if len(arguments) == 0 {
		r.addValue("null", "input", nil)
		r.set.None = true
		return r.set, nil
	}
	r.set.Many = len(arguments) > 1
	for _, argument := range arguments {
		if err := r.resolve(argument); err != nil {
			return Set{}, err
		}
	}
	return r.set, nil
}

// resolver collects the sources for [Resolve].
type resolver struct {
	stdin io.Reader
	warn  func(message string, args ...any)
	open  func(bucket string) (Bucket, error) // nil if objects are no inputs

	set       Set
	usesStdin bool
}

func (r *resolver) add(name, stem string, read func() (any, error)) {
	r.set.Sources = append(r.set.Sources, Source{Name: name, Stem: stem, read: read})
}

func (r *resolver) addValue(name, stem string, value any) {
	r.add(name, stem, func() (any, error) { return value, nil })
}

func (r *resolver) resolve(argument string) error {
	switch argument {
	case "-":
		return r.addStdin(r.decodeStdin)
	case "table:-":
		return r.addStdin(func(data []byte) (any, error) { return r.decodeTable(stdinName, "", data, tablefile.CSV) })
	}
	if file, ok := strings.CutPrefix(argument, "@"); ok {
		return r.resolveFile(argument, file, true, r.addFile)
	}
	if file, ok := strings.CutPrefix(argument, "path:"); ok {
		return r.resolveFile(argument, file, true, r.addPath)
	}
	if file, ok := strings.CutPrefix(argument, "bytes:"); ok {
		return r.resolveFile(argument, file, true, r.addBytes)
	}
	if file, ok := strings.CutPrefix(argument, "table:"); ok {
		return r.resolveFile(argument, file, true, r.addTable)
	}
	if name, ok := strings.CutPrefix(argument, objectsPrefix); ok && r.open != nil {
		return r.addObjects(argument, name)
	}
	value, err := document.Parse([]byte(argument))
	switch {
	case err == nil:
		r.addValue(argument, r.numberedStem(), value)
		return nil
	case !errors.Is(err, document.ErrSyntax): // JSON with a number that does not fit
		return err
	}
	return r.resolveFile(argument, argument, false, r.addFile)
}

// numberedStem returns the stem of the next source if that is not a file.
func (r *resolver) numberedStem() string {
	if r.set.Many {
		return fmt.Sprintf("input-%d", len(r.set.Sources)+1)
	}
	return "input"
}

// stdinName is what messages call standard input.
const stdinName = "standard input"

func (r *resolver) addStdin(decode func(data []byte) (any, error)) error {
	if r.usesStdin {
		return failure.Usagef("standard input (-) can be read only once")
	}
	r.usesStdin = true
	r.add("-", "stdin", func() (any, error) {
		data, err := io.ReadAll(r.stdin)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "read standard input")
		}
		return decode(data)
	})
	return nil
}

// decodeStdin finds out from the data itself what they are.
func (r *resolver) decodeStdin(data []byte) (any, error) {
	const name = stdinName
	if media.Known(data) {
		value, err := r.decoder(name).Decode(data)
		return value, mediaError(name, "", err)
	}
	if format, ok := tablefile.Detect(data); ok {
		return r.decodeTable(name, "", data, format)
	}
	value, err := document.Parse(data)
	switch {
	case err == nil:
		return value, nil
	case !errors.Is(err, document.ErrSyntax): // JSON that cannot be carried, or in another encoding
		return nil, Named(name, err)
	case !utf8.Valid(data):
		r.warnOfBytes(name, data)
		return data, nil
	}
	data = bytes.TrimPrefix(data, document.ByteOrderMark)
	warnOfJSON(name, string(data), err, r.warn)
	data = bytes.TrimSuffix(data, []byte("\n"))
	return string(bytes.TrimSuffix(data, []byte("\r"))), nil
}

// resolveFile calls add with the files that the name or pattern in an argument stands for.
// If there are none and explicit is false, the name is taken as text unless it looks like
// that of a file.
func (r *resolver) resolveFile(argument, name string, explicit bool, add func(path string, info fs.FileInfo) error) error {
	info, err := os.Stat(name)
	if err == nil {
		return add(name, info)
	}
	matches, badPattern := filepath.Glob(name)
	if len(matches) > 0 {
		r.set.Many = true
		return r.addMatches(matches, add)
	}
	if !explicit && (!looksLikeFile(name) || strings.ContainsAny(name, " \n")) {
		_, err := document.Parse([]byte(name))
		warnOfJSON("an input", name, err, r.warn)
		r.addValue(name, r.numberedStem(), name)
		return nil
	}
	hint := fmt.Sprintf("check the path; if this is text, write it as JSON: '%q'", argument)
	switch {
	case strings.ContainsAny(name, "*?["):
		return runner.NewError(runner.KindIO, "no file matches the input "+name).WithHint(hint)
	case errors.Is(err, fs.ErrNotExist):
		return runner.NewError(runner.KindIO, "there is no input file "+name).WithHint(hint)
	case badPattern != nil:
		err = badPattern
	}
	return runner.Wrap(err, runner.KindIO, "the input "+name)
}

// addMatches adds the matches of a pattern, in the order of their names. It leaves out
// folders if add does not take them.
func (r *resolver) addMatches(matches []string, add func(path string, info fs.FileInfo) error) error {
	before := len(r.set.Sources)
	var refused error
	for _, match := range matches {
		info, err := os.Stat(match)
		if err == nil {
			err = add(match, info)
		}
		if _, isFolder := errors.AsType[folderError](err); isFolder {
			refused = failure.Usagef("only folders match the input; name the files in them: '%s'", filepath.Join(matches[0], "*"))
		} else if err != nil {
			return err
		}
	}
	if len(r.set.Sources) == before {
		return refused
	}
	return nil
}

// folderError says that an input that must be a file is a folder.
type folderError string

func (e folderError) Error() string {
	return fmt.Sprintf("the input %s is a folder; name the files in it: '%s'", string(e), filepath.Join(string(e), "*"))
}

// The extensions of recordings and images. A file with one of them is decoded, or refused
// if its format is not supported. A name with one of them is taken as that of a file, even
// if the file does not exist.
var (
	audioExtensions = []string{".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".amr", ".au", ".caf"}
	imageExtensions = []string{".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp",
		".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".ico", ".dds", ".exr", ".hdr", ".qoi", ".dcm"}
	documentExtensions = []string{".json", ".jsonl", ".txt"}
)

func looksLikeFile(name string) bool {
	return slices.Contains(slices.Concat(audioExtensions, imageExtensions, documentExtensions, tablefile.Extensions()), strings.ToLower(filepath.Ext(name)))
}

// addPath adds the absolute path of a file or folder: nodes run in another folder.
func (r *resolver) addPath(path string, _ fs.FileInfo) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return runner.Wrap(err, runner.KindIO, "the input "+path)
	}
	r.set.Files = append(r.set.Files, absolute)
	r.addValue(path, stemOf(path), absolute)
	return nil
}

// addBytes adds the content of a file.
func (r *resolver) addBytes(path string, info fs.FileInfo) error {
	return r.addContent(path, info, func(data []byte) (any, error) { return data, nil })
}

// addTable adds a file that holds a table.
func (r *resolver) addTable(path string, info fs.FileInfo) error {
	format, ok := tablefile.FormatOf(path)
	if !ok {
		format = tablefile.CSV
	}
	return r.addContent(path, info, func(data []byte) (any, error) { return r.decodeTable(path, path, data, format) })
}

// addFile adds a file that is read as its extension says.
func (r *resolver) addFile(path string, info fs.FileInfo) error {
	if strings.EqualFold(filepath.Ext(path), ".jsonl") && !info.IsDir() {
		return r.addLines(path)
	}
	return r.addContent(path, info, func(data []byte) (any, error) { return r.decodeFile(path, data) })
}

// addContent adds a file that is read when its turn comes.
func (r *resolver) addContent(path string, info fs.FileInfo, decode func(data []byte) (any, error)) error {
	if info.IsDir() {
		return &failure.UsageError{Err: folderError(path)}
	}
	r.addInputFile(path)
	r.add(path, stemOf(path), func() (any, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "read the input")
		}
		return decode(data)
	})
	return nil
}

// addInputFile protects a file from being overwritten.
func (r *resolver) addInputFile(path string) {
	if absolute, err := filepath.Abs(path); err == nil {
		r.set.Files = append(r.set.Files, absolute)
	}
}

// stemOf returns the name of a file without its folder and extension.
func stemOf(path string) string {
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

// addLines adds a source for each line of a .jsonl file that is not blank.
func (r *resolver) addLines(path string) error {
	r.addInputFile(path)
	data, err := os.ReadFile(path)
	if err != nil {
		return runner.Wrap(err, runner.KindIO, "read the input")
	}
	return r.addLinesOf(path, data)
}

// addLinesOf adds a source for each line of data that is not blank.
func (r *resolver) addLinesOf(path string, data []byte) error {
	r.set.Many = true
	if encoding := document.GuessEncoding(data); encoding != "" {
		return Named(path, document.WrongEncoding(encoding, "the JSON"))
	}
	data = bytes.TrimPrefix(data, document.ByteOrderMark)
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		name := fmt.Sprintf("%s:%d", path, number)
		r.add(name, fmt.Sprintf("%s-%d", stemOf(path), number), func() (any, error) { return parseNamed(name, line) })
	}
	return nil
}

// decodeFile decodes a file as the kind of value that its extension stands for.
func (r *resolver) decodeFile(path string, data []byte) (any, error) {
	extension := strings.ToLower(filepath.Ext(path))
	switch {
	case slices.Contains(audioExtensions, extension):
		audio, err := r.decoder(path).DecodeWAV(data)
		return audio, mediaError(path, path, err)
	case slices.Contains(imageExtensions, extension):
		image, err := r.decoder(path).DecodeImage(data)
		return image, mediaError(path, path, err)
	case extension == ".json":
		return parseNamed(path, data)
	}
	if format, ok := tablefile.FormatOf(path); ok {
		return r.decodeTable(path, path, data, format)
	}
	return decodeText(path, data)
}

// decodeTable decodes a file of a format. It warns if the fields of a CSV file seem to be separated
// by another character. If the input is a file, the path is that of the file.
func (r *resolver) decodeTable(name, path string, data []byte, format tablefile.Format) (any, error) {
	table, err := tablefile.Decode(data, format)
	if fault, ok := errors.AsType[*tablefile.Error](err); ok {
		return nil, formatError(name, path, string(fault.Format), fault.Reason, fault.Hint)
	}
	if err != nil {
		return nil, runner.Wrap(err, runner.KindSerialization, "cannot read "+name)
	}
	if _, binary := tablefile.Detect(data); !binary && format == tablefile.CSV && table.Schema.NumFields() == 1 {
		if column := table.Schema.Field(0).Name; strings.ContainsAny(column, ";\t|") {
			r.warn("the table has a single column; the fields of a CSV file are separated by commas, those of a .tsv file by tabs",
				"input", name, "column", terminal.Shorten(column, 60))
		}
	}
	return table, nil
}

// decoder returns a decoder that warns of what a file with this name loses.
func (r *resolver) decoder(name string) media.Decoder {
	return media.Decoder{Warn: func(message string) { r.warn(message, "input", name) }}
}

// decodeText returns a file as text without its byte order mark, or as bytes if it is no
// text. Text in a known encoding other than UTF-8 is an error, and so is a .txt file that
// is not UTF-8.
func decodeText(path string, data []byte) (any, error) {
	if utf8.Valid(data) {
		return string(bytes.TrimPrefix(data, document.ByteOrderMark)), nil
	}
	if encoding := document.MarkedEncoding(data); encoding != "" {
		return nil, Named(path, document.WrongEncoding(encoding, "the text"))
	}
	if strings.EqualFold(filepath.Ext(path), ".txt") {
		return nil, Named(path, document.NotUTF8(data, 0, "the text"))
	}
	return data, nil
}

// parseNamed parses JSON; an error names the input.
func parseNamed(name string, data []byte) (any, error) {
	value, err := document.Parse(data)
	if err != nil {
		return nil, Named(name, err)
	}
	return value, nil
}

// Named adds the name of an input to an error that says why it cannot be read.
func Named(name string, err error) *runner.Error {
	e := runner.Wrap(err, runner.KindSerialization, name)
	if cause, ok := errors.AsType[*runner.Error](err); ok {
		return e.WithHint(cause.Hint) // programs read the hint of the outer error
	}
	return e
}

// warnOfBytes warns if bytes are a recording or an image in a format that is not supported.
func (r *resolver) warnOfBytes(name string, data []byte) {
	_, err := media.Decode(data)
	if e, ok := errors.AsType[*media.Error](err); ok && e.Hint != "" { // it has none if the format is unknown
		r.warn(e.Reason+"; the node gets its bytes", "input", name)
	}
}

// mediaError adds the name of an input to an error of package media; nil stays nil. If the
// input is a file, the path is that of the file.
func mediaError(name, path string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*media.Error](err)
	if !ok {
		return runner.Wrap(err, runner.KindSerialization, "cannot read "+name)
	}
	return formatError(name, path, e.Format, e.Reason, e.Hint)
}

// formatError returns the error for an input that is not valid in its format.
func formatError(name, path, format, reason, hint string) error {
	if hint != "" && path != "" {
		hint += "; to hand over the file as it is: 'path:" + path + "' or 'bytes:" + path + "'"
	}
	return runner.NewError(runner.KindSerialization, fmt.Sprintf("cannot read %s: %s: %s", name, format, reason)).WithHint(hint)
}
