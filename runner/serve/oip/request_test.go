package oip

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/model"
)

// FuzzRequest reads random requests. The tensors of one that is accepted can be answered, and the
// answer reads as a request with the same tensors.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"id":"7","inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[[1,2.5]]}],"outputs":[{"name":"y"}]}`), "")
	const header = `{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}]}`
	f.Add([]byte(header+"\x01\x00\x00\x00a"), fmt.Sprint(len(header)))
	f.Add([]byte(`{"inputs":[{"name":"x","datatype":"INT8","shape":[-1],"data":[]}]}`), "")
	f.Add([]byte(`{"inputs":[{"name":"x","datatype":"UINT64","shape":[],"data":18446744073709551615}],"parameters":{"timeout":5}}`), "")
	f.Fuzz(func(t *testing.T, body []byte, length string) {
		r, err := parseRequest(body, length)
		if err != nil {
			return
		}
		r.isBinary = map[string]bool{"": true}
		answer, err := r.response(&model.Model{Name: "m"}, r.inputs)
		require.NoError(t, err)
		header := answer.Header[headerLength]
		if header == "" { // there are no binary data
			header = fmt.Sprint(len(answer.Body))
		}
		// The outputs of an answer have the form of the inputs of a request.
		again, err := parseAnswer(answer.Body, header)
		require.NoError(t, err)
		require.Equal(t, len(r.inputs), len(again.inputs))
		for i, sent := range r.inputs {
			got := again.inputs[i]
			require.Equal(t, sent.Type, got.Type)
			require.Equal(t, len(sent.Shape), len(got.Shape))
			want, err := sent.Binary()
			require.NoError(t, err)
			have, err := got.Binary()
			require.NoError(t, err)
			require.Equal(t, string(want), string(have))
		}
	})
}

// parseAnswer reads an answer as a request whose inputs are the outputs of the answer.
func parseAnswer(body []byte, length string) (*request, error) {
	var n int
	if _, err := fmt.Sscan(length, &n); err != nil {
		return nil, err
	}
	const outputs, inputs = `"outputs":[`, `"inputs":[`
	for i := 0; i+len(outputs) <= n; i++ {
		if string(body[i:i+len(outputs)]) == outputs {
			changed := append([]byte(nil), body[:i]...)
			changed = append(append(changed, inputs...), body[i+len(outputs):]...)
			return parseRequest(changed, fmt.Sprint(n+len(inputs)-len(outputs)))
		}
	}
	return parseRequest(body, length)
}
