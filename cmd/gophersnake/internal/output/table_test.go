package output

import (
	"math"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
)

// table returns a table of one column as a node returns it, or without columns if it has no
// values.
func table(t *testing.T, name string, values arrow.Array) *ipc.Table {
	t.Helper()
	content := gsarrow.Table{Schema: arrow.NewSchema(nil, nil)}
	if values != nil {
		schema := arrow.NewSchema([]arrow.Field{{Name: name, Type: values.DataType(), Nullable: true}}, nil)
		content = gsarrow.New(array.NewRecordBatch(schema, []arrow.Array{values}, int64(values.Len())))
	}
	encoded, err := gsarrow.Encode(content)
	require.NoError(t, err)
	return encoded
}

// values returns a column from a JSON text.
func values(t *testing.T, kind arrow.DataType, json string) arrow.Array {
	t.Helper()
	column, _, err := array.FromJSON(memory.DefaultAllocator, kind, strings.NewReader(json))
	require.NoError(t, err)
	return column
}

func TestATableIsAListOfItsRowsInJSON(t *testing.T) {
	words := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	for _, c := range []struct {
		kind         arrow.DataType
		values, want string
	}{
		{arrow.Null, `[null]`, `null`},
		{arrow.FixedWidthTypes.Boolean, `[true]`, `true`},
		{arrow.PrimitiveTypes.Int64, `[9007199254740993]`, `9007199254740993`},
		{arrow.PrimitiveTypes.Uint64, `[18446744073709551615]`, `18446744073709551615`},
		{arrow.PrimitiveTypes.Float64, `[1]`, `1`},
		{arrow.PrimitiveTypes.Float64, `[1e21]`, `1e+21`},
		{arrow.PrimitiveTypes.Float32, `[0.1]`, `0.1`},
		{arrow.BinaryTypes.String, `["<ö\"\u001b>"]`, `"<ö\"\u001b>"`},
		{arrow.BinaryTypes.Binary, `["/w=="]`, `"/w=="`},
		{&arrow.Decimal128Type{Precision: 5, Scale: 2}, `["1.50"]`, `"1.50"`},
		{&arrow.TimestampType{Unit: arrow.Microsecond}, `[1500000]`, `"1970-01-01T00:00:01.5"`},
		{&arrow.TimestampType{Unit: arrow.Second, TimeZone: "Europe/Berlin"}, `[0]`, `"1970-01-01T01:00:00+01:00"`},
		{arrow.FixedWidthTypes.Date32, `["2024-05-01"]`, `"2024-05-01"`},
		{words, `["a"]`, `"a"`},
		{arrow.ListOf(words), `[["a", null]]`, `["a",null]`},
		{arrow.ListOf(arrow.PrimitiveTypes.Int8), `[[]]`, `[]`},
		{arrow.StructOf(arrow.Field{Name: "z", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int8}), `[{"z": null, "a": 1}]`, `{"z":null,"a":1}`},
		{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int8), `[[{"key": "k", "value": 1}]]`, `[{"key":"k","value":1}]`},
	} {
		got, failures := write(t, Options{Format: "jsonl"}, of("in", table(t, "c", values(t, c.kind, c.values))))
		require.Empty(t, failures)
		assert.Equal(t, `{"input":"in","result":[{"c":`+c.want+"}]}\n", got, "%s", c.kind)
	}
	got, _ := write(t, Options{Format: "json"}, of("in", table(t, "", nil)))
	assert.Equal(t, "[]\n", got)
}

func TestANumberOfATableThatJSONCannotExpressIsNullWithAWarning(t *testing.T) {
	var warnings [][]any
	o := Options{Format: "jsonl", NewExporter: func(dir string) *Exporter {
		return NewExporter(dir, "", func(_ string, args ...any) { warnings = append(warnings, args) }, nil)
	}}
	column := array.NewFloat64Builder(memory.DefaultAllocator)
	column.AppendValues([]float64{1.5, math.NaN(), math.Inf(1)}, nil)
	got, failures := write(t, o, of("in", map[string]any{"t": table(t, "c", column.NewArray())}))
	require.Empty(t, failures)
	assert.Equal(t, `{"input":"in","result":{"t":[{"c":1.5},{"c":null},{"c":null}]}}`+"\n", got)
	assert.Equal(t, [][]any{{"first", "result.t[1].c", "count", 2}}, warnings)
}

func TestPeopleSeeTheFirstRowsOfATable(t *testing.T) {
	few := table(t, "na\x1bme", values(t, arrow.BinaryTypes.String, `["x\u001b[31m", null, "two\nlines", "`+strings.Repeat("long ", 20)+`"]`))
	got, failures := write(t, Options{Format: "pretty"}, of("in", few))
	require.Empty(t, failures)
	assert.Equal(t, "na\\x1bme\ntext\nx\\x1b[31m\nnull\ntwo lines\nlong long long long long long long long…\n4 rows × 1 column\n", got)

	many := table(t, "n", values(t, arrow.PrimitiveTypes.Int64, "["+strings.Repeat("7,", 30)+"7]"))
	got, _ = write(t, Options{Format: "pretty"}, of("in", many))
	assert.Equal(t, "n\nint64\n"+strings.Repeat("7\n", 10)+"31 rows × 1 column, of which 10 × 1 are shown; -o FILE.csv, .parquet or .arrow writes all\n", got)

	got, _ = write(t, Options{Format: "pretty"}, of("in", map[string]any{"a": int64(1), "t": many}))
	assert.Equal(t, "a: 1\nt: |-\n  n\n  int64\n"+strings.Repeat("  7\n", 10)+"  31 rows × 1 column, of which 10 × 1 are shown\n", got)

	got, _ = write(t, Options{Format: "pretty"}, of("in", table(t, "", nil)))
	assert.Equal(t, "0 rows × 0 columns\n", got)
}

func TestATableIsWrittenToAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"r.csv", "r.TSV", "r.parquet", "r.arrow", "deep/er/r.feather"} {
		stdout, failures := write(t, Options{Format: name}, of("in", table(t, "c", values(t, arrow.PrimitiveTypes.Int64, `[1, null]`))))
		require.Empty(t, failures)
		assert.Empty(t, stdout)
		got, err := tablefile.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, int64(2), got.NumRows(), name)
	}
	left, err := os.ReadDir(".")
	require.NoError(t, err)
	assert.Len(t, left, 5, "and no temporary ones")
	for _, o := range []Options{{Format: "r.csv", Many: true}, {Format: "r.arrows"}} {
		_, err := New(o)
		require.Error(t, err)
	}
}
