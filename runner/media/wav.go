package media

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// The supported format tags of the fmt chunk.
const (
	tagPCM        = 1
	tagFloat      = 3
	tagExtensible = 0xfffe
)

// tagNames are the names of unsupported formats, for messages.
var tagNames = map[uint16]string{
	0x0002: "Microsoft ADPCM",
	0x0006: "A-law",
	0x0007: "µ-law",
	0x0011: "IMA ADPCM",
	0x0031: "GSM 6.10",
	0x0045: "G.726",
	0x0050: "MPEG audio",
	0x0055: "MP3",
	0x0092: "Dolby AC-3",
	0x00ff: "AAC",
	0x0161: "Windows Media Audio",
	0x1610: "AAC",
	0x674f: "Ogg Vorbis",
	0x7000: "Opus",
	0xf1ac: "FLAC",
}

// mediaSubtype is the end of the GUID of each sub-format that begins with a format tag.
var mediaSubtype = []byte("\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71")

func isWAV(data []byte) bool {
	return len(data) >= 12 && bytes.Equal(data[8:12], []byte("WAVE")) &&
		(bytes.HasPrefix(data, []byte("RIFF")) || bytes.HasPrefix(data, []byte("RF64")) || bytes.HasPrefix(data, []byte("BW64")))
}

// DecodeWAV is [Decoder.DecodeWAV] without warnings.
func DecodeWAV(data []byte) (*ipc.Audio, error) { return Decoder{}.DecodeWAV(data) }

// DecodeWAV decodes a WAV file, at the file's own rate and with its channels: PCM of 8
// to 32 bits, or float of 32 or 64 bits, in RIFF or RF64, the extensible form
// included. Samples are between -1 and 1, unless a float file has others. The error is
// an [*Error].
//
// Recorders that stream or crash leave a length of zero or a very large one in the
// header. Such a file is decoded to its end. An incomplete frame at the end is dropped. The
// decoder warns of that, of a file that is shorter than its header says, and of samples
// after the first ones.
func (d Decoder) DecodeWAV(data []byte) (*ipc.Audio, error) {
	if !isWAV(data) {
		return nil, unsupported("WAV", data)
	}
	rest := bytes.NewReader(data)
	h, err := readHeader(rest)
	if err != nil {
		return nil, err
	}
	samples := data[len(data)-rest.Len():]
	if complete := h.riff == uint64(len(data)-8); h.length > 0 || complete {
		samples = samples[:min(h.length, uint64(len(samples)))]
	}
	if !h.endless() && h.length > uint64(len(samples)) {
		d.warnOfTruncation(h.format, uint64(len(samples)), h.length)
	} else {
		d.warnOfOddBytes(h.format, uint64(len(samples)))
	}
	d.warnOfFurtherChunks(data[len(data)-rest.Len()+len(samples):], len(samples))
	return h.format.decode(h.format.wholeFrames(samples)), nil
}

// warnOfTruncation warns of samples that are fewer than the header says.
func (d Decoder) warnOfTruncation(f *wavFormat, have, want uint64) {
	seconds := func(size uint64) float64 { return float64(size/uint64(f.frameSize())) / float64(f.rate) }
	d.warnf("the file is truncated: it has %.2f s of the %.2f s of samples that its header announces", seconds(have), seconds(want))
}

// warnOfOddBytes warns of an incomplete frame at the end.
func (d Decoder) warnOfOddBytes(f *wavFormat, size uint64) {
	if odd := size % uint64(f.frameSize()); odd != 0 {
		d.warnf("the last %d bytes of the samples are left out: a frame has %d", odd, f.frameSize())
	}
}

// warnOfFurtherChunks warns of what follows the samples in a file unless it is metadata.
func (d Decoder) warnOfFurtherChunks(rest []byte, samples int) {
	rest = rest[min(samples%2, len(rest)):] // chunks are padded to even lengths
	for len(rest) >= 8 {
		id, length := string(rest[:4]), uint64(binary.LittleEndian.Uint32(rest[4:]))
		switch {
		case id == "data":
			d.warnf("the file has further samples after the first ones, which are left out (a second data chunk)")
			return
		case isWAV(rest):
			d.warnf("the file has another recording after the first one, which is left out")
			return
		case strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }):
			d.warnf("%d bytes after the samples are left out, which are no chunk", len(rest))
			return
		}
		length += 8 + length%2
		rest = rest[min(length, uint64(len(rest))):]
	}
	if len(rest) > 0 {
		d.warnf("%d bytes after the samples are left out, which are no chunk", len(rest))
	}
}

// wavHeader is the part of a WAV file before its samples.
type wavHeader struct {
	format *wavFormat
	// riff is the size of the file without its first 8 bytes, according to the file.
	riff uint64
	// length is the size of the samples in bytes, according to the file.
	length uint64
	// long is the length of the samples in the ds64 chunk of an RF64 file, or 0.
	long uint64
	// wide says that length is that of a ds64 chunk, which is never a placeholder.
	wide bool
	// size is how many bytes were read, up to the first sample.
	size uint64
}

// placeholder is the smallest of the lengths that recorders write before they know the
// real one: those of sox, arecord and ffmpeg are between it and the largest.
const placeholder = 0x7ffff000

// endless reports whether the samples end with the stream. A length of zero is real if
// the file's size shows that other chunks follow the samples.
func (h *wavHeader) endless() bool {
	if h.length == 0 {
		return h.riff <= h.size-8 || h.riff >= placeholder
	}
	return !h.wide && h.length >= placeholder
}

// readHeader reads the chunks up to the samples, and leaves r at the first sample. The
// riff package of golang.org/x/image rejects the placeholders of recorders. The error
// is an *Error, or that of r.
func readHeader(r io.Reader) (*wavHeader, error) {
	var start [12]byte
	n, err := io.ReadFull(r, start[:])
	if isFailure(err) {
		return nil, err
	}
	if !isWAV(start[:n]) {
		return nil, unsupported("WAV", start[:n])
	}
	h := &wavHeader{riff: uint64(binary.LittleEndian.Uint32(start[4:])), size: 12}
	for {
		var chunk [8]byte
		if _, err := io.ReadFull(r, chunk[:]); isFailure(err) {
			return nil, err
		} else if err != nil {
			return nil, h.truncated()
		}
		h.size += 8
		id, length := string(chunk[:4]), binary.LittleEndian.Uint32(chunk[4:])
		if id == "data" {
			return h, h.setLength(length)
		}
		if err := h.readChunk(r, id, uint64(length)); err != nil {
			return nil, err
		}
	}
}

// readChunk reads the body of a chunk other than the samples.
func (h *wavHeader) readChunk(r io.Reader, id string, length uint64) error {
	var body [40]byte // as much as the longest chunk that is used
	n, err := io.ReadFull(r, body[:min(length, uint64(len(body)))])
	if isFailure(err) {
		return err
	}
	switch {
	case id == "fmt ":
		if h.format, err = parseFormat(body[:n]); err != nil {
			return err
		}
	case id == "ds64" && n >= 16:
		h.long = binary.LittleEndian.Uint64(body[8:])
	}
	length += length % 2 // chunks are padded to even lengths
	h.size += length
	if _, err := io.CopyN(io.Discard, r, int64(length)-int64(n)); isFailure(err) {
		return err
	}
	return nil
}

// setLength sets the length of the samples from that of their chunk.
func (h *wavHeader) setLength(chunk uint32) error {
	if h.format == nil {
		return errorf("WAV", "the samples come before their format (no fmt chunk)")
	}
	h.length = uint64(chunk)
	if chunk == math.MaxUint32 && h.long > 0 {
		h.length, h.wide = h.long, true
	}
	return nil
}

// isFailure reports whether err is an error other than the end of the data.
func isFailure(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// truncated returns the error for a file that ends in its header.
func (h *wavHeader) truncated() error {
	if h.format == nil {
		return errorf("WAV", "there is no fmt chunk: the file is damaged or truncated")
	}
	return errorf("WAV", "there are no samples (no data chunk): the file is damaged or truncated")
}

// wavFormat is the content of a fmt chunk.
type wavFormat struct {
	float    bool
	channels int
	rate     int // frames per second
	width    int // bytes of one sample
}

// frameSize returns the size of a frame, one sample of each channel, in bytes.
func (f *wavFormat) frameSize() int { return f.channels * f.width }

// wholeFrames returns data without an incomplete frame at its end.
func (f *wavFormat) wholeFrames(data []byte) []byte {
	return data[:len(data)/f.frameSize()*f.frameSize()]
}

func parseFormat(chunk []byte) (*wavFormat, error) {
	if len(chunk) < 16 {
		return nil, errorf("WAV", "the fmt chunk has %d bytes, but needs 16", len(chunk))
	}
	tag := binary.LittleEndian.Uint16(chunk)
	block, bits := int(binary.LittleEndian.Uint16(chunk[12:])), int(binary.LittleEndian.Uint16(chunk[14:]))
	if tag == tagExtensible {
		if len(chunk) < 40 || !bytes.Equal(chunk[26:40], mediaSubtype) {
			return nil, errorf("WAV", "the extensible format has an unknown sub-format").withHint(convertToWAV)
		}
		tag = binary.LittleEndian.Uint16(chunk[24:])
	}
	if tag != tagPCM && tag != tagFloat {
		name := tagNames[tag]
		if name == "" {
			name = fmt.Sprintf("format %#04x", tag)
		}
		return nil, errorf("WAV", "the samples are compressed (%s), which is not supported", name).withHint(convertToWAV)
	}
	f := &wavFormat{
		float:    tag == tagFloat,
		channels: int(binary.LittleEndian.Uint16(chunk[2:])),
		rate:     int(binary.LittleEndian.Uint32(chunk[4:])),
		width:    (bits + 7) / 8,
	}
	if f.channels == 0 || f.rate == 0 {
		return nil, errorf("WAV", "the header says %d channels at %d Hz", f.channels, f.rate)
	}
	if block%f.channels == 0 && block/f.channels > f.width {
		f.width = block / f.channels // for instance 24 bits in 4 bytes
	}
	switch {
	case f.float && (f.width == 4 || f.width == 8), !f.float && f.width >= 1 && f.width <= 4:
		return f, nil
	case f.float:
		return nil, errorf("WAV", "float samples of %d bits are not supported; 32 and 64 are", bits).withHint(convertToWAV)
	}
	return nil, errorf("WAV", "PCM samples of %d bits are not supported; 8 to 32 are", bits).withHint(convertToWAV)
}

// decode decodes whole frames.
func (f *wavFormat) decode(data []byte) *ipc.Audio {
	return &ipc.Audio{Samples: f.samples(data), Rate: f.rate, Channels: f.channels}
}

// samples returns the samples of whole frames. Those of PCM are between -1 and 1.
func (f *wavFormat) samples(data []byte) []float32 {
	out := make([]float32, len(data)/f.width)
	switch {
	case f.float && f.width == 4:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case f.float:
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:])))
		}
	case f.width == 1: // the only unsigned width
		for i := range out {
			out[i] = (float32(data[i]) - 128) / (1 << 7)
		}
	case f.width == 2:
		for i := range out {
			out[i] = float32(int16(binary.LittleEndian.Uint16(data[2*i:]))) / (1 << 15)
		}
	case f.width == 3:
		for i := range out {
			b := data[3*i : 3*i+3]
			out[i] = float32(int32(b[0])<<8|int32(b[1])<<16|int32(b[2])<<24) / (1 << 31)
		}
	default:
		for i := range out {
			out[i] = float32(int32(binary.LittleEndian.Uint32(data[4*i:]))) / (1 << 31)
		}
	}
	return out
}

// SampleFormat is the format of samples that [EncodeWAV] writes and that
// [NewPCMReader] reads.
type SampleFormat int

// The sample formats.
const (
	// Float32 is a float of 32 bits. Samples are written unchanged.
	Float32 SampleFormat = iota
	// Int16 is an integer of 16 bits. Samples are rounded when written, and clipped
	// to -1 and 1; NaN becomes 0.
	Int16
)

// EncodeWAV writes audio as a WAV file. The error is an [*Error] if a WAV file cannot
// represent it, which includes audio of more than 4 GiB, or that of w.
func EncodeWAV(w io.Writer, audio *ipc.Audio, format SampleFormat) error {
	tag, width := tagFloat, 4
	if format == Int16 {
		tag, width = tagPCM, 2
	}
	switch {
	case audio.Rate <= 0 || audio.Rate > math.MaxUint32 || audio.Channels <= 0 || audio.Channels > math.MaxUint16/width:
		return errorf("WAV", "audio of %d channels at %d Hz cannot be written", audio.Channels, audio.Rate)
	case len(audio.Samples)%audio.Channels != 0:
		return errorf("WAV", "%d samples are not a whole number of frames of %d channels", len(audio.Samples), audio.Channels)
	}
	size := uint64(len(audio.Samples)) * uint64(width)
	const header = 4 + 8 + 18 + 8 + 4 + 8 // WAVE, fmt, fact, data
	if size+header > math.MaxUint32 {
		return errorf("WAV", "audio of %d bytes exceeds the format's limit of 4 GiB", size).withHint("split it")
	}
	b := bufio.NewWriter(w)
	frame := audio.Channels * width
	for _, field := range []any{
		[]byte("RIFF"), uint32(header + size), []byte("WAVE"),
		[]byte("fmt "), uint32(18), uint16(tag), uint16(audio.Channels), uint32(audio.Rate),
		uint32(audio.Rate * frame), uint16(frame), uint16(8 * width), uint16(0),
		[]byte("fact"), uint32(4), uint32(audio.Frames()),
		[]byte("data"), uint32(size),
	} {
		if err := binary.Write(b, binary.LittleEndian, field); err != nil {
			return err
		}
	}
	if err := writeSamples(b, audio.Samples, format); err != nil {
		return err
	}
	return b.Flush()
}

func writeSamples(b *bufio.Writer, samples []float32, format SampleFormat) error {
	var sample [4]byte
	for _, s := range samples {
		field := sample[:4]
		if format == Int16 {
			field = sample[:2]
			binary.LittleEndian.PutUint16(field, uint16(toInt16(s)))
		} else {
			binary.LittleEndian.PutUint32(field, math.Float32bits(s))
		}
		if _, err := b.Write(field); err != nil {
			return err
		}
	}
	return nil
}

// toInt16 rounds and clips a sample. NaN becomes 0, which is silence.
func toInt16(s float32) int16 {
	v := math.RoundToEven(float64(s) * (1 << 15))
	if math.IsNaN(v) {
		return 0
	}
	return int16(min(max(v, math.MinInt16), math.MaxInt16))
}
