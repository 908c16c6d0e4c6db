package media_test

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

// fuzzedPixels keeps the fuzzer from images that only take time.
const fuzzedPixels = 1 << 20

// FuzzDecode checks that any file gives a value that can be encoded, or an *Error, and
// that an image survives a round trip.
func FuzzDecode(f *testing.F) {
	for _, picture := range []image.Image{
		image.NewGray(image.Rect(0, 0, 3, 2)),
		image.NewGray16(image.Rect(0, 0, 1, 2)),
		image.NewNRGBA(image.Rect(0, 0, 2, 2)),
		image.NewNRGBA64(image.Rect(0, 0, 2, 1)),
		image.NewPaletted(image.Rect(0, 0, 4, 1), color.Palette{color.Black, color.Transparent}),
	} {
		var file bytes.Buffer
		require.NoError(f, png.Encode(&file, picture))
		f.Add(bytes.Clone(file.Bytes()))
		file.Reset()
		require.NoError(f, jpeg.Encode(&file, picture, nil))
		f.Add(bytes.Clone(file.Bytes()))
		f.Add(withEXIF(file.Bytes(), 6))
		for _, encode := range []func(w io.Writer, m image.Image) error{
			bmp.Encode, func(w io.Writer, m image.Image) error { return tiff.Encode(w, m, nil) }, func(w io.Writer, m image.Image) error { return gif.Encode(w, m, nil) },
		} {
			file.Reset()
			require.NoError(f, encode(&file, picture))
			f.Add(bytes.Clone(file.Bytes()))
		}
	}
	for _, name := range []string{"cmyk.jpg", "lossy.webp", "alpha.webp", "alpha-lossy.webp", "turned.webp", "animated.webp"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xff\xff\xff\xff\xff\xff\xff\x08\x06\x00\x00\x00"))
	f.Add([]byte("RIFF\x00\x00\x00\x00WAVE"))
	f.Add([]byte("II*\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if config, _, err := image.DecodeConfig(bytes.NewReader(data)); err == nil && config.Width*config.Height > fuzzedPixels {
			return
		}
		value, err := media.Decode(data)
		if err != nil {
			require.IsType(t, &media.Error{}, err)
			require.NotEmpty(t, err.Error())
			return
		}
		_, err = ipc.Encode("v", value)
		require.NoError(t, err)
		picture, ok := value.(*ipc.Image)
		if !ok {
			return
		}
		var file bytes.Buffer
		require.NoError(t, media.EncodePNG(&file, picture))
		again, err := media.DecodeImage(file.Bytes())
		require.NoError(t, err)
		require.Equal(t, []int{picture.Width, picture.Height}, []int{again.Width, again.Height})
		if again.Format == picture.Format { // an image without transparency is decoded as rgb8
			require.Equal(t, picture.Pixels, again.Pixels)
		}
	})
}

// FuzzPCM checks that samples without a header are read in blocks without loss.
func FuzzPCM(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, byte(1), byte(2), true)
	f.Add([]byte{0, 0, 0xc0, 0x7f, 0, 0, 0x80, 0xff}, byte(0), byte(0), false)
	f.Fuzz(func(t *testing.T, data []byte, channels, frames byte, short bool) {
		format, width := media.Float32, 4
		if short {
			format, width = media.Int16, 2
		}
		n := 1 + int(channels)%8
		reader := media.NewPCMReader(bytes.NewReader(data), 8000, n, format)
		var samples []float32
		for {
			piece, err := reader.Next(1 + int(frames))
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
			require.NotEmpty(t, piece.Samples)
			samples = append(samples, piece.Samples...)
		}
		require.Len(t, samples, len(data)/(n*width)*n)
		for _, sample := range samples {
			require.False(t, short && math.Abs(float64(sample)) > 1)
		}
		if len(samples) == 0 {
			return
		}
		var file bytes.Buffer
		require.NoError(t, media.EncodeWAV(&file, &ipc.Audio{Samples: samples, Rate: 8000, Channels: n}, format))
		require.True(t, bytes.Contains(file.Bytes(), data[:len(samples)*width]), "the samples survive bit by bit")
	})
}

// FuzzNPY checks that any tensor gives a file with all of its data, or an *Error.
func FuzzNPY(f *testing.F) {
	f.Add("float32", 1, 2, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add("bool", 0, -1, []byte{})
	f.Add("complex128", math.MaxInt, math.MaxInt, []byte{})
	f.Fuzz(func(t *testing.T, dtype string, rows, columns int, data []byte) {
		var file bytes.Buffer
		err := media.EncodeNPY(&file, &ipc.Tensor{DType: ipc.DType(dtype), Shape: []int{rows, columns}, Data: data})
		if err != nil {
			require.IsType(t, &media.Error{}, err)
			return
		}
		require.Zero(t, (file.Len()-len(data))%64)
		require.True(t, bytes.HasSuffix(file.Bytes(), data))
	})
}
