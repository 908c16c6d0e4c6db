package ipc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// grower makes a value from the bytes of a fuzzer. When they are used up, it continues with
// zeros, so that every value ends.
type grower struct {
	b      []byte
	micros bool // times have no nanoseconds
}

func (g *grower) byte() byte {
	if len(g.b) == 0 {
		return 0
	}
	b := g.b[0]
	g.b = g.b[1:]
	return b
}

func (g *grower) bytes(n int) []byte {
	out := make([]byte, n)
	g.b = g.b[copy(out, g.b):]
	return out
}

func (g *grower) uint64() uint64 { return binary.LittleEndian.Uint64(g.bytes(8)) }

func (g *grower) text() string {
	return strings.ToValidUTF8(string(g.bytes(int(g.byte())%40)), "ü")
}

// size returns a size that is mostly small, and sometimes near the one from which data is out
// of band.
func (g *grower) size() int {
	n := int(g.byte())
	if n >= 0xf0 {
		return SharedFrom/16 + n - 0xf8 // with items of 16 bytes, on both sides of the threshold
	}
	return n % 9
}

func (g *grower) value(depth int) any {
	kind := g.byte() % 14
	if depth == 0 {
		kind %= 12
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return g.byte()&1 == 1
	case 2:
		return int64(g.uint64()) >> (g.byte() % 64)
	case 3:
		return g.uint64() | 1<<63
	case 4:
		return math.Float64frombits(g.uint64())
	case 5:
		return g.text()
	case 6:
		return g.bytes(g.size() * int(1+g.byte()))
	case 7:
		seconds := firstSecond + int64(g.uint64()%uint64(lastSecond-firstSecond+1))
		nanoseconds := int64(g.uint64() % 1e9)
		if g.micros {
			nanoseconds -= nanoseconds % 1000
		}
		return time.Unix(seconds, nanoseconds).UTC()
	case 8:
		return g.tensor()
	case 9:
		channels := 1 + int(g.byte())%4
		data := g.bytes(channels * 4 * g.size())
		return &Audio{Rate: 1 + int(g.uint64()%math.MaxInt32), Channels: channels, Samples: elementsOf[float32](data)}
	case 10:
		return g.image()
	case 11:
		return JSON(fmt.Sprintf(`{"a": [%d, 2.50, null]}`, g.byte()))
	case 12:
		items := make([]any, g.size()%9)
		for i := range items {
			items[i] = g.value(depth - 1)
		}
		return items
	default:
		items := map[string]any{}
		for range g.size() % 9 {
			items[g.text()] = g.value(depth - 1)
		}
		return items
	}
}

var dtypes = []DType{Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
	Float16, BFloat16, Float32, Float64, Complex64, Complex128}

func (g *grower) tensor() any {
	t := &Tensor{DType: dtypes[int(g.byte())%len(dtypes)], Shape: make([]int, g.byte()%4)}
	n := t.DType.Size()
	for i := range t.Shape {
		t.Shape[i] = g.size()
		if n *= t.Shape[i]; n > 4*SharedFrom {
			n /= t.Shape[i]
			t.Shape[i] = 1
		}
	}
	t.Data = g.bytes(n)
	return t
}

func (g *grower) image() any {
	formats := slices.Sorted(maps.Keys(bytesPerPixel))
	m := &Image{Format: formats[int(g.byte())%len(formats)], Width: g.size(), Height: g.size() % 9}
	if g.byte()&1 == 1 {
		m.PTS = new(math.Float64frombits(g.uint64()))
	}
	m.Pixels = g.bytes(bytesPerPixel[m.Format] * m.Width * m.Height)
	return m
}

// same reports whether two values are the same on the wire. All NaN are equal there.
func same(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && (math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b))
	case *Audio:
		b, ok := b.(*Audio)
		return ok && a.Rate == b.Rate && a.Channels == b.Channels && bytes.Equal(bytesOf(a.Samples), bytesOf(b.Samples))
	case *Image:
		b, ok := b.(*Image)
		return ok && a.Format == b.Format && a.Width == b.Width && a.Height == b.Height && bytes.Equal(a.Pixels, b.Pixels) &&
			(a.PTS == nil) == (b.PTS == nil) && (a.PTS == nil || same(*a.PTS, *b.PTS))
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, same)
	}
	return reflect.DeepEqual(a, b)
}

// FuzzRoundTrip checks that each value that can be encoded is decoded to the same value.
func FuzzRoundTrip(f *testing.F) {
	for kind := range byte(14) {
		f.Add([]byte{kind, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 1, 2, 3, 4, 5})
		f.Add([]byte{13, 5, 8, 'a', 'b', 12, 4, kind, 0xf8, 0xf9, 0xff, 1, 2, kind, 0xff, 0xff, 0xff, 0x7f})
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		value := (&grower{b: seed}).value(6)
		p, err := Encode("v", value)
		require.NoError(t, err)
		require.NoError(t, p.Check("v", DefaultLimits()))
		again, err := p.Decode("v", DefaultLimits())
		require.NoError(t, err)
		if !same(value, again) {
			t.Fatalf("%#v came back as %#v", value, again)
		}
	})
}

// allocated is how much memory has been asked for so far in large pieces; small
// ones are counted now and then.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// mostPerByte bounds the memory that one byte of a body can ask for: that of an
// empty map in a list.
const mostPerByte = 128

// FuzzDecodeMemory holds that a value asks for memory in proportion to its bytes,
// whatever the counts in it claim.
func FuzzDecodeMemory(f *testing.F) {
	for _, v := range readVectors(f).Refused {
		if p := payloadOf(f, v.Body, v.Buffers); len(p.Body) <= smallEnough {
			f.Add(p.Body, uint16(1))
		}
	}
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, uint16(64))
	f.Add([]byte{0xdf, 0x00, 0x00, 0xff, 0xff}, uint16(64))
	f.Add([]byte{0x80}, uint16(9999))
	f.Fuzz(func(t *testing.T, piece []byte, times uint16) {
		body := bytes.Repeat(piece, min(int(times), 1<<20/max(len(piece), 1)))
		list := binary.BigEndian.AppendUint32([]byte{0xdd}, uint32(times))
		body = append(list, body...) // its items are worth building then
		bound := 1<<20 + mostPerByte*uint64(len(body))
		took := bound + 1
		// What was asked for before may be counted only now, but not each time.
		for try := 0; try < 3 && took > bound; try++ {
			before := allocated()
			_, _ = Payload{Body: body}.Decode("v", DefaultLimits())
			took = allocated() - before
		}
		if took > bound {
			t.Fatalf("%d bytes took %d bytes of memory", len(body), took)
		}
	})
}
