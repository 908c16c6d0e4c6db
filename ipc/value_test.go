package ipc

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func roundTrip(t *testing.T, v any) any {
	t.Helper()
	p, err := Encode("value", v)
	require.NoError(t, err)
	got, err := p.Decode("value", DefaultLimits())
	require.NoError(t, err)
	return got
}

func TestValuesRoundTrip(t *testing.T) {
	half := 0.5
	large := make([]float32, SharedFrom)
	for i := range large {
		large[i] = float32(i)
	}
	tensor, err := NewTensor(large, 4, len(large)/4)
	require.NoError(t, err)
	empty, err := NewTensor([]int64{}, 0, 3)
	require.NoError(t, err)
	for name, v := range map[string]any{
		"nil": nil, "true": true, "false": false,
		"zero": int64(0), "small": int64(-1), "int64 min": int64(math.MinInt64), "int64 max": int64(math.MaxInt64),
		"uint64 max": uint64(math.MaxUint64), "float": 1.5, "subnormal": math.SmallestNonzeroFloat64, "infinity": math.Inf(-1),
		"empty string": "", "text": "höhe 🐍", "long text": strings.Repeat("x", 70_000),
		"bytes": []byte{0, 1, 255}, "empty bytes": []byte{}, "empty list": []any{}, "empty map": map[string]any{},
		"nested": map[string]any{"items": []any{int64(1), "two", []any{3.0, nil}}},
		"time":   time.Date(2026, 11, 24, 3, 4, 5, 678901234, time.UTC), "ancient": time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
		"small tensor": &Tensor{DType: Uint8, Shape: []int{2, 2}, Data: []byte{1, 2, 3, 4}},
		"scalar":       &Tensor{DType: Float64, Shape: []int{}, Data: make([]byte, 8)},
		"empty tensor": empty, "large tensor": tensor,
		"audio": &Audio{Samples: []float32{0.25, -0.5}, Rate: 16000, Channels: 2}, "no audio": &Audio{Samples: []float32{}, Rate: 8000, Channels: 1},
		"large audio": &Audio{Samples: large, Rate: 48000, Channels: 2},
		"image":       &Image{Pixels: make([]byte, 12), Format: "rgb8", Width: 2, Height: 2, PTS: &half},
		"large image": &Image{Pixels: make([]byte, 200*200), Format: "gray8", Width: 200, Height: 200},
		"json":        JSON(`{"a": [1, 2.50]}`),
		"several large ones": []any{&Tensor{DType: Uint8, Shape: []int{SharedFrom}, Data: make([]byte, SharedFrom)},
			&Audio{Samples: large, Rate: 1, Channels: 1}},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, v, roundTrip(t, v)) })
	}
	assert.True(t, math.IsNaN(roundTrip(t, math.NaN()).(float64)))
}

func TestGoTypesBecomeValues(t *testing.T) {
	type inner struct {
		Score float32 `json:"score"`
	}
	type outer struct {
		Name   string   `json:"name"`
		Labels []string `json:"labels,omitempty"`
		Inner  *inner
		Hidden int `json:"-"`
		secret int
	}
	v := outer{Name: "a", Inner: &inner{Score: 0.5}, Hidden: 1, secret: 2}
	assert.Equal(t, map[string]any{"name": "a", "Inner": map[string]any{"score": 0.5}}, roundTrip(t, v))
	assert.Equal(t, []any{int64(1), int64(2)}, roundTrip(t, [2]uint16{1, 2}))
	assert.Equal(t, map[string]any{"k": int64(3)}, roundTrip(t, map[string]int32{"k": 3}))
	assert.Equal(t, map[string]any{"k": []byte("b")}, roundTrip(t, map[string][]byte{"k": []byte("b")}))
	assert.Nil(t, roundTrip(t, (*outer)(nil)))
}

func TestEncodeRefuses(t *testing.T) {
	deep := any("bottom")
	for range 65 {
		deep = []any{deep}
	}
	cycle := map[string]any{}
	cycle["me"] = cycle
	type link struct{ Next *link }
	ring := &link{}
	ring.Next = ring
	for name, c := range map[string]struct {
		value      any
		path, says string
	}{
		"channel":        {map[string]any{"items": []any{0, make(chan int)}}, "input.items[1]", "chan int has no form"},
		"function":       {[]any{func() {}}, "input[0]", "func() has no form"},
		"int keys":       {map[string]any{"m": map[int]string{1: "x"}}, "input.m", "keys must be strings"},
		"deep":           {deep, "input[0][0]", "deeper than 64"},
		"cycle":          {cycle, "input.me.me", "or a cycle"},
		"pointer cycle":  {ring, "input", "or a cycle"},
		"tensor":         {&Tensor{DType: Float32, Shape: []int{3}, Data: make([]byte, 8)}, "input", "takes 12 bytes, but has 8"},
		"dtype":          {&Tensor{DType: "float8", Shape: []int{1}, Data: make([]byte, 1)}, "input", `unknown dtype "float8"`},
		"negative shape": {&Tensor{DType: Int8, Shape: []int{-1}}, "input", "negative dimension"},
		"huge shape":     {&Tensor{DType: Int8, Shape: []int{1 << 40, 1 << 40}}, "input", "larger than any memory"},
		"audio":          {&Audio{Samples: make([]float32, 3), Rate: 1, Channels: 2}, "input", "whole number of frames"},
		"rate":           {&Audio{Channels: 1}, "input", "rate of 0 Hz"},
		"image":          {[]any{Image{Format: "rgb8", Width: 2, Height: 2}}, "input[0]", "takes 12 bytes, but has 0"},
		"format":         {&Image{Format: "cmyk"}, "input", `unknown image format "cmyk"`},
		"json":           {map[string]any{"a b": JSON("{")}, `input["a b"]`, "not a JSON document"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Encode("input", c.value)
			var verr *ValueError
			require.ErrorAs(t, err, &verr)
			assert.True(t, strings.HasPrefix(verr.Path, c.path), verr.Path)
			assert.Contains(t, verr.Reason, c.says)
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		body       string
		path, says string
	}{
		"nothing":             {"", "result", "ends in the middle"},
		"truncated string":    {"\xa5abc", "result", "ends in the middle"},
		"huge array":          {"\xdd\xff\xff\xff\xff", "result", "ends in the middle"},
		"huge map":            {"\xdf\xff\xff\xff\xff", "result", "ends in the middle"},
		"huge bytes":          {"\xc6\xff\xff\xff\xff", "result", "ends in the middle"},
		"int key":             {"\x81\xa5items\x91\x81\x01\x02", "result.items[0]", "a map key is an integer"},
		"bytes key":           {"\x81\xc4\x01a\x02", "result", "a map key is bytes"},
		"not UTF-8":           {"\x91\xa1\xff", "result[0]", "not UTF-8"},
		"unused code":         {"\xc1", "result", "0xc1 begins no value"},
		"two values":          {"\x01\x02", "result", "1 bytes follow"},
		"unknown extension":   {"\xd4\x63\x00", "result", "unknown extension 99"},
		"missing buffer":      {"\xc7\x09\x01\x93\xa5uint8\x90\xc0", "result", "a buffer is missing"},
		"tensor of no dtype":  {"\xc7\x07\x01\x93\xa3abc\x90\xc4\x00", "result", "ends in the middle"},
		"timestamp":           {"\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00", "result", "nanoseconds"},
		"timestamp of length": {"\xd4\xff\x00", "result", "a timestamp of 1 bytes"},
		"deep":                {strings.Repeat("\x91", 100) + "\x01", "result[0][0]", "deeper than 64"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Payload{Body: []byte(c.body)}.Decode("result", DefaultLimits())
			var verr *ValueError
			require.ErrorAs(t, err, &verr)
			assert.True(t, strings.HasPrefix(verr.Path, c.path), verr.Path)
			assert.Contains(t, verr.Reason, c.says)
		})
	}
	_, err := Payload{Body: []byte{0xc0}, Buffers: [][]byte{{1}}}.Decode("result", DefaultLimits())
	assert.ErrorContains(t, err, "belong to no value")
}

func TestElements(t *testing.T) {
	tensor, err := NewTensor([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	require.NoError(t, err)
	values, err := Elements[float32](tensor)
	require.NoError(t, err)
	assert.Equal(t, []float32{1, 2, 3, 4, 5, 6}, values)
	_, err = Elements[int32](tensor)
	assert.EqualError(t, err, "the tensor holds float32, not int32")
	_, err = NewTensor([]float32{1, 2}, 3)
	assert.Error(t, err)

	unaligned := &Tensor{DType: Float64, Shape: []int{1}, Data: append(make([]byte, 1, 9), tensor.Data[:8]...)[1:]}
	got, err := Elements[float64](unaligned)
	require.NoError(t, err)
	assert.Len(t, got, 1)

	flags, err := Elements[bool](&Tensor{DType: Bool, Shape: []int{3}, Data: []byte{0, 1, 7}})
	require.NoError(t, err)
	assert.Equal(t, "[false true true]", fmt.Sprint(flags))
}

func TestAnObjectKeepsTheOrderOfItsMembers(t *testing.T) {
	object := Object{
		{"z", Object{{"b", int64(1)}, {"a", []any{Object{{"d", nil}, {"c", "<&>"}}}}}},
		{"", 0.5}, {"y", Object{}}, {"x", []any{}},
	}
	for range 20 { // a map would be in a random order
		payload, err := Encode("value", object)
		require.NoError(t, err)
		got, err := payload.Ordered().Decode("value", DefaultLimits())
		require.NoError(t, err)
		require.Equal(t, object, got)
		view, err := payload.Ordered().View("value", DefaultLimits())
		require.NoError(t, err)
		require.Equal(t, object, view)
	}
	assert.Equal(t, map[string]any{
		"z": map[string]any{"b": int64(1), "a": []any{map[string]any{"d": nil, "c": "<&>"}}},
		"":  0.5, "y": map[string]any{}, "x": []any{},
	}, roundTrip(t, object), "Go values stay what they are")

	const text = `{"z":{"b":1,"a":[{"d":null,"c":"<&>"}]},"":0.5,"y":{},"x":[]}`
	got, err := object.MarshalJSON()
	require.NoError(t, err)
	assert.Equal(t, text, string(got))
	got, err = json.Marshal(object)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(text, "<&>", `\u003c\u0026\u003e`), string(got))
	_, err = json.Marshal(Object{{"a", math.NaN()}})
	assert.ErrorContains(t, err, "NaN")

	_, err = Encode("value", Object{{"a", Object{{"b\xff", 1}}}})
	assert.EqualError(t, err, "cannot carry value.a: a map key that is not UTF-8")
	_, err = Encode("value", Object{{"a", Object{{"b", make(chan int)}}}})
	assert.ErrorContains(t, err, "value.a.b: ")
	deep := Object{}
	for range DefaultLimits().Depth {
		deep = Object{{"a", deep}}
	}
	_, err = Encode("value", deep)
	assert.ErrorContains(t, err, "nested deeper than")
}

func TestOfAKeyThatOccursTwiceTheLastValueCounts(t *testing.T) {
	twice := Object{{"a", int64(1)}, {"b", int64(2)}, {"a", int64(3)}}
	assert.Equal(t, map[string]any{"a": int64(3), "b": int64(2)}, roundTrip(t, twice))
	payload, err := Encode("value", twice)
	require.NoError(t, err)
	got, err := payload.Ordered().Decode("value", DefaultLimits())
	require.NoError(t, err)
	assert.Equal(t, Object{{"a", int64(3)}, {"b", int64(2)}}, got, "at its first place, as in Python")
	value, ok := twice.Get("a")
	assert.True(t, ok)
	assert.Equal(t, int64(3), value)
	_, ok = twice.Get("c")
	assert.False(t, ok)
}
