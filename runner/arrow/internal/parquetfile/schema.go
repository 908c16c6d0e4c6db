package parquetfile

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/gophersnake/gophersnake/ipc"
	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
)

// schemaKey is the note of a file that has the Arrow schema of its table: an Arrow IPC stream
// without records, in base64. Arrow's libraries in other languages write and read it, too.
const schemaKey = "ARROW:schema"

// column is a node of the tree of columns in a file, with the type that it has in Arrow.
type column struct {
	name     string
	kind     arrow.DataType
	nullable bool
	// present is the definition level from which on the value itself is not null.
	present int
	// repetition and filled are those of the items of a list: the repetition level of a further
	// item, and the definition level from which on there is one.
	repetition, filled int
	children           []*column

	leaf    *parquet.Column // without children
	index   int             // of the first leaf of this column
	leaves  int             // how many leaves the column has
	convert appender        // of a leaf
}

// field returns the column as a field of an Arrow schema.
func (c *column) field() arrow.Field {
	return arrow.Field{Name: c.name, Type: c.kind, Nullable: c.nullable}
}

// columnsOf returns the columns of a file, and the schema of its table.
func columnsOf(file *parquet.File, meta *format.FileMetaData) ([]*column, *arrow.Schema) {
	hints, notes := hintsOf(meta)
	var columns []*column
	var fields []arrow.Field
	for i, each := range file.Root().Columns() {
		var hint arrow.DataType
		if len(hints) == len(file.Root().Columns()) && hints[i].Name == each.Name() {
			hint = hints[i].Type
		}
		c := newColumn(each, hint)
		field := c.field()
		if hint != nil {
			field.Metadata = hints[i].Metadata
			if dictionary, ok := hint.(*arrow.DictionaryType); ok && c.leaf != nil && c.kind.ID() != arrow.BOOL {
				field.Type = &arrow.DictionaryType{IndexType: dictionary.IndexType, ValueType: c.kind, Ordered: dictionary.Ordered}
			}
		}
		columns, fields = append(columns, c), append(fields, field)
	}
	return columns, arrow.NewSchema(fields, &notes)
}

// hintsOf returns the fields that the table had in Arrow, none if the file does not say, and the
// notes of its schema.
func hintsOf(meta *format.FileMetaData) ([]arrow.Field, arrow.Metadata) {
	var keys, values []string
	var hints []arrow.Field
	for _, each := range meta.KeyValueMetadata {
		if each.Key != schemaKey {
			keys, values = append(keys, each.Key), append(values, each.Value)
			continue
		}
		stream, err := base64.StdEncoding.DecodeString(each.Value)
		if err != nil {
			continue
		}
		if table, err := gsarrow.Decode(&ipc.Table{Stream: padded(stream)}); err == nil {
			hints = table.Schema.Fields()
		}
	}
	return hints, arrow.NewMetadata(keys, values)
}

// padded returns a stream of a schema alone whose message has a size that is a multiple of 8, as
// the format demands; polars writes it without padding.
func padded(stream []byte) []byte {
	const head = 8
	if len(stream) < head || len(stream)%8 == 0 {
		return stream
	}
	if size := binary.LittleEndian.Uint32(stream[4:]); uint64(size) != uint64(len(stream)-head) {
		return stream
	}
	stream = append(stream, make([]byte, 8-len(stream)%8)...)
	binary.LittleEndian.PutUint32(stream[4:], uint32(len(stream)-head))
	return stream
}

// newColumn returns the column for a node of a file. The hint is the type that it had in Arrow,
// or nil.
func newColumn(node *parquet.Column, hint arrow.DataType) *column {
	if node.Repeated() { // a list that is not marked as one
		return listOf(node.Name(), false, node, newItem(node, nil), nil)
	}
	if !node.Leaf() {
		switch logicalOf(node).(type) {
		case *format.ListType:
			return markedList(node, hint)
		case *format.MapType:
			return markedMap(node, hint)
		}
	}
	return newItem(node, hint)
}

// newItem returns the column for a node, as if it were not repeated.
func newItem(node *parquet.Column, hint arrow.DataType) *column {
	c := &column{name: node.Name(), nullable: node.Optional(), present: node.MaxDefinitionLevel()}
	if node.Leaf() {
		c.leaf, c.index, c.leaves = node, node.Index(), 1
		if dictionary, ok := hint.(*arrow.DictionaryType); ok {
			hint = dictionary.ValueType
			switch hint.ID() { // package array builds no dictionaries of these
			case arrow.STRING_VIEW, arrow.BINARY_VIEW, arrow.LARGE_STRING, arrow.LARGE_BINARY:
				hint = nil
			}
		}
		c.kind, c.convert = leafOf(node, hint)
		return c
	}
	hinted, _ := hint.(*arrow.StructType)
	var fields []arrow.Field
	for i, each := range node.Columns() {
		var below arrow.DataType
		if hinted != nil && hinted.NumFields() == len(node.Columns()) && hinted.Field(i).Name == each.Name() {
			below = hinted.Field(i).Type
		}
		child := newColumn(each, below)
		c.children, fields = append(c.children, child), append(fields, child.field())
	}
	c.kind = arrow.StructOf(fields...)
	c.countLeaves(node)
	return c
}

// countLeaves sets which leaves belong to a column.
func (c *column) countLeaves(node *parquet.Column) {
	if len(c.children) == 0 {
		refuse("the column %q has no values", node.Name())
	}
	c.index = c.children[0].index
	for _, child := range c.children {
		c.leaves += child.leaves
	}
}

// listOf returns a list whose items are those of a repeated node.
func listOf(name string, nullable bool, repeated *parquet.Column, item *column, hint arrow.DataType) *column {
	c := &column{name: name, nullable: nullable, present: repeated.MaxDefinitionLevel() - 1,
		repetition: repeated.MaxRepetitionLevel(), filled: repeated.MaxDefinitionLevel(), children: []*column{item}}
	element := arrow.Field{Name: item.name, Type: item.kind, Nullable: item.nullable}
	if list, ok := hint.(arrow.ListLikeType); ok {
		element.Name = list.ElemField().Name
	}
	if _, large := hint.(*arrow.LargeListType); large {
		c.kind = arrow.LargeListOfField(element)
	} else {
		c.kind = arrow.ListOfField(element)
	}
	c.countLeaves(repeated)
	return c
}

// onlyChild returns the repeated node below a list or a map.
func onlyChild(node *parquet.Column) *parquet.Column {
	if len(node.Columns()) != 1 || !node.Columns()[0].Repeated() {
		refuse("the column %q is not a valid list or map", node.Name())
	}
	return node.Columns()[0]
}

// markedList returns a list in its present form, or in one of those of older programs, in which
// the repeated node is the item.
func markedList(node *parquet.Column, hint arrow.DataType) *column {
	repeated := onlyChild(node)
	var below arrow.DataType
	if list, ok := hint.(arrow.ListLikeType); ok {
		below = list.Elem()
	}
	var item *column
	if repeated.Leaf() || len(repeated.Columns()) != 1 || repeated.Name() == "array" || repeated.Name() == node.Name()+"_tuple" {
		item = newItem(repeated, below)
		item.nullable = false
	} else {
		item = newColumn(repeated.Columns()[0], below)
	}
	return listOf(node.Name(), node.Optional(), repeated, item, hint)
}

// markedMap returns a map, as a list of its keys and values.
func markedMap(node *parquet.Column, hint arrow.DataType) *column {
	repeated := onlyChild(node)
	if repeated.Leaf() || len(repeated.Columns()) != 2 {
		refuse("the column %q is not a valid map", node.Name())
	}
	var keyHint, valueHint arrow.DataType
	if m, ok := hint.(*arrow.MapType); ok {
		keyHint, valueHint = m.KeyType(), m.ItemType()
	}
	key, value := newColumn(repeated.Columns()[0], keyHint), newColumn(repeated.Columns()[1], valueHint)
	c := &column{name: node.Name(), nullable: node.Optional(), present: repeated.MaxDefinitionLevel() - 1,
		repetition: repeated.MaxRepetitionLevel(), filled: repeated.MaxDefinitionLevel(), children: []*column{key, value}}
	kind := arrow.MapOf(key.kind, value.kind)
	kind.SetItemNullable(value.nullable)
	c.kind = kind
	c.countLeaves(node)
	return c
}

// logicalOf returns the logical type of a node, nil if it has none.
func logicalOf(node *parquet.Column) format.LogicalTypeValue {
	if logical := node.Type().LogicalType(); logical != nil {
		return logical.Value
	}
	return nil
}

// unsupported refuses a column whose type Arrow does not have.
func unsupported(node *parquet.Column) {
	refuse("the column %q has the type %s, which is not supported", fmt.Sprint(node.Path()), node.Type())
}
