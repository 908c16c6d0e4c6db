package tablefile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
)

// shown returns the columns of a table and its rows, with nulls as ∅.
func shown(t testing.TB, table gsarrow.Table) (columns, rows []string) {
	t.Helper()
	for _, field := range table.Schema.Fields() {
		columns = append(columns, field.Name+" "+field.Type.String())
	}
	for _, batch := range table.Records {
		for i := range int(batch.NumRows()) {
			var cells []string
			for _, values := range batch.Columns() {
				cell := "∅"
				if !values.IsNull(i) {
					cell = values.ValueStr(i)
				}
				cells = append(cells, cell)
			}
			rows = append(rows, strings.Join(cells, "|"))
		}
	}
	return columns, rows
}

// one returns a table of one column.
func one(t testing.TB, kind arrow.DataType, json string) gsarrow.Table {
	values, _, err := array.FromJSON(memory.DefaultAllocator, kind, strings.NewReader(json))
	require.NoError(t, err)
	schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: kind, Nullable: true}}, nil)
	return gsarrow.New(array.NewRecordBatch(schema, []arrow.Array{values}, int64(values.Len())))
}

func encoded(t testing.TB, table gsarrow.Table, format Format) []byte {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, Encode(&file, table, format))
	return file.Bytes()
}

func TestTheTypeOfACSVColumnIsThatOfAllItsValues(t *testing.T) {
	const us, zoned, ns = "timestamp[us]", "timestamp[us, tz=UTC]", "timestamp[ns]"
	for _, c := range []struct{ values, kind, first string }{
		{"1,-2,,30", "int64", "1"},
		{"1,2.5", "float64", "1"},
		{"1e3,NaN,-inf", "float64", "1000"},
		{"9223372036854775807", "int64", "9223372036854775807"},
		{"9223372036854775808,1", "utf8", "9223372036854775808"},
		{"007,12", "utf8", "007"},
		{"0,0.5,-0", "float64", "0"},
		{"1_000", "utf8", "1_000"},
		{"0x10", "utf8", "0x10"},
		{"+1", "utf8", "+1"},
		{"--1", "utf8", "--1"},
		{"1e999", "utf8", "1e999"},
		{"true,FALSE,,True", "bool", "true"},
		{"true,1", "utf8", "true"},
		{"2024-05-01,,1900-02-28", "date32", "2024-05-01"},
		{"2024-05-01,2024-13-01", "utf8", "2024-05-01"},
		{"2024-05-01 12:30,2024-05-01", us, "2024-05-01T12:30:00"},
		{"2024-05-01T12:30:01.123456", us, "2024-05-01T12:30:01.123456"},
		{"2024-05-01 12:30:01.123456789", ns, "2024-05-01T12:30:01.123456789"},
		{"2024-05-01 12:30:01.1234567,0001-01-01 00:00:00", "utf8", "2024-05-01 12:30:01.1234567"},
		{"0001-01-01 00:00:00", us, "0001-01-01T00:00:00"},
		{"2024-05-01T12:30:00Z,2024-05-01 12:30:00+02:00", zoned, "2024-05-01T12:30:00Z"},
		{"2024-05-01T12:30:00Z,2024-05-01 12:30:00", "utf8", "2024-05-01T12:30:00Z"},
		{"x,1", "utf8", "x"},
		{",,", "utf8", "∅"},
		{"NA,1", "utf8", "NA"},
	} {
		t.Run(c.values, func(t *testing.T) {
			text := "id,c\n"
			for i, value := range strings.Split(c.values, ",") {
				text += fmt.Sprintf("%d,%s\n", i, value)
			}
			table, err := Decode([]byte(text), CSV)
			require.NoError(t, err)
			columns, rows := shown(t, table)
			assert.Equal(t, []string{"id int64", "c " + c.kind}, columns)
			assert.Equal(t, "0|"+c.first, rows[0])
			assert.Len(t, rows, strings.Count(text, "\n")-1)
			again, err := Decode(encoded(t, table, CSV), CSV)
			require.NoError(t, err)
			columnsAgain, rowsAgain := shown(t, again)
			assert.Equal(t, columns, columnsAgain)
			assert.Equal(t, rows, rowsAgain)
		})
	}
}

func TestTheFormsOfCSV(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		format  Format
		columns string
		rows    []string
	}{
		"quotes and line feeds": {"a,b\r\n\"x, \"\"y\"\"\",\"1\n2\"\r\n", CSV, "a utf8;b utf8", []string{"x, \"y\"|1\n2"}},
		"byte order mark":       {"\ufeffa\n1\n", CSV, "a int64", []string{"1"}},
		"no rows":               {"a,b\n", CSV, "a utf8;b utf8", nil},
		"no line feed":          {"a", CSV, "a utf8", nil},
		"tabs":                  {"a\tb, c\n1\tx\n", TSV, "a int64;b, c utf8", []string{"1|x"}},
		"a name twice":          {"a,a\n1,x\n", CSV, "a int64;a utf8", []string{"1|x"}},
		"a column without name": {",a\n0,x\n", CSV, " int64;a utf8", []string{"0|x"}},
		"one column with nulls": {"a\n\"\"\n1\n", CSV, "a int64", []string{"∅", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			table, err := Decode([]byte(c.text), c.format)
			require.NoError(t, err)
			columns, rows := shown(t, table)
			assert.Equal(t, c.columns, strings.Join(columns, ";"))
			assert.Equal(t, c.rows, rows)
			again, err := Decode(encoded(t, table, c.format), c.format)
			require.NoError(t, err)
			_, rowsAgain := shown(t, again)
			assert.Equal(t, rows, rowsAgain)
		})
	}
}

func TestALongCSVFileHasManyBatches(t *testing.T) {
	text := "n\n" + strings.Repeat("1\n", 2*rowsPerBatch+3)
	table, err := Decode([]byte(text), CSV)
	require.NoError(t, err)
	assert.Equal(t, int64(2*rowsPerBatch+3), table.NumRows())
	assert.Len(t, table.Records, 3)
	assert.Equal(t, text, string(encoded(t, table, CSV)))
}

func TestColumnsOfOtherTypesAreTextInCSV(t *testing.T) {
	words := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	for _, c := range []struct {
		kind       arrow.DataType
		json, want string
	}{
		{words, `["a", null]`, "c\na\n\"\"\n"},
		{arrow.ListOf(arrow.PrimitiveTypes.Int8), `[[1, 2], null]`, "c\n\"[1,2]\"\n\"\"\n"},
		{arrow.StructOf(arrow.Field{Name: "x", Type: arrow.BinaryTypes.String}), `[{"x": "y"}]`, "c\n\"{\"\"x\"\":\"\"y\"\"}\"\n"},
		{arrow.FixedWidthTypes.Time32ms, `["12:30:00"]`, "c\n12:30:00.000\n"},
		{arrow.BinaryTypes.StringView, `["x"]`, "c\nx\n"},
		{&arrow.Decimal128Type{Precision: 5, Scale: 2}, `["1.50"]`, "c\n1.50\n"},
		{arrow.BinaryTypes.Binary, `["/w=="]`, "c\n/w==\n"},
		{&arrow.TimestampType{Unit: arrow.Second, TimeZone: "Europe/Berlin"}, `[0]`, "c\n1970-01-01 01:00:00+01:00\n"},
		{arrow.PrimitiveTypes.Float64, `[1, -0.5, 1e21, 1000000]`, "c\n1.0\n-0.5\n1e+21\n1000000.0\n"},
		{arrow.FixedWidthTypes.Float16, `[2]`, "c\n2.0\n"},
		{arrow.Null, `[null]`, "c\n\"\"\n"},
		{arrow.BinaryTypes.String, `["a\n\nb", "", "\""]`, "c\n\"a\n\nb\"\n\"\"\n\"\"\"\"\n"},
	} {
		assert.Equal(t, c.want, string(encoded(t, one(t, c.kind, c.json), CSV)), "%s", c.kind)
	}
}

func TestAFileIsReadByItsContentOrElseByItsName(t *testing.T) {
	table := one(t, arrow.PrimitiveTypes.Int64, `[1, null, 3]`)
	stream, err := gsarrow.Encode(table)
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"a.csv": encoded(t, table, CSV), "a.TSV": encoded(t, table, TSV), "a.parquet": encoded(t, table, Parquet),
		"a.arrow": encoded(t, table, Arrow), "a.feather": encoded(t, table, Arrow), "a.arrows": stream.Stream,
		"parquet.csv": encoded(t, table, Parquet), "stream.arrow": stream.Stream, "arrow.parquet": encoded(t, table, Arrow), "parquet": encoded(t, table, Parquet),
	} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		got, err := ReadFile(path)
		require.NoError(t, err, name)
		columns, rows := shown(t, got)
		assert.Equal(t, []string{"c int64"}, columns, name)
		assert.Equal(t, []string{"1", "∅", "3"}, rows, name)
	}
	_, err = ReadFile(filepath.Join(t.TempDir(), "missing.csv"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestAFileThatIsNotValidIsAnError(t *testing.T) {
	table := one(t, arrow.PrimitiveTypes.Int64, `[1, null, 3]`)
	for _, c := range []struct {
		data   string
		format Format
		want   string
	}{
		{"", CSV, "CSV: the file is empty"},
		{"", Parquet, "Parquet: the file is empty"},
		{"\n\n", CSV, "CSV: there is no line with the names of the columns"},
		{"a,b\n1,2\n3\n", CSV, "CSV: line 3 has 1 fields, but the first line has 2"},
		{"a\nx\"y\n", CSV, "CSV: line 2, column 2: bare \""},
		{"a\n\"x\n", CSV, "CSV: line 2, column 4: extraneous or missing \""},
		{"a\n\xe4\n", CSV, "it is not UTF-8 text; save it as UTF-8; from Western European text: iconv -f WINDOWS-1252 -t UTF-8"},
		{"\xff\xfea\x00", CSV, "convert it: iconv -f UTF-16 -t UTF-8"},
		{"PK\x03\x04\xff", CSV, "this is probably a workbook of Excel; save it as CSV"},
		{"\x1f\x8b\xff", CSV, "this is gzip data; decompress it"},
		{strings.Repeat(",", maxColumns), CSV, "CSV: it has more than 65536 columns"},
		{"a,b\n1,2\n", Parquet, "Parquet: not a valid Parquet file: it does not begin like one; check the extension of the file"},
		{"PAR1", Parquet, "Parquet: not a valid Parquet file: it is truncated"},
		{"PARE1234PARE", Parquet, "it is encrypted; write it without encryption"},
		{"FEA1", Arrow, "this is version 1 of Feather"},
		{"a,b\n1,2\n", Arrow, "Arrow: not a valid Arrow file: it does not begin like one; check the extension of the file"},
		{"ARROW1\x00\x00", Arrow, "Arrow: not a valid Arrow file: it is truncated"},
		{string(encoded(t, table, Arrow)[:200]), Arrow, "Arrow: not a valid Arrow file: it is truncated"},
		{string(encoded(t, table, Parquet)[:200]), Parquet, "Parquet: not a valid Parquet file: it is truncated"},
		{"text", "", "the format of the file is unknown"},
	} {
		_, err := Decode([]byte(c.data), c.format)
		var fault *Error
		require.ErrorAs(t, err, &fault, "%.20q", c.data)
		assert.ErrorContains(t, err, c.want)
	}
}

func TestATableThatAFormatCannotHoldIsAnError(t *testing.T) {
	none := gsarrow.Table{Schema: arrow.NewSchema(nil, nil)}
	for _, format := range []Format{CSV, TSV, Parquet, "odd"} {
		var fault *Error
		require.ErrorAs(t, Encode(&bytes.Buffer{}, none, format), &fault, "%s", format)
		assert.Equal(t, format, fault.Format)
	}
	require.NoError(t, Encode(&bytes.Buffer{}, none, Arrow))
	for _, format := range []Format{CSV, TSV, Parquet, Arrow} {
		require.Error(t, Encode(&bytes.Buffer{}, gsarrow.Table{}, format))
		err := Encode(full{}, one(t, arrow.PrimitiveTypes.Int64, `[1]`), format)
		assert.Equal(t, errFull, err, "%s", format)
	}
}

var errFull = errors.New("the disk is full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// FuzzDecodeCSV checks that text that is read as a table is read as the same table once it was
// written. Package csv removes a carriage return in front of a line feed, also in a value.
func FuzzDecodeCSV(f *testing.F) {
	for _, text := range []string{"a,b\n1,x\n,\n", "a\n\"\"\n", "t\n2024-05-01 12:30:01.123456789\n", "t\n2024-05-01T12:30Z\n2024-05-01 12:30:00.5-07:30\n", "b\ntrue\n", "d\n2024-05-01\n0000-01-01 00:00\n", "x\n1e5\nNaN\n-inf\n", "x\ninf\n", "\"\r\r\r\n\"", "t\n0000-01-01 00:00+00:10\n", "t\n9999-12-31T23:59-01:00\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Decode([]byte(text), CSV)
		if err != nil {
			require.NotContains(t, err.Error(), "contradict")
			return
		}
		columns, rows := shown(t, table)
		again, err := Decode(encoded(t, table, CSV), CSV)
		require.NoError(t, err)
		columnsAgain, rowsAgain := shown(t, again)
		for _, texts := range [][]string{columns, rows, columnsAgain, rowsAgain} {
			for i := range texts {
				for strings.Contains(texts[i], "\r\n") {
					texts[i] = strings.ReplaceAll(texts[i], "\r\n", "\n")
				}
			}
		}
		require.Equal(t, columns, columnsAgain)
		require.Equal(t, rows, rowsAgain)
	})
}
