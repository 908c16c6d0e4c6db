package arrow

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// people returns a table of names with nulls and ages.
func people(t testing.TB) Table {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "age", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.StringBuilder).AppendValues([]string{"Ada", "", "Grace"}, []bool{true, false, true})
	b.Field(1).(*array.Int64Builder).AppendValues([]int64{36, 45, 85}, nil)
	return New(b.NewRecordBatch())
}

func TestATableIsAPartOfAnInputAndOfAResult(t *testing.T) {
	type report struct {
		Title string `json:"title"`
		Rows  Table  `json:"rows"`
		Maybe *Table `json:"maybe"`
	}
	want := people(t)
	payload, err := ipc.Encode("input", report{Title: "people", Rows: want})
	require.NoError(t, err)
	value, err := payload.Decode("input", ipc.DefaultLimits())
	require.NoError(t, err)
	require.IsType(t, &ipc.Table{}, value.(map[string]any)["rows"])

	var got report
	require.NoError(t, runner.Decode(value, &got))
	assert.Nil(t, got.Maybe)
	assert.Equal(t, int64(3), got.Rows.NumRows())
	assert.True(t, array.RecordEqual(want.Records[0], got.Rows.Records[0]))
}
