package serve

import (
	"bytes"
	"cmp"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/media"
)

// Format is a form of values in the bodies of requests and answers. Its functions may be called
// concurrently; each may be nil if the format is only written or only read.
type Format struct {
	// ContentTypes are the media types that stand for the format, in lower case and without
	// parameters. Answers have the first one.
	ContentTypes []string
	// Decode returns the value of a body, which it may keep. An error means status 400.
	Decode func(body []byte) (any, error)
	// Detect reports whether a body without a useful content type is of the format.
	Detect func(body []byte) bool
	// Encode returns the body for a value, and false if the format cannot hold values of
	// its type.
	Encode func(v any) ([]byte, bool, error)
}

// The content types of this package.
const (
	typeJSON        = "application/json"
	typeProblem     = "application/problem+json"
	typeText        = "text/plain"
	typeBytes       = "application/octet-stream"
	typeArrowStream = "application/vnd.apache.arrow.stream"
	typeLines       = "application/x-ndjson"
	typeEvents      = "text/event-stream"
	typeForm        = "application/x-www-form-urlencoded" // of curl, unless it is told otherwise
	typeMultipart   = "multipart/form-data"
)

// builtinFormats are the formats of every handler, JSON first.
func builtinFormats() []Format {
	return []Format{
		{ContentTypes: []string{typeJSON}, Decode: document.Parse, Encode: encodeJSON},
		{ContentTypes: []string{typeText}, Decode: decodeText, Encode: encodeText},
		{
			ContentTypes: []string{"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"},
			Decode:       func(body []byte) (any, error) { return notNil(media.DecodeWAV(body)) },
			Encode:       encodeMedia("audio"),
		},
		{
			ContentTypes: []string{"image/png", "image/jpeg", "image/webp", "image/gif", "image/tiff", "image/bmp"},
			Decode:       func(body []byte) (any, error) { return notNil(media.DecodeImage(body)) },
			Encode:       encodeMedia("image"),
		},
		{Decode: media.Decode, Detect: media.Known}, // a WAV file or an image, by its content
		{
			ContentTypes: []string{"application/x-npy"},
			Decode:       func(body []byte) (any, error) { return notNil(media.DecodeNPY(body)) },
			Detect:       func(body []byte) bool { return bytes.HasPrefix(body, []byte("\x93NUMPY")) },
			Encode:       encodeMedia("tensor"),
		},
		{
			ContentTypes: []string{typeArrowStream},
			Decode:       func(body []byte) (any, error) { return &ipc.Table{Stream: body}, nil },
			Encode:       encodeArrowStream,
		},
		{
			ContentTypes: []string{typeBytes},
			Decode:       func(body []byte) (any, error) { return body, nil },
			Encode:       encodeMedia("audio", "image", "tensor", "bytes"),
		},
	}
}

// notNil returns no value with an error, in place of a nil pointer in an interface.
func notNil[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func decodeText(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, document.NotUTF8(body, 0, "the text")
	}
	return string(bytes.TrimPrefix(body, document.ByteOrderMark)), nil
}

func encodeText(v any) ([]byte, bool, error) {
	text, ok := v.(string)
	return []byte(text), ok, nil
}

func encodeArrowStream(v any) ([]byte, bool, error) {
	table, ok := v.(*ipc.Table)
	if !ok {
		return nil, false, nil
	}
	return table.Stream, true, nil
}

// encodeMedia returns the function Encode for media of the given types.
func encodeMedia(types ...string) func(v any) ([]byte, bool, error) {
	return func(v any) ([]byte, bool, error) {
		m, ok := document.MediaOf(v)
		if !ok || !slices.Contains(types, m.Type) {
			return nil, false, nil
		}
		content, err := contentOf(m.Write)
		return content, true, err
	}
}

// contentOf returns what a function writes. An error is that of a value that the format cannot
// hold.
func contentOf(write func(io.Writer) error) ([]byte, error) {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return nil, runner.Wrap(err, runner.KindSerialization, "write the result")
	}
	return b.Bytes(), nil
}

// inlineMedia is the form of media in JSON.
type inlineMedia struct {
	Content     []byte `json:"$base64"`
	ContentType string `json:"content_type"`
	document.Media
}

// encodeJSON returns a result as JSON.
func encodeJSON(v any) ([]byte, bool, error) {
	converter := document.Converter{
		Media: func(_ string, m document.Media) (any, error) {
			content, err := contentOf(m.Write)
			return inlineMedia{content, m.ContentType, m}, err
		},
		Table: func(_ string, t *ipc.Table) (any, error) {
			return inlineMedia{t.Stream, typeArrowStream, document.Media{Type: "table"}}, nil
		},
	}
	doc, err := converter.Document(v)
	if err != nil {
		return nil, true, err
	}
	text, err := document.Encode(doc, "")
	return text, true, err
}

// formatOf returns the format of a content type, or nil.
func (o *options) formatOf(contentType string) *Format {
	if strings.HasSuffix(contentType, "+json") {
		contentType = typeJSON
	}
	for i := len(o.formats) - 1; i >= 0; i-- {
		if slices.Contains(o.formats[i].ContentTypes, contentType) && o.formats[i].Decode != nil {
			return &o.formats[i]
		}
	}
	return nil
}

// detect returns the format that a body begins like, or nil.
func (o *options) detect(body []byte) *Format {
	for i := range o.formats {
		if f := &o.formats[i]; f.Detect != nil && f.Detect(body) {
			return f
		}
	}
	return nil
}

// accepted is what the Accept header of a request asks for, the most wanted media range first.
type accepted []string

// parseAccept reads an Accept header. Without one, everything is accepted.
func parseAccept(header http.Header) accepted {
	type weighted struct {
		name    string
		quality float64
	}
	var ranges []weighted
	for part := range strings.SplitSeq(strings.Join(header.Values("Accept"), ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			quality = q
		}
		if quality > 0 {
			ranges = append(ranges, weighted{name, quality})
		}
	}
	slices.SortStableFunc(ranges, func(a, b weighted) int { return cmp.Compare(b.quality, a.quality) })
	var names accepted
	for _, r := range ranges {
		names = append(names, r.name)
	}
	if len(names) == 0 {
		return accepted{"*/*"}
	}
	return names
}

// stream returns the content type of the stream that is asked for, or nothing if the most
// wanted media range is not that of a stream.
func (a accepted) stream() string {
	if a[0] == typeEvents || a[0] == typeLines {
		return a[0]
	}
	return ""
}

// matches reports whether a media range includes a content type.
func matches(mediaRange, contentType string) bool {
	prefix, isOpen := strings.CutSuffix(mediaRange, "*")
	return mediaRange == contentType || mediaRange == "*/*" || isOpen && strings.HasPrefix(contentType, prefix)
}

// offers reports whether an answer in one of the formats can be acceptable.
func (o *options) offers(a accepted) bool {
	return slices.ContainsFunc(a, func(mediaRange string) bool {
		return slices.ContainsFunc(o.formats, func(f Format) bool {
			return f.Encode != nil && slices.ContainsFunc(f.ContentTypes[:1], func(t string) bool { return matches(mediaRange, t) })
		})
	})
}

// encode returns a result in the most wanted format that can hold it. If none can, ok is
// false.
func (o *options) encode(a accepted, v any) (contentType string, body []byte, ok bool, err error) {
	for _, mediaRange := range a {
		for i := range o.formats {
			f := &o.formats[i]
			if f.Encode == nil || !matches(mediaRange, f.ContentTypes[0]) {
				continue
			}
			if body, ok, err = f.Encode(v); ok || err != nil {
				return withCharset(f.ContentTypes[0]), body, ok, err
			}
		}
	}
	return "", nil, false, nil
}

func withCharset(contentType string) string {
	if strings.HasPrefix(contentType, "text/") {
		return contentType + "; charset=utf-8"
	}
	return contentType
}
