package cli

import (
	"bytes"
	"encoding/binary"
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

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// heic is the beginning of a photo of a phone.
const heic = "\x00\x00\x00\x18ftypheic\x00\x00\x00\x00\xff"

func writeJPEG(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }

func writeGIF(w io.Writer, m image.Image) error { return gif.Encode(w, m, nil) }

func writeTIFF(w io.Writer, m image.Image) error { return tiff.Encode(w, m, nil) }

// encoded returns an image file.
func encoded(t *testing.T, encode func(w io.Writer, m image.Image) error, m image.Image) string {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, encode(&file, m))
	return file.String()
}

func TestWhatANodeGetsOfARecordingOrAnImage(t *testing.T) {
	area := image.Rect(0, 0, 3, 2)
	photo := encoded(t, writeJPEG, image.NewGray(area))
	turned := photo[:2] + "\xff\xe1\x00\x22Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00" + photo[2:]
	huge := []byte(encoded(t, bmp.Encode, image.NewGray(area)))
	binary.LittleEndian.PutUint32(huge[18:], 1<<15)
	binary.LittleEndian.PutUint32(huge[22:], 1<<15)
	wav := fixtures.WAV(t, fixtures.Beep)
	const toPNG, toWAV = "convert it to PNG", "convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
	cases := []struct{ input, content, result, failure, hint, warning string }{
		{input: "turned.jpg", content: turned, result: "image gray8 2x3"},
		{input: "a.gif", content: encoded(t, writeGIF, image.NewPaletted(area, color.Palette{color.Black, color.White})), result: "image rgb8 3x2"},
		{input: "a.tif", content: encoded(t, writeTIFF, image.NewNRGBA(area)), result: "image rgba8 3x2"},
		{input: "a.TIFF", content: encoded(t, writeTIFF, image.NewGray(area)), result: "image gray8 3x2"},
		{input: "a.bmp", content: encoded(t, bmp.Encode, image.NewGray(area)), result: "image rgb8 3x2"},
		{input: "png.webp", content: encoded(t, png.Encode, image.NewGray(area)), result: "image gray8 3x2"},
		{input: "deep.png", content: encoded(t, png.Encode, image.NewGray16(area)), result: "image gray8 3x2",
			warning: "the image has 16 bits per sample, of which the node gets the upper 8"},
		{input: "a.heic", content: heic, failure: "image: this is HEIC, which is not supported", hint: toPNG},
		{input: "heic.png", content: heic, failure: "image: this is HEIC, which is not supported", hint: toPNG},
		{input: "a.avif", content: strings.Replace(heic, "heic", "avif", 1), failure: "image: this is AVIF, which is not supported", hint: toPNG},
		{input: "a.jxl", content: "\xff\x0a\xff", failure: "image: this is JPEG XL, which is not supported", hint: toPNG},
		{input: "a.psd", content: "8BPS\x00\x01", failure: "image: this is Photoshop (PSD), which is not supported", hint: toPNG},
		{input: "a.ico", content: "\x00\x00\x01\x00\x01\x00", failure: "image: this is icon (ICO), which is not supported", hint: toPNG},
		{input: "svg.png", content: "<svg></svg>", failure: "image: this is SVG, which is not supported", hint: toPNG},
		{input: "a.svg", content: "<svg></svg>", result: "str <svg></svg>"},
		{input: "huge.bmp", content: string(huge), failure: "BMP: an image of 32768 × 32768 exceeds the limit of 268435456 pixels"},
		{input: "cut.png", content: encoded(t, png.Encode, image.NewGray(area))[:60], failure: "PNG: unexpected EOF"},
		{input: "a.mp3", content: "ID3\x04", failure: "WAV: this is MP3, which is not supported", hint: toWAV},
		{input: "mp3.wav", content: "ID3\x04", failure: "WAV: this is MP3, which is not supported", hint: toWAV},
		{input: "wav.mp3", content: wav, result: "audio of 2 frames"},
		{input: "cut.wav", content: wav[:len(wav)-8], result: "audio of 1 frames",
			warning: "the file is truncated: it has 0.00 s of the 0.00 s of samples that its header announces"},
		{input: "odd.wav", content: wav + "\x00\x00\x00", result: "audio of 2 frames", warning: "3 bytes after the samples are left out, which are no chunk"},
		{input: "twice.wav", content: wav + wav, result: "audio of 2 frames", warning: "the file has another recording after the first one, which is left out"},
		{input: "a.bin", content: heic, result: "17 bytes"},
		{input: "bytes:a.heic", result: "17 bytes"},
		{input: "bytes:a.svg", result: "11 bytes"},
	}
	files, args := make(map[string]string), []string{"run", nodeOfType(t, "described"), "--output", "jsonl"}
	for _, c := range cases {
		args = append(args, c.input)
		if c.content != "" {
			files[c.input] = c.content
		}
	}
	fixtures.Chdir(t, files)
	got := command(t, args...)
	require.Equal(t, 9, got.code, got.err)
	records := recordsOf(t, got.out)
	require.Len(t, records, len(cases))
	for i, c := range cases {
		t.Run(c.input, func(t *testing.T) {
			want := record{input: strings.TrimPrefix(c.input, "bytes:"), result: c.result}
			if c.failure != "" {
				want.failure = "serialization error: cannot read " + c.input + ": " + c.failure
			}
			if c.hint != "" {
				want.failure += "\nhint: " + c.hint + "; to hand over the file as it is: 'path:" + c.input + "' or 'bytes:" + c.input + "'"
			}
			assert.Equal(t, want, records[i])
			warned := strings.Count(got.err, "[WARN]  "+c.warning+": input="+c.input+"\n")
			assert.Equal(t, c.warning != "", warned == 1, got.err)
		})
	}
}

func TestARecordingOrAnImageThatIsStreamed(t *testing.T) {
	wav := fixtures.WAV(t, fixtures.Beep)
	fixtures.Chdir(t, map[string]string{"cut.wav": wav[:len(wav)-8]})
	got := commandWithInput(t, heic, "run", nodeOfType(t, "described"), "-")
	assert.Equal(t, "\"17 bytes\"\n", got.out)
	assert.Regexp(t, `^\S+ \[WARN\]  this is HEIC, which is not supported; the node gets its bytes: input="standard input"\n$`, got.err)
	got = command(t, "stream", nodeOfType(t, "heard"), "--input", "cut.wav")
	assert.Equal(t, "[8000,2,1,0]\n", got.out)
	assert.Contains(t, got.err, "[WARN]  the file is truncated: it has 0.00 s of the 0.00 s of samples that its header announces: input=cut.wav\n")
}

func TestAPathIsHandedOver(t *testing.T) {
	fixtures.Chdir(t, map[string]string{"clips/a.mp3": "ID3", "clips/b.mp3": "ID3\x04", "clips/c/d.mp3": "", "l.jsonl": "1\n2\n"})
	size := nodeOfType(t, "size") // which runs in another folder
	assert.Equal(t, "3\n", succeed(t, "run", size, "--input", "path:clips/a.mp3"))
	assert.Equal(t, "4\n", succeed(t, "run", size, "path:l.jsonl"))
	assert.Equal(t, `{"input":"clips/a.mp3","result":3}`+"\n"+`{"input":"clips/b.mp3","result":4}`+"\n",
		succeed(t, "run", size, "path:clips/*.mp3", "--output", "jsonl"))
	folder, err := os.Getwd()
	require.NoError(t, err)
	shown := nodeOfType(t, "shown")
	assert.Equal(t, "'"+filepath.Join(folder, "clips")+"'\n", succeed(t, "run", shown, "path:clips", "--output", "pretty"))
	assert.Equal(t, "b'ID3'\n", succeed(t, "run", shown, "bytes:clips/a.mp3", "--output", "pretty"))
	for input, want := range map[string]string{
		"path:none.mp3": "error: io error: there is no input file none.mp3\nhint: check the path; if this is text, write it as JSON: '\"path:none.mp3\"'\n",
		"bytes:*.flac":  "error: io error: no file matches the input *.flac\nhint: check the path; if this is text, write it as JSON: '\"bytes:*.flac\"'\n",
		"bytes:clips":   "error: the input clips is a folder; name the files in it: 'clips/*'\nsee: gophersnake run --help\n",
		"none.heic":     "error: io error: there is no input file none.heic\nhint: check the path; if this is text, write it as JSON: '\"none.heic\"'\n",
	} {
		assert.Equal(t, want, command(t, "run", shown, input).err)
	}
	assert.Equal(t, "'path:none.mp3'\n", succeed(t, "run", shown, `"path:none.mp3"`, "--output", "pretty"), "the hint works")
	assert.Equal(t, "'none.heic'\n", succeed(t, "run", shown, `"none.heic"`, "--output", "pretty"))
}
