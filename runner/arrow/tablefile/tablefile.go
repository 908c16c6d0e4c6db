// Package tablefile reads and writes tables as files: CSV, Parquet, and Arrow (which pandas and
// polars call Feather).
//
//	table, err := tablefile.ReadFile("sales.parquet")
//	totals, err := runner.Call[arrow.Table, arrow.Table](ctx, r, table)
//	err = tablefile.Encode(file, totals, tablefile.CSV)
//
// Parquet and Arrow files keep the types of the columns, nulls, and the notes of pandas about its
// index. A CSV file has text alone: [Decode] infers the types from all of its values.
//
// Files are not trusted. One that contradicts itself, or that needs far more memory than it has
// bytes, is an [*Error]; reading the records then does not panic. The functions may be called
// concurrently.
package tablefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gophersnake/gophersnake/runner/arrow"
	"github.com/gophersnake/gophersnake/runner/arrow/internal/parquetfile"
)

// Format is a format of files.
type Format string

// The formats.
const (
	CSV     Format = "CSV"     // fields separated by commas
	TSV     Format = "TSV"     // fields separated by tabs
	Parquet Format = "Parquet" // compressed with Snappy when it is written
	Arrow   Format = "Arrow"   // an Arrow IPC file; a stream is read, too
)

// Extensions returns the extensions of files of all formats, in lower case.
func Extensions() []string {
	return []string{".csv", ".tsv", ".parquet", ".arrow", ".feather", ".arrows"}
}

// FormatOf returns the format that the extension of a file stands for.
func FormatOf(name string) (Format, bool) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return CSV, true
	case ".tsv":
		return TSV, true
	case ".parquet":
		return Parquet, true
	case ".arrow", ".feather", ".arrows":
		return Arrow, true
	}
	return "", false
}

// Detect returns the format that data begins like. It does not detect CSV and TSV, which begin
// like any text. 8 bytes of data are enough.
func Detect(data []byte) (Format, bool) {
	switch {
	case bytes.HasPrefix(data, []byte("PAR1")):
		return Parquet, true
	case arrow.IsFile(data):
		return Arrow, true
	}
	return "", false
}

// Error says why a file cannot be read, or why it cannot hold a table.
type Error struct {
	// Format is the format in question.
	Format Format
	// Reason says what is wrong.
	Reason string
	// Hint says what to do next; it may be empty.
	Hint string
}

// Error returns the format, the reason and the hint in one line.
func (e *Error) Error() string {
	text := string(e.Format) + ": " + e.Reason
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// ReadFile reads the table in the file at path. The extension says its format, as in [FormatOf],
// unless the content is that of a Parquet or Arrow file. The error is an [*Error], or that of
// the file system.
func ReadFile(path string) (arrow.Table, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return arrow.Table{}, err
	}
	format, _ := FormatOf(path)
	return Decode(data, format)
}

// Decode reads the table in a file of a format. If data begins like a Parquet or Arrow file, it is
// read as such. An empty format stands for what [Detect] finds. The records may share the memory
// of data, which must not change afterwards. The error is an [*Error].
func Decode(data []byte, format Format) (arrow.Table, error) {
	if detected, ok := Detect(data); ok {
		format = detected
	}
	if len(data) == 0 {
		return arrow.Table{}, &Error{Format: format, Reason: "the file is empty"}
	}
	var table arrow.Table
	var err error
	switch format {
	case CSV:
		table, err = decodeCSV(data, ',')
	case TSV:
		table, err = decodeCSV(data, '\t')
	case Parquet:
		if table, err = parquetfile.Decode(data); err != nil {
			err = fmt.Errorf("not a valid Parquet file: %w", err)
		}
	case Arrow:
		if table, err = arrow.DecodeFile(data); err != nil {
			err = errors.New("not a valid Arrow file: " + strings.TrimPrefix(err.Error(), "decode an Arrow file: "))
		}
	default:
		err = errors.New("the format of the file is unknown")
	}
	if err == nil {
		return table, nil
	}
	fault := &Error{Format: format, Reason: err.Error(), Hint: hintOf(data, format)}
	if own, ok := errors.AsType[*Error](err); ok {
		fault.Reason, fault.Hint = own.Reason, own.Hint
	}
	return arrow.Table{}, fault
}

// hintOf returns what to do about a file that is no valid one of its format.
func hintOf(data []byte, format Format) string {
	switch {
	case bytes.HasPrefix(data, []byte("PARE")):
		return "write it without encryption"
	case bytes.HasPrefix(data, []byte("FEA1")):
		return "this is version 1 of Feather; write it with pyarrow.feather.write_feather"
	case bytes.HasPrefix(data, []byte("PK\x03\x04")), bytes.HasPrefix(data, []byte("\xd0\xcf\x11\xe0")):
		return "this is probably a workbook of Excel; save it as CSV"
	case bytes.HasPrefix(data, []byte("\x1f\x8b")):
		return "this is gzip data; decompress it"
	case format == Parquet && !bytes.HasPrefix(data, []byte("PAR1")), format == Arrow && !arrow.IsFile(data):
		return "check the extension of the file; if it is text with separators, it is .csv or .tsv"
	}
	return ""
}

// Encode writes a table in a format. Parquet has no times of the day in seconds, no dates in
// milliseconds and no lists of fixed size: they become milliseconds, dates in days and lists.
// Nested columns become JSON in CSV, and bytes base64. The error is an [*Error] if the format
// cannot hold the table, or that of w.
func Encode(w io.Writer, table arrow.Table, format Format) error {
	tracked := &tracker{w: w}
	var err error
	switch format {
	case CSV:
		err = encodeCSV(tracked, table, ',')
	case TSV:
		err = encodeCSV(tracked, table, '\t')
	case Parquet:
		err = parquetfile.Encode(tracked, table)
	case Arrow:
		err = arrow.EncodeFile(tracked, table)
	default:
		err = errors.New("the format of the file is unknown")
	}
	switch {
	case tracked.err != nil:
		return tracked.err
	case err != nil:
		return &Error{Format: format, Reason: err.Error()}
	}
	return nil
}

// tracker keeps the first error of a writer, to tell it from those of an encoder.
type tracker struct {
	w   io.Writer
	err error
}

// Write implements [io.Writer].
func (t *tracker) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	if err != nil && t.err == nil {
		t.err = err
	}
	return n, err
}
