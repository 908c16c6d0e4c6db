package media

import (
	"bytes"
	"io"
	"math"

	"github.com/gophersnake/gophersnake/ipc"
)

// AudioReader reads a recording piece by piece, as it comes: from a microphone,
// through a pipe, or from a file.
type AudioReader struct {
	from   io.LimitedReader
	format *wavFormat
	piece  bytes.Buffer
}

// NewWAVReader reads the header of a WAV stream; it reads the same formats as
// [DecodeWAV]. A stream whose header does not know its length is read to its end.
// Its error is an [*Error], or that of r.
func NewWAVReader(r io.Reader) (*AudioReader, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	length := int64(math.MaxInt64)
	if !h.endless() && h.length < math.MaxInt64 {
		length = int64(h.length)
	}
	return &AudioReader{from: io.LimitedReader{R: r, N: length}, format: h.format}, nil
}

// NewPCMReader reads samples without a header, little-endian, the channels
// interleaved. Rate and channels are at least 1.
func NewPCMReader(r io.Reader, rate, channels int, format SampleFormat) *AudioReader {
	f := &wavFormat{rate: rate, channels: channels, float: true, width: 4}
	if format == Int16 {
		f.float, f.width = false, 2
	}
	return &AudioReader{from: io.LimitedReader{R: r, N: math.MaxInt64}, format: f}
}

// Rate is the number of samples a second, of each channel.
func (a *AudioReader) Rate() int { return a.format.rate }

// Next waits for that many frames and returns them, or fewer at the end, where half
// a frame is dropped; then io.EOF. Another error is that of the reader below.
func (a *AudioReader) Next(frames int) (*ipc.Audio, error) {
	a.piece.Reset()
	// Memory is taken as the bytes come: the header may say anything.
	_, err := io.CopyN(&a.piece, &a.from, int64(frames)*int64(a.format.frame()))
	if failed(err) {
		return nil, err
	}
	data := a.piece.Bytes()
	data = data[:len(data)/a.format.frame()*a.format.frame()]
	if len(data) == 0 {
		return nil, io.EOF
	}
	return &ipc.Audio{Samples: a.format.decode(data), Rate: a.format.rate, Channels: a.format.channels}, nil
}
