package ipc

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInlineValuesReferToNoBuffers(t *testing.T) {
	large, err := NewTensor(make([]byte, 1<<20), 1<<20)
	require.NoError(t, err)
	large.Data[1<<20-1] = 0xc0 // msgpack's nil
	small, err := NewTensor([]byte{1, 0xc0}, 2)
	require.NoError(t, err)
	image := &Image{Format: "rgb8", Width: 200, Height: 100, Pixels: make([]byte, 60000)}
	document := JSON(`["` + strings.Repeat("x", LargeFrom) + `"]`)
	for name, v := range map[string]any{
		"large bytes": bytes.Repeat([]byte{0xc0}, LargeFrom), "large text": strings.Repeat("ö", LargeFrom), "large document": document,
		"nested large values": map[string]any{"a": []any{make([]byte, LargeFrom), document, large, "b"}},
		"scalar":              int64(3), "small": small, "large": large, "image": image,
		"nested": map[string]any{"a": []any{large, "text", small, nil}, "b": image},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Encode("v", v)
			require.NoError(t, err)
			data, err := p.Inline("v", DefaultLimits())
			require.NoError(t, err)
			again, err := Payload{Body: data}.Decode("v", DefaultLimits())
			require.NoError(t, err)
			assert.Equal(t, v, again)
		})
	}
	_, err = Payload{Body: []byte{0x92, 0x01}}.Inline("v", DefaultLimits())
	assert.ErrorContains(t, err, "ends in the middle of a value")
}

func TestPortsAreJoinedToAMap(t *testing.T) {
	large, err := NewTensor(make([]byte, 1<<20), 1<<20)
	require.NoError(t, err)
	a, err := Encode("a", large)
	require.NoError(t, err)
	b, err := Encode("b", "text")
	require.NoError(t, err)
	v, err := JoinPorts([]Port{{Name: "left", Value: a}, {Name: "right", Value: b}}).Decode("v", DefaultLimits())
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"left": large, "right": "text"}, v)
}
