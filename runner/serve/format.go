package serve

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
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
	typePCM         = "audio/pcm" // samples without a header, in the frames of a WebSocket
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

// anything is what a request without an Accept header accepts. It must not be changed.
var anything = accepted{"*/*"}

// parseAccept reads an Accept header. Without one, everything is accepted.
func parseAccept(header http.Header) accepted {
	if header["Accept"] == nil {
		return anything
	}
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
		return anything
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

// socketForm is how the binary frames of a WebSocket are read and written.
type socketForm struct {
	decode func(data []byte) (any, error)
	// encode returns the frame of a value, and false if the value is of another kind. It is nil if
	// results are JSON.
	encode func(v any) (content, []byte, bool, error)
}

// content describes binary frames in a record.
type content struct {
	ContentType string `json:"content_type"`
	Rate        int    `json:"rate,omitempty"`     // of typePCM, as are the others
	Channels    int    `json:"channels,omitempty"` //
	Format      string `json:"format,omitempty"`
}

// pcmForm is the form of samples without a header.
type pcmForm struct {
	rate, channels int // 0 unless they are given
	format         media.SampleFormat
	name           string // of the format
	width          int    // of a sample, in bytes
}

// socketParameters are the parameters of the URL of a WebSocket.
var socketParameters = []string{"channels", "format", "input", "output", "rate"}

// socketFormOf returns the form that the query of a URL asks for.
func (h *handler) socketFormOf(query url.Values) (*socketForm, error) {
	for name, values := range query {
		if !slices.Contains(socketParameters, name) || len(values) > 1 || values[0] == "" {
			return nil, fault(malformed, fmt.Sprintf("the parameter %q is empty, occurs twice, or is not one of this resource", name)).
				withHint("the parameters are " + strings.Join(socketParameters, ", "))
		}
	}
	pcm, err := pcmFormOf(query)
	if err != nil {
		return nil, err
	}
	form := &socketForm{decode: func(data []byte) (any, error) { return data, nil }}
	switch input := query.Get("input"); {
	case input == "", input == typeBytes:
	case input == typePCM && pcm.rate == 0:
		return nil, fault(malformed, "audio/pcm needs the parameter rate, the number of samples per second")
	case input == typePCM:
		form.decode = pcm.decode
	case h.formatOf(input) == nil:
		return nil, fault(wrongType, fmt.Sprintf("frames of type %q cannot be read", input)).
			withHint("the parameter input takes audio/pcm, or the type of a body with a file")
	default:
		form.decode = func(data []byte) (any, error) { return h.decode(input, nil, data) }
	}
	switch output := query.Get("output"); {
	case output == "", output == typeJSON:
	case output == typePCM:
		form.encode = pcm.encode
	case !h.offers(accepted{output}):
		return nil, fault(notAcceptable, fmt.Sprintf("there are no results of type %q", output)).
			withHint("the parameter output takes audio/pcm, or the type of an answer")
	default:
		form.encode = func(v any) (content, []byte, bool, error) {
			contentType, data, ok, err := h.encode(accepted{output}, v)
			return content{ContentType: contentType}, data, ok, err
		}
	}
	return form, nil
}

// pcmFormOf returns the form of samples that a query asks for.
func pcmFormOf(query url.Values) (*pcmForm, error) {
	f := &pcmForm{channels: 1, format: media.Int16, name: "s16le", width: 2}
	for name, most := range map[string]int{"rate": math.MaxUint32, "channels": math.MaxUint16} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return nil, fault(malformed, fmt.Sprintf("the parameter %s takes a number from 1 to %d, not %q", name, most, text))
		}
		if name == "rate" {
			f.rate = n
		} else {
			f.channels = n
		}
	}
	switch format := query.Get("format"); format {
	case "", f.name:
	case "f32le":
		f.format, f.name, f.width = media.Float32, format, 4
	default:
		return nil, fault(malformed, fmt.Sprintf("the parameter format takes s16le or f32le, not %q", format))
	}
	return f, nil
}

// decode returns the recording in a frame.
func (f *pcmForm) decode(data []byte) (any, error) {
	size := f.width * f.channels
	if len(data)%size != 0 {
		return nil, fault(malformed, fmt.Sprintf("%d bytes are not a whole number of samples for %d channels in %s", len(data), f.channels, f.name))
	}
	audio, err := media.NewPCMReader(bytes.NewReader(data), f.rate, f.channels, f.format).Next(len(data) / size)
	if errors.Is(err, io.EOF) { // the frame is empty
		return &ipc.Audio{Rate: f.rate, Channels: f.channels}, nil
	}
	return notNil(audio, err)
}

// encode returns the frame of a recording, which has the rate and the channels of the recording.
func (f *pcmForm) encode(v any) (content, []byte, bool, error) {
	audio, ok := v.(*ipc.Audio)
	if !ok {
		return content{}, nil, false, nil
	}
	file, err := contentOf(func(w io.Writer) error { return media.EncodeWAV(w, audio, f.format) })
	if err != nil {
		return content{}, nil, false, err
	}
	samples := file[len(file)-f.width*len(audio.Samples):] // they end the file
	return content{ContentType: typePCM, Rate: audio.Rate, Channels: audio.Channels, Format: f.name}, samples, true, nil
}
