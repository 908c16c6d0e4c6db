package parquetfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// row is a row of the files that another program writes.
type row struct {
	ID   int64    `parquet:"id"`
	Name string   `parquet:"name"`
	Tags []string `parquet:"tags,list"`
	Old  []int32  `parquet:"old"` // a list that is not marked as one
	Note *string  `parquet:"note"`
}

// written returns a file of rows that were not written by this package.
func written(t testing.TB, rows int, options ...parquet.WriterOption) []byte {
	var file bytes.Buffer
	writer := parquet.NewGenericWriter[row](&file, options...)
	for i := range rows {
		note := "even"
		r := row{ID: int64(i), Name: fmt.Sprint("name ", i%10), Old: []int32{1, 2}[:i%3], Tags: []string{"a", "b", ""}[:i%4]}
		if i%2 == 0 {
			r.Note = &note
		}
		_, err := writer.Write([]row{r})
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	return file.Bytes()
}

func TestFilesOfEachCompressionAndEncodingAreRead(t *testing.T) {
	const rows = 2000
	want, err := Decode(written(t, rows))
	require.NoError(t, err)
	assert.Equal(t, "schema:\n  fields: 5\n    - id: type=int64\n    - name: type=utf8\n    - tags: type=list<element: utf8>\n"+
		"    - old: type=list<old: int32>\n    - note: type=utf8, nullable", want.Schema.String())
	for _, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip, &parquet.Brotli, &parquet.Zstd, &parquet.Lz4Raw} {
		for version := 1; version <= 2; version++ {
			for _, text := range []encoding.Encoding{&parquet.Plain, &parquet.RLEDictionary, &parquet.DeltaLengthByteArray} {
				t.Run(fmt.Sprint(codec, version, text), func(t *testing.T) {
					file := written(t, rows, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(1000),
						parquet.MaxRowsPerRowGroup(700), parquet.DefaultEncodingFor(parquet.ByteArray, text))
					got, err := Decode(file)
					require.NoError(t, err)
					assert.Equal(t, rowsOf(t, want), rowsOf(t, got))
				})
			}
		}
	}
}

func TestAnEncodingThatIsNotSupportedIsNamed(t *testing.T) {
	_, err := Decode(written(t, 10, parquet.DefaultEncodingFor(parquet.ByteArray, &parquet.DeltaByteArray)))
	assert.EqualError(t, err, "a column has the encoding DELTA_BYTE_ARRAY, which is not supported")
}

// changedFooter returns a file with other metadata.
func changedFooter(t testing.TB, file []byte, change func(meta *format.FileMetaData)) []byte {
	meta := readFooter(file)
	change(meta)
	text, err := thrift.Marshal(&thrift.CompactProtocol{}, meta)
	require.NoError(t, err)
	start := len(file) - 8 - int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	file = append(bytes.Clone(file[:start]), text...)
	return append(binary.LittleEndian.AppendUint32(file, uint32(len(text))), mark...)
}

func TestMetadataThatContradictsTheFileIsRefused(t *testing.T) {
	file := written(t, 10, parquet.Compression(&parquet.Gzip), parquet.DataPageVersion(1))
	_, err := Decode(changedFooter(t, file, func(*format.FileMetaData) {}))
	require.NoError(t, err, "metadata as it was")
	chunk := func(meta *format.FileMetaData) *format.ColumnMetaData { return &meta.RowGroups[0].Columns[0].MetaData }
	for want, change := range map[string]func(meta *format.FileMetaData){
		"a column lies beyond its end":                      func(m *format.FileMetaData) { chunk(m).TotalCompressedSize = 1 << 40 },
		"it refers to the other file":                       func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].FilePath = "/etc/passwd" },
		"it has more than 2147483647 rows":                  func(m *format.FileMetaData) { m.RowGroups[0].NumRows = 1 << 40 },
		"a column has fewer rows than its row group":        func(m *format.FileMetaData) { m.RowGroups[0].NumRows++ },
		"a column has more rows than its row group":         func(m *format.FileMetaData) { m.RowGroups[0].NumRows-- },
		"a column has more values than it announces":        func(m *format.FileMetaData) { chunk(m).NumValues-- },
		"its metadata ends too early":                       func(m *format.FileMetaData) { chunk(m).NumValues++ },
		"a row group has 4 columns instead of 5":            func(m *format.FileMetaData) { m.RowGroups[0].Columns = m.RowGroups[0].Columns[1:] },
		"its schema is not valid":                           func(m *format.FileMetaData) { m.Schema[0].NumChildren.V = 100 },
		"a column has values of 2000000 bytes":              func(m *format.FileMetaData) { m.Schema[1].TypeLength = thrift.New[int32](2000000) },
		"it is compressed with LZO, which is not supported": func(m *format.FileMetaData) { chunk(m).Codec = format.LZO },
		"a page cannot be decompressed (BROTLI)":            func(m *format.FileMetaData) { chunk(m).Codec = format.Brotli },
		"a page cannot be decompressed (ZSTD)":              func(m *format.FileMetaData) { chunk(m).Codec = format.Zstd },
		"a page cannot be decompressed (LZ4_RAW)":           func(m *format.FileMetaData) { chunk(m).Codec = format.Lz4Raw },
		"a page has another size than its header announces": func(m *format.FileMetaData) { chunk(m).Codec = format.Snappy },
	} {
		_, err := Decode(changedFooter(t, file, change))
		assert.ErrorContains(t, err, want)
	}
}

// page returns a file of one column of numbers with a single page.
func page(t testing.TB, header format.PageHeader, body []byte) []byte {
	file := []byte(mark)
	text, err := thrift.Marshal(&thrift.CompactProtocol{}, &header)
	require.NoError(t, err)
	file = append(append(file, text...), body...)
	meta := &format.FileMetaData{
		Schema: thrift.Slice[format.SchemaElement]{
			{Name: "schema", NumChildren: thrift.New[int32](1)},
			{Name: "c", Type: thrift.New(format.Int64), RepetitionType: thrift.New(format.Optional)},
		},
		RowGroups: thrift.Slice[format.RowGroup]{{NumRows: 1, Columns: thrift.Slice[format.ColumnChunk]{{MetaData: format.ColumnMetaData{
			Type: format.Int64, NumValues: int64(header.DataPageHeader.V.NumValues), TotalCompressedSize: int64(len(file) - 4), DataPageOffset: 4, Codec: format.Zstd,
			PathInSchema: thrift.Slice[string]{"c"},
		}}}}},
	}
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, meta)
	require.NoError(t, err)
	file = append(file, footer...)
	return append(binary.LittleEndian.AppendUint32(file, uint32(len(footer))), mark...)
}

func TestAFileThatNeedsFarMoreMemoryThanItHasBytesIsRefused(t *testing.T) {
	zeros, err := parquet.Zstd.Encode(nil, make([]byte, 64<<20))
	require.NoError(t, err)
	bomb := func(size, values int32, level []byte, encoding format.Encoding) []byte {
		body := zeros
		if level != nil {
			body, err = parquet.Zstd.Encode(nil, append(binary.LittleEndian.AppendUint32(nil, uint32(len(level))), level...))
			require.NoError(t, err)
			size = int32(4 + len(level))
		}
		return page(t, format.PageHeader{
			Type: format.DataPage, CompressedPageSize: int32(len(body)), UncompressedPageSize: size,
			DataPageHeader: thrift.New(format.DataPageHeader{NumValues: values, Encoding: encoding, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE}),
		}, body)
	}
	run := func(count uint64) []byte { return append(binary.AppendUvarint(nil, count<<1), 1) }
	for _, c := range []struct {
		want string
		file []byte
	}{
		{"a page cannot be decompressed (ZSTD)", bomb(1000, 10, nil, format.Plain)},
		{"it needs too much memory for its size", bomb(2147483647, 10, nil, format.Plain)},
		{"it needs too much memory for its size", bomb(10, 2147483647, run(2147483647), format.Plain)},
		{"the runs of a page have more values than the page", bomb(10, 10, run(1<<30), format.Plain)},
		{"the runs of a page have more values than the page", bomb(10, 10, bytes.Repeat(run(500), 100), format.Plain)},
		{"a page ends too early", bomb(10, 10, run(10), format.RLE)},
		{"its metadata has a number without an end", bomb(10, 10, run(10), format.DeltaBinaryPacked)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(c.file)
		runtime.ReadMemStats(&after)
		assert.ErrorContains(t, err, c.want)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), c.want)
	}
}

func TestAListInTheMetadataDoesNotClaimMoreThanThereIs(t *testing.T) {
	// A field of the type list, of more than 2 billion structs.
	footer := append([]byte{0x29, 0xfc}, binary.AppendUvarint(nil, 1<<31-1)...)
	file := append([]byte(mark), footer...)
	file = append(binary.LittleEndian.AppendUint32(file, uint32(len(footer))), mark...)
	_, err := Decode(file)
	assert.EqualError(t, err, "its metadata has a list of 2147483647 items beyond its end")
	deep := bytes.Repeat([]byte{0x1c}, 1000)
	file = append(binary.LittleEndian.AppendUint32(append([]byte(mark), deep...), uint32(len(deep))), mark...)
	_, err = Decode(file)
	assert.EqualError(t, err, "its metadata is nested deeper than 60 levels")
}
