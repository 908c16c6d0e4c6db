package media_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

var (
	area = image.Rect(0, 0, 2, 1)
	red  = color.NRGBA{255, 0, 0, 255}
	half = color.NRGBA{0, 0, 255, 128}
)

type canvas interface {
	image.Image
	Set(x, y int, c color.Color)
}

// pictureOf returns a PNG file of two pixels.
func pictureOf(t *testing.T, m canvas, left, right color.Color) []byte {
	t.Helper()
	m.Set(0, 0, left)
	m.Set(1, 0, right)
	var file bytes.Buffer
	require.NoError(t, png.Encode(&file, m))
	return file.Bytes()
}

func TestPixelFormatDependsOnTheFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		file   []byte
		format string
		pixels []byte
	}{
		{"gray", pictureOf(t, image.NewGray(area), color.Gray{7}, color.Gray{200}), "gray8", []byte{7, 200}},
		{"gray 16", pictureOf(t, image.NewGray16(area), color.Gray16{0x0708}, color.Gray16{0xc8ff}), "gray8", []byte{7, 200}},
		{"rgb", pictureOf(t, image.NewRGBA(area), red, color.White), "rgb8", []byte{255, 0, 0, 255, 255, 255}},
		{"rgb 16", pictureOf(t, image.NewRGBA64(area), red, color.White), "rgb8", []byte{255, 0, 0, 255, 255, 255}},
		{"alpha", pictureOf(t, image.NewNRGBA(area), red, half), "rgba8", []byte{255, 0, 0, 255, 0, 0, 255, 128}},
		{"alpha 16", pictureOf(t, image.NewNRGBA64(area), red, color.NRGBA64{0, 0, 0xffff, 0x80ff}), "rgba8", []byte{255, 0, 0, 255, 0, 0, 255, 128}},
		{"palette", pictureOf(t, image.NewPaletted(area, color.Palette{red, color.White}), red, color.White), "rgb8", []byte{255, 0, 0, 255, 255, 255}},
		{"transparent palette", pictureOf(t, image.NewPaletted(area, color.Palette{red, half}), red, half), "rgba8", []byte{255, 0, 0, 255, 0, 0, 255, 128}},
	} {
		t.Run(c.name, func(t *testing.T) {
			picture, err := media.DecodeImage(c.file)
			require.NoError(t, err)
			assert.Equal(t, &ipc.Image{Pixels: c.pixels, Format: c.format, Width: 2, Height: 1}, picture)
		})
	}
}

func TestJPEG(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 16, 8))
	for i := range m.Pix {
		m.Pix[i] = 200
	}
	var file bytes.Buffer
	require.NoError(t, jpeg.Encode(&file, m, nil))
	picture, err := media.DecodeImage(file.Bytes())
	require.NoError(t, err)
	assert.Equal(t, []any{"rgb8", 16, 8, 16 * 8 * 3}, []any{picture.Format, picture.Width, picture.Height, len(picture.Pixels)})
	assert.InDelta(t, 200, picture.Pixels[0], 3)
}

func TestPNGRoundTrip(t *testing.T) {
	for _, c := range []struct {
		picture ipc.Image
		format  string
		pixels  []byte
	}{
		{ipc.Image{Format: "gray8", Pixels: []byte{7, 200}}, "gray8", []byte{7, 200}},
		{ipc.Image{Format: "rgb8", Pixels: []byte{1, 2, 3, 4, 5, 6}}, "rgb8", []byte{1, 2, 3, 4, 5, 6}},
		{ipc.Image{Format: "bgr8", Pixels: []byte{1, 2, 3, 4, 5, 6}}, "rgb8", []byte{3, 2, 1, 6, 5, 4}},
		{ipc.Image{Format: "rgba8", Pixels: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, "rgba8", []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{ipc.Image{Format: "bgra8", Pixels: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, "rgba8", []byte{3, 2, 1, 4, 7, 6, 5, 8}},
	} {
		c.picture.Width, c.picture.Height = 2, 1
		var file bytes.Buffer
		require.NoError(t, media.EncodePNG(&file, &c.picture))
		got, err := media.DecodeImage(file.Bytes())
		require.NoError(t, err)
		assert.Equal(t, &ipc.Image{Pixels: c.pixels, Format: c.format, Width: 2, Height: 1}, got)
	}
}

func TestInvalidImages(t *testing.T) {
	good := pictureOf(t, image.NewGray(area), color.Black, color.Black)
	huge := bytes.Clone(good)
	copy(huge[16:], []byte{0x7f, 0, 0, 0, 0x7f, 0, 0, 0}) // width and height
	for want, data := range map[string][]byte{
		"image: the file is empty":                     nil,
		"WebP: riff: short chunk data":                 []byte("RIFF\x00\x00\x00\x00WEBP"),
		"PNG: unsupported feature: dimension overflow": huge,
		"PNG: invalid format: unexpected EOF":          good[:50],
		"PNG: unexpected EOF":                          good[:20],
	} {
		_, err := media.DecodeImage(data)
		assert.ErrorContains(t, err, want)
		assert.IsType(t, &media.Error{}, err)
	}
	for want, picture := range map[string]*ipc.Image{
		`unknown pixel format "yuv"`:                               {Format: "yuv"},
		"2 bytes of pixels do not make an image of 2 × 2 in gray8": {Format: "gray8", Width: 2, Height: 2, Pixels: make([]byte, 2)},
		"0 bytes of pixels do not make an image of 0 × 0 in rgb8":  {Format: "rgb8"},
	} {
		assert.ErrorContains(t, media.EncodePNG(&bytes.Buffer{}, picture), want)
	}
}

// The header alone is enough to reject an image: the test has nothing after it.
func TestHugeImageIsRejectedByItsHeader(t *testing.T) {
	header := []byte("IHDR\x00\x01\x00\x00\x00\x01\x00\x00\x08\x00\x00\x00\x00") // 65536 × 65536 in gray
	file := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), header...)
	file = binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(header))
	_, err := media.DecodeImage(file)
	assert.EqualError(t, err, "PNG: an image of 65536 × 65536 exceeds the limit of 268435456 pixels")
}

func TestFilesAreRecognizedByTheirContent(t *testing.T) {
	dir := t.TempDir()
	sound := wav{tag: 1, channels: 1, rate: 8000, bits: 8, data: []byte{192}}.bytes()
	picture := pictureOf(t, image.NewGray(area), color.Black, color.Black)
	for name, data := range map[string][]byte{"a": sound, "b": picture, "c": []byte("text")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	got, err := media.ReadFile(filepath.Join(dir, "a"))
	require.NoError(t, err)
	assert.IsType(t, &ipc.Audio{}, got)
	got, err = media.ReadFile(filepath.Join(dir, "b"))
	require.NoError(t, err)
	assert.IsType(t, &ipc.Image{}, got)
	_, err = media.ReadFile(filepath.Join(dir, "c"))
	assert.ErrorContains(t, err, "as no WAV, PNG, JPEG, WebP, GIF, TIFF or BMP file does")
	_, err = media.ReadFile(filepath.Join(dir, "d"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.True(t, media.Known(sound) && media.Known(picture))
	assert.False(t, media.Known([]byte("text")))
}

// numpy.load, the reference implementation, reads the files.
func TestNumPyReadsTheFiles(t *testing.T) {
	if exec.Command("python3", "-c", "import numpy").Run() != nil {
		t.Skip("python3 has no numpy here; TestNPYBytes checks the bytes")
	}
	vector, err := ipc.NewTensor([]int16{1, -2, 3}, 3)
	require.NoError(t, err)
	matrix, err := ipc.NewTensor([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	require.NoError(t, err)
	scalar, err := ipc.NewTensor([]complex64{1 + 2i})
	require.NoError(t, err)
	empty, err := ipc.NewTensor([]bool{}, 1000000, 0)
	require.NoError(t, err)
	for want, tensor := range map[string]*ipc.Tensor{
		"int16 (3,) [1, -2, 3]\n":                             vector,
		"float32 (2, 3) [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]\n": matrix,
		"complex64 () (1+2j)\n":                               scalar,
		"bool (1000000, 0) 0\n":                               empty,
	} {
		path := filepath.Join(t.TempDir(), "t.npy")
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, media.EncodeNPY(f, tensor))
		require.NoError(t, f.Close())
		out, err := exec.Command("python3", "-c",
			"import numpy, sys; a = numpy.load(sys.argv[1]); print(a.dtype, a.shape, a.tolist() if a.size else 0)", path).Output()
		require.NoError(t, err)
		assert.Equal(t, want, string(out))
	}
}

func TestNPYBytes(t *testing.T) {
	tensor, err := ipc.NewTensor([]uint8{1, 2}, 2)
	require.NoError(t, err)
	var file bytes.Buffer
	require.NoError(t, media.EncodeNPY(&file, tensor))
	want := "\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, ), }"
	require.Len(t, file.Bytes(), 128+2)
	assert.Equal(t, want, file.String()[:len(want)])
	assert.Equal(t, "\n\x01\x02", file.String()[127:])
}

func TestArraysThatNumPySavesAreReadAsNumPyReadsThem(t *testing.T) {
	for _, array := range []string{
		"np.arange(24, dtype='<f4').reshape(2, 3, 4)", "np.asfortranarray(np.arange(24, dtype='>i2').reshape(2, 3, 4))",
		"np.arange(6, dtype='>c16').reshape(3, 2).T", "np.array(7, dtype='u8')", "np.zeros((0, 3), order='F')",
		"np.array([True, False])", "np.array([1, 2], dtype='>f2')", "np.arange(5, dtype='i1')",
	} {
		file := filepath.Join(t.TempDir(), "a.npy")
		out, err := exec.Command("python3", "-c", `import sys
import numpy as np
a = `+array+`
np.save(sys.argv[1], a)
b = np.ascontiguousarray(a, dtype=a.dtype.newbyteorder('<')).reshape(a.shape)
sys.stdout.write(f"{a.dtype.name} {list(a.shape)} {b.tobytes().hex()}")`, file).CombinedOutput()
		require.NoError(t, err, string(out))
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		tensor, err := media.DecodeNPY(data)
		require.NoError(t, err)
		shape := strings.ReplaceAll(fmt.Sprint(tensor.Shape), " ", ", ")
		assert.Equal(t, string(out), fmt.Sprintf("%s %s %x", tensor.DType, shape, tensor.Data), array)
	}
}

func TestFilesThatAreNoArraysOfNumbersAreRefused(t *testing.T) {
	header := func(text string) string {
		return "\x93NUMPY\x01\x00" + string(rune(len(text))) + "\x00" + text
	}
	for text, want := range map[string]string{
		"{}":                        "NPY: the data begins with",
		"\x93NUMPY\x01":             "the header is incomplete",
		"\x93NUMPY\x01\x00\x70\x00": "the header is incomplete",
		header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"):                               "the elements are not numbers",
		header("{'descr': '<U5', 'fortran_order': False, 'shape': (1,), }"):                              "elements of type U5 are not supported",
		header("{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }") + "1234":                     "4 bytes do not make a tensor of int32 with shape [2]",
		header("{'descr': '<i4', 'fortran_order': False, 'shape': (9223372036854775807, 2), }"):          "is too large",
		header("{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999999, 2), }") + "": "is too large",
	} {
		_, err := media.DecodeNPY([]byte(text))
		assert.ErrorContains(t, err, want)
	}
}

func TestInvalidTensors(t *testing.T) {
	for want, tensor := range map[string]*ipc.Tensor{
		`unknown dtype "datetime64"`:                                   {DType: "datetime64"},
		"3 bytes do not make a tensor of int16 with shape [2]":         {DType: ipc.Int16, Shape: []int{2}, Data: make([]byte, 3)},
		"0 bytes do not make a tensor of int8 with shape [-1]":         {DType: ipc.Int8, Shape: []int{-1}},
		"do not make a tensor of int8 with shape [4611686018427387904": {DType: ipc.Int8, Shape: []int{1 << 62, 1 << 62}},
	} {
		assert.ErrorContains(t, media.EncodeNPY(&bytes.Buffer{}, tensor), want)
	}
}

// The decoder leaves gaps between the rows of a gray JPEG, for its blocks of 8 pixels.
func TestGrayJPEGHasNoGapsBetweenRows(t *testing.T) {
	m := image.NewGray(image.Rect(0, 0, 13, 5))
	for i := range m.Pix {
		m.Pix[i] = 200
	}
	var file bytes.Buffer
	require.NoError(t, jpeg.Encode(&file, m, nil))
	picture, err := media.DecodeImage(file.Bytes())
	require.NoError(t, err)
	assert.Equal(t, "gray8", picture.Format)
	require.Len(t, picture.Pixels, 13*5)
	for _, p := range picture.Pixels {
		assert.InDelta(t, 200, p, 3)
	}
}
