package media_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

// decoded decodes a file, and returns the image and the warnings.
func decoded(t *testing.T, file []byte) (picture *ipc.Image, warnings []string) {
	t.Helper()
	d := media.Decoder{Warn: func(message string) { warnings = append(warnings, message) }}
	assert.True(t, media.Known(file[:12]))
	value, err := d.Decode(file)
	require.NoError(t, err)
	return value.(*ipc.Image), warnings
}

// encoded returns a file that a function of a standard encoder writes.
func encoded(t *testing.T, encode func(w io.Writer, m image.Image) error, m image.Image) []byte {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, encode(&file, m))
	return file.Bytes()
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return file
}

// stripes returns 16 × 8 pixels: a stripe of red, green, blue and white each.
func stripes() *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, 16, 8))
	for y := range 8 {
		for x := range 16 {
			m.Set(x, y, []color.Color{color.RGBA{255, 0, 0, 255}, color.RGBA{0, 128, 0, 255}, color.RGBA{0, 0, 255, 255}, color.White}[x/4])
		}
	}
	return m
}

func TestTheColorsOfEachImageFormat(t *testing.T) {
	writeTIFF := func(w io.Writer, m image.Image) error {
		return tiff.Encode(w, m, &tiff.Options{Compression: tiff.Deflate})
	}
	writeGIF := func(w io.Writer, m image.Image) error { return gif.Encode(w, m, nil) }
	writeJPEG := func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, &jpeg.Options{Quality: 100}) }
	opaque := image.NewRGBA(image.Rect(0, 0, 16, 8))
	for i := range 16 * 8 {
		opaque.Set(i%16, i/16, stripes().At(i%16, i/16))
	}
	for _, c := range []struct {
		name, format string
		file         []byte
		tolerance    int
	}{
		{"PNG", "rgb8", encoded(t, png.Encode, opaque), 0},
		{"JPEG", "rgb8", encoded(t, writeJPEG, opaque), 3},
		{"CMYK JPEG", "rgb8", testdata(t, "cmyk.jpg"), 2},
		{"lossy WebP", "rgb8", testdata(t, "lossy.webp"), 3},
		{"lossless WebP", "rgb8", testdata(t, "lossless.webp"), 0},
		{"lossy WebP with alpha", "rgba8", testdata(t, "alpha-lossy.webp"), 3},
		{"lossless WebP with alpha", "rgba8", testdata(t, "alpha.webp"), 0},
		{"GIF", "rgb8", encoded(t, writeGIF, opaque), 9}, // its palette
		{"TIFF", "rgb8", encoded(t, writeTIFF, opaque), 0},
		{"BMP", "rgb8", encoded(t, bmp.Encode, opaque), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			picture, warnings := decoded(t, c.file)
			assert.Empty(t, warnings)
			require.Equal(t, []any{c.format, 16, 8}, []any{picture.Format, picture.Width, picture.Height})
			size := len(picture.Pixels) / (16 * 8)
			for i := range 16 * 8 {
				want := stripes().NRGBAAt(i%16, i/16)
				got := picture.Pixels[i*size:]
				for channel, sample := range []byte{want.R, want.G, want.B} {
					assert.InDelta(t, sample, got[channel], float64(c.tolerance), "pixel %d, channel %d", i, channel)
				}
				if size == 4 {
					assert.Equal(t, byte(128), got[3])
				}
			}
		})
	}
}

// exif returns an EXIF block whose only entry is the orientation.
func exif(orientation byte) []byte {
	return append([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00"), orientation, 0, 0, 0, 0, 0, 0)
}

// withEXIF returns a JPEG or PNG file with an orientation.
func withEXIF(file []byte, orientation byte) []byte {
	if bytes.HasPrefix(file, []byte("\xff\xd8")) {
		block := append([]byte("Exif\x00\x00"), exif(orientation)...)
		head := binary.BigEndian.AppendUint16([]byte("\xff\xd8\xff\xe1"), uint16(len(block)+2))
		return append(append(head, block...), file[2:]...)
	}
	chunk := append([]byte("eXIf"), exif(orientation)...)
	out := binary.BigEndian.AppendUint32(bytes.Clone(file[:33]), uint32(len(chunk)-4)) // after IHDR
	out = binary.BigEndian.AppendUint32(append(out, chunk...), crc32.ChecksumIEEE(chunk))
	return append(out, file[33:]...)
}

func TestImagesAreUpright(t *testing.T) {
	m := image.NewGray(image.Rect(0, 0, 3, 2))
	copy(m.Pix, []byte{1, 2, 3, 4, 5, 6})
	file := encoded(t, png.Encode, m)
	for orientation, want := range map[byte]ipc.Image{
		0: {Width: 3, Height: 2, Pixels: []byte{1, 2, 3, 4, 5, 6}},
		1: {Width: 3, Height: 2, Pixels: []byte{1, 2, 3, 4, 5, 6}},
		2: {Width: 3, Height: 2, Pixels: []byte{3, 2, 1, 6, 5, 4}},
		3: {Width: 3, Height: 2, Pixels: []byte{6, 5, 4, 3, 2, 1}},
		4: {Width: 3, Height: 2, Pixels: []byte{4, 5, 6, 1, 2, 3}},
		5: {Width: 2, Height: 3, Pixels: []byte{1, 4, 2, 5, 3, 6}},
		6: {Width: 2, Height: 3, Pixels: []byte{4, 1, 5, 2, 6, 3}},
		7: {Width: 2, Height: 3, Pixels: []byte{6, 3, 5, 2, 4, 1}},
		8: {Width: 2, Height: 3, Pixels: []byte{3, 6, 2, 5, 1, 4}},
		9: {Width: 3, Height: 2, Pixels: []byte{1, 2, 3, 4, 5, 6}},
	} {
		want.Format = "gray8"
		picture, _ := decoded(t, withEXIF(file, orientation))
		assert.Equal(t, &want, picture, "orientation %d", orientation)
	}
	// A photo that a phone took upright: the sensor's rows are the columns of the picture.
	photo, _ := decoded(t, withEXIF(encoded(t, func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }, stripes()), 6))
	assert.Equal(t, []any{"rgb8", 8, 16}, []any{photo.Format, photo.Width, photo.Height})
	assert.InDelta(t, 255, photo.Pixels[0], 5, "the top is red")
	assert.InDelta(t, 0, photo.Pixels[1], 30)
	turned, _ := decoded(t, testdata(t, "turned.webp"))
	assert.Equal(t, []any{8, 16, []byte{255, 0, 0}}, []any{turned.Width, turned.Height, turned.Pixels[:3]})
	damaged := withEXIF(encoded(t, func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }, stripes()), 6)
	copy(damaged[12:], "XX")
	picture, _ := decoded(t, damaged)
	assert.Equal(t, 16, picture.Width, "damaged metadata do not matter")
}

func TestWhatAnImageLosesIsWarnedOf(t *testing.T) {
	const sixteen = "the image has 16 bits per sample, of which the node gets the upper 8"
	writeTIFF := func(w io.Writer, m image.Image) error { return tiff.Encode(w, m, nil) }
	pages := encoded(t, writeTIFF, image.NewGray(area))
	order := binary.LittleEndian
	directory := order.Uint32(pages[4:])
	order.PutUint32(pages[directory+2+12*uint32(order.Uint16(pages[directory:])):], 8)
	palette := color.Palette{color.NRGBA{}, color.White}
	frame := image.NewPaletted(image.Rect(1, 1, 3, 2), palette)
	frame.Pix = []byte{1, 1}
	var one, two bytes.Buffer
	config := image.Config{Width: 4, Height: 3, ColorModel: palette}
	require.NoError(t, gif.EncodeAll(&one, &gif.GIF{Image: []*image.Paletted{frame}, Delay: []int{0}, Config: config}))
	require.NoError(t, gif.EncodeAll(&two, &gif.GIF{Image: []*image.Paletted{frame, frame}, Delay: []int{9, 9}, Config: config}))
	for name, c := range map[string]struct {
		file []byte
		want []string
	}{
		"8 bits":            {encoded(t, png.Encode, image.NewGray(area)), nil},
		"gray, 16 bits":     {encoded(t, png.Encode, image.NewGray16(area)), []string{sixteen}},
		"color, 16 bits":    {encoded(t, png.Encode, image.NewRGBA64(area)), []string{sixteen}},
		"TIFF, 16 bits":     {encoded(t, writeTIFF, image.NewGray16(area)), []string{sixteen}},
		"TIFF of 2 pages":   {pages, []string{"the TIFF has several pages, of which the node gets the first"}},
		"GIF":               {one.Bytes(), nil},
		"GIF of two frames": {two.Bytes(), []string{"the GIF is an animation, of which the node gets the first frame"}},
	} {
		_, warnings := decoded(t, c.file)
		assert.Equal(t, c.want, warnings, name)
	}
	picture, _ := decoded(t, one.Bytes())
	assert.Equal(t, []any{"rgba8", 4, 3}, []any{picture.Format, picture.Width, picture.Height}, "the first frame is a part of the picture")
	assert.Equal(t, []byte{0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0}, picture.Pixels[16:32])
}

func TestEveryFormatIsCalledByItsName(t *testing.T) {
	const toPNG, toWAV = "; convert it to PNG", "; convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
	box := func(brand string) string { return "\x00\x00\x00\x18ftyp" + brand + "\x00\x00\x00\x00" }
	for data, want := range map[string]string{
		box("heic"): "HEIC, which is not supported" + toPNG, box("heix"): "HEIC, which is not supported" + toPNG,
		box("mif1"): "HEIC or AVIF, which is not supported" + toPNG, box("avif"): "AVIF, which is not supported" + toPNG, box("avis"): "AVIF, which is not supported" + toPNG,
		box("M4A "): "M4A, which is not supported" + toWAV, box("isom"): "MP4, which is not supported" + toWAV, box("qt  "): "QuickTime, which is not supported" + toWAV,
		box("crx "):    "raw photo (CR3), which is not supported" + toPNG,
		"\xff\x0a\xfa": "JPEG XL, which is not supported" + toPNG, "\x00\x00\x00\x0cJXL \r\n\x87\n": "JPEG XL, which is not supported" + toPNG,
		"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG 2000, which is not supported" + toPNG,
		"8BPS\x00\x01":                   "Photoshop (PSD), which is not supported" + toPNG,
		"\x00\x00\x01\x00\x01\x00":       "icon (ICO), which is not supported" + toPNG,
		"<svg xmlns=":                    "SVG, which is not supported" + toPNG,
		"\ufeff<?xml version=\"1.0\"?>\n<!-- a -->\n<svg>": "SVG, which is not supported" + toPNG,
		"II+\x00":   "BigTIFF, which is not supported" + toPNG,
		"qoif":      "QOI, which is not supported" + toPNG,
		"v/1\x01":   "OpenEXR, which is not supported" + toPNG,
		"P6\n1 1\n": "netpbm, which is not supported" + toPNG,
		"ID3\x04":   "MP3, which is not supported" + toWAV,
		"fLaC":      "FLAC, which is not supported" + toWAV,
		"OggS" + strings.Repeat("\x00", 24) + "OpusHead": "Opus, which is not supported" + toWAV,
		"OggS\x00":                           "Ogg, which is not supported" + toWAV,
		"FORM\x00\x00\x00\x00AIFF":           "AIFF, which is not supported" + toWAV,
		"RIFF\x00\x00\x00\x00AVI LIST":       "AVI, which is not supported" + toWAV,
		"\xff\xf1P":                          "AAC, which is not supported" + toWAV,
		"%PDF-1.7":                           "PDF",
		"PK\x03\x04":                         "a ZIP archive",
		"<!DOCTYPE html>":                    "an HTML page",
		strings.Repeat("\x00", 128) + "DICM": "DICOM, which is not supported" + toPNG,
	} {
		_, err := media.DecodeImage([]byte(data))
		assert.EqualError(t, err, "image: this is "+want)
		_, err = media.DecodeWAV([]byte(data))
		assert.EqualError(t, err, "WAV: this is "+want)
		assert.False(t, media.Known([]byte(data)))
	}
	_, err := media.DecodeWAV(encoded(t, png.Encode, image.NewGray(area)))
	assert.EqualError(t, err, "WAV: this is PNG")
	_, err = media.DecodeImage(testdata(t, "animated.webp"))
	assert.EqualError(t, err, "WebP: an animation is not supported; convert one of its frames to PNG")
	assert.False(t, media.Known([]byte("BMW and others")), "text is no BMP")
}

func TestAHugeImageIsRefusedBeforeItIsDecoded(t *testing.T) {
	m := image.NewGray(area)
	files := map[string][]byte{"PNG": encoded(t, png.Encode, m), "BMP": encoded(t, bmp.Encode, m)}
	binary.BigEndian.PutUint32(files["PNG"][16:], 1<<15)
	binary.BigEndian.PutUint32(files["PNG"][20:], 1<<15)
	binary.BigEndian.PutUint32(files["PNG"][29:], crc32.ChecksumIEEE(files["PNG"][12:29]))
	binary.LittleEndian.PutUint32(files["BMP"][18:], 1<<15)
	binary.LittleEndian.PutUint32(files["BMP"][22:], 1<<15)
	files["GIF"] = []byte("GIF89a\xff\xff\xff\xff\x00\x00\x00")
	files["TIFF"] = []byte("MM\x00*\x00\x00\x00\x08\x00\x04" +
		"\x01\x00\x00\x03\x00\x00\x00\x01\xff\xff\x00\x00" + "\x01\x01\x00\x03\x00\x00\x00\x01\xff\xff\x00\x00" + // width, height
		"\x01\x02\x00\x03\x00\x00\x00\x01\x00\x08\x00\x00" + "\x01\x06\x00\x03\x00\x00\x00\x01\x00\x01\x00\x00" + "\x00\x00\x00\x00")
	files["WebP"] = []byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x10\x00\x00\x00\xff\x7f\x00\xff\x7f\x00")
	for name, file := range files {
		_, err := media.DecodeImage(file)
		assert.Regexp(t, "^"+name+`: an image of (32768 × 32768|65535 × 65535) exceeds the limit of 268435456 pixels$`, err)
	}
}
