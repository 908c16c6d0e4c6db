package tablefile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowcsv "github.com/apache/arrow-go/v18/arrow/csv"
	"github.com/apache/arrow-go/v18/arrow/memory"

	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
)

const (
	maxColumns   = 1 << 16
	rowsPerBatch = 1 << 16
)

// decodeCSV reads text with a line of names at its beginning. It reads the text twice, since the
// type of a column depends on all of its values.
func decodeCSV(data []byte, separator rune) (table gsarrow.Table, err error) {
	defer func() {
		if found := recover(); found != nil { // the inference has passed what the reader refuses
			err = fmt.Errorf("its values contradict each other: %v", found)
		}
	}()
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		return gsarrow.Table{}, notUTF8(data)
	}
	schema, err := inferSchema(data, separator)
	if err != nil {
		return gsarrow.Table{}, err
	}
	reader := arrowcsv.NewReader(bytes.NewReader(data), schema, arrowcsv.WithComma(separator), arrowcsv.WithHeader(true),
		arrowcsv.WithChunk(rowsPerBatch), arrowcsv.WithNullReader(true, ""))
	table.Schema = schema
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		table.Records = append(table.Records, batch)
	}
	return table, reader.Err()
}

// notUTF8 returns the error for text in another encoding.
func notUTF8(data []byte) error {
	fault := &Error{Reason: "it is not UTF-8 text", Hint: hintOf(data, CSV)}
	if fault.Hint == "" {
		fault.Hint = "save it as UTF-8; from Western European text: iconv -f WINDOWS-1252 -t UTF-8"
	}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(data, []byte(mark)) {
			fault.Hint = "convert it: iconv -f UTF-16 -t UTF-8"
		}
	}
	return fault
}

// inferSchema returns the names of the columns, and the types that all of their values have.
func inferSchema(data []byte, separator rune) (*arrow.Schema, error) {
	reader := csv.NewReader(bytes.NewReader(data))
	reader.Comma, reader.ReuseRecord = separator, true
	names, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("there is no line with the names of the columns")
	}
	if err != nil {
		return nil, syntaxError(err, 0, 0)
	}
	if len(names) > maxColumns {
		return nil, fmt.Errorf("it has more than %d columns", maxColumns)
	}
	fields := make([]arrow.Field, len(names))
	for i, name := range names {
		fields[i] = arrow.Field{Name: name, Nullable: true}
	}
	columns := make([]inference, len(names))
	for {
		values, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxError(err, len(values), len(names))
		}
		for i, value := range values {
			columns[i].add(value)
		}
	}
	for i := range fields {
		fields[i].Type = columns[i].dataType()
	}
	return arrow.NewSchema(fields, nil), nil
}

// syntaxError says at which line a text is wrong.
func syntaxError(err error, got, want int) error {
	fault, ok := errors.AsType[*csv.ParseError](err)
	switch {
	case !ok:
		return err
	case errors.Is(fault.Err, csv.ErrFieldCount):
		return fmt.Errorf("line %d has %d fields, but the first line has %d", fault.StartLine, got, want)
	}
	return fmt.Errorf("line %d, column %d: %w", fault.Line, fault.Column, fault.Err)
}

// encodeCSV writes the names of the columns and the rows. A null is an empty field.
func encodeCSV(w io.Writer, table gsarrow.Table, separator rune) error {
	schema := table.Schema
	if schema == nil && len(table.Records) > 0 {
		schema = table.Records[0].Schema()
	}
	if schema == nil || schema.NumFields() == 0 {
		return errors.New("there are no columns")
	}
	if schema.NumFields() == 1 {
		w = &oneColumn{w: w}
	}
	writer := arrowcsv.NewWriter(w, schema, arrowcsv.WithComma(separator), arrowcsv.WithHeader(true),
		arrowcsv.WithNullWriter(""), arrowcsv.WithCustomTypeConverter(asText))
	records := table.Records
	if len(records) == 0 { // the names are written with the first record
		builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		records = []arrow.RecordBatch{builder.NewRecordBatch()}
	}
	for _, batch := range records {
		if err := writer.Write(batch); err != nil {
			return err
		}
	}
	return writer.Flush()
}

// asText returns the values of columns that package csv does not write as they are read again.
func asText(kind arrow.DataType, values arrow.Array) ([]string, bool) {
	switch kind.ID() {
	case arrow.NULL, arrow.BOOL, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
		arrow.STRING, arrow.LARGE_STRING, arrow.DATE32, arrow.DATE64, arrow.TIMESTAMP,
		arrow.DECIMAL128, arrow.DECIMAL256, arrow.BINARY, arrow.LARGE_BINARY, arrow.FIXED_SIZE_BINARY:
		return nil, false
	}
	text := make([]string, values.Len())
	for i := range text {
		if !values.IsNull(i) {
			text[i] = cellText(values, i)
		}
	}
	return text, true
}

// cellText returns a value as text.
func cellText(values arrow.Array, i int) string {
	switch values := values.(type) {
	case *array.Float16:
		return numberText(float64(values.Value(i).Float32()), 32)
	case *array.Float32:
		return numberText(float64(values.Value(i)), 32)
	case *array.Float64:
		return numberText(values.Value(i), 64)
	}
	return values.ValueStr(i)
}

// numberText returns a number with a point or an exponent, so that it is no integer when it is
// read.
func numberText(number float64, bits int) string {
	form := byte('g')
	if size := math.Abs(number); size == 0 || size >= 1e-4 && size < 1e16 {
		form = 'f'
	}
	text := strings.TrimPrefix(strconv.FormatFloat(number, form, -1, bits), "+") // of +Inf
	if strings.Trim(text, "-0123456789") == "" {
		text += ".0"
	}
	return text
}

// oneColumn writes an empty field as two quotation marks: an empty line would be skipped by
// readers.
type oneColumn struct {
	w      io.Writer
	quoted bool // inside of quotation marks
	begun  bool // the line has characters
}

// Write implements [io.Writer].
func (o *oneColumn) Write(b []byte) (int, error) {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c == '\n' && !o.quoted && !o.begun {
			out = append(out, `""`...)
		}
		if c == '"' {
			o.quoted = !o.quoted
		}
		o.begun = c != '\n' || o.quoted
		out = append(out, c)
	}
	if _, err := o.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}
