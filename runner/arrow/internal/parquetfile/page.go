package parquetfile

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// plainDictionary is the encoding of dictionaries, and of pages that refer to them, in older files.
const plainDictionary format.Encoding = 2

// decompress returns the content of a page, which must have the size that its header announces.
// None of the methods writes more.
func decompress(codec format.CompressionCodec, page []byte, size int) []byte {
	if codec == format.Uncompressed {
		return page
	}
	var content []byte
	var err error
	switch codec {
	case format.Snappy:
		var announced int
		if announced, err = snappy.DecodedLen(page); err == nil && announced == size {
			content, err = snappy.Decode(nil, page)
		}
	case format.Gzip:
		var reader *gzip.Reader
		if reader, err = gzip.NewReader(bytes.NewReader(page)); err == nil {
			content = make([]byte, size)
			_, err = io.ReadFull(reader, content)
		}
	case format.Brotli:
		content = make([]byte, size)
		_, err = io.ReadFull(brotli.NewReader(bytes.NewReader(page)), content)
	case format.Zstd:
		content, err = zstdDecoder.DecodeAll(page, make([]byte, 0, size))
	case format.Lz4Raw:
		content = make([]byte, size)
		var n int
		n, err = lz4.UncompressBlock(page, content)
		content = content[:max(n, 0)]
	default:
		refuse("it is compressed with %s, which is not supported", codec)
	}
	if err != nil {
		refuse("a page cannot be decompressed (%s): %v", codec, err)
	}
	if len(content) != size {
		refuse("a page has another size than its header announces")
	}
	return content
}

// zstdDecoder decodes no more than the capacity that it is given. It may be used concurrently.
var zstdDecoder = func() *zstd.Decoder {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return decoder
}()

// pageChecker checks the parts of a data page, one after the other.
type pageChecker struct {
	data   []byte
	values int64
}

// take returns the next bytes of the page.
func (p *pageChecker) take(size int) []byte {
	if size < 0 || size > len(p.data) {
		refuse("a page ends too early")
	}
	taken := p.data[:size]
	p.data = p.data[size:]
	return taken
}

// sizedLevels checks levels that begin with their size.
func (p *pageChecker) sizedLevels(encoding format.Encoding, largest int) {
	if encoding != format.RLE {
		refuse("the levels of a page have the encoding %s, which is not supported", encoding)
	}
	p.levels(int(binary.LittleEndian.Uint32(p.take(4))), largest)
}

// levels checks levels of a size.
func (p *pageChecker) levels(size, largest int) {
	p.runs(p.take(size), bits.Len(uint(largest)))
}

// runs checks a sequence of runs, each of which repeats a number or is a group of packed ones:
// they have no more numbers than the page has values, and a last group that is filled up.
func (p *pageChecker) runs(data []byte, width int) {
	const filling = 63 * 8
	left := uint64(p.values) + filling
	for len(data) > 0 {
		head, size := binary.Uvarint(data)
		if size <= 0 {
			refuse("a page has a run without a length")
		}
		data = data[size:]
		count, bytes := head>>1, uint64(width+7)/8
		if head&1 != 0 {
			if count > uint64(len(data)) && width > 0 {
				refuse("a page ends in a run")
			}
			bytes = count * uint64(width)
			count = min(count, left+1) * 8
		}
		if bytes > uint64(len(data)) {
			refuse("a page ends in a run")
		}
		if count > left {
			refuse("the runs of a page have more values than the page")
		}
		left -= count
		data = data[bytes:]
	}
}

// content checks the values of a page.
func (p *pageChecker) content(encoding format.Encoding) {
	switch encoding {
	case format.Plain, format.ByteStreamSplit: // as large as their values
	case plainDictionary, format.RLEDictionary:
		if len(p.data) == 0 && p.values >= 0 {
			return // each of the values is null
		}
		width := p.take(1)[0]
		if width > 32 {
			refuse("a page has indices of %d bits", width)
		}
		p.runs(p.data, int(width))
	case format.RLE:
		p.runs(p.take(int(binary.LittleEndian.Uint32(p.take(4)))), 1)
	case format.DeltaBinaryPacked, format.DeltaLengthByteArray:
		p.deltas()
	default:
		refuse("a column has the encoding %s, which is not supported", encoding)
	}
}

// deltas checks the header of numbers that are stored as their differences.
func (p *pageChecker) deltas() {
	w := walker{b: p.data}
	block, parts, count := w.number(), w.number(), w.number()
	const largest = 1 << 16
	if block == 0 || block > largest || parts == 0 || parts > block || count > uint64(p.values) {
		refuse("the differences of a page contradict its header")
	}
}
