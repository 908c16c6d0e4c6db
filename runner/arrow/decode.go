package arrow

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gophersnake/gophersnake/ipc"
)

// Decode reads the records of a table. They share the memory of its stream, which must not
// change afterwards.
//
// The stream is not trusted. Decode compares every size with the bytes that there are, and
// checks each value: offsets ascend and stay inside of their data, indices
// are within their dictionary, text is UTF-8. So reading the records does not panic.
//
// Decode refuses what would need far more memory or time than the stream has bytes:
// compressed buffers, dictionaries in several parts, more than 65,536 columns, nesting of more
// than 60 levels, and more than 2³¹-1 rows.
func Decode(t *ipc.Table) (Table, error) {
	if t == nil {
		return Table{}, errors.New("decode a table: there is none")
	}
	decoded, err := decode(&messages{rest: t.Stream})
	if err != nil {
		return Table{}, fmt.Errorf("decode a table: %w", err)
	}
	return decoded, nil
}

func decode(from *messages) (decoded Table, err error) {
	// Arrow's own reader turns its panics into errors. A fault in the checks must not end the
	// program either.
	defer func() {
		if found := recover(); found != nil {
			err = fmt.Errorf("its parts contradict each other: %v", found)
		}
	}()
	reader, err := arrowipc.NewReaderFromMessageReader(from)
	if err != nil {
		return Table{}, err
	}
	decoded = Table{Schema: reader.Schema()}
	known := dictionaries{seen: map[*array.Data]bool{}, left: maxRepeated}
	for reader.Next() {
		batch := reader.RecordBatch()
		for i, column := range batch.Columns() {
			if int64(column.Len()) != batch.NumRows() {
				return Table{}, fmt.Errorf("column %q: it has %d rows instead of %d", batch.ColumnName(i), column.Len(), batch.NumRows())
			}
			completeNulls(column.Data())
			if err := known.check(column); err != nil {
				return Table{}, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
			}
		}
		batch.Retain()
		decoded.Records = append(decoded.Records, batch)
	}
	return decoded, reader.Err()
}

// completeNulls gives columns of the type null the buffer, which is nil, that Arrow's checks
// expect and its reader leaves out.
func completeNulls(data arrow.ArrayData) {
	if own, ok := data.(*array.Data); ok && data.DataType().ID() == arrow.NULL {
		own.Reset(arrow.Null, data.Len(), []*memory.Buffer{nil}, nil, data.Len(), data.Offset())
	}
	for _, child := range data.Children() {
		completeNulls(child)
	}
	if values := dictionaryOf(data); values != nil {
		completeNulls(values)
	}
}

// maxRepeated bounds the bytes of dictionaries inside of nested columns, which are checked
// again in each batch.
const maxRepeated = 1 << 30

// dictionaries checks columns. Many batches may refer to one large dictionary, which is checked
// once.
type dictionaries struct {
	seen map[*array.Data]bool
	left uint64 // of maxRepeated
}

// check checks all values of a column.
func (d *dictionaries) check(column arrow.Array) error {
	indexed, ok := column.(*array.Dictionary)
	if !ok {
		d.left -= min(d.left, sizeOfDictionaries(column.Data()))
		if d.left == 0 {
			return fmt.Errorf("its batches repeat dictionaries of more than %d bytes", maxRepeated)
		}
		return array.ValidateFull(column)
	}
	values := dictionaryOf(column.Data())
	if values == nil { // of a column without rows
		return nil
	}
	if err := array.ValidateFull(indexed.Indices()); err != nil {
		return err
	}
	if err := checkIndices(indexed); err != nil {
		return err
	}
	if d.seen[values] {
		return nil
	}
	d.seen[values] = true
	return d.check(indexed.Dictionary())
}

// checkIndices refuses an index beyond the dictionary.
func checkIndices(column *array.Dictionary) error {
	var err error
	switch indices := column.Indices().(type) {
	case *array.Int8:
		err = within(indices, indices.Int8Values(), column)
	case *array.Uint8:
		err = within(indices, indices.Uint8Values(), column)
	case *array.Int16:
		err = within(indices, indices.Int16Values(), column)
	case *array.Uint16:
		err = within(indices, indices.Uint16Values(), column)
	case *array.Int32:
		err = within(indices, indices.Int32Values(), column)
	case *array.Uint32:
		err = within(indices, indices.Uint32Values(), column)
	case *array.Int64:
		err = within(indices, indices.Int64Values(), column)
	case *array.Uint64:
		err = within(indices, indices.Uint64Values(), column)
	default:
		err = fmt.Errorf("a dictionary with indices of %s", indices.DataType())
	}
	return err
}

func within[T int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64](indices arrow.Array, values []T, column *array.Dictionary) error {
	size := uint64(column.Dictionary().Len())
	for i, index := range values {
		if uint64(index) >= size && !indices.IsNull(i) { // a negative one is large as a uint64
			return fmt.Errorf("the index %d at row %d, in a dictionary of %d values", index, i, size)
		}
	}
	return nil
}

// dictionaryOf returns the dictionary of a column, or nil.
func dictionaryOf(data arrow.ArrayData) *array.Data {
	values, _ := data.Dictionary().(*array.Data)
	return values
}

// sizeOfDictionaries returns the bytes of the dictionaries inside of a column.
func sizeOfDictionaries(data arrow.ArrayData) uint64 {
	var size uint64
	if values := dictionaryOf(data); values != nil {
		size += values.SizeInBytes() + uint64(values.Len())
	}
	for _, child := range data.Children() {
		size += sizeOfDictionaries(child)
	}
	return size
}
