package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// Converter turns results into documents, which hold only what JSON can express. Its
// functions stand in for the parts that JSON cannot; each gets the location of the part in
// the result, for instance .items[3]. A function that is nil refuses such a part.
type Converter struct {
	// Media returns the document for a recording, an image, a tensor or bytes.
	Media func(path string, m Media) (any, error)
	// Table returns the document for a table.
	Table func(path string, t *ipc.Table) (any, error)
	// NonFinite is called for each NaN and infinity, which become null.
	NonFinite func(path string)
}

// Document turns a result into a document. Maps become [ipc.Object], in their own order if
// they have one, else in the order of their keys. Times become text as in RFC 3339. An error
// names the location of the part that has no document.
func (c Converter) Document(result any) (any, error) {
	doc, _, err := (&conversion{Converter: c}).convert(result)
	return doc, err
}

// conversion is the conversion of one result.
type conversion struct {
	Converter
	path []step // to the part that is converted
}

// step is a key of an object, or an index of a list.
type step struct {
	key   string
	index int // -1 for a key
}

// location returns the path as text, for instance .items[3].
func (c *conversion) location() string {
	var text strings.Builder
	for _, s := range c.path {
		if s.index < 0 {
			text.WriteString("." + s.key)
		} else {
			fmt.Fprintf(&text, "[%d]", s.index)
		}
	}
	return text.String()
}

// convert returns the document for a value, and whether it is another one than the value. It copies
// lists and objects only if they have parts that change.
func (c *conversion) convert(v any) (doc any, changed bool, err error) {
	switch v := v.(type) {
	case nil, bool, int64, uint64, string:
		return v, false, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if c.NonFinite != nil {
				c.NonFinite(c.location())
			}
			return nil, true, nil
		}
		return v, false, nil
	case []any:
		return c.convertList(v)
	case ipc.Object:
		return c.convertObject(v)
	case map[string]any: // it has no order
		members := make(ipc.Object, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			members = append(members, ipc.Member{Key: key, Value: v[key]})
		}
		doc, _, err = c.convertObject(members)
		return doc, true, err
	case time.Time:
		return v.Format(time.RFC3339Nano), true, nil
	}
	doc, err = c.convertSpecial(c.location(), v)
	return doc, true, err
}

// part converts a part of the value that is converted.
func (c *conversion) part(at step, v any) (doc any, changed bool, err error) {
	c.path = append(c.path, at)
	doc, changed, err = c.convert(v)
	c.path = c.path[:len(c.path)-1]
	return doc, changed, err
}

func (c *conversion) convertList(list []any) (any, bool, error) {
	out, isCopy := list, false
	for i, item := range list {
		doc, changed, err := c.part(step{index: i}, item)
		if err != nil {
			return nil, false, err
		}
		if !changed {
			continue
		}
		if !isCopy {
			out, isCopy = slices.Clone(list), true
		}
		out[i] = doc
	}
	return out, isCopy, nil
}

func (c *conversion) convertObject(members ipc.Object) (any, bool, error) {
	out, isCopy := members, false
	for i, m := range members {
		doc, changed, err := c.part(step{m.Key, -1}, m.Value)
		if err != nil {
			return nil, false, err
		}
		if !changed {
			continue
		}
		if !isCopy {
			out, isCopy = slices.Clone(members), true
		}
		out[i].Value = doc
	}
	return out, isCopy, nil
}

// convertSpecial converts a value of a type that JSON does not have.
func (c Converter) convertSpecial(path string, v any) (any, error) {
	if text, ok := v.(ipc.JSON); ok {
		doc, err := ParseNumbers(text)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindSerialization, "result"+path)
		}
		return doc, nil
	}
	if table, ok := v.(*ipc.Table); ok && c.Table != nil {
		return c.Table(path, table)
	}
	if m, ok := MediaOf(v); ok && c.Media != nil {
		return c.Media(path, m)
	}
	return nil, runner.NewError(runner.KindSerialization, fmt.Sprintf("result%s: a document cannot hold a %T", path, v))
}

// Media describes a recording, an image, a tensor or bytes. Its JSON form is the
// description without the content.
type Media struct {
	// Type is "audio", "image", "tensor" or "bytes"; it says which of the fields below
	// are set.
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

	// Description describes the value for people.
	Description string `json:"-"`
	// ContentType and Extension are those of a file that holds the value: audio/wav and
	// .wav, image/png and .png, application/x-npy and .npy, or application/octet-stream
	// and .bin.
	ContentType string `json:"-"`
	Extension   string `json:"-"`
	// Write writes that file. Its error is a *[media.Error] if the format cannot hold the
	// value, or that of the writer.
	Write func(io.Writer) error `json:"-"`
}

// MediaOf describes a value; it returns false if the value is not of one of the types.
func MediaOf(v any) (m Media, ok bool) {
	switch v := v.(type) {
	case []byte:
		return Media{
			Type: "bytes", Bytes: len(v), Description: fmt.Sprintf("%d bytes", len(v)),
			ContentType: "application/octet-stream", Extension: ".bin",
			Write: func(out io.Writer) error { _, err := out.Write(v); return err },
		}, true
	case *ipc.Audio:
		seconds := float64(v.Frames()) / float64(v.Rate)
		return Media{
			Type: "audio", Rate: v.Rate, Channels: v.Channels, Seconds: math.Round(seconds*1e6) / 1e6,
			Description: fmt.Sprintf("audio, %.2f s, %d Hz, %s", seconds, v.Rate, channelNames(v.Channels)),
			ContentType: "audio/wav", Extension: ".wav",
			Write: func(out io.Writer) error { return media.EncodeWAV(out, v, media.Float32) },
		}, true
	case *ipc.Image:
		return Media{
			Type: "image", Width: v.Width, Height: v.Height, Format: v.Format,
			Description: fmt.Sprintf("image, %d × %d, %s", v.Width, v.Height, v.Format),
			ContentType: "image/png", Extension: ".png",
			Write: func(out io.Writer) error { return media.EncodePNG(out, v) },
		}, true
	case *ipc.Tensor:
		return Media{
			Type: "tensor", DType: string(v.DType), Shape: v.Shape,
			Description: fmt.Sprintf("tensor, %s, shape %v", v.DType, v.Shape),
			ContentType: "application/x-npy", Extension: ".npy",
			Write: func(out io.Writer) error { return media.EncodeNPY(out, v) },
		}, true
	}
	return Media{}, false
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

// Encode returns a value as JSON without a line feed at its end. It does not escape <, >
// and &, but those characters that a terminal could take for commands.
func Encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	var text []byte
	var err error
	if object, ok := v.(ipc.Object); ok && indent == "" { // encoding/json would only read its text again
		text, err = object.MarshalJSON()
	} else {
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", indent)
		err = encoder.Encode(v)
		text = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	if err != nil {
		return nil, runner.Wrap(err, runner.KindSerialization, "write the result as JSON")
	}
	if slices.ContainsFunc(text, func(c byte) bool { return c < ' ' || c > '~' }) {
		text = []byte(Printable(string(text)))
	}
	return text, nil
}

// Printable escapes in a JSON text what encoding/json leaves: the control characters outside
// of ASCII, and those that change the direction of text. They occur only inside strings, in
// which JSON allows an escape for each character.
func Printable(text string) string {
	if runner.Printable(text) == text {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if c := string(r); r != 0xfffd && runner.Printable(c) != c {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteString(c)
		}
	}
	return b.String()
}
