package output

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
	"github.com/gophersnake/gophersnake/runner/document"
)

// decodeTable reads the table at a location in a result.
func decodeTable(path string, table *ipc.Table) (gsarrow.Table, error) {
	decoded, err := gsarrow.Decode(table)
	if err != nil {
		return gsarrow.Table{}, runner.Wrap(err, runner.KindSerialization, "result"+path)
	}
	return decoded, nil
}

// tableWriter writes one result, which is a table, to a file.
type tableWriter struct {
	path   string
	format tablefile.Format
}

func (t *tableWriter) Write(o Outcome) (failed, err error) {
	if o.Err != nil {
		return o.Err, nil
	}
	value, ok := o.Value.(*ipc.Table)
	if !ok {
		what := typeName(o.Value)
		if media, ok := document.MediaOf(o.Value); ok {
			what = "of type " + media.Type
		}
		return runner.NewError(runner.KindSerialization, fmt.Sprintf("%s cannot hold the result: it is %s, not a table", t.path, what)).
			WithHint("use --output json, or let the node return a table: a DataFrame of pandas or polars, or a pyarrow.Table"), nil
	}
	table, failed := decodeTable("", value)
	if failed != nil {
		return failed, nil
	}
	return writeFile(t.path, func(out io.Writer) error { return tablefile.Encode(out, table, t.format) }), nil
}

// Finish implements [Writer]; the file is complete already.
func (t *tableWriter) Finish(bool) error { return nil }

// Discard implements [Writer].
func (t *tableWriter) Discard() {}

// tableDocument stands in a document for a table.
type tableDocument struct {
	path  string // the location in the result
	table gsarrow.Table
	warn  func(message string, args ...any)
}

func newTableDocument(path string, value *ipc.Table, warn func(message string, args ...any)) (any, error) {
	table, err := decodeTable(path, value)
	if err != nil {
		return nil, err
	}
	return tableDocument{path, table, warn}, nil
}

// The most that people are shown of a table.
const (
	shownRows    = 10
	shownColumns = 10
	shownWidth   = 40 // of a value
)

// MarshalYAML returns the table as people read it.
func (t tableDocument) MarshalYAML() (any, error) { return t.String(), nil }

// String shows the first rows and columns, the types of the columns, and how many there are.
func (t tableDocument) String() string {
	fields := t.table.Schema.Fields()
	columns := min(len(fields), shownColumns)
	var names, types []string
	for _, field := range fields[:columns] {
		names, types = append(names, terminal.Shorten(field.Name, shownWidth)), append(types, typeText(field.Type))
	}
	rows := [][]string{names, types}
	for _, batch := range t.table.Records {
		for i := 0; i < int(batch.NumRows()) && len(rows)-2 < shownRows; i++ {
			cells := make([]string, columns)
			for k := range cells {
				cells[k] = cellText(batch.Column(k), i)
			}
			rows = append(rows, cells)
		}
	}
	all := t.table.NumRows()
	size := fmt.Sprintf("%s × %s", terminal.Plural(int(all), "row"), terminal.Plural(len(fields), "column"))
	if int64(len(rows)-2) < all || columns < len(fields) {
		size += fmt.Sprintf(", of which %d × %d are shown", len(rows)-2, columns)
		if t.path == "" {
			size += "; -o FILE.csv, .parquet or .arrow writes all"
		}
	}
	if columns == 0 {
		return size
	}
	text, _ := terminal.Table(rows, terminal.Style{})
	return text + size
}

// typeText names the type of a column briefly.
func typeText(kind arrow.DataType) string {
	switch kind := kind.(type) {
	case *arrow.DictionaryType:
		return "category"
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType:
		return "text"
	case *arrow.TimestampType:
		if kind.TimeZone != "" {
			return "time, " + kind.TimeZone
		}
		return "time"
	case *arrow.Date32Type, *arrow.Date64Type:
		return "date"
	}
	return terminal.Shorten(kind.String(), shownWidth)
}

// cellText returns a value for people.
func cellText(values arrow.Array, i int) string {
	if values.IsNull(i) {
		return "null"
	}
	return terminal.Shorten(textOf(values, i), shownWidth)
}

// textOf returns a value as text. A decimal keeps the zeros at its end.
func textOf(values arrow.Array, i int) string {
	switch values := values.(type) {
	case *array.Decimal128:
		return values.Value(i).ToString(values.DataType().(arrow.DecimalType).GetScale())
	case *array.Decimal256:
		return values.Value(i).ToString(values.DataType().(arrow.DecimalType).GetScale())
	}
	return values.ValueStr(i)
}

// MarshalJSON returns the rows as a list of objects, whose members have the order of the columns.
// It warns of numbers that JSON cannot express.
func (t tableDocument) MarshalJSON() ([]byte, error) {
	var keys [][]byte
	for _, field := range t.table.Schema.Fields() {
		key, err := jsontext.AppendQuote(nil, field.Name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, append(key, ':'))
	}
	w := rowEncoder{text: []byte{'['}}
	row := 0
	for _, batch := range t.table.Records {
		for i := range int(batch.NumRows()) {
			w.separate('[')
			w.text = append(w.text, '{')
			for k, values := range batch.Columns() {
				w.separate('{')
				w.text = append(w.text, keys[k]...)
				before := w.nonFinite
				w.value(values, i)
				if before == 0 && w.nonFinite > 0 {
					w.first = fmt.Sprintf("result%s[%d].%s", t.path, row, batch.ColumnName(k))
				}
			}
			w.text = append(w.text, '}')
			row++
		}
	}
	if w.nonFinite > 0 {
		t.warn("JSON cannot express NaN and infinity; they are written as null", "first", w.first, "count", w.nonFinite)
	}
	return append(w.text, ']'), w.err
}

// rowEncoder writes values of columns as JSON.
type rowEncoder struct {
	text      []byte
	nonFinite int    // the number of NaNs and infinities
	first     string // the location of the first
	err       error
}

// separate writes a comma unless the next item is the first one after an opening character.
func (w *rowEncoder) separate(opening byte) {
	if w.text[len(w.text)-1] != opening {
		w.text = append(w.text, ',')
	}
}

// quote writes a string.
func (w *rowEncoder) quote(text string) {
	quoted, err := jsontext.AppendQuote(w.text, text)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.text = quoted
}

// value writes a value. Times are as in RFC 3339, decimals are strings, and bytes are base64.
func (w *rowEncoder) value(values arrow.Array, i int) {
	if values.IsNull(i) || values.DataType().ID() == arrow.NULL {
		w.text = append(w.text, "null"...)
		return
	}
	switch values := values.(type) {
	case *array.Boolean, *array.Int8, *array.Int16, *array.Int32, *array.Int64, *array.Uint8, *array.Uint16, *array.Uint32, *array.Uint64:
		w.text = append(w.text, values.ValueStr(i)...)
	case *array.Float16:
		w.number(float64(values.Value(i).Float32()), 32)
	case *array.Float32:
		w.number(float64(values.Value(i)), 32)
	case *array.Float64:
		w.number(values.Value(i), 64)
	case *array.Dictionary:
		w.value(values.Dictionary(), values.GetValueIndex(i))
	case *array.Struct:
		w.object(values, i)
	case array.ListLike: // a map is a list of structs with a key and a value
		start, end := values.ValueOffsets(i)
		w.text = append(w.text, '[')
		for at := start; at < end; at++ {
			w.separate('[')
			w.value(values.ListValues(), int(at))
		}
		w.text = append(w.text, ']')
	default:
		w.quote(textOf(values, i))
	}
}

func (w *rowEncoder) object(values *array.Struct, i int) {
	w.text = append(w.text, '{')
	for k, field := range values.DataType().(*arrow.StructType).Fields() {
		w.separate('{')
		w.quote(field.Name)
		w.text = append(w.text, ':')
		w.value(values.Field(k), i)
	}
	w.text = append(w.text, '}')
}

// number writes a number as package json does.
func (w *rowEncoder) number(number float64, bits int) {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		w.nonFinite++
		w.text = append(w.text, "null"...)
		return
	}
	form := byte('g')
	if size := math.Abs(number); size == 0 || size >= 1e-6 && size < 1e21 {
		form = 'f'
	}
	w.text = strconv.AppendFloat(w.text, number, form, -1, bits)
}
