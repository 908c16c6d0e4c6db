package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// FuzzParseJSON holds that any JSON text is a value that can be sent, with its
// integers to the last digit, or an error that says what is wrong.
func FuzzParseJSON(f *testing.F) {
	for _, text := range []string{
		`{"a": [1, -0, 0.5, 1e3, 18446744073709551615, -9223372036854775808], "b": null, "": "\ud83d\udc0d \ud800"}`,
		`18446744073709551616`, `1e999`, `-1E400`, `[[[[[[[[]]]]]]]]`, `{"a": 1, "a": 2}`, "\xff", `1 2`, ``, ` "` + "\x00" + `"`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value, err := parseJSON(text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			require.True(t, errors.Is(err, errSyntax) != errors.Is(err, runner.KindSerialization), "it is no JSON, or its numbers are too large")
			require.Equal(t, json.Valid(text), !errors.Is(err, errSyntax))
			return
		}
		require.True(t, json.Valid(text))
		payload, err := ipc.Encode("input", value)
		if err != nil {
			var fault *ipc.ValueError
			require.ErrorAs(t, err, &fault)
			require.Contains(t, fault.Reason, "nested deeper")
			return
		}
		again, err := payload.Decode("input", ipc.DefaultLimits())
		require.NoError(t, err)
		require.Equal(t, rendered(t, value), rendered(t, again))
	})
}

// rendered is a value as JSON, whose maps are in order.
func rendered(t *testing.T, value any) string {
	if number, ok := value.(float64); ok {
		require.False(t, math.IsInf(number, 0) || math.IsNaN(number))
	}
	var out bytes.Buffer
	require.NoError(t, json.NewEncoder(&out).Encode(value))
	return out.String()
}
