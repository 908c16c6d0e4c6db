// Package arrow reads and writes the tables that pass between Go and nodes as the records of
// Apache Arrow for Go. A program that does not import it does not compile Arrow.
//
// A [Table] is an input or a result, or a part of one:
//
//	report, err := runner.Call[arrow.Table, Report](ctx, r, table)
//
//	type Prices struct {
//		Day   string
//		Table arrow.Table
//	}
//	prices, err := runner.Call[string, Prices](ctx, r, "2024-05-01")
//	for _, batch := range prices.Table.Records {
//		…
//	}
//
// A node receives it as a pyarrow.Table, or as the class of pandas or polars that its
// annotation names. The schema, the types of the columns, nulls and dictionaries stay as they
// are.
//
// Tables in memory are collected as other Go values are: their Release methods need not be
// called.
package arrow

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/gophersnake/gophersnake/ipc"
)

// Table is a table as Arrow records. As an input or result of a run or call, also inside of
// structs, slices and maps, it is an [ipc.Table].
type Table struct {
	// Schema has the names and types of the columns. It may be nil if there are records.
	Schema *arrow.Schema
	// Records hold the rows. All of them have the columns of Schema.
	Records []arrow.RecordBatch
}

// New returns the table of some records, which have the same schema. There must be at least
// one: a table without records is a Table with a Schema alone.
func New(records ...arrow.RecordBatch) Table {
	t := Table{Records: records}
	if len(records) > 0 {
		t.Schema = records[0].Schema()
	}
	return t
}

// FromTable returns the records of a table, without copying its columns.
func FromTable(table arrow.Table) Table {
	t := Table{Schema: table.Schema()}
	reader := array.NewTableReader(table, 0)
	defer reader.Release()
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		t.Records = append(t.Records, batch)
	}
	return t
}

// Columns returns the table as an arrow.Table, whose columns are chunked as the records are.
// Nothing is copied.
func (t Table) Columns() arrow.Table { return array.NewTableFromRecords(t.Schema, t.Records) }

// NumRows returns the number of rows in all records.
func (t Table) NumRows() int64 {
	var rows int64
	for _, batch := range t.Records {
		rows += batch.NumRows()
	}
	return rows
}

// Encode writes a table as an Arrow IPC stream. It copies the rows once. It fails if the
// records differ in their columns.
func Encode(t Table) (*ipc.Table, error) {
	schema, err := t.schema()
	if err != nil {
		return nil, fmt.Errorf("encode a table: %w", err)
	}
	var stream sink
	writer := arrowipc.NewWriter(&stream, arrowipc.WithSchema(schema))
	for i, batch := range t.Records {
		if err := writer.Write(batch); err != nil {
			return nil, fmt.Errorf("encode record batch %d of a table: %w", i, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("encode a table: %w", err)
	}
	return &ipc.Table{Stream: stream}, nil
}

// schema returns the schema of a table that may have only records.
func (t Table) schema() (*arrow.Schema, error) {
	switch {
	case t.Schema != nil:
		return t.Schema, nil
	case len(t.Records) == 0:
		return nil, errors.New("it has neither a schema nor records")
	}
	return t.Records[0].Schema(), nil
}

// sink collects what is written.
type sink []byte

// Write implements [io.Writer].
func (s *sink) Write(b []byte) (int, error) {
	*s = append(*s, b...)
	return len(b), nil
}

// MarshalTable implements [ipc.TableMarshaler] by [Encode].
func (t Table) MarshalTable() (*ipc.Table, error) { return Encode(t) }

// UnmarshalTable implements [ipc.TableUnmarshaler] by [Decode].
func (t *Table) UnmarshalTable(table *ipc.Table) error {
	decoded, err := Decode(table)
	if err == nil {
		*t = decoded
	}
	return err
}
