package document_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/document"
)

// An object writes common values itself.
func TestObjectsAreWrittenAsByEncodingJSON(t *testing.T) {
	for _, v := range []any{
		nil, true, false, int64(math.MinInt64), uint64(math.MaxUint64), 0.0, math.Copysign(0, -1), 0.5, 1e-6, 9.99e-7, 1e20, 1e21, -1e21, 1e300, 5e-324, 100.0, 1.0 / 3,
		"", "text", "a\"b", `a\b`, "tab\t", "\x00", "\x7f", "é", "\u2028", "<&>", "\xff", "\U0001f40d",
		[]any{int64(1), []any{}, "x"}, json.Number("1.50"), ipc.Object{{Key: `"`, Value: ipc.Object{}}},
	} {
		var expected bytes.Buffer
		encoder := json.NewEncoder(&expected)
		encoder.SetEscapeHTML(false)
		require.NoError(t, encoder.Encode([]any{v}))
		text, err := ipc.Object{{Key: "k", Value: v}}.MarshalJSON()
		require.NoError(t, err)
		inner := strings.TrimSuffix(strings.TrimPrefix(expected.String(), "["), "]\n")
		assert.Equal(t, `{"k":`+inner+`}`, string(text))
	}
	_, err := ipc.Object{{Key: "k", Value: math.NaN()}}.MarshalJSON()
	require.Error(t, err)
}

func TestOfAKeyThatOccursTwiceTheLastValueCounts(t *testing.T) {
	for _, members := range []int{2, 16, 17, 40} {
		var text []string
		for range 2 {
			for i := range members {
				text = append(text, fmt.Sprintf(`"k%d": %d`, i, len(text)))
			}
		}
		v, err := document.Parse([]byte("{" + strings.Join(text, ",") + "}"))
		require.NoError(t, err)
		object := v.(ipc.Object)
		require.Len(t, object, members)
		for i, m := range object {
			assert.Equal(t, ipc.Member{Key: fmt.Sprintf("k%d", i), Value: int64(members + i)}, m)
		}
	}
}

func TestADocumentLeavesTheResultAsItIs(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	result := func() ipc.Object {
		return ipc.Object{
			{Key: "list", Value: []any{int64(1), math.NaN(), map[string]any{"b": at, "a": ipc.Object{{Key: "x", Value: math.Inf(1)}}}}},
			{Key: "bytes", Value: []byte("abc")}, {Key: "same", Value: []any{"x"}},
		}
	}
	var places []string
	converter := document.Converter{
		Media:     func(path string, m document.Media) (any, error) { places = append(places, path); return m.Type, nil },
		NonFinite: func(path string) { places = append(places, path) },
	}
	v := result()
	doc, err := converter.Document(v)
	require.NoError(t, err)
	text, err := document.Encode(doc, "")
	require.NoError(t, err)
	assert.JSONEq(t, `{"list":[1,null,{"a":{"x":null},"b":"2026-01-31T12:00:00Z"}],"bytes":"bytes","same":["x"]}`, string(text))
	assert.Equal(t, []string{".list[1]", ".list[2].a.x", ".bytes"}, places)
	assert.Equal(t, fmt.Sprint(result()), fmt.Sprint(v))
}

func TestTextThatATerminalCouldObeyIsEscaped(t *testing.T) {
	text, err := document.Encode(ipc.Object{{Key: "k", Value: "\x1b\x7f\u202e é"}}, "")
	require.NoError(t, err)
	assert.Equal(t, `{"k":"\u001b\u007f\u202e é"}`, string(text))
}
