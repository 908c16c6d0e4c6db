package output

import (
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// Exporter turns results into documents, which hold only what JSON can express. It
// writes media to files and puts references in their places.
type Exporter struct {
	// dir is the folder for the files.
	dir string
	// node is the node that produces the results. It is empty if a result is a map of the
	// values of several nodes.
	node string
	warn func(message string, args ...any)
	// taken are the absolute paths of files that must not be written (again).
	taken map[string]bool
}

// NewExporter returns an exporter that writes files to dir. If each result is the value of
// one node, the names of the files contain the node. The exporter calls warn for values
// that a document cannot express, and does not overwrite the inputs, which are absolute
// paths.
func NewExporter(dir, node string, warn func(message string, args ...any), inputs []string) *Exporter {
	x := &Exporter{dir: dir, node: node, warn: warn, taken: make(map[string]bool)}
	for _, file := range inputs {
		x.taken[file] = true
	}
	return x
}

// Document turns a result into a document. The names of its files are made of the stem
// and the location of the value inside the result.
func (x *Exporter) Document(stem string, result any) (any, error) {
	c := &conversion{Exporter: x, stem: stem}
	if x.node != "" {
		c.stem += "-" + x.node
	}
	doc, err := c.convert("", result)
	if c.nonFinite > 0 {
		x.warn("JSON cannot express NaN and infinity; they are written as null", "first", c.firstNonFinite, "count", c.nonFinite)
	}
	return doc, err
}

// conversion is the conversion of one result.
type conversion struct {
	*Exporter
	stem           string
	nonFinite      int    // the number of NaNs and infinities
	firstNonFinite string // the location of the first
}

// convert returns the document for a value at a location in the result.
func (c *conversion) convert(path string, v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, uint64, string:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if c.nonFinite++; c.nonFinite == 1 {
				c.firstNonFinite = "result" + path
			}
			return nil, nil
		}
		return v, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = c.convert(fmt.Sprintf("%s[%d]", path, i), v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case ipc.Object:
		out := slices.Clone(v)
		for i, m := range v {
			var err error
			if out[i].Value, err = c.convert(path+"."+m.Key, m.Value); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any: // from Go; it has no order
		members := make(ipc.Object, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			members = append(members, ipc.Member{Key: key, Value: v[key]})
		}
		return c.convert(path, members)
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case ipc.JSON:
		doc, err := input.ParseDocument(v)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindSerialization, "result"+path)
		}
		return doc, nil
	case *ipc.Table:
		return newTableDocument(path, v, c.warn)
	}
	return c.writeMedia(path, v)
}

// writeMedia writes a value to a file and returns the reference to it.
func (c *conversion) writeMedia(path string, v any) (any, error) {
	reference, encode, extension := describeMedia(v)
	if encode == nil {
		return nil, runner.NewError(runner.KindSerialization, fmt.Sprintf("result%s: a document cannot hold a %T", path, v))
	}
	name := c.unusedFile(c.stem+fileNameOf(path), extension)
	if err := writeFile(name, encode); err != nil {
		return nil, err
	}
	reference.File = name
	return reference, nil
}

// unusedFile returns the path of a file that this command has neither read nor written.
// It may exist and be overwritten.
func (c *conversion) unusedFile(stem, extension string) string {
	name := filepath.Join(c.dir, stem+extension)
	for n := 2; ; n++ {
		absolute, err := filepath.Abs(name)
		if err != nil || !c.taken[absolute] {
			c.taken[absolute] = true
			return name
		}
		name = filepath.Join(c.dir, fmt.Sprintf("%s-%d%s", stem, n, extension))
	}
}

// fileNameOf turns the location of a value in a result into a part of a file name:
// .segments[3].audio becomes -segments-3-audio.
func fileNameOf(path string) string {
	var b strings.Builder
	for _, r := range path {
		switch {
		case r == '.' || r == '[':
			b.WriteByte('-')
		case r == ']':
		case strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ':
			b.WriteByte('_')
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() > 120 {
		return terminal.Shorten(b.String(), 120)
	}
	return b.String()
}

// fileReference stands in a document for a value that was written to a file.
type fileReference struct {
	File     string  `json:"$file"`
	Type     string  `json:"type"`
	Rate     int     `json:"rate,omitempty"`
	Channels int     `json:"channels,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	Width    int     `json:"width,omitempty"`
	Height   int     `json:"height,omitempty"`
	Format   string  `json:"format,omitempty"`
	DType    string  `json:"dtype,omitempty"`
	Shape    []int   `json:"shape,omitempty"`
	Bytes    int     `json:"bytes,omitempty"`

	description string // of the value, for people
}

// MarshalYAML returns the reference as people read it.
func (f fileReference) MarshalYAML() (any, error) { return f.String(), nil }

// String names the file and describes its content.
func (f fileReference) String() string { return fmt.Sprintf("%s (%s)", f.File, f.description) }

// describeMedia returns a reference without a file name, the function that writes the
// value to a file, and the extension of that file. The function is nil if the value is
// not media.
func describeMedia(v any) (reference fileReference, encode func(io.Writer) error, extension string) {
	switch v := v.(type) {
	case []byte:
		reference = fileReference{Type: "bytes", Bytes: len(v), description: fmt.Sprintf("%d bytes", len(v))}
		return reference, func(out io.Writer) error { _, err := out.Write(v); return err }, ".bin"
	case *ipc.Audio:
		seconds := float64(v.Frames()) / float64(v.Rate)
		reference = fileReference{Type: "audio", Rate: v.Rate, Channels: v.Channels, Seconds: math.Round(seconds*1e6) / 1e6,
			description: fmt.Sprintf("audio, %.2f s, %d Hz, %s", seconds, v.Rate, channelNames(v.Channels))}
		return reference, func(out io.Writer) error { return media.EncodeWAV(out, v, media.Float32) }, ".wav"
	case *ipc.Image:
		reference = fileReference{Type: "image", Width: v.Width, Height: v.Height, Format: v.Format,
			description: fmt.Sprintf("image, %d × %d, %s", v.Width, v.Height, v.Format)}
		return reference, func(out io.Writer) error { return media.EncodePNG(out, v) }, ".png"
	case *ipc.Tensor:
		reference = fileReference{Type: "tensor", DType: string(v.DType), Shape: v.Shape,
			description: fmt.Sprintf("tensor, %s, shape %v", v.DType, v.Shape)}
		return reference, func(out io.Writer) error { return media.EncodeNPY(out, v) }, ".npy"
	}
	return fileReference{}, nil, ""
}

func channelNames(n int) string {
	switch n {
	case 1:
		return "mono"
	case 2:
		return "stereo"
	}
	return fmt.Sprintf("%d channels", n)
}
