package arrow

import (
	"encoding/binary"
	"io"
	"math"
	"unsafe"

	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// The kinds of messages in a stream.
const (
	kindSchema     = 1
	kindDictionary = 2
	kindBatch      = 3
)

// maxRows bounds the rows of a stream: those of columns without data take no memory, but the
// time of each reader.
const maxRows = math.MaxInt32

// messages reads the messages of a stream from memory without copying them. It implements
// the MessageReader of Arrow for Go, which gets none whose metadata was not checked.
type messages struct {
	rest   []byte
	rows   uint64
	schema bool // it was read
	// file is set for a file: its buffers may be compressed, and an index follows its end.
	file     bool
	unpacked uint64 // the bytes of the compressed buffers so far, when they are decompressed

	columns      layout            // of all columns together
	dictionaries map[uint64]layout // of the values of each dictionary, by its id
}

// layout is what a reader takes from the lists of a batch for a column with all that is nested
// in it. Arrow for Go does not compare it with the lengths of these lists.
type layout struct {
	parts   int // entries of the list of lengths
	buffers int // entries of the list of buffers, but for those that the batch counts itself
	bitmaps int // further ones in batches before version 5 of the format, and in dictionaries
	counts  int // entries of the list of such counts
}

func (l layout) plus(other layout) layout {
	return layout{l.parts + other.parts, l.buffers + other.buffers, l.bitmaps + other.bitmaps, l.counts + other.counts}
}

// Retain implements the interface; there is nothing to release.
func (m *messages) Retain() {}

// Release implements the interface.
func (m *messages) Release() {}

// Message returns the next message, or [io.EOF].
func (m *messages) Message() (message *arrowipc.Message, err error) {
	err = verified(func() { message = m.next() })
	if err == nil && message == nil {
		err = io.EOF
	}
	return message, err
}

// next returns the next message, nil at the end.
func (m *messages) next() *arrowipc.Message {
	if len(m.rest) == 0 {
		return nil
	}
	const marker = 0xffffffff
	if len(m.rest) < 8 || binary.LittleEndian.Uint32(m.rest) != marker {
		refuse("it does not begin with the mark of a message")
	}
	size := binary.LittleEndian.Uint32(m.rest[4:])
	m.rest = m.rest[8:]
	if size == 0 {
		if len(m.rest) != 0 && !m.file {
			refuse("%d bytes follow its end", len(m.rest))
		}
		return nil
	}
	if size%8 != 0 || uint64(size) > uint64(len(m.rest)) {
		refuse("it ends in the metadata of a message")
	}
	meta := m.rest[:size]
	m.rest = m.rest[size:]
	header := (&flat{b: meta}).root()
	length := header.scalar(3, 8)
	if length > uint64(len(m.rest)) {
		refuse("it ends in the body of a message")
	}
	body := m.rest[:length:length]
	m.rest = m.rest[length:]
	m.check(header, body)
	return arrowipc.NewMessage(memory.NewBufferBytes(meta), memory.NewBufferBytes(aligned(body)))
}

// check refuses a message of which a reader would do more than its size says.
func (m *messages) check(message table, body []byte) {
	message.notes(4)
	header, found := message.inner(2)
	kind := message.scalar(1, 1)
	switch {
	case !found:
		refuse("a message has no header")
	case m.schema == (kind == kindSchema):
		refuse("it has no schema at its beginning, or several")
	case kind == kindSchema:
		m.schema = true
		m.checkSchema(header)
	case kind == kindBatch:
		needs := m.columns
		if message.scalar(0, 2) < versionWithoutBitmaps {
			needs.buffers += needs.bitmaps
		}
		if m.rows += m.checkBatch(header, body, needs); m.rows > maxRows {
			refuse("it has more than %d rows", maxRows)
		}
	case kind == kindDictionary:
		if header.scalar(2, 1) != 0 {
			refuse("it has a dictionary in several parts; write it as a whole")
		}
		batch, found := header.inner(1)
		if !found {
			refuse("a dictionary has no values")
		}
		needs := m.dictionaries[header.scalar(0, 8)]
		needs.buffers += needs.bitmaps // the reader of dictionaries ignores the version
		m.checkBatch(batch, body, needs)
	default:
		refuse("it has a message of the unknown kind %d", kind)
	}
}

// versionWithoutBitmaps is the number of version 5 of the format, in which unions have no bitmap
// of nulls.
const versionWithoutBitmaps = 4

// checkSchema checks the tables below a schema, and notes the layout of the columns.
func (m *messages) checkSchema(schema table) {
	schema.notes(2)
	m.dictionaries = make(map[uint64]layout)
	first, count := schema.vector(1, 4)
	for i := range count {
		m.columns = m.columns.plus(m.checkField(schema.tableAt(schema.follow(first+4*i)), 0))
	}
}

// checkField checks a field and those below it, and returns its layout.
func (m *messages) checkField(field table, depth int) layout {
	if depth > maxDepth {
		refuse("a column is nested deeper than %d levels", maxDepth)
	}
	if field.fields++; field.fields > maxFields {
		refuse("it has more than %d columns", maxFields)
	}
	field.string(0)
	field.notes(6)
	var column layout
	if kind, found := field.inner(3); found {
		number := field.scalar(2, 1)
		checkType(kind, number)
		column = layoutOf(kind, number)
	}
	first, count := field.vector(5, 4)
	for i := range count {
		column = column.plus(m.checkField(field.tableAt(field.follow(first+4*i)), depth+1))
	}
	dictionary, found := field.inner(4)
	if !found {
		return column
	}
	id := dictionary.scalar(0, 8)
	if index, found := dictionary.inner(1); found {
		checkType(index, typeInteger)
	}
	other := m.dictionaries[id] // several columns may share one
	m.dictionaries[id] = layout{
		parts: max(column.parts, other.parts), buffers: max(column.buffers, other.buffers),
		bitmaps: max(column.bitmaps, other.bitmaps), counts: max(column.counts, other.counts),
	}
	return layout{parts: 1, buffers: 2}
}

// The numbers of the types in Arrow's format that differ from the others here.
const (
	typeNull, typeInteger, typeDecimal, typeTimestamp             = 1, 2, 7, 10
	typeBinary, typeText, typeLargeBinary, typeLargeText          = 4, 5, 19, 20
	typeStruct, typeUnion, typeFixedList, typeRuns                = 13, 14, 16, 22
	typeBinaryView, typeTextView, typeListView, typeLargeListView = 23, 24, 25, 26
)

// layoutOf returns the layout of a type without the fields below it.
func layoutOf(t table, kind uint64) layout {
	switch kind {
	case typeNull:
		return layout{parts: 1}
	case typeBinary, typeText, typeLargeBinary, typeLargeText, typeListView, typeLargeListView:
		return layout{parts: 1, buffers: 3}
	case typeBinaryView, typeTextView:
		return layout{parts: 1, buffers: 2, counts: 1}
	case typeStruct, typeFixedList:
		return layout{parts: 1, buffers: 1}
	case typeUnion:
		return layout{parts: 1, buffers: 1 + int(min(t.scalar(0, 2), 1)), bitmaps: 1} // a dense one has offsets
	case typeRuns:
		return layout{parts: 1, bitmaps: 1}
	}
	return layout{parts: 1, buffers: 2}
}

// checkType checks the parameters of a type, by the number of its kind in Arrow's format.
func checkType(t table, kind uint64) {
	switch kind {
	case typeDecimal:
		checkDecimal(t)
	case typeTimestamp:
		t.scalar(0, 2)
		t.string(1)
	case typeUnion:
		t.scalar(0, 2)
		t.vector(1, 4)
	default: // the others have numbers alone
		for i := range t.count {
			t.place(i, 1)
		}
	}
}

// digits are the most that decimals of so many bits have.
var digits = map[uint64]int32{0: 38, 32: 9, 64: 18, 128: 38, 256: 76}

// checkDecimal checks the parameters of a decimal: tables of powers of ten have an entry for each
// of its digits.
func checkDecimal(t table) {
	precision, scale := int32(t.scalar(0, 4)), int32(t.scalar(1, 4))
	most := digits[t.scalar(2, 4)]
	if precision < 1 || precision > most || scale < -most || scale > most {
		refuse("a decimal of %d digits, %d of them behind the point", precision, scale)
	}
}

// checkBatch checks the sizes in a record batch against its body, and its lists against what the
// columns need. It returns the number of its rows.
func (m *messages) checkBatch(batch table, body []byte, needs layout) uint64 {
	rows := batch.scalar(0, 8)
	if rows > maxRows {
		refuse("a batch has more than %d rows", maxRows)
	}
	first, count := batch.vector(1, 16)
	if count < needs.parts {
		refuse("a batch has the lengths of %d columns and their parts instead of %d", count, needs.parts)
	}
	for i := range count {
		long, nulls := batch.number(first+16*i, 8), batch.number(first+16*i+8, 8)
		if long > maxRows || nulls > long {
			refuse("a column of %d rows has %d nulls", long, nulls)
		}
	}
	needs.buffers += m.checkCounts(batch, needs.counts)
	compression, compressed := batch.inner(3)
	if compressed && !m.file {
		refuse("its buffers are compressed; write it without compression")
	}
	length := uint64(len(body))
	first, count = batch.vector(2, 16)
	if count < needs.buffers {
		refuse("a batch has %d buffers instead of %d", count, needs.buffers)
	}
	for i := range count {
		offset, size := batch.number(first+16*i, 8), batch.number(first+16*i+8, 8)
		if offset%8 != 0 || offset > length || size > length-offset {
			refuse("a buffer of %d bytes at %d in a body of %d bytes", size, offset, length)
		}
		if compressed {
			m.checkCompressed(compression, body[offset:offset+size])
		}
	}
	return rows
}

// checkCounts checks the numbers of buffers that columns have in this batch alone, and returns
// their sum.
func (m *messages) checkCounts(batch table, needed int) int {
	first, count := batch.vector(4, 8)
	if count < needed {
		refuse("a batch has the numbers of buffers of %d columns instead of %d", count, needed)
	}
	buffers := 0
	for i := range count {
		own := batch.number(first+8*i, 8)
		if own > uint64(len(batch.b)-buffers) { // each takes more than one byte of the metadata
			refuse("a column of more buffers than the batch has")
		}
		buffers += int(own)
	}
	return buffers
}

// The bounds of what compressed buffers become. The ratios are those of the formats: no input of
// LZ4 becomes more, and zstd has blocks of 128 KiB in 4 bytes.
const (
	maxUnpacked  = 8 << 30 // what a value may have
	maxLZ4Ratio  = 255
	maxZstdRatio = 32 << 10
)

// checkCompressed checks the size that a compressed buffer announces, for which the reader
// allocates memory before it decompresses.
func (m *messages) checkCompressed(compression table, buffer []byte) {
	const lz4, zstd = 0, 1
	ratio := map[uint64]uint64{lz4: maxLZ4Ratio, zstd: maxZstdRatio}[compression.scalar(0, 1)]
	if method := compression.scalar(1, 1); ratio == 0 || method != 0 {
		refuse("its buffers are compressed by an unknown method")
	}
	if len(buffer) == 0 {
		return
	}
	if len(buffer) < 8 {
		refuse("a compressed buffer has %d bytes", len(buffer))
	}
	size := binary.LittleEndian.Uint64(buffer)
	if int64(size) == -1 { // as it is
		return
	}
	if size > maxUnpacked || size > ratio*uint64(len(buffer)) {
		refuse("a compressed buffer of %d bytes announces %d bytes", len(buffer), size)
	}
	if m.unpacked += size; m.unpacked > maxUnpacked {
		refuse("it has more than %d bytes when it is decompressed", uint64(maxUnpacked))
	}
}

// aligned returns bytes at an address from which numbers of 64 bits can be read: a copy, if it
// has to be.
func aligned(b []byte) []byte {
	if len(b) == 0 || uintptr(unsafe.Pointer(&b[0]))%8 == 0 {
		return b
	}
	words := make([]uint64, (len(b)+7)/8)
	moved := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(b))
	copy(moved, b)
	return moved
}
