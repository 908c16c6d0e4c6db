package media

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	_ "image/jpeg" // registers the decoder
	"image/png"
	"io"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// MaxPixels is the number of pixels of the largest image that is decoded or encoded.
// Without a limit, a small compressed file could exhaust the memory.
const MaxPixels = 1 << 28

func isImage(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) || bytes.HasPrefix(data, []byte("\xff\xd8\xff"))
}

// DecodeImage decodes a PNG or JPEG file. The pixel format is gray8 if the file is
// grayscale, rgba8 if it has an alpha channel or a transparent color, and rgb8
// otherwise. Samples of 16 bits are reduced to 8. The orientation that a camera wrote
// into a JPEG is ignored. The error is an [*Error].
func DecodeImage(data []byte) (*ipc.Image, error) {
	if !isImage(data) {
		return nil, unsupported("image", data)
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, decoderError(err)
	}
	if config.Width <= 0 || config.Height <= 0 || config.Width > MaxPixels/config.Height {
		return nil, errorf(strings.ToUpper(format), "an image of %d × %d exceeds the limit of %d pixels", config.Width, config.Height, MaxPixels)
	}
	decoded, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, decoderError(err)
	}
	return fromImage(decoded), nil
}

// decoderError returns the error of an image decoder, which begins with the format's
// name, as an *Error.
func decoderError(err error) *Error {
	if format, reason, ok := strings.Cut(err.Error(), ": "); ok {
		return errorf(strings.ToUpper(format), "%s", reason)
	}
	return errorf("image", "%v", err)
}

// fromImage returns the pixels of a decoded image, without gaps between the rows.
func fromImage(decoded image.Image) *ipc.Image {
	width, height := decoded.Bounds().Dx(), decoded.Bounds().Dy()
	out := &ipc.Image{Width: width, Height: height}
	switch p := decoded.(type) {
	case *image.Gray:
		out.Format, out.Pixels = "gray8", rows(p.Pix, p.Stride, width, height)
	case *image.Gray16:
		out.Format, out.Pixels = "gray8", highBytes(rows(p.Pix, p.Stride, 2*width, height))
	case *image.NRGBA:
		out.Format, out.Pixels = "rgba8", rows(p.Pix, p.Stride, 4*width, height)
	case *image.NRGBA64:
		out.Format, out.Pixels = "rgba8", highBytes(rows(p.Pix, p.Stride, 8*width, height))
	default:
		if p, ok := decoded.(*image.Paletted); ok && !p.Opaque() {
			out.Format, out.Pixels = "rgba8", paletteColors(p)
			break
		}
		canvas := image.NewRGBA(image.Rect(0, 0, width, height))
		draw.Draw(canvas, canvas.Rect, decoded, decoded.Bounds().Min, draw.Src)
		out.Format, out.Pixels = "rgb8", make([]byte, 0, width*height*3)
		for i := 0; i < len(canvas.Pix); i += 4 {
			out.Pixels = append(out.Pixels, canvas.Pix[i:i+3]...)
		}
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
