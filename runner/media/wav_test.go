package media_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

// wav is a WAV file built field by field, so that it can be invalid.
type wav struct {
	id       string // RIFF if empty
	tag      uint16
	channels uint16
	rate     uint32
	bits     uint16
	block    uint16 // computed from bits if 0
	extra    []byte // the end of the fmt chunk
	before   []byte // chunks before the data
	data     []byte
	after    []byte
	length   *uint32 // of the data chunk, if it is wrong
	riff     *uint32 // of the file, if it is wrong
}

func (w wav) bytes() []byte {
	if w.id == "" {
		w.id = "RIFF"
	}
	if w.block == 0 {
		w.block = w.channels * (w.bits + 7) / 8
	}
	var chunks []byte
	put := func(b []byte, fields ...any) []byte {
		for _, f := range fields {
			b, _ = binary.Append(b, binary.LittleEndian, f)
		}
		return b
	}
	chunks = put(chunks, []byte("WAVE"), []byte("fmt "), uint32(16+len(w.extra)),
		w.tag, w.channels, w.rate, w.rate*uint32(w.block), w.block, w.bits, w.extra, w.before)
	length := uint32(len(w.data))
	if w.length != nil {
		length = *w.length
	}
	chunks = put(chunks, []byte("data"), length, w.data, w.after)
	size := uint32(len(chunks))
	if w.riff != nil {
		size = *w.riff
	}
	return append(put([]byte(w.id), size), chunks...)
}

func le(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		b, _ = binary.Append(b, binary.LittleEndian, f)
	}
	return b
}

var guid = []byte("\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71")

func TestEverySampleFormat(t *testing.T) {
	for _, c := range []struct {
		name string
		file wav
		want []float32
	}{
		{"pcm 8", wav{tag: 1, channels: 1, rate: 8000, bits: 8, data: []byte{0, 128, 192}}, []float32{-1, 0, 0.5}},
		{"pcm 16", wav{tag: 1, channels: 1, rate: 8000, bits: 16, data: le(int16(-32768), int16(0), int16(16384))}, []float32{-1, 0, 0.5}},
		{"pcm 24", wav{tag: 1, channels: 1, rate: 8000, bits: 24, data: []byte{0, 0, 0x80, 0, 0, 0, 0, 0, 0x40}}, []float32{-1, 0, 0.5}},
		{"pcm 32", wav{tag: 1, channels: 1, rate: 8000, bits: 32, data: le(int32(math.MinInt32), int32(0), int32(1<<30))}, []float32{-1, 0, 0.5}},
		{"float 32", wav{tag: 3, channels: 1, rate: 8000, bits: 32, data: le(float32(-1), float32(0), float32(0.5))}, []float32{-1, 0, 0.5}},
		{"float 64", wav{tag: 3, channels: 1, rate: 8000, bits: 64, data: le(-1.0, 0.0, 0.5)}, []float32{-1, 0, 0.5}},
		{"20 bits in 3 bytes", wav{tag: 1, channels: 1, rate: 8000, bits: 20, block: 3, data: []byte{0, 0, 0x80, 0, 0, 0, 0, 0, 0x40}}, []float32{-1, 0, 0.5}},
		{"24 bits in 4 bytes", wav{tag: 1, channels: 1, rate: 8000, bits: 24, block: 4, data: le(int32(math.MinInt32), int32(0), int32(1<<30))}, []float32{-1, 0, 0.5}},
		{"extensible pcm", wav{tag: 0xfffe, channels: 1, rate: 8000, bits: 16, extra: le(uint16(22), uint16(16), uint32(4), uint16(1), guid), data: le(int16(16384))}, []float32{0.5}},
		{"extensible float", wav{tag: 0xfffe, channels: 1, rate: 8000, bits: 32, extra: le(uint16(22), uint16(32), uint32(4), uint16(3), guid), data: le(float32(0.5))}, []float32{0.5}},
		{"odd chunk before", wav{tag: 1, channels: 1, rate: 8000, bits: 16, before: le([]byte("LIST"), uint32(3), []byte("abc\x00")), data: le(int16(16384))}, []float32{0.5}},
		{"chunk after", wav{tag: 1, channels: 1, rate: 8000, bits: 8, data: []byte{192}, after: le([]byte("\x00LIST"), uint32(2), []byte("ab"))}, []float32{0.5}},
		{"no samples", wav{tag: 1, channels: 1, rate: 8000, bits: 16, after: le([]byte("LIST"), uint32(2), []byte("ab"))}, []float32{}},
		{"data cut off", wav{tag: 1, channels: 1, rate: 8000, bits: 16, data: le(int16(16384)), length: new(uint32(4000))}, []float32{0.5}},
		{"half a sample", wav{tag: 1, channels: 1, rate: 8000, bits: 16, data: []byte{0, 0x40, 7}}, []float32{0.5}},
		{"length left at 0", wav{tag: 1, channels: 1, rate: 8000, bits: 16, data: le(int16(16384)), length: new(uint32(0)), riff: new(uint32(0))}, []float32{0.5}},
		{"length left at its largest", wav{tag: 1, channels: 1, rate: 8000, bits: 16, data: le(int16(16384)), length: new(uint32(math.MaxUint32)), riff: new(uint32(math.MaxUint32))}, []float32{0.5}},
		{"RF64", wav{id: "RF64", tag: 1, channels: 1, rate: 8000, bits: 16, riff: new(uint32(math.MaxUint32)), length: new(uint32(math.MaxUint32)),
			before: le([]byte("ds64"), uint32(28), uint64(90), uint64(2), uint64(1), uint32(0)), data: le(int16(16384)), after: le([]byte("LIST"), uint32(2), []byte("ab"))}, []float32{0.5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			audio, err := media.DecodeWAV(c.file.bytes())
			require.NoError(t, err)
			assert.Equal(t, &ipc.Audio{Samples: c.want, Rate: 8000, Channels: 1}, audio)
		})
	}
}

func TestChannelsStayInterleaved(t *testing.T) {
	file := wav{tag: 1, channels: 2, rate: 48000, bits: 16, data: le(int16(16384), int16(0), int16(-16384), int16(8192), int16(1))}
	audio, err := media.DecodeWAV(file.bytes())
	require.NoError(t, err)
	assert.Equal(t, &ipc.Audio{Samples: []float32{0.5, 0, -0.5, 0.25}, Rate: 48000, Channels: 2}, audio)
	assert.Equal(t, 2, audio.Frames())
}

func TestInvalidWAV(t *testing.T) {
	riff := func(chunks ...any) []byte { return append([]byte("RIFF\x00\x00\x00\x00WAVE"), le(chunks...)...) }
	pcm := wav{tag: 1, channels: 1, rate: 8000, bits: 16}
	with := func(change func(*wav)) []byte { w := pcm; change(&w); return w.bytes() }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":           {nil, "WAV: the file is empty"},
		"text":            {[]byte("hello"), "WAV: the data begins with 68 65 6c 6c 6f, as no WAV, PNG, JPEG, WebP, GIF, TIFF or BMP file does"},
		"mp3":             {[]byte("ID3\x04"), "WAV: this is MP3, which is not supported; convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"},
		"m4a":             {[]byte("\x00\x00\x00\x20ftypM4A "), "this is M4A"},
		"big-endian":      {[]byte("RIFX\x00\x00\x00\x00WAVE"), "this is big-endian WAV (RIFX)"},
		"header only":     {riff(), "there is no fmt chunk"},
		"short fmt":       {riff([]byte("fmt "), uint32(4), uint32(1)), "the fmt chunk has 4 bytes, but needs 16"},
		"data first":      {riff([]byte("data"), uint32(4), uint32(1)), "the samples come before their format"},
		"no data":         {pcm.bytes()[:36], "there are no samples (no data chunk)"},
		"µ-law":           {with(func(w *wav) { w.tag, w.bits = 7, 8 }), "the samples are compressed (µ-law), which is not supported; convert it"},
		"unknown format":  {with(func(w *wav) { w.tag = 0x1234 }), "the samples are compressed (format 0x1234)"},
		"odd extensible":  {with(func(w *wav) { w.tag = 0xfffe }), "the extensible format has an unknown sub-format"},
		"no channels":     {with(func(w *wav) { w.channels = 0 }), "the header says 0 channels at 8000 Hz"},
		"no rate":         {with(func(w *wav) { w.rate = 0 }), "the header says 1 channels at 0 Hz"},
		"64 bit integers": {with(func(w *wav) { w.bits = 64 }), "PCM samples of 64 bits"},
		"0 bits":          {with(func(w *wav) { w.bits = 0 }), "PCM samples of 0 bits"},
		"16 bit floats":   {with(func(w *wav) { w.tag = 3 }), "float samples of 16 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := media.DecodeWAV(c.data)
			assert.ErrorContains(t, err, c.want)
			assert.IsType(t, &media.Error{}, err)
		})
	}
}

func TestWAVRoundTrip(t *testing.T) {
	audio := &ipc.Audio{Samples: []float32{0.1, -0.2, 1.5, -1}, Rate: 44100, Channels: 2}
	var file bytes.Buffer
	require.NoError(t, media.EncodeWAV(&file, audio, media.Float32))
	got, err := media.DecodeWAV(file.Bytes())
	require.NoError(t, err)
	assert.Equal(t, audio, got)
	assert.EqualValues(t, file.Len()-8, binary.LittleEndian.Uint32(file.Bytes()[4:]), "the length of the file")
}

func TestSamplesAreRoundedAndClipped(t *testing.T) {
	audio := &ipc.Audio{Samples: []float32{0.5, 2, -2, float32(math.NaN()), 1.4 / 32768}, Rate: 8000, Channels: 1}
	var file bytes.Buffer
	require.NoError(t, media.EncodeWAV(&file, audio, media.Int16))
	got, err := media.DecodeWAV(file.Bytes())
	require.NoError(t, err)
	assert.Equal(t, []float32{0.5, 32767. / 32768, -1, 0, 1. / 32768}, got.Samples)
}

func TestAudioThatWAVCannotHold(t *testing.T) {
	for want, audio := range map[string]*ipc.Audio{
		"0 channels at 8000 Hz": {Rate: 8000},
		"1 channels at 0 Hz":    {Channels: 1},
		"3 samples are not a whole number of frames of 2 channels": {Samples: make([]float32, 3), Rate: 1, Channels: 2},
	} {
		assert.ErrorContains(t, media.EncodeWAV(io.Discard, audio, media.Float32), want)
	}
}

// brokenWriter fails after some bytes.
type brokenWriter struct{ room int }

var errFull = errors.New("the disk is full")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrorsAreReturned(t *testing.T) {
	audio := &ipc.Audio{Samples: make([]float32, 4096), Rate: 1, Channels: 1}
	picture := &ipc.Image{Pixels: make([]byte, 64*64), Format: "gray8", Width: 64, Height: 64}
	tensor, err := ipc.NewTensor(make([]float64, 100), 100)
	require.NoError(t, err)
	for _, room := range []int{0, 200} {
		assert.ErrorIs(t, media.EncodeWAV(&brokenWriter{room}, audio, media.Int16), errFull)
		assert.ErrorIs(t, media.EncodeNPY(&brokenWriter{room}, tensor), errFull)
	}
	assert.ErrorIs(t, media.EncodePNG(&brokenWriter{}, picture), errFull)
}

// FuzzDecodeWAV checks that no bytes make the decoder panic or return half a frame.
func FuzzDecodeWAV(f *testing.F) {
	for _, bits := range []uint16{8, 16, 24, 32} {
		f.Add(wav{tag: 1, channels: 2, rate: 8000, bits: bits, data: make([]byte, 48)}.bytes())
	}
	f.Add(wav{tag: 3, channels: 1, rate: 8000, bits: 64, data: make([]byte, 48)}.bytes())
	f.Add(wav{tag: 0xfffe, channels: 1, rate: 8000, bits: 16, extra: le(uint16(22), uint16(16), uint32(4), uint16(1), guid), data: make([]byte, 9)}.bytes())
	f.Add(wav{id: "RF64", tag: 1, channels: 1, rate: 8000, bits: 16, before: le([]byte("ds64"), uint32(16), uint64(1), uint64(2)), length: new(uint32(math.MaxUint32))}.bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		audio, err := media.DecodeWAV(data)
		stream, failure := media.NewWAVReader(bytes.NewReader(data))
		require.Equal(t, err, failure, "both read the header alike")
		if err != nil {
			require.IsType(t, &media.Error{}, err)
			return
		}
		for failure == nil {
			_, failure = stream.Next(1000)
		}
		require.Equal(t, io.EOF, failure)
		require.Positive(t, audio.Rate)
		require.Positive(t, audio.Channels)
		require.Zero(t, len(audio.Samples)%audio.Channels)
		require.LessOrEqual(t, len(audio.Samples), len(data), fmt.Sprint(len(data)))
	})
}

func TestADamagedWAVIsWarnedOf(t *testing.T) {
	var file bytes.Buffer
	require.NoError(t, media.EncodeWAV(&file, &ipc.Audio{Samples: make([]float32, 16000), Rate: 8000, Channels: 2}, media.Int16))
	whole := file.Bytes() // 1 s
	truncated := "the file is truncated: it has 0.50 s of the 1.00 s of samples that its header announces"
	for name, c := range map[string]struct {
		file   []byte
		frames int
		want   []string
		stream []string // what a reader of a stream warns of; nil if it is the same
	}{
		"whole":                {whole, 8000, nil, nil},
		"truncated":            {whole[:len(whole)-16000], 4000, []string{truncated}, nil},
		"truncated in a frame": {whole[:len(whole)-15999], 4000, []string{truncated}, nil},
		"no length":            {withLength(whole, 0), 8000, nil, nil},
		"largest length":       {withLength(whole, 0xffffffff), 8000, nil, nil},
		"no length, odd bytes": {append(withLength(whole, 0xffffffff), 1, 2, 3), 8000, []string{"the last 3 bytes of the samples are left out: a frame has 4"}, nil},
		"odd length":           {withLength(whole, 31999), 7999, []string{"the last 3 bytes of the samples are left out: a frame has 4"}, nil},
		"metadata":             {append(bytes.Clone(whole), "LIST\x04\x00\x00\x00INFOid3 \x01\x00\x00\x00x\x00"...), 8000, nil, nil},
		"further samples": {append(bytes.Clone(whole), "LIST\x04\x00\x00\x00INFOdata\x04\x00\x00\x00abcd"...), 8000,
			[]string{"the file has further samples after the first ones, which are left out (a second data chunk)"}, []string{}},
		"another recording": {append(bytes.Clone(whole), whole...), 8000, []string{"the file has another recording after the first one, which is left out"}, []string{}},
		"odd bytes":         {append(bytes.Clone(whole), "\x00\x00\x00"...), 8000, []string{"3 bytes after the samples are left out, which are no chunk"}, []string{}},
		"garbage":           {append(bytes.Clone(whole), make([]byte, 100)...), 8000, []string{"100 bytes after the samples are left out, which are no chunk"}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			var warnings []string
			d := media.Decoder{Warn: func(message string) { warnings = append(warnings, message) }}
			audio, err := d.DecodeWAV(c.file)
			require.NoError(t, err)
			assert.Equal(t, c.frames, audio.Frames())
			assert.Equal(t, c.want, warnings)

			warnings = nil
			reader, err := d.NewWAVReader(bytes.NewReader(c.file))
			require.NoError(t, err)
			frames := 0
			for {
				block, err := reader.Next(1000)
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				frames += block.Frames()
			}
			assert.Equal(t, c.frames, frames)
			if c.stream != nil {
				c.want = nil
			}
			assert.Equal(t, c.want, warnings)
		})
	}
}

// withLength returns a file of [media.EncodeWAV] whose header has another length.
func withLength(file []byte, length uint32) []byte {
	file = bytes.Clone(file)
	binary.LittleEndian.PutUint32(file[54:], length)
	if length == 0 || length == 0xffffffff {
		binary.LittleEndian.PutUint32(file[4:], length)
	}
	return file
}
