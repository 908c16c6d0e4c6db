package media

import (
	"bytes"
	"io"
	"math"

	"github.com/gophersnake/gophersnake/ipc"
)

// AudioReader reads audio block by block as it arrives: from a microphone, through a
// pipe, or from a file. It is not safe for concurrent use.
type AudioReader struct {
	source  io.LimitedReader
	format  *wavFormat
	block   bytes.Buffer
	decoder Decoder
	length  uint64 // of the samples, according to the header; 0 if it does not say
	read    uint64 // the number of bytes that were read
	ended   bool   // the end of the samples was met, and the decoder has warned
}

// NewWAVReader is [Decoder.NewWAVReader] without warnings.
func NewWAVReader(r io.Reader) (*AudioReader, error) { return Decoder{}.NewWAVReader(r) }

// NewWAVReader reads the header of a WAV stream and returns a reader of its samples.
// It accepts the same formats as [DecodeWAV]. If the header does not contain the
// length, the samples end with the stream. It blocks until the header has arrived.
// Its error is an [*Error], or that of r. The decoder warns at the end of the samples.
func (d Decoder) NewWAVReader(r io.Reader) (*AudioReader, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	a := &AudioReader{source: io.LimitedReader{R: r, N: math.MaxInt64}, format: h.format, decoder: d}
	if !h.endless() && h.length < math.MaxInt64 {
		a.source.N, a.length = int64(h.length), h.length
	}
	return a, nil
}

// NewPCMReader returns a reader of samples without a header: little-endian, with the
// channels interleaved. rate is in Hz; rate and channels must be at least 1.
func NewPCMReader(r io.Reader, rate, channels int, format SampleFormat) *AudioReader {
	f := &wavFormat{rate: rate, channels: channels, float: true, width: 4}
	if format == Int16 {
		f.float, f.width = false, 2
	}
	return &AudioReader{source: io.LimitedReader{R: r, N: math.MaxInt64}, format: f}
}

// Rate returns the sample rate in Hz: the number of frames per second. A frame is one
// sample of each channel.
func (a *AudioReader) Rate() int { return a.format.rate }

// Next returns the next block of the given number of frames. It blocks until they have
// arrived. The last block may be shorter, and an incomplete frame at the end is
// dropped; after it the error is io.EOF. Any other error is that of the underlying
// reader. The caller owns the block.
func (a *AudioReader) Next(frames int) (*ipc.Audio, error) {
	a.block.Reset()
	// Copying grows the buffer as data arrives: the header may claim any frame size.
	n, err := io.CopyN(&a.block, &a.source, int64(frames)*int64(a.format.frameSize()))
	a.read += uint64(n)
	if isFailure(err) {
		return nil, err
	}
	if err != nil && !a.ended {
		a.ended = true
		if a.read < a.length {
			a.decoder.warnOfTruncation(a.format, a.read, a.length)
		} else {
			a.decoder.warnOfOddBytes(a.format, a.read)
		}
	}
	data := a.format.wholeFrames(a.block.Bytes())
	if len(data) == 0 {
		return nil, io.EOF
	}
	return a.format.decode(data), nil
}
