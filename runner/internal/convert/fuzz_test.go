package convert_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/convert"
)

// decodeAs decodes a value into a new variable of the type of want.
func decodeAs(v, want any) (any, error) {
	if want == nil {
		var out any
		err := convert.Decode("result", v, &out)
		return out, err
	}
	out := reflect.New(reflect.TypeOf(want))
	err := convert.Decode("result", v, out.Interface())
	return out.Elem().Interface(), err
}

// Whatever a worker returns, decoding it does not panic; and what a Go type holds of it is
// sent and received as the same.
func FuzzDecode(f *testing.F) {
	for _, v := range []any{
		order{Items: []item{{Name: "a"}}, Vector: []float32{1}, JSON: ipc.JSON(`{"items":[{"price":1e400}]}`), Any: []any{nil}},
		map[string]any{"items": []any{map[string]any{"ID": int64(1), "color": "red", "at": "2026-01-01T00:00:00Z"}}},
		map[string]any{"matrix": tensor(f, []float64{1, 2}, 2, 1), "pair": tensor(f, []int8{1, 2}, 2), "raw": tensor(f, []uint8{1}, 1)},
		[]any{tensor(f, []float32{}, 1<<40, 0), uint64(1 << 63), "x", []byte("y"), 1.5},
	} {
		payload, err := ipc.Encode("seed", v)
		require.NoError(f, err)
		f.Add(payload.Body, false)
		f.Add(payload.Body, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, ordered bool) {
		payload := ipc.Payload{Body: body}
		if ordered {
			payload = payload.Ordered()
		}
		v, err := payload.Decode("result", ipc.DefaultLimits())
		if err != nil {
			return
		}
		for _, target := range []any{order{}, []item{}, map[string][]float32{}, [][]uint8{}, []any{}, ipc.Object{}, [2]int8{}, []*string{}} {
			got, err := decodeAs(v, target)
			if err != nil {
				continue
			}
			first, err := ipc.Encode("got", got)
			if err != nil {
				continue // the fields with a zero value may have no form: an empty JSON document
			}
			again, err := decodeAs(sent(t, got), target)
			require.NoError(t, err)
			second, err := ipc.Encode("again", again)
			require.NoError(t, err)
			assert.Len(t, second.Body, len(first.Body))
		}
	})
}
