package ipc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew from the table")

const vectorsPath = "testdata/vectors.json"

// TestVectorsFile keeps the file that Python reads equal to the table.
func TestVectorsFile(t *testing.T) {
	want := renderVectors(t, vectors())
	if *update {
		require.NoError(t, os.WriteFile(vectorsPath, want, 0o644))
	}
	got, err := os.ReadFile(vectorsPath)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got), "%s is out of date: run go test ./ipc -run TestVectorsFile -update", vectorsPath)
}

// renderVectors writes one vector a line, so that a change is one line too.
func renderVectors(t *testing.T, v vectorFile) []byte {
	var b bytes.Buffer
	line := func(indent, name string, v any, end string) {
		text := &bytes.Buffer{}
		enc := json.NewEncoder(text)
		enc.SetEscapeHTML(false)
		require.NoError(t, enc.Encode(v))
		fmt.Fprintf(&b, "%s%s%s%s\n", indent, name, bytes.TrimSpace(text.Bytes()), end)
	}
	b.WriteString("{\n")
	section := func(name string, vectors []any, end string) {
		fmt.Fprintf(&b, "  %q: [\n", name)
		for i, v := range vectors {
			line("    ", "", v, strings.Repeat(",", min(1, len(vectors)-1-i)))
		}
		fmt.Fprintf(&b, "  ]%s\n", end)
	}
	section("about", anys(v.About), ",")
	section("values", anys(v.Values), ",")
	section("refused", anys(v.Refused), ",")
	section("frames", anys(v.Frames), ",")
	section("session_frames", anys(v.SessionFrames), ",")
	section("refused_frames", anys(v.RefusedFrames), "")
	b.WriteString("}\n")
	return b.Bytes()
}

func anys[T any](items []T) []any {
	all := make([]any, len(items))
	for i := range items {
		all[i] = items[i]
	}
	return all
}

// readVectors reads the file, not the table, so that the tests check what
// Python reads.
func readVectors(t testing.TB) vectorFile {
	raw, err := os.ReadFile(vectorsPath)
	require.NoError(t, err)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	var file vectorFile
	require.NoError(t, dec.Decode(&file))
	return file
}

// octets joins the file's form of bytes.
func octets(t testing.TB, spec any) []byte {
	switch spec := spec.(type) {
	case string:
		b, err := hex.DecodeString(spec)
		require.NoError(t, err)
		return b
	case object:
		what, n := repeated(t, spec)
		return bytes.Repeat(octets(t, what), n)
	}
	joined := []byte{}
	for _, part := range spec.([]any) {
		joined = append(joined, octets(t, part)...)
	}
	return joined
}

func repeated(t testing.TB, spec object) (what any, n int) {
	pair := spec["repeat"].([]any)
	return pair[0], number(t, pair[1])
}

func number(t testing.TB, v any) int {
	n, err := v.(json.Number).Int64()
	require.NoError(t, err)
	return int(n)
}

func payloadOf(t testing.TB, body any, buffers []any) Payload {
	p := Payload{Body: octets(t, body)}
	for _, b := range buffers {
		p.Buffers = append(p.Buffers, octets(t, b))
	}
	return p
}

// build makes the Go value that a vector describes.
func build(t testing.TB, value any) any {
	require.Len(t, value, 1)
	for tag, v := range value.(object) {
		switch tag {
		case "nil":
			return nil
		case "bool":
			return v
		case "int":
			if n, err := strconv.ParseInt(v.(string), 10, 64); err == nil {
				return n
			}
			n, err := strconv.ParseUint(v.(string), 10, 64)
			require.NoError(t, err)
			return n
		case "float":
			return float(t, v)
		case "str":
			if spec, ok := v.(object); ok {
				what, n := repeated(t, spec)
				return strings.Repeat(what.(string), n)
			}
			return v
		case "bytes":
			return octets(t, v)
		case "list":
			return buildList(t, v)
		case "map":
			m := map[string]any{}
			for _, pair := range v.([]any) {
				m[pair.([]any)[0].(string)] = build(t, pair.([]any)[1])
			}
			return m
		case "json":
			return JSON(v.(string))
		default:
			return buildMedia(t, tag, v.(object))
		}
	}
	return nil
}

func float(t testing.TB, text any) float64 {
	f, err := strconv.ParseFloat(text.(string), 64)
	require.NoError(t, err)
	return f
}

func buildList(t testing.TB, v any) any {
	items := []any{}
	if spec, ok := v.(object); ok {
		what, n := repeated(t, spec)
		return append(items, slices.Repeat([]any{build(t, what)}, n)...)
	}
	for _, item := range v.([]any) {
		items = append(items, build(t, item))
	}
	return items
}

func buildMedia(t testing.TB, tag string, v object) any {
	switch tag {
	case "timestamp":
		return time.Unix(int64(number(t, v["seconds"])), int64(number(t, v["nanoseconds"]))).UTC()
	case "tensor":
		shape := []int{}
		for _, dim := range v["shape"].([]any) {
			shape = append(shape, number(t, dim))
		}
		return &Tensor{DType: DType(v["dtype"].(string)), Shape: shape, Data: octets(t, v["data"])}
	case "audio":
		data := octets(t, v["data"])
		samples := make([]float32, len(data)/4)
		for i := range samples {
			samples[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		return &Audio{Samples: samples, Rate: number(t, v["rate"]), Channels: number(t, v["channels"])}
	case "table":
		return &Table{Stream: octets(t, v["stream"])}
	case "image":
		m := &Image{Pixels: octets(t, v["data"]), Format: v["format"].(string), Width: number(t, v["width"]), Height: number(t, v["height"])}
		if v["pts"] != nil {
			pts := float(t, v["pts"])
			m.PTS = &pts
		}
		return m
	}
	t.Fatalf("unknown tag %q", tag)
	return nil
}

func TestVectorsDecode(t *testing.T) {
	for _, v := range readVectors(t).Values {
		t.Run(v.Name, func(t *testing.T) {
			p := payloadOf(t, v.Body, v.Buffers)
			require.NoError(t, p.Check("value", DefaultLimits()))
			got, err := p.Decode("value", DefaultLimits())
			require.NoError(t, err)
			want := build(t, v.Value)
			if f, ok := want.(float64); ok {
				require.IsType(t, 0.0, got)
				assert.Equal(t, math.IsNaN(f), math.IsNaN(got.(float64)))
				assert.Equal(t, math.IsNaN(f) || math.Signbit(f), math.IsNaN(f) || math.Signbit(got.(float64)))
				if math.IsNaN(f) {
					return
				}
			}
			assert.Equal(t, want, got)
		})
	}
}

func TestVectorsEncode(t *testing.T) {
	for _, v := range readVectors(t).Values {
		if !slices.Contains(v.Encode, "go") {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			got, err := Encode("value", build(t, v.Value))
			require.NoError(t, err)
			want := payloadOf(t, v.Body, v.Buffers)
			assert.True(t, bytes.Equal(want.Body, got.Body), "want % .64x\n got % .64x", want.Body, got.Body)
			assert.Equal(t, want.Buffers, got.Buffers)
		})
	}
}

func TestVectorsRefused(t *testing.T) {
	for _, v := range readVectors(t).Refused {
		t.Run(v.Name, func(t *testing.T) {
			p := payloadOf(t, v.Body, v.Buffers)
			_, err := p.Decode("value", DefaultLimits())
			assert.Equal(t, p.Check("value", DefaultLimits()), err)
			var verr *ValueError
			require.ErrorAs(t, err, &verr)
			assert.Equal(t, v.Path, verr.Path)
			assert.Contains(t, strings.ToLower(verr.Reason), strings.ToLower(v.Reason))
		})
	}
}

func TestVectorsFrames(t *testing.T) {
	for _, v := range readVectors(t).Frames {
		t.Run(v.Name, func(t *testing.T) {
			call, err := strconv.ParseUint(v.Call, 10, 64)
			require.NoError(t, err)
			want := frame{kind: FrameType(v.Type), call: call, Payload: payloadOf(t, v.Body, v.Buffers)}
			whole := octets(t, v.Frame)
			assert.Equal(t, v.TypeName, want.kind.String())
			assert.True(t, bytes.Equal(whole, encodeFrame(want)), "encoded frame")

			reader := newFrameReader(bytes.NewReader(whole), DefaultLimits())
			got, err := reader.next()
			require.NoError(t, err)
			assert.Equal(t, want.kind, got.kind)
			assert.Equal(t, want.call, got.call)
			assert.True(t, bytes.Equal(want.Body, got.Body), "body")
			assert.Equal(t, want.Buffers, got.Buffers)
			_, err = reader.next()
			assert.Equal(t, io.EOF, err)
		})
	}
}

func TestVectorsSessionFrames(t *testing.T) {
	for _, v := range readVectors(t).SessionFrames {
		t.Run(v.Name, func(t *testing.T) {
			call, err := strconv.ParseUint(v.Call, 10, 64)
			require.NoError(t, err)
			h := header{kind: FrameType(v.Type), call: call, session: 9}
			body := octets(t, v.Body)
			assert.Equal(t, v.TypeName, h.kind.String())
			assert.Equal(t, octets(t, v.Frame), append(appendHeader(nil, h, len(body), Payload{}), body...))
		})
	}
}

func TestVectorsRefusedFrames(t *testing.T) {
	for _, v := range readVectors(t).RefusedFrames {
		t.Run(v.Name, func(t *testing.T) {
			_, err := newFrameReader(bytes.NewReader(octets(t, v.Frame)), DefaultLimits()).next()
			if v.Reason == "end of file" {
				assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
				return
			}
			var perr *ProtocolError
			require.ErrorAs(t, err, &perr)
			assert.Contains(t, perr.Reason, v.Reason)
		})
	}
}
