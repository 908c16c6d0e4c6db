package media

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"

	"github.com/gophersnake/gophersnake/ipc"
)

// SampleFormat is how [EncodeWAV] writes samples.
type SampleFormat int

// The sample formats.
const (
	// Float32 keeps the samples as they are.
	Float32 SampleFormat = iota
	// Int16 rounds them to 16 bits, and clips what is beyond -1 and 1.
	Int16
)

// EncodeWAV writes a recording as a WAV file.
func EncodeWAV(w io.Writer, audio *ipc.Audio, format SampleFormat) error {
	tag, width := tagFloat, 4
	if format == Int16 {
		tag, width = tagPCM, 2
	}
	switch {
	case audio.Rate <= 0 || audio.Rate > math.MaxUint32 || audio.Channels <= 0 || audio.Channels > math.MaxUint16/width:
		return fail("WAV", "audio of %d channels at %d Hz cannot be written", audio.Channels, audio.Rate)
	case len(audio.Samples)%audio.Channels != 0:
		return fail("WAV", "%d samples are no whole number of frames of %d channels", len(audio.Samples), audio.Channels)
	}
	size := uint64(len(audio.Samples)) * uint64(width)
	const header = 4 + 8 + 18 + 8 + 4 + 8 // WAVE, fmt, fact, data
	if size+header > math.MaxUint32 {
		return fail("WAV", "a recording of %d bytes is larger than the 4 GiB that the format holds", size).hint("split it")
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
	var sample [4]byte
	for _, s := range audio.Samples {
		if format == Int16 {
			binary.LittleEndian.PutUint16(sample[:], uint16(toInt16(s)))
		} else {
			binary.LittleEndian.PutUint32(sample[:], math.Float32bits(s))
		}
		if _, err := b.Write(sample[:width]); err != nil {
			return err
		}
	}
	return b.Flush()
}

// toInt16 rounds a sample; what is no number is silence.
func toInt16(s float32) int16 {
	v := math.RoundToEven(float64(s) * (1 << 15))
	if math.IsNaN(v) {
		return 0
	}
	return int16(min(max(v, math.MinInt16), math.MaxInt16))
}
