package media

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"strings"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"

	"github.com/gophersnake/gophersnake/ipc"
)

// MaxPixels is the number of pixels of the largest image that is decoded or encoded.
// Without a limit, a small compressed file could exhaust the memory.
const MaxPixels = 1 << 28

// imageFormat is an image format that is decoded.
type imageFormat struct {
	name         string // for messages
	decoder      string // its name in package image
	begins       string // the first bytes of a file
	offset       int    // of continues
	continues    string // further bytes of a file, without which text could begin like it
	decode       func(io.Reader) (image.Image, error)
	decodeConfig func(io.Reader) (image.Config, error)
}

var imageFormats = []*imageFormat{
	{"PNG", "png", "\x89PNG", 4, "\r\n\x1a\n", png.Decode, png.DecodeConfig},
	{"JPEG", "jpeg", "\xff\xd8", 2, "\xff", jpeg.Decode, jpeg.DecodeConfig},
	{"WebP", "webp", "RIFF", 8, "WEBP", webp.Decode, webp.DecodeConfig},
	{"GIF", "gif", "GIF8", 4, "7a", gif.Decode, gif.DecodeConfig},
	{"GIF", "gif", "GIF8", 4, "9a", gif.Decode, gif.DecodeConfig},
	{"TIFF", "tiff", "II", 2, "*\x00", tiff.Decode, tiff.DecodeConfig},
	{"TIFF", "tiff", "MM", 2, "\x00*", tiff.Decode, tiff.DecodeConfig},
	{"BMP", "bmp", "BM", 6, "\x00\x00\x00\x00", bmp.Decode, bmp.DecodeConfig},
}

func (f *imageFormat) matches(data []byte) bool {
	return len(data) > f.offset && bytes.HasPrefix(data, []byte(f.begins)) && bytes.HasPrefix(data[f.offset:], []byte(f.continues))
}

// formatOf returns the format that data begin like, or nil.
func formatOf(data []byte) *imageFormat {
	for _, f := range imageFormats {
		if f.matches(data) {
			return f
		}
	}
	return nil
}

func isImage(data []byte) bool { return formatOf(data) != nil }

// DecodeImage is [Decoder.DecodeImage] without warnings.
func DecodeImage(data []byte) (*ipc.Image, error) { return Decoder{}.DecodeImage(data) }

// DecodeImage decodes a PNG, JPEG, WebP, GIF, TIFF or BMP file. The pixel format is gray8
// if the file is grayscale, rgba8 if it has an alpha channel or a transparent color, and
// rgb8 otherwise. The picture is upright: it is turned as the EXIF orientation of the file
// says. Samples of 16 bits are reduced to 8, and of several frames or pages only the first
// is decoded; the decoder warns of both. An image of more than [MaxPixels] is refused
// before it is decoded. The error is an [*Error].
func (d Decoder) DecodeImage(data []byte) (*ipc.Image, error) {
	f := formatOf(data)
	if f == nil {
		return nil, unsupported("image", data)
	}
	if f.name == "WebP" && isAnimatedWebP(data) {
		return nil, errorf(f.name, "an animation is not supported").withHint("convert one of its frames to PNG")
	}
	config, err := f.decodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, f.error(err)
	}
	if config.Width <= 0 || config.Height <= 0 || config.Width > MaxPixels/config.Height {
		return nil, errorf(f.name, "an image of %d × %d exceeds the limit of %d pixels", config.Width, config.Height, MaxPixels)
	}
	rest := bytes.NewReader(data)
	decoded, err := f.decode(rest)
	if err != nil {
		return nil, f.error(err)
	}
	if area := image.Rect(0, 0, config.Width, config.Height); decoded.Bounds() != area { // the first frame of a GIF
		canvas := image.NewNRGBA(area)
		draw.Draw(canvas, decoded.Bounds(), decoded, decoded.Bounds().Min, draw.Src)
		decoded = canvas
	}
	if f.name == "WebP" {
		toFullRange(decoded)
	}
	d.warnOfLosses(f, data, rest, decoded)
	return upright(fromImage(decoded, f.name == "WebP"), orientation(data, f.decoder)), nil
}

// toFullRange stretches the samples of a lossy WebP, in place. Those of luma are between 16
// and 235, those of chroma between 16 and 240, but the decoder returns a type whose samples
// are between 0 and 255.
func toFullRange(decoded image.Image) {
	var p *image.YCbCr
	switch m := decoded.(type) {
	case *image.YCbCr:
		p = m
	case *image.NYCbCrA:
		p = &m.YCbCr
	default: // a lossless one
		return
	}
	stretch := func(samples []byte, zero, width int) {
		var table [256]byte
		for i := range table {
			table[i] = byte(min(max(zero+int(math.Round(float64(i-max(zero, 16))*255/float64(width))), 0), 255))
		}
		for i, s := range samples {
			samples[i] = table[s]
		}
	}
	stretch(p.Y, 0, 219)
	stretch(p.Cb, 128, 224)
	stretch(p.Cr, 128, 224)
}

// warnOfLosses warns of what the value of a decoded image does not hold. The decoder has
// left the rest of the data.
func (d Decoder) warnOfLosses(f *imageFormat, data []byte, rest *bytes.Reader, decoded image.Image) {
	switch decoded.(type) {
	case *image.Gray16, *image.RGBA64, *image.NRGBA64:
		d.warnf("the image has 16 bits per sample, of which the node gets the upper 8")
	}
	if next, err := rest.ReadByte(); f.name == "GIF" && err == nil && next != ';' {
		d.warnf("the GIF is an animation, of which the node gets the first frame")
	}
	if f.name == "TIFF" && hasFurtherPages(data) {
		d.warnf("the TIFF has several pages, of which the node gets the first")
	}
}

// isAnimatedWebP reports whether the header of a WebP file says that it is an animation.
func isAnimatedWebP(data []byte) bool {
	const animation = 1 << 1
	return len(data) > 20 && bytes.Equal(data[12:16], []byte("VP8X")) && data[20]&animation != 0
}

// hasFurtherPages reports whether another directory follows the first one of a TIFF file.
func hasFurtherPages(data []byte) bool {
	order := binary.ByteOrder(binary.LittleEndian)
	if data[0] == 'M' {
		order = binary.BigEndian
	}
	if len(data) < 8 {
		return false
	}
	at := uint64(order.Uint32(data[4:]))
	if at+2 > uint64(len(data)) {
		return false
	}
	at += 2 + 12*uint64(order.Uint16(data[at:])) // the entries of the directory
	return at+4 <= uint64(len(data)) && order.Uint32(data[at:]) != 0
}

// error returns the error of an image decoder, which begins with the format's name, as an
// *Error. A format may have features that the decoder does not support.
func (f *imageFormat) error(err error) *Error {
	reason := strings.TrimPrefix(err.Error(), f.decoder+": ")
	e := errorf(f.name, "%s", reason)
	if strings.Contains(reason, "unsupported") {
		return e.withHint("convert it to PNG")
	}
	return e
}

// fromImage returns the pixels of a decoded image, without gaps between the rows. If
// mayBeOpaque is true, the type of the image does not show whether the file has an alpha
// channel, and an opaque image is taken to have none.
func fromImage(decoded image.Image, mayBeOpaque bool) *ipc.Image {
	width, height := decoded.Bounds().Dx(), decoded.Bounds().Dy()
	out := &ipc.Image{Width: width, Height: height}
	opaque, ok := decoded.(interface{ Opaque() bool })
	isOpaque := ok && opaque.Opaque()
	switch p := decoded.(type) {
	case *image.Gray:
		out.Format, out.Pixels = "gray8", rows(p.Pix, p.Stride, width, height)
		return out
	case *image.Gray16:
		out.Format, out.Pixels = "gray8", highBytes(rows(p.Pix, p.Stride, 2*width, height))
		return out
	case *image.NRGBA:
		if !isOpaque || !mayBeOpaque {
			out.Format, out.Pixels = "rgba8", rows(p.Pix, p.Stride, 4*width, height)
			return out
		}
	case *image.NRGBA64:
		out.Format, out.Pixels = "rgba8", highBytes(rows(p.Pix, p.Stride, 8*width, height))
		return out
	case *image.Paletted:
		if !isOpaque {
			out.Format, out.Pixels = "rgba8", paletteColors(p)
			return out
		}
	}
	if !isOpaque {
		canvas := image.NewNRGBA(image.Rect(0, 0, width, height))
		draw.Draw(canvas, canvas.Rect, decoded, decoded.Bounds().Min, draw.Src)
		out.Format, out.Pixels = "rgba8", canvas.Pix
		return out
	}
	canvas := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(canvas, canvas.Rect, decoded, decoded.Bounds().Min, draw.Src)
	out.Format, out.Pixels = "rgb8", make([]byte, 0, width*height*3)
	for i := 0; i < len(canvas.Pix); i += 4 {
		out.Pixels = append(out.Pixels, canvas.Pix[i:i+3]...)
	}
	return out
}

// rows returns the rows without the gaps between them. A gray JPEG has gaps because its
// rows consist of blocks of 8 pixels.
func rows(pix []byte, stride, row, height int) []byte {
	if stride == row {
		return pix[:row*height]
	}
	out := make([]byte, 0, row*height)
	for y := range height {
		out = append(out, pix[y*stride:][:row]...)
	}
	return out
}

// highBytes reduces big-endian samples of 16 bits to 8.
func highBytes(samples []byte) []byte {
	out := make([]byte, len(samples)/2)
	for i := range out {
		out[i] = samples[2*i]
	}
	return out
}

// paletteColors replaces the indexes of a palette by its colors.
func paletteColors(p *image.Paletted) []byte {
	out := make([]byte, 0, 4*len(p.Pix))
	for _, i := range p.Pix {
		c := color.NRGBA{}
		if int(i) < len(p.Palette) {
			c = color.NRGBAModel.Convert(p.Palette[i]).(color.NRGBA)
		}
		out = append(out, c.R, c.G, c.B, c.A)
	}
	return out
}

// layout is the size of a pixel in bytes, and the offset of each color in it. alpha is
// -1 if there is none.
type layout struct{ size, red, green, blue, alpha int }

var layouts = map[string]layout{
	"gray8": {size: 1, alpha: -1},
	"rgb8":  {size: 3, red: 0, green: 1, blue: 2, alpha: -1},
	"bgr8":  {size: 3, red: 2, green: 1, blue: 0, alpha: -1},
	"rgba8": {size: 4, red: 0, green: 1, blue: 2, alpha: 3},
	"bgra8": {size: 4, red: 2, green: 1, blue: 0, alpha: 3},
}

// EncodePNG writes an image of one of the formats gray8, rgb8, bgr8, rgba8 and bgra8 as
// a PNG file. The error is an [*Error] if the pixels do not match the format and the
// size, or that of w.
func EncodePNG(w io.Writer, img *ipc.Image) error {
	l, ok := layouts[img.Format]
	if !ok {
		return errorf("PNG", "unknown pixel format %q", img.Format)
	}
	width, height := img.Width, img.Height
	if width <= 0 || height <= 0 || width > MaxPixels/height || len(img.Pixels) != width*height*l.size {
		return errorf("PNG", "%d bytes of pixels do not make an image of %d × %d in %s", len(img.Pixels), width, height, img.Format)
	}
	area := image.Rect(0, 0, width, height)
	if l.size == 1 {
		return png.Encode(w, &image.Gray{Pix: img.Pixels, Stride: width, Rect: area})
	}
	out := image.NewNRGBA(area)
	for i := range width * height {
		from, to := img.Pixels[i*l.size:], out.Pix[i*4:]
		to[0], to[1], to[2], to[3] = from[l.red], from[l.green], from[l.blue], 255
		if l.alpha >= 0 {
			to[3] = from[l.alpha]
		}
	}
	return png.Encode(w, out) // as RGB if no pixel is transparent
}
