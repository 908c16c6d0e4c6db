package arrow

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
)

// category is a column of words from a dictionary.
var category = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}

// columns are JSON texts of columns of all kinds of layouts, by their types.
var columns = []struct {
	kind arrow.DataType
	json string
}{
	{arrow.Null, `[null, null, null]`},
	{arrow.FixedWidthTypes.Boolean, `[true, null, false]`},
	{arrow.PrimitiveTypes.Int8, `[1, null, -3]`},
	{arrow.PrimitiveTypes.Uint64, `[1, null, 3]`},
	{arrow.PrimitiveTypes.Float64, `[1.5, null, -3]`},
	{arrow.BinaryTypes.String, `["x", null, "ö"]`},
	{arrow.BinaryTypes.LargeString, `["x", null, ""]`},
	{arrow.BinaryTypes.Binary, `["eA==", null, ""]`},
	{arrow.BinaryTypes.StringView, `["x", null, "longer than what fits into a view"]`},
	{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `["eHg=", null, "eHg="]`},
	{&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Berlin"}, `[1714564800000000, null, -1]`},
	{arrow.FixedWidthTypes.Date32, `["2024-05-01", null, "1970-01-01"]`},
	{&arrow.Decimal128Type{Precision: 9, Scale: 2}, `["1.50", null, "-2.25"]`},
	{arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[1, 2], null, []]`},
	{arrow.LargeListOf(arrow.BinaryTypes.String), `[["a"], null, []]`},
	{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), `[[1, 2], null, [3, 4]]`},
	{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), `[[{"key": "a", "value": 1}], null, []]`},
	{arrow.StructOf(
		arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	), `[{"a": 1, "b": ["x"]}, null, {"a": null, "b": []}]`},
	{category, `["a", null, "b"]`},
	{arrow.ListOf(category), `[["a", "b"], null, ["a"]]`},
}

// everything returns a table of two record batches with a column of each of the kinds.
func everything(t testing.TB) Table {
	fields := make([]arrow.Field, len(columns))
	for i, column := range columns {
		fields[i] = arrow.Field{Name: column.kind.String(), Type: column.kind, Nullable: true}
	}
	notes := arrow.NewMetadata([]string{"origin"}, []string{"test"})
	schema := arrow.NewSchema(fields, &notes)
	arrays := make([]arrow.Array, len(columns))
	for i, column := range columns {
		values, _, err := array.FromJSON(memory.DefaultAllocator, column.kind, strings.NewReader(column.json))
		require.NoError(t, err, "%s", column.kind)
		arrays[i] = values
	}
	batch := array.NewRecordBatch(schema, arrays, 3)
	return New(batch, batch.NewSlice(1, 3))
}

// streamOf returns the Arrow IPC stream of a table.
func streamOf(t testing.TB, table Table, options ...arrowipc.Option) []byte {
	var stream bytes.Buffer
	writer := arrowipc.NewWriter(&stream, append(options, arrowipc.WithSchema(table.Schema))...)
	for _, batch := range table.Records {
		require.NoError(t, writer.Write(batch))
	}
	require.NoError(t, writer.Close())
	return stream.Bytes()
}
