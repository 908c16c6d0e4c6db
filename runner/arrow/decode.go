package arrow

import (
	"bytes"
	"fmt"

	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/gophersnake/gophersnake/ipc"
)

// Decode reads the records of a table, and checks them as the word of an attacker. The records
// share the memory of the table, which must not change afterwards.
func Decode(table *ipc.Table) (Table, error) {
	reader, err := arrowipc.NewReader(bytes.NewReader(table.Stream))
	if err != nil {
		return Table{}, fmt.Errorf("decode a table: %w", err)
	}
	t := Table{Schema: reader.Schema()}
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		t.Records = append(t.Records, batch)
	}
	if err := reader.Err(); err != nil {
		return Table{}, fmt.Errorf("decode a table: %w", err)
	}
	return t, nil
}
