package parquetfile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
)

// words is a column of words from a dictionary.
var words = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String, Ordered: true}

// columnsByType are JSON texts of columns that a file keeps, by their types.
var columnsByType = []struct {
	kind arrow.DataType
	json string
}{
	{arrow.Null, `[null, null, null, null]`},
	{arrow.FixedWidthTypes.Boolean, `[true, null, false, true]`},
	{arrow.PrimitiveTypes.Int8, `[1, null, -128, 127]`},
	{arrow.PrimitiveTypes.Int16, `[1, null, -32768, 32767]`},
	{arrow.PrimitiveTypes.Int32, `[1, null, -2147483648, 2147483647]`},
	{arrow.PrimitiveTypes.Int64, `[1152921504606846977, null, -9223372036854775808, 0]`},
	{arrow.PrimitiveTypes.Uint8, `[1, null, 255, 0]`},
	{arrow.PrimitiveTypes.Uint16, `[1, null, 65535, 0]`},
	{arrow.PrimitiveTypes.Uint32, `[1, null, 4294967295, 0]`},
	{arrow.PrimitiveTypes.Uint64, `[1, null, 18446744073709551615, 0]`},
	{arrow.FixedWidthTypes.Float16, `[1.5, null, -3, 0]`},
	{arrow.PrimitiveTypes.Float32, `[1.5, null, -3, 0]`},
	{arrow.PrimitiveTypes.Float64, `[1.5, null, -3, 1e300]`},
	{arrow.BinaryTypes.String, `["x", null, "ö", ""]`},
	{arrow.BinaryTypes.LargeString, `["x", null, "", "y"]`},
	{arrow.BinaryTypes.StringView, `["x", null, "longer than what fits into a view", ""]`},
	{arrow.BinaryTypes.Binary, `["eA==", null, "", "/w=="]`},
	{arrow.BinaryTypes.LargeBinary, `["eA==", null, "", "/w=="]`},
	{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `["eHg=", null, "eHg=", "eXk="]`},
	{&arrow.TimestampType{Unit: arrow.Second, TimeZone: "UTC"}, `[1714564800, null, -1, 0]`},
	{&arrow.TimestampType{Unit: arrow.Millisecond}, `[1714564800000, null, -1, 0]`},
	{&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Berlin"}, `[1714564800000000, null, -1, 0]`},
	{&arrow.TimestampType{Unit: arrow.Nanosecond}, `[1714564800000000001, null, -1, 0]`},
	{arrow.FixedWidthTypes.Date32, `["2024-05-01", null, "1970-01-01", "1900-01-01"]`},
	{arrow.FixedWidthTypes.Time32ms, `["12:30:01.5", null, "00:00:00", "23:59:59"]`},
	{arrow.FixedWidthTypes.Time64us, `["12:30:01.5", null, "00:00:00", "23:59:59"]`},
	{arrow.FixedWidthTypes.Duration_us, `["1us", null, "-5us", "0us"]`},
	{&arrow.Decimal128Type{Precision: 9, Scale: 2}, `["1.50", null, "-2.25", "9999999.99"]`},
	{&arrow.Decimal256Type{Precision: 50, Scale: 2}, `["1.50", null, "-2.25", "123456789012345678901234567890123456789012345678.99"]`},
	{arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[1, null, 2], null, [], [3]]`},
	{arrow.LargeListOf(arrow.BinaryTypes.String), `[["a"], null, [], [null, "b"]]`},
	{arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int64)), `[[[1, 2], null, [], [3]], null, [], [null]]`},
	{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), `[[{"key": "a", "value": 1}, {"key": "b", "value": null}], null, [], [{"key": "", "value": 3}]]`},
	{arrow.StructOf(
		arrow.Field{Name: "z", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.LargeString), Nullable: true},
		arrow.Field{Name: "sure", Type: arrow.FixedWidthTypes.Boolean},
	), `[{"z": 1, "b": ["x"], "sure": true}, null, {"z": null, "b": [], "sure": false}, {"z": 2, "b": null, "sure": true}]`},
	{arrow.ListOf(arrow.StructOf(
		arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "a", Type: arrow.ListOf(arrow.PrimitiveTypes.Int8), Nullable: true},
	)), `[[{"b": 1, "a": [1, 2]}, null, {"b": null, "a": []}], null, [], [{"b": 4, "a": null}]]`},
	{words, `["a", null, "b", "a"]`},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.PrimitiveTypes.Int64}, `[7, null, 8, 7]`},
}

func valuesOf(t testing.TB, kind arrow.DataType, json string) arrow.Array {
	values, _, err := array.FromJSON(memory.DefaultAllocator, kind, strings.NewReader(json))
	require.NoError(t, err, "%s", kind)
	return values
}

// everything returns a table with a column of each of the types, in three batches.
func everything(t testing.TB) gsarrow.Table {
	fields, arrays := make([]arrow.Field, len(columnsByType)), make([]arrow.Array, len(columnsByType))
	for i, c := range columnsByType {
		fields[i] = arrow.Field{Name: fmt.Sprintf("%d %s", len(columnsByType)-i, c.kind), Type: c.kind, Nullable: true}
		arrays[i] = valuesOf(t, c.kind, c.json)
	}
	notes := arrow.NewMetadata([]string{"origin"}, []string{"test"})
	batch := array.NewRecordBatch(arrow.NewSchema(fields, &notes), arrays, 4)
	return gsarrow.New(batch, batch.NewSlice(0, 0), batch.NewSlice(1, 4))
}

// one returns a table of one column.
func one(t testing.TB, kind arrow.DataType, json string) gsarrow.Table {
	values := valuesOf(t, kind, json)
	schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: kind, Nullable: true}}, nil)
	return gsarrow.New(array.NewRecordBatch(schema, []arrow.Array{values}, int64(values.Len())))
}

// encoded returns a table as a file.
func encoded(t testing.TB, table gsarrow.Table) []byte {
	var file bytes.Buffer
	require.NoError(t, Encode(&file, table))
	return file.Bytes()
}

// rowsOf returns the rows of a table as JSON.
func rowsOf(t testing.TB, table gsarrow.Table) string {
	var all strings.Builder
	for _, batch := range table.Records {
		if batch.NumRows() == 0 {
			continue
		}
		text, err := batch.MarshalJSON()
		require.NoError(t, err)
		all.WriteString(strings.Trim(string(text), "[]\n") + "\n")
	}
	return strings.ReplaceAll(all.String(), "\n,", "\n")
}

func TestAFileKeepsTheTypesOfItsTable(t *testing.T) {
	all := everything(t)
	for name, want := range map[string]gsarrow.Table{
		"every type": all,
		"no rows":    gsarrow.New(all.Records[0].NewSlice(0, 0)),
		"no batches": {Schema: all.Schema},
		"no schema":  {Records: all.Records},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(encoded(t, want))
			require.NoError(t, err)
			for i, field := range all.Schema.Fields() {
				assert.Equal(t, field.Type.String(), got.Schema.Field(i).Type.String())
				assert.Equal(t, field.Name, got.Schema.Field(i).Name)
			}
			origin, _ := got.Schema.Metadata().GetValue("origin")
			assert.Equal(t, "test", origin)
			assert.Equal(t, want.NumRows(), got.NumRows())
			assert.Equal(t, rowsOf(t, want), rowsOf(t, got))
		})
	}
}

func TestATypeThatParquetLacksBecomesTheNextOne(t *testing.T) {
	for _, c := range []struct {
		kind, want arrow.DataType
		json, rows string
	}{
		{arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time32ms, `["12:00:01"]`, `["12:00:01"]`},
		{arrow.FixedWidthTypes.Date64, arrow.FixedWidthTypes.Date32, `["2024-05-01"]`, `["2024-05-01"]`},
		{&arrow.Decimal32Type{Precision: 5, Scale: 2}, &arrow.Decimal128Type{Precision: 5, Scale: 2}, `["-1.25"]`, `["-1.25"]`},
		{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), arrow.ListOf(arrow.PrimitiveTypes.Float32), `[[1, 2], null]`, `[[1,2],null]`},
		{arrow.ListOf(words), arrow.ListOf(arrow.BinaryTypes.String), `[["a", null]]`, `[["a",null]]`},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			got, err := Decode(encoded(t, one(t, c.kind, c.json)))
			require.NoError(t, err)
			assert.Equal(t, c.want.String(), got.Schema.Field(0).Type.String())
			rows, err := got.Records[0].Column(0).MarshalJSON()
			require.NoError(t, err)
			assert.JSONEq(t, c.rows, string(rows))
		})
	}
}

func TestATableThatAFileCannotHoldIsAnError(t *testing.T) {
	twice := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.Null}, {Name: "a", Type: arrow.Null}}, nil)
	sure := arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.PrimitiveTypes.Int8}}, nil)
	nulls := valuesOf(t, arrow.PrimitiveTypes.Int8, `[1, null]`)
	for want, table := range map[string]gsarrow.Table{
		"there is neither a schema nor a record":                       {},
		"a Parquet file has at least one column":                       {Schema: arrow.NewSchema(nil, nil)},
		`the column "c" has the type month_interval`:                   {Schema: arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.FixedWidthTypes.MonthInterval}}, nil)},
		`the column "c" is a struct without fields`:                    {Schema: arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.StructOf()}}, nil)},
		`the column "a" has the name of another one`:                   {Schema: twice},
		`the column "c" has a null although its schema does not allow`: gsarrow.New(array.NewRecordBatch(sure, []arrow.Array{nulls}, 2)),
		`the column "c" has a time that does not fit`:                  one(t, &arrow.TimestampType{Unit: arrow.Second}, `[9223372036854775807]`),
	} {
		assert.ErrorContains(t, Encode(&bytes.Buffer{}, table), want)
	}
}

func TestALongColumnHasManyPagesAndBatches(t *testing.T) {
	numbers, texts := array.NewInt64Builder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	const rows = 2*rowsPerBatch + 5
	for i := range rows {
		numbers.Append(int64(i))
		texts.Append(strings.Repeat("x", i%7))
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: words}}, nil)
	indices := array.NewDictionaryBuilder(memory.DefaultAllocator, words)
	require.NoError(t, indices.AppendArray(texts.NewArray()))
	want := gsarrow.New(array.NewRecordBatch(schema, []arrow.Array{numbers.NewArray(), indices.NewArray()}, rows))
	got, err := Decode(encoded(t, want))
	require.NoError(t, err)
	assert.Len(t, got.Records, 3)
	assert.Equal(t, rowsOf(t, want), rowsOf(t, got))
}

// touch reads all values of a table.
func touch(table gsarrow.Table) {
	for _, batch := range table.Records {
		for _, values := range batch.Columns() {
			for i := range values.Len() {
				_ = values.ValueStr(i)
			}
		}
	}
}

func TestNoDamageOfOneByteDoesHarm(t *testing.T) {
	for _, c := range columnsByType {
		file := encoded(t, one(t, c.kind, c.json))
		for at := range file {
			for _, damage := range []byte{0x01, 0x80, 0xff} {
				damaged := bytes.Clone(file)
				damaged[at] ^= damage
				if table, err := Decode(damaged); err == nil {
					touch(table)
				}
			}
		}
	}
}

func TestATruncatedFileIsAnError(t *testing.T) {
	file := encoded(t, everything(t))
	for size := range file {
		_, err := Decode(file[:size])
		require.Error(t, err)
	}
}

// FuzzDecode checks that no file does harm.
func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, everything(f)))
	for _, c := range columnsByType {
		f.Add(encoded(f, one(f, c.kind, c.json)))
	}
	f.Fuzz(func(_ *testing.T, file []byte) {
		if table, err := Decode(file); err == nil {
			touch(table)
		}
	})
}
