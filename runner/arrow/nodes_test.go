package arrow

import (
	"context"
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

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// nodes take and return tables of each of the libraries.
const nodes = `
from typing import Any
import pandas
import polars
import pyarrow
from gophersnake import node

@node
def with_pandas(table: pandas.DataFrame) -> pandas.DataFrame:
    assert isinstance(table, pandas.DataFrame)
    return table

@node
def with_polars(table: polars.DataFrame) -> polars.DataFrame:
    assert isinstance(table, polars.DataFrame)
    return table

@node
def with_arrow(table: pyarrow.Table) -> pyarrow.Table:
    return table

@node
def as_it_comes(table):
    assert isinstance(table, pyarrow.Table)
    return table.to_batches()[0] if table.num_rows else table

@node
def chunked(table: pyarrow.Table) -> pyarrow.Table:
    return pyarrow.concat_tables([table.slice(1), table, table.slice(0, 0), table.slice(0, 1)])

@node
def damage(table: pyarrow.Table) -> Any:
    from gophersnake import Table
    from gophersnake._worker.values import tables
    stream = bytearray(tables.encode(table).stream)
    at = stream.index(b"abcdef")
    stream[at] = 0xff
    return Table(stream)

@node
def total(rows: pandas.DataFrame) -> int:
    return int(rows["age"].sum())

@node
def older(table: polars.DataFrame, years: int = 1) -> polars.DataFrame:
    return table.with_columns(polars.col("age") + years)
`

// startNodes starts a pipeline of these nodes, one after the other.
func startNodes(t testing.TB, types []string, each string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(nodes), 0o600))
	text := "version: v1\npython: nodes.py\nrequirements: [numpy==2.2.6, pandas==2.3.3, polars==1.35.2, pyarrow==22.0.0]\nnodes:\n"
	for i, kind := range types {
		text += fmt.Sprintf("  - {id: n%d, node_type: %s, workers: {spare: 0}%s}\n", i, kind, each)
	}
	text += "connections:\n"
	for i := range len(types) - 1 {
		text += fmt.Sprintf("  - {from: n%d, to: n%d}\n", i, i+1)
	}
	if len(types) == 1 {
		text = strings.TrimSuffix(text, "connections:\n")
	}
	p, err := manifest.Parse("test.yaml", []byte(text), base)
	require.NoError(t, err)
	r, err := runner.New(p, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	require.NoError(t, r.Start(t.Context()))
	return r
}

// many returns a table with so many copies of rows of types that all libraries have.
func many(t testing.TB, copies int) Table {
	kinds := map[string]string{
		"int64": "[1152921504606846977, null, -3]", "float64": "[0.5, null, -3]", "text": `["x", null, "` + strings.Repeat("ö", 500) + `"]`,
		"bool": "[true, null, false]", "category": `["a", null, "b"]`, "decimal": `["1.50", null, "-2.25"]`,
		"list": `[["x", "y"], null, []]`, "struct": `[{"a": 1, "b": ["x"]}, null, {"a": null, "b": []}]`,
		"at": "[1714564800000000, null, -1]",
	}
	types := map[string]arrow.DataType{
		"int64": arrow.PrimitiveTypes.Int64, "float64": arrow.PrimitiveTypes.Float64, "text": arrow.BinaryTypes.String,
		"bool": arrow.FixedWidthTypes.Boolean, "category": category, "decimal": &arrow.Decimal128Type{Precision: 9, Scale: 2},
		"list": arrow.ListOf(arrow.BinaryTypes.String),
		"struct": arrow.StructOf(
			arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
			arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		),
		"at": &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Berlin"},
	}
	var fields []arrow.Field
	var values []arrow.Array
	for _, name := range []string{"int64", "float64", "text", "bool", "category", "decimal", "list", "struct", "at"} {
		rows := strings.Trim(kinds[name], "[]")
		if name == "list" {
			rows = `["x", "y"], null, []`
		}
		text := "[" + strings.TrimSuffix(strings.Repeat(rows+",", copies), ",") + "]"
		column, _, err := array.FromJSON(memory.DefaultAllocator, types[name], strings.NewReader(text))
		require.NoError(t, err, name)
		fields = append(fields, arrow.Field{Name: name, Type: types[name], Nullable: true})
		values = append(values, column)
	}
	return New(array.NewRecordBatch(arrow.NewSchema(fields, nil), values, int64(3*copies)))
}

// rows returns the rows of a table as JSON, and its columns.
func rows(t testing.TB, table Table) ([]string, []string) {
	t.Helper()
	var lines, names []string
	for _, batch := range table.Records {
		text, err := batch.MarshalJSON()
		require.NoError(t, err)
		for line := range strings.Lines(strings.Trim(strings.ReplaceAll(string(text), "\n,", "\n"), "[]\n")) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	for _, field := range table.Schema.Fields() {
		names = append(names, field.Name)
	}
	return lines, names
}

func TestATablePassesFromEachLibraryToEachOther(t *testing.T) {
	how := map[string]string{"together": "", "isolated": ", isolation: strict"}
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		delete(how, "isolated")
	}
	for name, each := range how {
		t.Run(name, func(t *testing.T) {
			r := startNodes(t, []string{"with_pandas", "with_polars", "with_arrow", "with_polars", "with_pandas", "as_it_comes"}, each)
			one := many(t, 1)
			for what, want := range map[string]Table{
				"small": one, "large": many(t, 2000), "no rows": New(one.Records[0].NewSlice(0, 0)),
				"sliced": New(one.Records[0].NewSlice(1, 3)), "chunked": New(one.Records[0], one.Records[0].NewSlice(1, 2)),
				"no columns": {Schema: arrow.NewSchema(nil, nil)},
			} {
				got, err := runner.Call[Table, Table](t.Context(), r, want)
				require.NoError(t, err, "%s: %+v", what, err)
				wantRows, wantColumns := rows(t, want)
				gotRows, gotColumns := rows(t, got)
				assert.Equal(t, wantColumns, gotColumns, what)
				assert.Equal(t, strings.Join(wantRows, "\n"), strings.Join(gotRows, "\n"), what)
				if len(wantColumns) > 0 {
					at := got.Schema.Field(8).Type.(*arrow.TimestampType)
					assert.Equal(t, "Europe/Berlin", at.TimeZone, what)
					assert.Equal(t, arrow.DICTIONARY, got.Schema.Field(4).Type.ID(), what)
					assert.Equal(t, arrow.PrimitiveTypes.Int64, got.Schema.Field(0).Type, what)
				}
			}
		})
	}
}

func TestAChunkedTableArrivesInItsChunks(t *testing.T) {
	r := startNodes(t, []string{"chunked", "with_arrow"}, "")
	got, err := runner.Call[Table, Table](t.Context(), r, many(t, 1))
	require.NoError(t, err)
	assert.Equal(t, int64(6), got.NumRows())
	assert.Equal(t, int64(2), got.Records[0].NumRows())
	assert.Equal(t, int64(3), got.Records[1].NumRows())
}

func TestADamagedTableOfANodeIsRefusedByTheNextOneAndByGo(t *testing.T) {
	text := words(t, arrow.BinaryTypes.String, `["abc", "def"]`)
	_, err := startNodes(t, []string{"damage", "with_arrow"}, "").Run(t.Context(), text)
	assert.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, "not a valid Arrow IPC stream")
	_, err = runner.Call[Table, Table](t.Context(), startNodes(t, []string{"damage"}, ""), text)
	assert.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, "result: not a valid arrow.Table: decode a table: column \"words\"")
}

func TestAGoNodeAndAStreamHaveTables(t *testing.T) {
	firstTwo := func(_ context.Context, in runner.Input) (any, error) {
		var table Table
		if err := runner.Decode(in.Value, &table); err != nil {
			return nil, err
		}
		return New(table.Records[0].NewSlice(0, 2)), nil
	}
	r := startNodes(t, []string{"older", "first_two", "total"}, "", runner.WithNode("first_two", firstTwo))
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for range 3 {
		require.NoError(t, s.Send(people(t)))
	}
	s.CloseSend()
	for item, err := range s.All() {
		require.NoError(t, err)
		assert.Equal(t, int64(36+45+2), item.Value)
	}
	sum, err := runner.Call[any, int](t.Context(), r, []map[string]any{{"age": 1}, {"age": 2}})
	require.NoError(t, err, "a list of maps becomes a frame")
	assert.Equal(t, 5, sum)
}

func TestATableOfASharedResultOutlivesIt(t *testing.T) {
	r := startNodes(t, []string{"with_arrow"}, "")
	want := many(t, 2000)
	shared, err := r.RunShared(t.Context(), want)
	require.NoError(t, err)
	got, err := Decode(shared.Value.(*ipc.Table))
	require.NoError(t, err)
	shared.Release() // its memory is used again
	_, err = r.Run(t.Context(), New(want.Records[0].NewSlice(1, 6000)))
	require.NoError(t, err)
	assert.True(t, array.RecordEqual(want.Records[0], got.Records[0]))
}
