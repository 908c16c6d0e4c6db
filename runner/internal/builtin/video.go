package builtin

import (
	"image"
	"math"

	"golang.org/x/image/draw"

	"github.com/gophersnake/gophersnake/ipc"
)

// video are the types for frames and pictures. They return any other value as it is.
var video = []Type{
	{
		Name:   "VideoFlip",
		Doc:    "Turns a frame upside down, mirrors it, or both.",
		Params: []Param{{Name: "direction", Default: "vertical", Choices: []string{"vertical", "horizontal", "both"}}},
		Input:  "Image", Output: "Image",
		Differs: "also frames of I420",
		New: func(v Values) Func {
			direction := v.text("direction")
			return forImages(func(m *ipc.Image) (any, error) {
				return flip(m, direction != "horizontal", direction != "vertical"), nil
			})
		},
	},
	{
		Name: "VideoScaler",
		Doc:  "Changes the size of a frame; with maintain_aspect_ratio, black bars fill the rest.",
		Params: []Param{
			{Name: "target_width", Alias: "targetWidth", Default: int64(1280), Min: 0, Max: 7680},
			{Name: "target_height", Alias: "targetHeight", Default: int64(720), Min: 0, Max: 4320},
			{Name: "algorithm", Default: "bilinear", Choices: []string{"bilinear", "bicubic", "lanczos"}},
			{Name: "maintain_aspect_ratio", Alias: "maintainAspectRatio", Default: true},
		},
		Input: "Image", Output: "Image",
		Differs: "also frames of I420 and NV12; other rounding",
		New: func(v Values) Func {
			s := scaler{v.integer("target_width"), v.integer("target_height"), v.boolean("maintain_aspect_ratio"), kernels[v.text("algorithm")]}
			return forImages(s.scale)
		},
	},
	{
		Name: "VideoFormatConverter",
		Doc:  "Changes the pixel format of a frame.",
		Params: []Param{{
			Name: "target_format", Alias: "targetFormat", Default: "rgb8", Required: true,
			Choices: []string{"rgb24", "rgba32", "rgb8", "rgba8", "bgr8", "bgra8", "gray8"},
		}},
		Input: "Image", Output: "Image",
		Differs: "also I420 and NV12, its default; and color_matrix, color_range",
		New: func(v Values) Func {
			format := v.text("target_format")
			if ours, ok := map[string]string{"rgb24": "rgb8", "rgba32": "rgba8"}[format]; ok {
				format = ours
			}
			return forImages(func(m *ipc.Image) (any, error) { return converted(m, format) })
		},
	},
}

func forImages(f func(*ipc.Image) (any, error)) Func {
	return func(input any) (any, error) {
		if m, ok := input.(*ipc.Image); ok {
			return f(m)
		}
		return input, nil
	}
}

// channels are the offsets of red, green, blue and alpha in a pixel; alpha is -1 without one.
var channels = map[string][4]int{
	"gray8": {0, 0, 0, -1}, "rgb8": {0, 1, 2, -1}, "bgr8": {2, 1, 0, -1}, "rgba8": {0, 1, 2, 3}, "bgra8": {2, 1, 0, 3},
}

// pixelSize returns the bytes of a pixel of an image.
func pixelSize(m *ipc.Image) int {
	if m.Width == 0 || m.Height == 0 {
		return 0
	}
	return len(m.Pixels) / (m.Width * m.Height)
}

func flip(m *ipc.Image, vertical, horizontal bool) *ipc.Image {
	out := *m
	out.Pixels = make([]byte, len(m.Pixels))
	size := pixelSize(m)
	row := m.Width * size
	for y := range m.Height {
		from := y
		if vertical {
			from = m.Height - 1 - y
		}
		source, target := m.Pixels[from*row:(from+1)*row], out.Pixels[y*row:(y+1)*row]
		if !horizontal {
			copy(target, source)
			continue
		}
		for x := range m.Width {
			copy(target[x*size:(x+1)*size], source[(m.Width-1-x)*size:])
		}
	}
	return &out
}

// lanczos is the windowed sinc of three lobes.
var lanczos = draw.Kernel{Support: 3, At: func(t float64) float64 {
	if t == 0 {
		return 1
	}
	x := math.Pi * t
	return 3 * math.Sin(x) * math.Sin(x/3) / (x * x)
}}

var kernels = map[string]draw.Interpolator{"bilinear": draw.BiLinear, "bicubic": draw.CatmullRom, "lanczos": &lanczos}

// scaler has the params of a VideoScaler.
type scaler struct {
	width, height int // 0 keeps the aspect ratio
	keepAspect    bool
	kernel        draw.Interpolator
}

func (s scaler) scale(m *ipc.Image) (any, error) {
	source, err := picture(m)
	if err != nil {
		return nil, err
	}
	width, height := s.size(m)
	if m.Width == 0 || m.Height == 0 || width == 0 || height == 0 {
		return nil, badInput("", "an image of %d × %d cannot become one of %d × %d", m.Width, m.Height, width, height)
	}
	target := image.NewNRGBA(image.Rect(0, 0, width, height))
	into := target.Bounds()
	if s.keepAspect {
		ratio := min(float64(width)/float64(m.Width), float64(height)/float64(m.Height))
		w, h := max(1, int(math.Round(ratio*float64(m.Width)))), max(1, int(math.Round(ratio*float64(m.Height))))
		left, top := (width-w)/2, (height-h)/2
		into = image.Rect(left, top, left+w, top+h)
		draw.Draw(target, target.Bounds(), image.Black, image.Point{}, draw.Src)
	}
	s.kernel.Scale(target, into, source, source.Bounds(), draw.Src, nil)
	return stored(target, m.Format, m.PTS), nil
}

// size returns the size of the scaled image.
func (s scaler) size(m *ipc.Image) (width, height int) {
	switch {
	case s.width == 0 && s.height == 0:
		return m.Width, m.Height
	case s.width == 0 && m.Height > 0:
		return int(math.Round(float64(m.Width) * float64(s.height) / float64(m.Height))), s.height
	case s.height == 0 && m.Width > 0:
		return s.width, int(math.Round(float64(m.Height) * float64(s.width) / float64(m.Width)))
	}
	return s.width, s.height
}

// converted returns the image in another pixel format.
func converted(m *ipc.Image, format string) (any, error) {
	if format == m.Format {
		return m, nil
	}
	source, err := picture(m)
	if err != nil {
		return nil, err
	}
	return stored(source, format, m.PTS), nil
}

// picture returns a copy of an image with red, green, blue and alpha.
func picture(m *ipc.Image) (*image.NRGBA, error) {
	at, ok := channels[m.Format]
	size := pixelSize(m)
	if !ok {
		return nil, badInput("", "an image of format %q", m.Format)
	}
	p := image.NewNRGBA(image.Rect(0, 0, m.Width, m.Height))
	for i := range m.Width * m.Height {
		pixel := m.Pixels[i*size : (i+1)*size]
		alpha := byte(255)
		if at[3] >= 0 {
			alpha = pixel[at[3]]
		}
		copy(p.Pix[4*i:], []byte{pixel[at[0]], pixel[at[1]], pixel[at[2]], alpha})
	}
	return p, nil
}

// stored returns an image with the pixels of p. Gray is the luma of BT.601.
func stored(p *image.NRGBA, format string, pts *float64) *ipc.Image {
	at := channels[format]
	size := map[string]int{"gray8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}[format]
	bounds := p.Bounds()
	m := &ipc.Image{Format: format, Width: bounds.Dx(), Height: bounds.Dy(), PTS: pts}
	m.Pixels = make([]byte, size*m.Width*m.Height)
	for i := range m.Width * m.Height {
		r, g, b, alpha := p.Pix[4*i], p.Pix[4*i+1], p.Pix[4*i+2], p.Pix[4*i+3]
		pixel := m.Pixels[i*size : (i+1)*size]
		if format == "gray8" {
			pixel[0] = byte((299*int(r) + 587*int(g) + 114*int(b) + 500) / 1000)
			continue
		}
		pixel[at[0]], pixel[at[1]], pixel[at[2]] = r, g, b
		if at[3] >= 0 {
			pixel[at[3]] = alpha
		}
	}
	return m
}
