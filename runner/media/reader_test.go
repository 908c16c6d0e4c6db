package media_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

// blocks reads audio to its end, in blocks of the given number of frames.
func blocks(t *testing.T, r *media.AudioReader, frames int) (all []*ipc.Audio) {
	t.Helper()
	for {
		audio, err := r.Next(frames)
		if errors.Is(err, io.EOF) {
			assert.Nil(t, audio)
			return all
		}
		require.NoError(t, err)
		all = append(all, audio)
	}
}

// joined reads audio to its end, and checks that no block has more frames than asked for.
func joined(t *testing.T, r *media.AudioReader, frames int) *ipc.Audio {
	t.Helper()
	whole := &ipc.Audio{Samples: []float32{}, Rate: r.Rate(), Channels: 1}
	for _, block := range blocks(t, r, frames) {
		assert.Equal(t, whole.Rate, block.Rate)
		assert.LessOrEqual(t, block.Frames(), frames)
		whole.Channels = block.Channels
		whole.Samples = append(whole.Samples, block.Samples...)
	}
	return whole
}

func pcm16(change func(*wav)) []byte {
	w := wav{tag: 1, channels: 1, rate: 8000, bits: 16, data: le(int16(0), int16(8192), int16(16384))}
	change(&w)
	return w.bytes()
}

var list = le([]byte("LIST"), uint32(2), []byte("ab"))

func TestWAVReaderNeedsNoLength(t *testing.T) {
	all := []float32{0, 0.25, 0.5}
	for name, c := range map[string]struct {
		file []byte
		want []float32
	}{
		"a file":               {pcm16(func(w *wav) { w.after = list }), all},
		"cut off":              {pcm16(func(w *wav) { w.length = new(uint32(4000)) }), all},
		"half a frame":         {pcm16(func(w *wav) { w.data = append(w.data, 7) }), all},
		"no samples":           {pcm16(func(w *wav) { w.data, w.after = nil, list }), []float32{}},
		"nothing at all":       {pcm16(func(w *wav) { w.data = nil }), []float32{}},
		"gstreamer: zeros":     {pcm16(func(w *wav) { w.length, w.riff = new(uint32(0)), new(uint32(0)) }), all},
		"a first header":       {pcm16(func(w *wav) { w.length, w.riff = new(uint32(0)), new(uint32(36)) }), all},
		"ffmpeg: the largest":  {pcm16(func(w *wav) { w.length, w.riff = new(uint32(math.MaxUint32)), new(uint32(math.MaxUint32)) }), all},
		"zero and the largest": {pcm16(func(w *wav) { w.length, w.riff = new(uint32(0)), new(uint32(math.MaxUint32)) }), all},
		"sox":                  {pcm16(func(w *wav) { w.length, w.riff = new(uint32(0x7ffff000)), new(uint32(0x7ffff024)) }), all},
		"arecord":              {pcm16(func(w *wav) { w.length, w.riff = new(uint32(0x80000000)), new(uint32(0x80000024)) }), all},
		"RF64 without a length": {pcm16(func(w *wav) {
			w.id, w.length, w.riff = "RF64", new(uint32(math.MaxUint32)), new(uint32(math.MaxUint32))
			w.before = le([]byte("ds64"), uint32(28), uint64(0), uint64(0), uint64(0), uint32(0))
		}), all},
		"RF64": {pcm16(func(w *wav) {
			w.id, w.length, w.riff = "RF64", new(uint32(math.MaxUint32)), new(uint32(math.MaxUint32))
			w.before = le([]byte("ds64"), uint32(28), uint64(94), uint64(4), uint64(2), uint32(0))
		}), all[:2]},
		"RF64 of any length": {pcm16(func(w *wav) {
			w.id, w.length, w.riff = "RF64", new(uint32(math.MaxUint32)), new(uint32(math.MaxUint32))
			w.before = le([]byte("ds64"), uint32(28), uint64(94), uint64(math.MaxUint64), uint64(2), uint32(0))
		}), all},
		"an odd chunk before": {pcm16(func(w *wav) { w.before = le([]byte("LIST"), uint32(3), []byte("abc\x00")) }), all},
		"a long chunk before": {pcm16(func(w *wav) { w.before = le([]byte("LIST"), uint32(5000), make([]byte, 5000)) }), all},
	} {
		t.Run(name, func(t *testing.T) {
			for _, frames := range []int{1, 2, 3, 100} {
				r, err := media.NewWAVReader(iotest.OneByteReader(bytes.NewReader(c.file)))
				require.NoError(t, err)
				assert.Equal(t, &ipc.Audio{Samples: c.want, Rate: 8000, Channels: 1}, joined(t, r, frames))
			}
		})
	}
}

func TestBlockIsReturnedAsSoonAsItIsComplete(t *testing.T) {
	read, write := io.Pipe()
	defer func() { _ = read.Close() }()
	sent := make(chan struct{})
	go func() {
		_, _ = write.Write(pcm16(func(w *wav) { w.length, w.riff = new(uint32(0)), new(uint32(0)) }))
		close(sent) // everything written was read
	}()
	r, err := media.NewWAVReader(read)
	require.NoError(t, err)
	audio, err := r.Next(3)
	require.NoError(t, err)
	assert.Equal(t, []float32{0, 0.25, 0.5}, audio.Samples)
	<-sent
}

func TestBlocksHaveTheLengthAskedFor(t *testing.T) {
	samples := make([]float32, 2*45)
	data := le(samples)
	r := media.NewPCMReader(bytes.NewReader(append(data, 1, 2, 3, 4, 5)), 16000, 2, media.Float32)
	assert.Equal(t, 16000, r.Rate())
	var lengths []int
	for _, block := range blocks(t, r, 20) {
		assert.Equal(t, 2, block.Channels)
		lengths = append(lengths, block.Frames())
	}
	assert.Equal(t, []int{20, 20, 5}, lengths)
}

func TestPCMReader(t *testing.T) {
	want := []float32{-1, 0, 0.5}
	for format, data := range map[media.SampleFormat][]byte{
		media.Int16:   le(int16(-32768), int16(0), int16(16384)),
		media.Float32: le(want),
	} {
		r := media.NewPCMReader(bytes.NewReader(data), 48000, 1, format)
		assert.Equal(t, &ipc.Audio{Samples: want, Rate: 48000, Channels: 1}, joined(t, r, 2))
	}
}

func TestHugeFrameSizeAllocatesNothing(t *testing.T) {
	file := wav{tag: 1, channels: math.MaxUint16 / 4, rate: math.MaxUint32, bits: 32, data: make([]byte, 100)}
	r, err := media.NewWAVReader(bytes.NewReader(file.bytes()))
	require.NoError(t, err)
	_, err = r.Next(r.Rate())
	assert.Equal(t, io.EOF, err, "there is no complete frame")
}

func TestInvalidWAVStream(t *testing.T) {
	for want, data := range map[string][]byte{
		"the file is empty": nil,
		"this is FLAC, which is not supported; convert it": []byte("fLaC\x00\x00\x00\x22\x10\x00\x10\x00"),
		"there is no fmt chunk":                            []byte("RIFF\x00\x00\x00\x00WAVEfm"),
		"there are no samples":                             pcm16(func(w *wav) {})[:36],
		"the fmt chunk has 4 bytes":                        append([]byte("RIFF\x00\x00\x00\x00WAVE"), le([]byte("fmt "), uint32(4), uint32(1))...),
	} {
		_, err := media.NewWAVReader(bytes.NewReader(data))
		assert.ErrorContains(t, err, want)
		assert.IsType(t, &media.Error{}, err)
	}
}

func TestErrorOfTheUnderlyingReaderIsReturned(t *testing.T) {
	broken := errors.New("the disk is on fire")
	file := pcm16(func(w *wav) { w.before = le([]byte("LIST"), uint32(50), make([]byte, 50)) })
	for n := range file {
		r, err := media.NewWAVReader(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		if err == nil {
			_, err = r.Next(100)
		}
		assert.ErrorIs(t, err, broken, "after %d bytes", n)
	}
}
