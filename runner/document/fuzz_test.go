package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// FuzzParse checks that any JSON text is parsed to a value that can be sent to a
// worker, without rounding integers, and that other text is an error.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"a": [1, -0, 0.5, 1e3, 18446744073709551615, -9223372036854775808], "b": null, "": "\ud83d\udc0d \ud800"}`,
		`18446744073709551616`, `1e999`, `-1E400`, `[[[[[[[[]]]]]]]]`, `{"a": 1, "a": 2}`, "\xff", `1 2`, ``, ` "` + "\x00" + `"`, "\ufeff{}", "{\x00}\x00", "\xff\xfe[\x00]\x00", `{"a": "\udc00"}`, "[\"\xff\"]",
		`[1,-9623372036854775808`, `18446744073709551616 1`, `{"a": 1e999]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value, err := Parse(text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			require.True(t, errors.Is(err, ErrSyntax) != errors.Is(err, runner.KindSerialization), "either invalid JSON or a value that cannot be carried")
			if GuessEncoding(text) == "" {
				require.Equal(t, json.Valid(bytes.TrimPrefix(text, ByteOrderMark)), !errors.Is(err, ErrSyntax))
			}
			return
		}
		require.True(t, json.Valid(bytes.TrimPrefix(text, ByteOrderMark)))
		require.True(t, utf8.Valid(text))
		payload, err := ipc.Encode("input", value)
		if err != nil {
			var fault *ipc.ValueError
			require.ErrorAs(t, err, &fault)
			require.Contains(t, fault.Reason, "nested deeper")
			return
		}
		again, err := payload.Ordered().Decode("input", ipc.DefaultLimits())
		require.NoError(t, err)
		require.Equal(t, rendered(t, value), rendered(t, again))
	})
}

// rendered returns a value as JSON.
func rendered(t *testing.T, value any) string {
	if number, ok := value.(float64); ok {
		require.False(t, math.IsInf(number, 0) || math.IsNaN(number))
	}
	var out bytes.Buffer
	require.NoError(t, json.NewEncoder(&out).Encode(value))
	return out.String()
}
