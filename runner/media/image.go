package media

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	_ "image/jpeg" // registers its decoder
	"image/png"
	"io"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// MaxPixels is the largest picture that is decoded: a few bytes of a compressed
// file can claim any size.
const MaxPixels = 1 << 28

func isImage(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) || bytes.HasPrefix(data, []byte("\xff\xd8\xff"))
}

// DecodeImage returns the picture that a PNG or JPEG file holds: gray8 where the
// file knows no colours, rgba8 where it has an alpha channel or a transparent
// colour, else rgb8. Samples of 16 bits are cut to 8. A JPEG is not turned as
// its camera's orientation says.
func DecodeImage(data []byte) (*ipc.Image, error) {
	if !isImage(data) {
		return nil, unknown("image", data)
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, broken(err)
	}
	if config.Width <= 0 || config.Height <= 0 || config.Width > MaxPixels/config.Height {
		return nil, fail(strings.ToUpper(format), "a picture of %d × %d is larger than %d pixels", config.Width, config.Height, MaxPixels)
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, broken(err)
	}
	return fromImage(picture), nil
}

// broken tells a decoder's error, which begins with the format's name.
func broken(err error) *Error {
	if format, reason, ok := strings.Cut(err.Error(), ": "); ok {
		return fail(strings.ToUpper(format), "%s", reason)
	}
	return fail("image", "%v", err)
}

// fromImage copies the pixels of a decoded picture, whose rows follow one
// another without a gap.
func fromImage(picture image.Image) *ipc.Image {
	width, height := picture.Bounds().Dx(), picture.Bounds().Dy()
	out := &ipc.Image{Width: width, Height: height}
	switch p := picture.(type) {
	case *image.Gray:
		out.Format, out.Pixels = "gray8", rows(p.Pix, p.Stride, width, height)
	case *image.Gray16:
		out.Format, out.Pixels = "gray8", highBytes(rows(p.Pix, p.Stride, 2*width, height))
	case *image.NRGBA:
		out.Format, out.Pixels = "rgba8", rows(p.Pix, p.Stride, 4*width, height)
	case *image.NRGBA64:
		out.Format, out.Pixels = "rgba8", highBytes(rows(p.Pix, p.Stride, 8*width, height))
	default:
		if p, ok := picture.(*image.Paletted); ok && !p.Opaque() {
			out.Format, out.Pixels = "rgba8", lookUp(p)
			break
		}
		canvas := image.NewRGBA(image.Rect(0, 0, width, height))
		draw.Draw(canvas, canvas.Rect, picture, picture.Bounds().Min, draw.Src)
		out.Format, out.Pixels = "rgb8", make([]byte, 0, width*height*3)
		for i := 0; i < len(canvas.Pix); i += 4 {
			out.Pixels = append(out.Pixels, canvas.Pix[i:i+3]...)
		}
	}
	return out
}

// rows takes the gaps between rows away: those of a grey JPEG are as long as its
// blocks of 8 pixels make them.
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

// highBytes cuts big-endian samples of 16 bits to 8.
func highBytes(samples []byte) []byte {
	out := make([]byte, len(samples)/2)
	for i := range out {
		out[i] = samples[2*i]
	}
	return out
}

// lookUp replaces the palette's numbers by its colours.
func lookUp(p *image.Paletted) []byte {
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

// layout says where in a pixel its colours are.
type layout struct{ size, red, green, blue, alpha int }

var layouts = map[string]layout{
	"gray8": {size: 1, alpha: -1},
	"rgb8":  {size: 3, red: 0, green: 1, blue: 2, alpha: -1},
	"bgr8":  {size: 3, red: 2, green: 1, blue: 0, alpha: -1},
	"rgba8": {size: 4, red: 0, green: 1, blue: 2, alpha: 3},
	"bgra8": {size: 4, red: 2, green: 1, blue: 0, alpha: 3},
}

// EncodePNG writes a picture as a PNG file.
func EncodePNG(w io.Writer, picture *ipc.Image) error {
	l, ok := layouts[picture.Format]
	if !ok {
		return fail("PNG", "unknown pixel format %q", picture.Format)
	}
	width, height := picture.Width, picture.Height
	if width <= 0 || height <= 0 || width > MaxPixels/height || len(picture.Pixels) != width*height*l.size {
		return fail("PNG", "%d bytes of pixels are no picture of %d × %d in %s", len(picture.Pixels), width, height, picture.Format)
	}
	area := image.Rect(0, 0, width, height)
	if l.size == 1 {
		return png.Encode(w, &image.Gray{Pix: picture.Pixels, Stride: width, Rect: area})
	}
	out := image.NewNRGBA(area)
	for i := range width * height {
		from, to := picture.Pixels[i*l.size:], out.Pix[i*4:]
		to[0], to[1], to[2], to[3] = from[l.red], from[l.green], from[l.blue], 255
		if l.alpha >= 0 {
			to[3] = from[l.alpha]
		}
	}
	return png.Encode(w, out) // as RGB where no pixel is transparent
}
