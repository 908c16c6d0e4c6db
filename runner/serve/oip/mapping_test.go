package oip_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

func testMapping(t *testing.T, url string) {
	for name, c := range map[string]struct{ node, body, want string }{
		"an array":                  {"double", one("x", "FP32", "[2,2]", "[1,2,3,4.5]"), `{"name":"output","datatype":"FP32","shape":[2,2],"data":[2,4,6,9]}`},
		"an array, nested":          {"double", one("x", "FP32", "[2,2]", "[[1,2],[3,4.5]]"), `{"name":"output","datatype":"FP32","shape":[2,2],"data":[2,4,6,9]}`},
		"another dtype":             {"double", one("x", "INT32", "[1,2]", "[1,2]"), `{"name":"output","datatype":"FP32","shape":[1,2],"data":[2,4]}`},
		"text":                      {"shout", one("text", "BYTES", "[1]", `["ab"]`), `{"name":"output","datatype":"BYTES","shape":[1],"data":["AB"]}`},
		"text without dimensions":   {"shout", one("text", "BYTES", "[]", `"ab"`), `{"name":"output","datatype":"BYTES","shape":[1],"data":["AB"]}`},
		"bytes":                     {"size", one("data", "BYTES", "[1]", `["höhe"]`), `{"name":"output","datatype":"INT64","shape":[1],"data":[5]}`},
		"a float":                   {"half", one("x", "FP64", "[1]", `[3]`), `{"name":"output","datatype":"FP64","shape":[1],"data":[1.5]}`},
		"an integer for a float":    {"half", one("x", "INT8", "[1]", `[3]`), `{"name":"output","datatype":"FP64","shape":[1],"data":[1.5]}`},
		"arrays of any name":        {"kinds", `{"inputs":[{"name":"a","datatype":"UINT16","shape":[2],"data":[1,2]},{"name":"b","datatype":"BYTES","shape":[2],"data":["x","y"]}]}`, `{"name":"output","datatype":"BYTES","shape":[1],"data":["a=uint16[2] b=list ['x', 'y']"]}`},
		"an array without elements": {"kinds", one("value", "FP16", "[0,3]", `[]`), `{"name":"output","datatype":"BYTES","shape":[1],"data":["float16[0, 3]"]}`},
		"the members of a class": {"search", `{"inputs":[{"name":"vector","datatype":"FP32","shape":[3],"data":[1,3,2]},
			{"name":"text","datatype":"BYTES","shape":[1],"data":["tea"]},{"name":"k","datatype":"INT32","shape":[1],"data":[2]},
			{"name":"weights","datatype":"FP32","shape":[2],"data":[1,2]}]}`,
			`{"name":"titles","datatype":"BYTES","shape":[2],"data":["tea 0","tea 1"]},{"name":"scores","datatype":"FP64","shape":[2],"data":[3,2]},` +
				`{"name":"total","datatype":"INT64","shape":[1],"data":[3]},{"name":"best","datatype":"BYTES","shape":[1],"data":["tea 0"]}`},
		"chosen outputs": {"search", `{"id":"7","outputs":[{"name":"total"},{"name":"titles"}],"inputs":[{"name":"vector","datatype":"FP32","shape":[0],"data":[]},
			{"name":"text","datatype":"BYTES","shape":[1],"data":["tea"]}]}`,
			`{"name":"total","datatype":"INT64","shape":[1],"data":[0]},{"name":"titles","datatype":"BYTES","shape":[0],"data":[]}`},
		"values of each form": {"results", one("which", "BYTES", "[1]", `["all"]`) + "", `{"name":"float16","datatype":"FP16","shape":[1,2],"data":[1.5,-2]},` +
			`{"name":"bool","datatype":"BOOL","shape":[2],"data":[true,false]},{"name":"int","datatype":"INT64","shape":[1],"data":[-1152921504606846976]},` +
			`{"name":"uint","datatype":"UINT64","shape":[1],"data":[18446744073709551615]},{"name":"float","datatype":"FP64","shape":[1],"data":[0.5]},` +
			`{"name":"text","datatype":"BYTES","shape":[1],"data":["höhe"]},` +
			`{"name":"matrix","datatype":"INT64","shape":[2,2],"data":[1,2,3,4]},{"name":"arrays","datatype":"INT8","shape":[2,2,3],"data":[0,0,0,0,0,0,1,1,1,1,1,1]},` +
			`{"name":"mixed","datatype":"BYTES","shape":[1],"data":["[1,\"a\",null]"]},{"name":"dict","datatype":"BYTES","shape":[1],"data":["{\"a\":[1,{\"b\":2.5}]}"]},` +
			`{"name":"empty","datatype":"FP64","shape":[0],"data":[]}`},
		"the values of a generator": {"count", one("n", "INT64", "[1]", `[3]`), `{"name":"output","datatype":"INT32","shape":[3,1],"data":[0,1,2]}`},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "values of each form" { // but the bytes, which JSON cannot hold
				var outputs []string
				for output := range strings.SplitSeq("float16 bool int uint float text none matrix arrays mixed dict empty", " ") {
					outputs = append(outputs, fmt.Sprintf(`{"name":%q}`, output))
				}
				c.body = strings.TrimSuffix(c.body, "}") + `,"outputs":[` + strings.Join(outputs, ",") + "]}"
			}
			status, text := infer(t, url, c.node, c.body)
			assert.Equal(t, http.StatusOK, status, text)
			id := ""
			if strings.Contains(c.body, `"id"`) {
				id = `"id":"7",`
			}
			assert.Equal(t, `{"model_name":"`+c.node+`","model_version":"1",`+id+`"outputs":[`+c.want+`]}`, text)
		})
	}
}

func TestNodesThatAreNoPythonAreModels(t *testing.T) {
	t.Parallel()
	echo := runner.WithNode("echo", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil })
	url := listen(t, map[string]*runner.Runner{
		"go":      newPipeline(t, "version: v1\nnodes: [{id: n, node_type: echo}]", echo),
		"sinks":   newPipeline(t, "version: v1\nnodes: [{id: a, node_type: echo}, {id: b, node_type: echo}]", echo),
		"command": newPipeline(t, "version: v1\nnodes: [{id: n, command: [cat]}]"),
	})
	request := `{"inputs":[{"name":"x","datatype":"INT8","shape":[1,2],"data":[1,2]},{"name":"y","datatype":"BYTES","shape":[1],"data":["a"]}]}`
	for name, c := range map[string]struct{ node, body, want string }{
		"Go, an array":         {"go", one("input", "INT8", "[2]", "[1,2]"), `{"name":"output","datatype":"INT8","shape":[2],"data":[1,2]}`},
		"Go, a map":            {"go", request, `{"name":"x","datatype":"INT8","shape":[1,2],"data":[1,2]},{"name":"y","datatype":"BYTES","shape":[1],"data":["a"]}`},
		"two sinks":            {"sinks", one("input", "INT8", "[2]", "[1,2]"), `{"name":"a","datatype":"INT8","shape":[2],"data":[1,2]},{"name":"b","datatype":"INT8","shape":[2],"data":[1,2]}`},
		"one of two sinks":     {"sinks", strings.TrimSuffix(one("input", "INT8", "[1]", "[1]"), "}") + `,"outputs":[{"name":"b"}]}`, `{"name":"b","datatype":"INT8","shape":[1],"data":[1]}`},
		"a command, a number":  {"command", one("input", "FP32", "[1]", "[1.5]"), `{"name":"output","datatype":"FP64","shape":[1],"data":[1.5]}`},
		"a command, a boolean": {"command", one("input", "BOOL", "[]", "[true]"), `{"name":"output","datatype":"BOOL","shape":[1],"data":[true]}`},
		"a command, a list":    {"command", one("input", "UINT8", "[2,1]", "[1,2]"), `{"name":"output","datatype":"INT64","shape":[2,1],"data":[1,2]}`},
		"a command, a map":     {"command", request, `{"name":"x","datatype":"INT64","shape":[1,2],"data":[1,2]},{"name":"y","datatype":"BYTES","shape":[1],"data":["a"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			status, text := infer(t, url, c.node, c.body)
			assert.Equal(t, http.StatusOK, status, text)
			assert.Equal(t, `{"model_name":"`+c.node+`","model_version":"1","outputs":[`+c.want+`]}`, text)
		})
	}
	_, text := ask(t, http.MethodGet, url+"/v2/models/sinks", "")
	assert.Contains(t, text, `"inputs":[{"name":"input","datatype":"","shape":[-1]}],"outputs":[{"name":"a","datatype":"","shape":[-1]},{"name":"b",`)
}

func TestARecordingIsAFileInATensor(t *testing.T) {
	t.Parallel()
	url := start(t, "louder")
	var wav bytes.Buffer
	require.NoError(t, media.EncodeWAV(&wav, &ipc.Audio{Samples: []float32{0, 0.25}, Rate: 8000, Channels: 1}, media.Float32))
	header := fmt.Sprintf(`{"parameters":{"binary_data_output":true},"inputs":[{"name":"audio","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":%d}}]}`, wav.Len()+4)
	body := header + string(binary.LittleEndian.AppendUint32(nil, uint32(wav.Len()))) + wav.String()
	answer, text := ask(t, http.MethodPost, url+"/v2/models/m/infer", body, "Inference-Header-Content-Length", fmt.Sprint(len(header)))
	require.Equal(t, http.StatusOK, answer.StatusCode, text)
	length, err := strconv.Atoi(answer.Header.Get("Inference-Header-Content-Length"))
	require.NoError(t, err)
	audio, err := media.DecodeWAV([]byte(text[length+4:]))
	require.NoError(t, err)
	assert.Equal(t, []float32{0, 0.5}, audio.Samples)
	status, text := infer(t, url, "m", one("audio", "BYTES", "[1]", `["no recording"]`))
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, errorIn(t, text), `input "audio"`)
}
