package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gophersnake/gophersnake/ipc"
)

// The format tags of the fmt chunk that are read.
const (
	tagPCM        = 1
	tagFloat      = 3
	tagExtensible = 0xfffe
)

// tagNames names the formats that are not read.
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

// mediaSubtype ends the GUID of each sub-format that stands for a format tag.
var mediaSubtype = []byte("\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71")

func isWAV(data []byte) bool {
	return len(data) >= 12 && bytes.Equal(data[8:12], []byte("WAVE")) &&
		(bytes.HasPrefix(data, []byte("RIFF")) || bytes.HasPrefix(data, []byte("RF64")) || bytes.HasPrefix(data, []byte("BW64")))
}

// DecodeWAV returns the recording that a WAV file holds, at the file's own rate
// and channels: PCM of 8 to 32 bits or float of 32 or 64, in RIFF or RF64, the
// extensible form included.
//
// Recorders that stream or die leave lengths at zero or at their largest. Such a
// file is read to its end, and half a frame at the end is dropped.
func DecodeWAV(data []byte) (*ipc.Audio, error) {
	rest := bytes.NewReader(data)
	h, err := readHeader(rest)
	if err != nil {
		return nil, err
	}
	samples := data[len(data)-rest.Len():]
	if complete := h.riff == uint64(len(data)-8); h.length > 0 || complete {
		samples = samples[:min(h.length, uint64(len(samples)))]
	}
	f := h.format
	samples = samples[:len(samples)/f.frame()*f.frame()]
	return &ipc.Audio{Samples: f.decode(samples), Rate: f.rate, Channels: f.channels}, nil
}

// wavFormat is what a fmt chunk says.
type wavFormat struct {
	float    bool
	channels int
	rate     int
	width    int // bytes of one sample
}

func (f *wavFormat) frame() int { return f.channels * f.width }

func parseFormat(chunk []byte) (*wavFormat, error) {
	if len(chunk) < 16 {
		return nil, fail("WAV", "the fmt chunk has %d bytes, where it takes 16", len(chunk))
	}
	tag := binary.LittleEndian.Uint16(chunk)
	block, bits := int(binary.LittleEndian.Uint16(chunk[12:])), int(binary.LittleEndian.Uint16(chunk[14:]))
	if tag == tagExtensible {
		if len(chunk) < 40 || !bytes.Equal(chunk[26:40], mediaSubtype) {
			return nil, fail("WAV", "an extensible format of an unknown sub-format").hint(toPCM)
		}
		tag = binary.LittleEndian.Uint16(chunk[24:])
	}
	if tag != tagPCM && tag != tagFloat {
		name := tagNames[tag]
		if name == "" {
			name = fmt.Sprintf("format %#04x", tag)
		}
		return nil, fail("WAV", "the samples are compressed (%s), which is not read", name).hint(toPCM)
	}
	f := &wavFormat{
		float:    tag == tagFloat,
		channels: int(binary.LittleEndian.Uint16(chunk[2:])),
		rate:     int(binary.LittleEndian.Uint32(chunk[4:])),
		width:    (bits + 7) / 8,
	}
	if f.channels == 0 || f.rate == 0 {
		return nil, fail("WAV", "the header says %d channels at %d Hz", f.channels, f.rate)
	}
	if block%f.channels == 0 && block/f.channels > f.width {
		f.width = block / f.channels // few bits in a wide container
	}
	switch {
	case f.float && (f.width == 4 || f.width == 8), !f.float && f.width >= 1 && f.width <= 4:
		return f, nil
	case f.float:
		return nil, fail("WAV", "float samples of %d bits; there are those of 32 and of 64", bits).hint(toPCM)
	}
	return nil, fail("WAV", "PCM samples of %d bits; there are those of 8 to 32", bits).hint(toPCM)
}

// decode returns whole frames of samples between -1 and 1.
func (f *wavFormat) decode(data []byte) []float32 {
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
	case f.width == 1: // the only unsigned one
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
