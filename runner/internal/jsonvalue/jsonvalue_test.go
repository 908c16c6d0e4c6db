package jsonvalue_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/jsonvalue"
)

// encoded returns a value in msgpack.
func encoded(t testing.TB, v any) []byte {
	t.Helper()
	p, err := ipc.Encode("value", v)
	require.NoError(t, err)
	return p.Body
}

func TestValuesAndTheirDocuments(t *testing.T) {
	for _, c := range []struct {
		value any
		text  string
	}{
		{nil, "null"},
		{true, "true"},
		{int64(math.MinInt64), "-9223372036854775808"},
		{uint64(math.MaxUint64), "18446744073709551615"},
		{1.0, "1.0"},
		{-0.5, "-0.5"},
		{1e300, "1e+300"},
		{5e-324, "5e-324"},
		{"a\"\n\u2028ä<", "\"a\\\"\\n\u2028ä<\""},
		{[]any{}, "[]"},
		{[]any{int64(1), []any{"x"}}, `[1,["x"]]`},
		{ipc.Object{{Key: "z", Value: int64(1)}, {Key: "a", Value: ipc.Object{}}}, `{"z":1,"a":{}}`},
	} {
		text, err := jsonvalue.FromMsgpack("input", encoded(t, c.value))
		require.NoError(t, err)
		assert.Equal(t, c.text, string(text))
		body, err := jsonvalue.ToMsgpack("result", text)
		require.NoError(t, err)
		got, err := ipc.Payload{Body: body}.Ordered().Decode("result", ipc.DefaultLimits())
		require.NoError(t, err)
		assert.Equal(t, c.value, got)
	}
	text, err := jsonvalue.FromMsgpack("input", encoded(t, ipc.JSON("{\"a\":\n1.50}")))
	require.NoError(t, err)
	assert.Equal(t, `{"a":1.50}`, string(text), "a document stays as it is, in one line")
}

func TestWhatJSONDoesNotCarryIsRefusedWithItsPlace(t *testing.T) {
	tensor, err := ipc.NewTensor([]float32{1}, 1)
	require.NoError(t, err)
	for _, c := range []struct {
		value  any
		reason string
	}{
		{[]byte{1}, "JSON has no form for bytes"},
		{tensor, "JSON has no form for a tensor"},
		{&ipc.Audio{Samples: []float32{0}, Rate: 8000, Channels: 1}, "JSON has no form for a recording"},
		{time.Unix(0, 0), "JSON has no form for a time"},
		{math.NaN(), "JSON has no number NaN"},
		{math.Inf(-1), "JSON has no number -Inf"},
	} {
		_, err := jsonvalue.FromMsgpack("input", encoded(t, map[string]any{"list": []any{0, c.value}}))
		var refused *ipc.ValueError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "input.list[1]", refused.Path)
		assert.Equal(t, c.reason, refused.Reason)
		assert.NotEmpty(t, refused.Hint)
	}
}

func TestTextThatIsNotOneDocumentIsRefused(t *testing.T) {
	for _, c := range []struct{ text, path, reason string }{
		{"", "result", `not JSON: the text ends too early: ""`},
		{`{"a": `, "result", `not JSON: the text ends too early: "{\"a\": "`},
		{"1 2", "result", `not one JSON document: "1 2"`},
		{"hello", "result", `not JSON, at byte 0: `},
		{"\"\xff\"", "result", "not JSON, at byte "},
		{`{"a": [0, 18446744073709551616]}`, "result.a[1]", `the number "18446744073709551616" does not fit in 64 bits`},
		{`[1e999]`, "result[0]", `the number "1e999" does not fit in 64 bits`},
		{strings.Repeat("[", 20_000), "result", "not JSON, at byte "},
	} {
		_, err := jsonvalue.ToMsgpack("result", []byte(c.text))
		var refused *ipc.ValueError
		require.ErrorAs(t, err, &refused, c.text)
		assert.Equal(t, c.path, refused.Path)
		assert.Contains(t, refused.Reason, c.reason)
	}
}

func FuzzToMsgpack(f *testing.F) {
	for _, text := range []string{`{"a":[1,2.5,"x",null,true],"a":{}}`, "[", "1e5", `"\ud83d"`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := jsonvalue.ToMsgpack("result", []byte(text))
		if err != nil {
			return
		}
		limits := ipc.DefaultLimits()
		limits.Depth = 10_000
		require.NoError(t, ipc.Payload{Body: body}.Check("result", limits))
	})
}
