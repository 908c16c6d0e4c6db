package media

import (
	"bytes"

	"github.com/bep/imagemeta"

	"github.com/gophersnake/gophersnake/ipc"
)

// metaFormats are the formats whose metadata may hold an orientation, by their names in
// package image.
var metaFormats = map[string]imagemeta.ImageFormat{
	"jpeg": imagemeta.JPEG, "png": imagemeta.PNG, "tiff": imagemeta.TIFF, "webp": imagemeta.WebP,
}

// orientation returns the EXIF orientation of an image file, from 1 to 8: how the pixels
// must be turned to be upright. It is 1, upright, if the file has none or its metadata are
// damaged.
func orientation(data []byte, format string) int {
	meta, ok := metaFormats[format]
	if !ok {
		return 1
	}
	found := 1
	_, _ = imagemeta.Decode(imagemeta.Options{ // an error means that there is no orientation
		R: bytes.NewReader(data), ImageFormat: meta, Sources: imagemeta.EXIF,
		ShouldHandleTag: func(tag imagemeta.TagInfo) bool { return tag.Tag == "Orientation" && tag.Namespace == "IFD0" },
		HandleTag: func(tag imagemeta.TagInfo) error {
			if value, ok := tag.Value.(uint16); ok && value >= 1 && value <= 8 {
				found = int(value)
			}
			return imagemeta.ErrStopWalking
		},
	})
	return found
}

// upright turns the pixels of an image that has an EXIF orientation.
func upright(m *ipc.Image, orientation int) *ipc.Image {
	if orientation == 1 {
		return m
	}
	size := layouts[m.Format].size
	w, h := m.Width, m.Height
	out := &ipc.Image{Format: m.Format, Width: w, Height: h, Pixels: make([]byte, len(m.Pixels))}
	if orientation > 4 { // the first row of pixels is a side of the picture
		out.Width, out.Height = h, w
	}
	// origin returns the place in m of a pixel of out.
	origin := map[int]func(x, y int) (int, int){
		2: func(x, y int) (int, int) { return w - 1 - x, y },
		3: func(x, y int) (int, int) { return w - 1 - x, h - 1 - y },
		4: func(x, y int) (int, int) { return x, h - 1 - y },
		5: func(x, y int) (int, int) { return y, x },
		6: func(x, y int) (int, int) { return y, h - 1 - x },
		7: func(x, y int) (int, int) { return w - 1 - y, h - 1 - x },
		8: func(x, y int) (int, int) { return w - 1 - y, x },
	}[orientation]
	to := 0
	for y := range out.Height {
		for x := range out.Width {
			fx, fy := origin(x, y)
			from := (fy*w + fx) * size
			copy(out.Pixels[to:to+size], m.Pixels[from:from+size])
			to += size
		}
	}
	return out
}
