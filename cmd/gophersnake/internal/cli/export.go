package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// exporter turns results into documents: what JSON knows, with files for the
// rest.
type exporter struct {
	// dir is the folder that the files go to.
	dir string
	// sink is the node whose value a result is, empty where a result is a map of
	// several nodes' values.
	sink string
	// warn is told of what a document cannot say.
	warn func(message string, args ...any)
	// taken holds the files that must not be written (again).
	taken map[string]bool
}

func newExporter(dir, sink string, warn func(string, ...any), inputs []string) *exporter {
	x := &exporter{dir: dir, sink: sink, warn: warn, taken: make(map[string]bool)}
	for _, file := range inputs {
		x.taken[file] = true
	}
	return x
}

// fileRef stands in a document for a value that became a file.
type fileRef struct {
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

	note string // the same for people
}

// MarshalYAML is how a file reads in a pretty result.
func (f fileRef) MarshalYAML() (any, error) { return f.String(), nil }

// String names the file and what is in it.
func (f fileRef) String() string { return fmt.Sprintf("%s (%s)", f.File, f.note) }

// document turns one result into a document. Its files are named after the input
// and the place in the result.
func (x *exporter) document(stem string, result any) (any, error) {
	w := &walk{exporter: x, stem: stem}
	if x.sink != "" {
		w.stem += "-" + x.sink
	}
	doc, err := w.value("", result)
	if w.lost > 0 {
		x.warn("JSON has no NaN and no infinity: null stands for them", "first", w.firstLost, "count", w.lost)
	}
	return doc, err
}

// walk is one result on its way to a document.
type walk struct {
	*exporter
	stem      string
	lost      int
	firstLost string
}

func (w *walk) value(path string, v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, uint64, string:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if w.lost++; w.lost == 1 {
				w.firstLost = "result" + path
			}
			return nil, nil
		}
		return v, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = w.value(fmt.Sprintf("%s[%d]", path, i), v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			var err error
			if out[key], err = w.value(path+"."+key, v[key]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case ipc.JSON:
		decoder := json.NewDecoder(bytes.NewReader(v))
		decoder.UseNumber()
		var doc any
		if err := decoder.Decode(&doc); err != nil {
			return nil, runner.Wrap(err, runner.KindSerialization, "result"+path)
		}
		return doc, nil
	}
	return w.file(path, v)
}

// file writes a value that has no place in JSON to a file of its own.
func (w *walk) file(path string, v any) (any, error) {
	ref, encode, ending := describeFile(v)
	if encode == nil {
		return nil, runner.NewError(runner.KindSerialization, fmt.Sprintf("result%s: a document cannot hold a %T", path, v))
	}
	name := w.free(w.stem+fileName(path), ending)
	if err := writeFile(name, encode); err != nil {
		return nil, err
	}
	ref.File = name
	return ref, nil
}

// describeFile says how a value is written to a file, and what stands for it in
// its place.
func describeFile(v any) (ref fileRef, encode func(io.Writer) error, ending string) {
	switch v := v.(type) {
	case []byte:
		ref = fileRef{Type: "bytes", Bytes: len(v), note: fmt.Sprintf("%d bytes", len(v))}
		return ref, func(out io.Writer) error { _, err := out.Write(v); return err }, ".bin"
	case *ipc.Audio:
		seconds := float64(v.Frames()) / float64(v.Rate)
		ref = fileRef{Type: "audio", Rate: v.Rate, Channels: v.Channels, Seconds: math.Round(seconds*1e6) / 1e6,
			note: fmt.Sprintf("audio, %.2f s, %d Hz, %s", seconds, v.Rate, channelNames(v.Channels))}
		return ref, func(out io.Writer) error { return media.EncodeWAV(out, v, media.Float32) }, ".wav"
	case *ipc.Image:
		ref = fileRef{Type: "image", Width: v.Width, Height: v.Height, Format: v.Format,
			note: fmt.Sprintf("image, %d × %d, %s", v.Width, v.Height, v.Format)}
		return ref, func(out io.Writer) error { return media.EncodePNG(out, v) }, ".png"
	case *ipc.Tensor:
		ref = fileRef{Type: "tensor", DType: string(v.DType), Shape: v.Shape,
			note: fmt.Sprintf("tensor, %s, shape %v", v.DType, v.Shape)}
		return ref, func(out io.Writer) error { return media.EncodeNPY(out, v) }, ".npy"
	}
	return fileRef{}, nil, ""
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

// free returns a file that this command has neither read nor written.
func (w *walk) free(stem, ending string) string {
	name := filepath.Join(w.dir, stem+ending)
	for n := 2; ; n++ {
		absolute, err := filepath.Abs(name)
		if err != nil || !w.taken[absolute] {
			w.taken[absolute] = true
			return name
		}
		name = filepath.Join(w.dir, fmt.Sprintf("%s-%d%s", stem, n, ending))
	}
}

// fileName makes a part of a file's name of a path inside a result:
// .segments[3].audio is -segments-3-audio.
func fileName(path string) string {
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
		return shorten(b.String(), 120)
	}
	return b.String()
}
