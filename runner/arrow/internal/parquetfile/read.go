// Package parquetfile reads and writes tables as Parquet files. It converts between the columns
// of a file, which github.com/parquet-go/parquet-go decodes and encodes, and Arrow's. Arrow's own
// package for Parquet is not used because it makes a program larger by 18 MB: it needs all of
// Arrow's functions for calculations.
package parquetfile

import (
	"bytes"
	"errors"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/parquet-go/parquet-go"

	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
)

// rowsPerBatch is the largest number of rows in a record batch.
const rowsPerBatch = 1 << 16

// Decode reads the records of a Parquet file. The file is not trusted: what contradicts itself,
// or needs far more memory than it has bytes, is an error. Decode holds the decompressed file in
// memory, too, until it returns. Its errors do not name the format.
func Decode(file []byte) (table gsarrow.Table, err error) {
	defer recovered(&err)
	left := newBudget(file)
	image, meta := unpack(file, &left)
	opened, err := parquet.OpenFile(bytes.NewReader(image), int64(len(image)), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return gsarrow.Table{}, err
	}
	columns, schema := columnsOf(opened, meta)
	r := &reader{columns: columns, schema: schema, left: newBudget(file), indices: map[int]array.DictionaryBuilder{}}
	for i, group := range opened.RowGroups() {
		r.group(group, meta.RowGroups[i].NumRows)
	}
	return gsarrow.Table{Schema: r.schema, Records: r.records()}, nil
}

// reader builds the records of a file.
type reader struct {
	columns []*column
	schema  *arrow.Schema
	batches [][]arrow.Array
	rows    []int64 // of each batch
	left    budget
	// indices are the builders of the columns that are indices of a dictionary, which all
	// batches share.
	indices map[int]array.DictionaryBuilder
}

// group reads the rows of a row group.
func (r *reader) group(group parquet.RowGroup, rows int64) {
	var cursors []*cursor
	for _, chunk := range group.ColumnChunks() {
		c := &cursor{pages: chunk.Pages(), left: &r.left, values: make([]parquet.Value, 1024)}
		defer func() { _ = c.pages.Close() }() // of memory
		cursors = append(cursors, c)
	}
	for rows > 0 {
		size := min(rows, rowsPerBatch)
		r.batch(cursors, size)
		rows -= size
	}
	for _, c := range cursors {
		if c.more() {
			refuse("a column has more rows than its row group")
		}
	}
}

// batch reads the next rows of a row group.
func (r *reader) batch(cursors []*cursor, rows int64) {
	arrays := make([]arrow.Array, len(r.columns))
	for i, column := range r.columns {
		own := cursors[column.index : column.index+column.leaves]
		for _, c := range own {
			c.bytes = 0
		}
		builder := array.NewBuilder(memory.DefaultAllocator, column.kind)
		for range rows {
			column.read(builder, own)
			if own[0].more() && own[0].peek().RepetitionLevel() != 0 {
				refuse("the values of the column %q do not end with their row", column.name)
			}
		}
		arrays[i] = builder.NewArray()
		if indices := r.dictionary(i); indices != nil {
			if err := indices.AppendArray(arrays[i]); err != nil {
				refuse("the column %q: %v", column.name, err)
			}
			arrays[i] = nil
		}
	}
	r.batches = append(r.batches, arrays)
	r.rows = append(r.rows, rows)
}

// dictionary returns the builder for a column of indices, nil for any other column.
func (r *reader) dictionary(column int) array.DictionaryBuilder {
	kind, ok := r.schema.Field(column).Type.(*arrow.DictionaryType)
	if ok && r.indices[column] == nil {
		r.indices[column] = array.NewDictionaryBuilder(memory.DefaultAllocator, kind)
	}
	return r.indices[column]
}

// records returns the batches as records.
func (r *reader) records() []arrow.RecordBatch {
	whole := map[int]arrow.Array{}
	for column, indices := range r.indices {
		whole[column] = indices.NewArray()
	}
	var records []arrow.RecordBatch
	var start int64
	for i, arrays := range r.batches {
		end := start + r.rows[i]
		for column, indices := range whole {
			arrays[column] = array.NewSlice(indices, start, end)
		}
		records = append(records, array.NewRecordBatch(r.schema, arrays, r.rows[i]))
		start = end
	}
	return records
}

// cursor is a position in the values of a leaf.
type cursor struct {
	pages  parquet.Pages
	page   parquet.ValueReader // nil before and after the last page
	values []parquet.Value
	at, n  int
	left   *budget
	bytes  int64 // of the values in this batch
}

// more reports whether there is another value, and reads the next page if needed.
func (c *cursor) more() bool {
	for c.at == c.n {
		if c.page == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return false
			}
			if err != nil {
				refuse("a page cannot be read: %v", err)
			}
			c.page = page.Values()
		}
		n, err := c.page.ReadValues(c.values)
		c.at, c.n = 0, n
		if err != nil || n == 0 {
			c.page = nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			refuse("a page cannot be read: %v", err)
		}
	}
	return true
}

// peek returns the next value.
func (c *cursor) peek() parquet.Value {
	if !c.more() {
		refuse("a column has fewer rows than its row group")
	}
	return c.values[c.at]
}

// next returns the next value and passes it.
func (c *cursor) next() parquet.Value {
	v := c.peek()
	c.at++
	size := int64(8)
	if kind := v.Kind(); !v.IsNull() && (kind == parquet.ByteArray || kind == parquet.FixedLenByteArray) {
		size += int64(len(v.ByteArray()))
	}
	c.left.spend(size)
	if c.bytes += size; c.bytes > math.MaxInt32 {
		refuse("a column has more than 2 GiB in %d rows", rowsPerBatch)
	}
	return v
}

// skip passes the value of each leaf that stands for a null or for an empty list.
func skip(leaves []*cursor) {
	for _, c := range leaves {
		if !c.next().IsNull() {
			refuse("the columns of a nested column contradict each other")
		}
	}
}

// read appends the next value of a column to a builder. The leaves are those of the column.
func (c *column) read(to array.Builder, leaves []*cursor) {
	switch {
	case c.leaf != nil:
		if v := leaves[0].next(); v.IsNull() {
			to.AppendNull()
		} else {
			c.convert(to, v)
		}
	case c.repetition > 0:
		c.readList(to, leaves)
	case c.nullable && leaves[0].peek().DefinitionLevel() < c.present:
		to.AppendNull()
		skip(leaves)
	default:
		builder := to.(*array.StructBuilder)
		builder.Append(true)
		for i, child := range c.children {
			child.read(builder.FieldBuilder(i), leaves[child.index-c.index:][:child.leaves])
		}
	}
}

// readList appends the next list or map of a column to a builder.
func (c *column) readList(to array.Builder, leaves []*cursor) {
	level := leaves[0].peek().DefinitionLevel()
	list, _ := to.(array.ListLikeBuilder)
	if c.nullable && level < c.present {
		list.AppendNull()
		skip(leaves)
		return
	}
	list.Append(true)
	if level < c.filled {
		skip(leaves)
		return
	}
	entries, isMap := to.(*array.MapBuilder)
	for {
		if isMap {
			key, value := c.children[0], c.children[1]
			if key.leaf != nil && leaves[0].peek().IsNull() {
				refuse("a map has a key that is null")
			}
			key.read(entries.KeyBuilder(), leaves[:key.leaves])
			value.read(entries.ItemBuilder(), leaves[value.index-c.index:][:value.leaves])
		} else {
			c.children[0].read(list.ValueBuilder(), leaves)
		}
		if !leaves[0].more() || leaves[0].peek().RepetitionLevel() != c.repetition {
			return
		}
	}
}
