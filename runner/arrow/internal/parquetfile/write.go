package parquetfile

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/parquet-go/parquet-go"

	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
)

// rowsPerGroup is the largest number of rows in a row group.
const rowsPerGroup = 1 << 20

// TypeError says that a Parquet file cannot hold a column.
type TypeError struct {
	Column string
	Reason string
}

// Error names the column.
func (e *TypeError) Error() string { return fmt.Sprintf("the column %q %s", e.Column, e.Reason) }

// Encode writes a table as a Parquet file, compressed with Snappy. The file also has the schema
// of the table, so that [Decode] and Arrow's libraries read it with the same types. The error is
// a [*TypeError] or that of w.
func Encode(w io.Writer, t gsarrow.Table) (err error) {
	schema := t.Schema
	if schema == nil {
		if len(t.Records) == 0 {
			return errors.New("there is neither a schema nor a record")
		}
		schema = t.Records[0].Schema()
	}
	root := &group{}
	plan := planner{}
	var outputs []*output
	for _, field := range schema.Fields() {
		node, out, reason := plan.column(field, 0, 0)
		if reason != "" {
			return &TypeError{field.Name, reason}
		}
		if err := root.add(field.Name, node); err != nil {
			return &TypeError{field.Name, err.Error()}
		}
		outputs = append(outputs, out)
	}
	if len(outputs) == 0 {
		return errors.New("a Parquet file has at least one column")
	}
	text, err := schemaText(schema)
	if err != nil {
		return err
	}
	options := []parquet.WriterOption{
		parquet.NewSchema("schema", root), parquet.Compression(&parquet.Snappy), parquet.MaxRowsPerRowGroup(rowsPerGroup),
		parquet.KeyValueMetadata(schemaKey, text),
	}
	notes := schema.Metadata()
	for i, key := range notes.Keys() {
		options = append(options, parquet.KeyValueMetadata(key, notes.Values()[i]))
	}
	writer := parquet.NewGenericWriter[any](w, options...)
	for _, batch := range t.Records {
		if !batch.Schema().Equal(schema) {
			return errors.New("the records differ in their columns")
		}
		if err := writeBatch(writer, plan.leaves, outputs, batch); err != nil {
			return err
		}
	}
	return writer.Close()
}

// schemaText returns a schema as the note of a file.
func schemaText(schema *arrow.Schema) (string, error) {
	var stream bytes.Buffer
	if err := arrowipc.NewWriter(&stream, arrowipc.WithSchema(schema)).Close(); err != nil {
		return "", err
	}
	end := []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0} // of a stream: other programs expect the schema alone
	return base64.StdEncoding.EncodeToString(bytes.TrimSuffix(stream.Bytes(), end)), nil
}

// group is a group of nodes that keeps their order, unlike [parquet.Group].
type group struct {
	parquet.Group
	fields []parquet.Field
}

// Fields returns the nodes in their order.
func (g *group) Fields() []parquet.Field { return g.fields }

// add appends a node. Its error completes a sentence about the column.
func (g *group) add(name string, node parquet.Node) error {
	if _, twice := g.Group[name]; twice {
		return errors.New("has the name of another one, which Parquet files cannot have")
	}
	if g.Group == nil {
		g.Group = parquet.Group{}
	}
	g.Group[name] = node
	named := parquet.Group{name: node}.Fields()[0]
	g.fields = append(g.fields, named)
	return nil
}

// output says how the values of a column are written: the levels of its values, and those of its
// items if it is a list. See the same fields of column.
type output struct {
	nullable           bool
	present            int
	repetition, filled int
	children           []*output
	first, leaves      int         // the numbers of its leaves
	value              valueWriter // of a leaf
}

// valueWriter returns a value of an array that is not null.
type valueWriter func(from arrow.Array, i int) parquet.Value

// planner makes the nodes and outputs of columns.
type planner struct{ leaves int }

// column returns the node of a column, and how it is written. The levels are those of the column
// above. The reason, if there is one, says why a file cannot hold it.
func (p *planner) column(field arrow.Field, definition, repetition int) (parquet.Node, *output, string) {
	out := &output{nullable: field.Nullable, first: p.leaves, present: definition}
	if field.Nullable {
		out.present++
	}
	node, reason := p.content(field.Type, out, repetition)
	if reason != "" {
		return nil, nil, reason
	}
	if field.Nullable {
		node = parquet.Optional(node)
	}
	out.leaves = p.leaves - out.first
	return node, out, ""
}

// content returns the node of a column as if it could not be null, and completes its output.
func (p *planner) content(kind arrow.DataType, out *output, repetition int) (parquet.Node, string) {
	switch kind := kind.(type) {
	case *arrow.DictionaryType:
		if kind.ValueType.ID() == arrow.DICTIONARY {
			return nil, "has a dictionary of dictionaries, which Parquet files cannot hold"
		}
		node, reason := p.content(kind.ValueType, out, repetition)
		if reason == "" && out.value != nil && kind.ValueType.ID() != arrow.BOOL {
			node = parquet.Encoded(node, &parquet.RLEDictionary)
		}
		return node, reason
	case *arrow.StructType:
		return p.structure(kind, out, repetition)
	case *arrow.MapType:
		out.repetition, out.filled = repetition+1, out.present+1
		key, keys, reason := p.column(arrow.Field{Type: kind.KeyType()}, out.filled, out.repetition)
		if reason != "" {
			return nil, reason
		}
		value, values, reason := p.column(arrow.Field{Type: kind.ItemType(), Nullable: kind.ItemField().Nullable}, out.filled, out.repetition)
		out.children = []*output{keys, values}
		return parquet.Map(key, value), reason
	case arrow.ListLikeType:
		if kind.ID() == arrow.LIST_VIEW || kind.ID() == arrow.LARGE_LIST_VIEW {
			return nil, "is a list view, which Parquet files cannot hold"
		}
		out.repetition, out.filled = repetition+1, out.present+1
		item, items, reason := p.column(kind.ElemField(), out.filled, out.repetition)
		out.children = []*output{items}
		if reason != "" {
			return nil, reason
		}
		return parquet.List(item), ""
	}
	node, value := leafNode(kind)
	if node == nil {
		return nil, fmt.Sprintf("has the type %s, which Parquet files cannot hold", kind)
	}
	out.value = value
	p.leaves++
	return node, ""
}

// structure returns the node of a struct.
func (p *planner) structure(kind *arrow.StructType, out *output, repetition int) (parquet.Node, string) {
	if kind.NumFields() == 0 {
		return nil, "is a struct without fields, which Parquet files cannot hold"
	}
	nodes := &group{}
	for _, field := range kind.Fields() {
		node, child, reason := p.column(field, out.present, repetition)
		if reason != "" {
			return nil, reason
		}
		if err := nodes.add(field.Name, node); err != nil {
			return nil, fmt.Sprintf("has a field %q that %s", field.Name, err)
		}
		out.children = append(out.children, child)
	}
	return nodes, ""
}

// writeBatch writes the rows of a batch. The values of a row are ordered by their leaves.
func writeBatch(writer *parquet.GenericWriter[any], leaves int, outputs []*output, batch arrow.RecordBatch) (err error) {
	w := rowWriter{values: make([][]parquet.Value, leaves)}
	defer func() {
		if found := recover(); found != nil {
			fault, ok := found.(*TypeError)
			if !ok {
				panic(found)
			}
			fault.Column = w.column
			err = fault
		}
	}()
	const rowsAtOnce = 256
	rows := make([]parquet.Row, 0, rowsAtOnce)
	for i := range int(batch.NumRows()) {
		for leaf := range w.values {
			w.values[leaf] = w.values[leaf][:0]
		}
		for k, out := range outputs {
			w.column = batch.ColumnName(k)
			w.write(out, batch.Column(k), i, 0, out.above())
		}
		rows = rows[:len(rows)+1]
		row := rows[len(rows)-1][:0]
		for _, each := range w.values {
			row = append(row, each...)
		}
		rows[len(rows)-1] = row
		if len(rows) == rowsAtOnce || i == int(batch.NumRows())-1 {
			if _, err := writer.WriteRows(rows); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	return nil
}

// above is the definition level of a value that is null.
func (o *output) above() int {
	if o.nullable {
		return o.present - 1
	}
	return o.present
}

// rowWriter collects the values of a row, by leaf.
type rowWriter struct {
	values [][]parquet.Value
	column string
}

func (w *rowWriter) add(leaf int, v parquet.Value, repetition, definition int) {
	w.values[leaf] = append(w.values[leaf], v.Level(repetition, definition, leaf))
}

// absent adds a value for each leaf of a column that is null, or that is a list without items.
func (w *rowWriter) absent(o *output, repetition, definition int) {
	for leaf := o.first; leaf < o.first+o.leaves; leaf++ {
		w.add(leaf, parquet.NullValue(), repetition, definition)
	}
}

// write adds a value of an array. The definition level is that of a null.
func (w *rowWriter) write(o *output, from arrow.Array, i, repetition, definition int) {
	if from.IsNull(i) || from.DataType().ID() == arrow.NULL {
		if !o.nullable {
			panic(&TypeError{Reason: "has a null although its schema does not allow it"})
		}
		w.absent(o, repetition, definition)
		return
	}
	switch from := from.(type) {
	case *array.Dictionary:
		w.write(o, from.Dictionary(), from.GetValueIndex(i), repetition, definition)
	case *array.Struct:
		for k, child := range o.children {
			w.write(child, from.Field(k), i, repetition, child.above())
		}
	case *array.Map:
		w.list(o, []arrow.Array{from.Keys(), from.Items()}, from, i, repetition)
	case array.ListLike:
		w.list(o, []arrow.Array{from.ListValues()}, from, i, repetition)
	default:
		w.add(o.first, o.value(from, i), repetition, o.present)
	}
}

// list adds the items of a list, or the keys and values of a map.
func (w *rowWriter) list(o *output, items []arrow.Array, from array.ListLike, i, repetition int) {
	start, end := from.ValueOffsets(i)
	if start == end {
		w.absent(o, repetition, o.present)
		return
	}
	for at := start; at < end; at++ {
		for k, child := range o.children {
			w.write(child, items[k], int(at), repetition, child.above())
		}
		repetition = o.repetition
	}
}

// bigEndian returns a number as so many bytes in two's complement, most significant first.
func bigEndian(words []uint64, size int) []byte {
	var b []byte
	for _, word := range slices.Backward(words) {
		for shift := 56; shift >= 0; shift -= 8 {
			b = append(b, byte(word>>shift))
		}
	}
	return b[len(b)-size:]
}
