package parquetfile

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	mark          = "PAR1"
	encryptedMark = "PARE"
)

// Bounds of a file.
const (
	maxColumns = 1 << 16
	maxRows    = math.MaxInt32
	maxBytes   = 8 << 30 // what a value may have
	minBytes   = 1 << 30 // what even the smallest file may become
	maxRatio   = 1000    // more than that, for larger files
)

// budget is how many bytes a file may still become in memory.
type budget int64

func newBudget(file []byte) budget {
	return budget(min(maxBytes, minBytes+maxRatio*int64(len(file))))
}

func (b *budget) spend(bytes int64) {
	if bytes > int64(*b) {
		refuse("it needs too much memory for its size")
	}
	*b -= budget(bytes)
}

// levels are the largest repetition and definition level of a column.
type levels struct{ repetition, definition int }

// unpacker copies a file, page by page, without compression. It checks what the library that
// decodes the pages trusts: sizes, for which it allocates memory, and runs, which it repeats.
type unpacker struct {
	file   []byte
	image  []byte
	budget *budget
}

// unpack returns a file without compression, page index and checksums, and its metadata.
func unpack(file []byte, left *budget) ([]byte, *format.FileMetaData) {
	meta := readFooter(file)
	columns := columnLevels(meta.Schema)
	u := &unpacker{file: file, image: []byte(mark), budget: left}
	var rows int64
	for i := range meta.RowGroups {
		group := &meta.RowGroups[i]
		if len(group.Columns) != len(columns) {
			refuse("a row group has %d columns instead of %d", len(group.Columns), len(columns))
		}
		if group.NumRows < 0 || group.NumRows > maxRows-rows {
			refuse("it has more than %d rows", maxRows)
		}
		rows += group.NumRows
		for k := range group.Columns {
			u.chunk(&group.Columns[k], columns[k])
		}
	}
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, meta)
	if err != nil {
		refuse("its metadata is not valid: %v", err)
	}
	u.image = append(u.image, footer...)
	u.image = binary.LittleEndian.AppendUint32(u.image, uint32(len(footer)))
	return append(u.image, mark...), meta
}

func readFooter(file []byte) *format.FileMetaData {
	const least = 2*len(mark) + 4
	switch {
	case len(file) >= 4 && string(file[:4]) == encryptedMark:
		refuse("it is encrypted")
	case len(file) < 4 || string(file[:4]) != mark:
		refuse("it does not begin like one")
	case len(file) < least || string(file[len(file)-4:]) != mark:
		refuse("it is truncated")
	}
	end := len(file) - 8
	size := binary.LittleEndian.Uint32(file[end:])
	if uint64(size) > uint64(end-4) {
		refuse("its metadata is larger than the file")
	}
	meta := new(format.FileMetaData)
	decodeThrift(file[end-int(size):end], meta)
	if meta.EncryptionAlgorithm.Value != nil {
		refuse("it is encrypted")
	}
	return meta
}

// columnLevels returns the levels of the columns of a schema, which is a tree in depth-first
// order.
func columnLevels(schema []format.SchemaElement) []levels {
	if len(schema) > maxColumns {
		refuse("it has more than %d columns", maxColumns)
	}
	var columns []levels
	at := 0
	var visit func(above levels, depth int)
	visit = func(above levels, depth int) {
		if at >= len(schema) || depth > maxDepth {
			refuse("its schema is not valid")
		}
		element := &schema[at]
		at++
		if depth > 0 {
			switch element.RepetitionType.V {
			case format.Optional:
				above.definition++
			case format.Repeated:
				above.definition++
				above.repetition++
			}
		}
		if element.Type.Valid {
			if length := element.TypeLength.V; length < 0 || length > 1<<20 {
				refuse("a column has values of %d bytes", length)
			}
			columns = append(columns, above)
			return
		}
		for range element.NumChildren.V {
			visit(above, depth+1)
		}
	}
	visit(levels{}, 0)
	if at != len(schema) {
		refuse("its schema is not valid")
	}
	return columns
}

// chunk unpacks the pages of a column in a row group.
func (u *unpacker) chunk(chunk *format.ColumnChunk, column levels) {
	meta := &chunk.MetaData
	if chunk.FilePath != "" {
		refuse("it refers to the other file %q", chunk.FilePath)
	}
	start := meta.DataPageOffset
	if d := meta.DictionaryPageOffset; d > 0 && d < start {
		start = d
	}
	if start < 0 || meta.TotalCompressedSize < 0 || start > int64(len(u.file)) || meta.TotalCompressedSize > int64(len(u.file))-start {
		refuse("a column lies beyond its end")
	}
	pages := u.file[start : start+meta.TotalCompressedSize]
	begin := len(u.image)
	meta.DictionaryPageOffset, meta.DataPageOffset = 0, int64(begin)
	values := meta.NumValues
	for values > 0 {
		var header format.PageHeader
		size := decodeThrift(pages, &header)
		pages = pages[size:]
		if header.CompressedPageSize < 0 || int(header.CompressedPageSize) > len(pages) || header.UncompressedPageSize < 0 {
			refuse("a page is larger than its column")
		}
		body := pages[:header.CompressedPageSize]
		pages = pages[header.CompressedPageSize:]
		if header.CRC != 0 && crc32.ChecksumIEEE(body) != uint32(header.CRC) {
			refuse("the checksum of a page does not match")
		}
		if header.Type == format.IndexPage {
			continue
		}
		if header.Type == format.DictionaryPage && len(u.image) == begin {
			meta.DictionaryPageOffset = int64(begin)
		}
		values -= u.page(&header, body, meta.Codec, column)
		if meta.DictionaryPageOffset == meta.DataPageOffset {
			meta.DataPageOffset = int64(len(u.image))
		}
	}
	if values < 0 {
		refuse("a column has more values than it announces")
	}
	meta.Codec = format.Uncompressed
	meta.TotalCompressedSize = int64(len(u.image) - begin)
	meta.TotalUncompressedSize = meta.TotalCompressedSize
	meta.IndexPageOffset, meta.BloomFilterOffset, meta.BloomFilterLength = 0, 0, 0
	chunk.OffsetIndexOffset, chunk.OffsetIndexLength = 0, 0
	chunk.ColumnIndexOffset, chunk.ColumnIndexLength = 0, 0
}

// page unpacks a page and returns the number of its values, 0 for a dictionary.
func (u *unpacker) page(header *format.PageHeader, body []byte, codec format.CompressionCodec, column levels) int64 {
	var values int64
	size := int(header.UncompressedPageSize)
	u.budget.spend(int64(size))
	switch {
	case header.Type == format.DataPage && header.DataPageHeader.Valid:
		h := &header.DataPageHeader.V
		values = u.count(h.NumValues)
		body = decompress(codec, body, size)
		p := pageChecker{data: body, values: values}
		if column.repetition > 0 {
			p.sizedLevels(h.RepetitionLevelEncoding, column.repetition)
		}
		if column.definition > 0 {
			p.sizedLevels(h.DefinitionLevelEncoding, column.definition)
		}
		p.content(h.Encoding)
	case header.Type == format.DataPageV2 && header.DataPageHeaderV2.Valid:
		h := &header.DataPageHeaderV2.V
		values = u.count(h.NumValues)
		repetition, definition := int(h.RepetitionLevelsByteLength), int(h.DefinitionLevelsByteLength)
		before := repetition + definition
		if repetition < 0 || definition < 0 || before > len(body) || before > size || h.NumNulls < 0 || h.NumNulls > h.NumValues || h.NumRows < 0 {
			refuse("a page contradicts its header")
		}
		if !h.IsCompressed.Valid || h.IsCompressed.V {
			body = append(body[:before:before], decompress(codec, body[before:], size-before)...)
		}
		p := pageChecker{data: body, values: values}
		p.levels(repetition, column.repetition)
		p.levels(definition, column.definition)
		p.content(h.Encoding)
	case header.Type == format.DictionaryPage && header.DictionaryPageHeader.Valid:
		h := &header.DictionaryPageHeader.V
		u.count(h.NumValues)
		if h.Encoding != format.Plain && h.Encoding != plainDictionary {
			refuse("a dictionary has the encoding %s, which is not supported", h.Encoding)
		}
		body = decompress(codec, body, size)
	default:
		refuse("it has a page of an unknown kind")
	}
	u.append(header, body)
	return values
}

// count checks the number of values that a page announces, and accounts for their memory.
func (u *unpacker) count(values int32) int64 {
	if values < 0 {
		refuse("a page has %d values", values)
	}
	u.budget.spend(8 * int64(values))
	return int64(values)
}

// append writes a page to the image.
func (u *unpacker) append(header *format.PageHeader, body []byte) {
	header.CRC = 0
	header.CompressedPageSize, header.UncompressedPageSize = int32(len(body)), int32(len(body))
	text, err := thrift.Marshal(&thrift.CompactProtocol{}, header)
	if err != nil {
		refuse("the header of a page is not valid: %v", err)
	}
	u.image = append(append(u.image, text...), body...)
}
