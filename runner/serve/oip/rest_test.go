package oip_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/inference"
	"github.com/gophersnake/gophersnake/runner/serve/oip/oipgrpc"
)

// patience bounds what must happen at once.
const patience = 30 * time.Second

// newRunner returns a runner for a node in testdata, which is not started.
func newRunner(t testing.TB, nodeType string, more ...string) *runner.Runner {
	t.Helper()
	text := fmt.Sprintf("version: v1\npython: nodes.py\nnodes:\n  - id: n\n    node_type: %s\n    retry: none\n", nodeType)
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return newPipeline(t, text, runner.WithOrderedMaps())
}

// newPipeline returns a runner for a pipeline, which is not started.
func newPipeline(t testing.TB, text string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	base, err := filepath.Abs("testdata")
	require.NoError(t, err)
	p, err := manifest.Parse("test.yaml", []byte(text), base)
	require.NoError(t, err)
	for i := range p.Nodes {
		p.Nodes[i].Workers.Spare = 0
	}
	r, err := runner.New(p, append(opts, runner.WithSystemPython())...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

// listen serves pipelines, and returns the URL.
func listen(t testing.TB, runners map[string]*runner.Runner, opts ...serve.Option) string {
	t.Helper()
	return serving(t, runners, opts...).url
}

// service is a server for REST and gRPC.
type service struct {
	url, address string
	stop         func() // ends it as SIGTERM does
}

// serving serves pipelines.
func serving(t testing.TB, runners map[string]*runner.Runner, opts ...serve.Option) *service {
	t.Helper()
	return servingWith(t, serve.Config{Address: "127.0.0.1:0", DrainTimeout: patience}, runners, opts...)
}

func servingWith(t testing.TB, config serve.Config, runners map[string]*runner.Runner, opts ...serve.Option) *service {
	t.Helper()
	server, err := serve.Listen(runners, config, append(opts, serve.WithProtocol(oip.Protocol()))...)
	require.NoError(t, err)
	rpc, err := oipgrpc.Listen(server, oipgrpc.Config{Address: "127.0.0.1:0", Reflection: true})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var servers errgroup.Group
	servers.Go(func() error { return server.Run(ctx) })
	servers.Go(func() error { return rpc.Run(ctx) })
	stop := sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, servers.Wait())
	})
	t.Cleanup(stop)
	return &service{server.URL(), rpc.Address(), stop}
}

// start serves one node as the model m.
func start(t testing.TB, nodeType string, more ...string) string {
	t.Helper()
	return listen(t, map[string]*runner.Runner{"m": newRunner(t, nodeType, more...)})
}

// models are the nodes that startAll serves.
var models = []string{"echo", "double", "search", "shout", "size", "half", "results", "kinds", "fail", "count"}

// startAll serves several nodes, each as a model with its name.
func startAll(t testing.TB) *service {
	t.Helper()
	runners := make(map[string]*runner.Runner)
	var starts errgroup.Group
	for _, name := range models {
		r := newRunner(t, name)
		runners[name] = r
		starts.Go(func() error { return r.Start(t.Context()) })
	}
	require.NoError(t, starts.Wait())
	return serving(t, runners)
}

// ask sends a request with headers, which are alternating names and values.
func ask(t testing.TB, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer, string(text)
}

// infer posts a request to a model, and returns the status and the answer.
func infer(t testing.TB, url, model, body string, headers ...string) (int, string) {
	t.Helper()
	answer, text := ask(t, http.MethodPost, url+"/v2/models/"+model+"/infer", body, headers...)
	return answer.StatusCode, strings.TrimSpace(text)
}

// one returns a request with one input.
func one(name, datatype, shape, data string) string {
	return fmt.Sprintf(`{"inputs":[{"name":%q,"datatype":%q,"shape":%s,"data":%s}]}`, name, datatype, shape, data)
}

func TestModels(t *testing.T) {
	t.Parallel()
	s := startAll(t)
	for name, test := range map[string]func(t *testing.T, url string){
		"metadata come from the annotations":                       testMetadata,
		"tensors become the input, and the result becomes tensors": testMapping,
		"binary tensors follow the JSON":                           testBinary,
		"a bad tensor is refused with its reason":                  testBadTensors,
		"a repeated key is answered once":                          testKey,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.url)
		})
	}
	for _, class := range []string{"HTTP", "GRPC", "Interface"} {
		t.Run("tritonclient works unchanged: "+class, func(t *testing.T) {
			t.Parallel()
			testTritonClient(t, s, class)
		})
	}
}

// testTritonClient runs one class of the tests in testdata, which use tritonclient.
func testTritonClient(t *testing.T, s *service, class string) {
	if exec.Command("python3", "-c", "import pytest, tritonclient.grpc, tritonclient.http").Run() != nil {
		t.Skip("python3 has no tritonclient here")
	}
	descriptor := filepath.Join(t.TempDir(), "descriptor")
	content, err := proto.Marshal(protodesc.ToFileDescriptorProto(inference.File_runner_serve_oip_internal_inference_inference_proto))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(descriptor, content, 0o600))
	cmd := exec.CommandContext(t.Context(), "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "triton.py::Test"+class)
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "OIP_HTTP="+strings.TrimPrefix(s.url, "http://"), "OIP_GRPC="+s.address, "OIP_DESCRIPTOR="+descriptor)
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

func testMetadata(t *testing.T, url string) {
	for path, want := range map[string]string{
		"double": `{"name":"double","versions":["1"],"platform":"gophersnake",
			"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"output","datatype":"FP32","shape":[-1,2]}]}`,
		"search/versions/1": `{"name":"search","versions":["1"],"platform":"gophersnake","inputs":[
			{"name":"vector","datatype":"FP32","shape":[-1]},{"name":"text","datatype":"BYTES","shape":[1]},
			{"name":"k","datatype":"INT64","shape":[1]},{"name":"weights","datatype":"FP64","shape":[-1]}],"outputs":[
			{"name":"titles","datatype":"BYTES","shape":[-1]},{"name":"scores","datatype":"FP64","shape":[-1]},
			{"name":"total","datatype":"INT64","shape":[1]},{"name":"best","datatype":"BYTES","shape":[1]}]}`,
		"echo": `{"name":"echo","versions":["1"],"platform":"gophersnake",
			"inputs":[{"name":"value","datatype":"","shape":[-1]}],"outputs":[{"name":"output","datatype":"","shape":[-1]}]}`,
		"count/config": `{"name":"count","platform":"gophersnake","backend":"gophersnake","max_batch_size":0,
			"input":[{"name":"n","data_type":"TYPE_INT64","dims":[1]}],"output":[{"name":"output","data_type":"TYPE_INVALID","dims":[-1]}],
			"model_transaction_policy":{"decoupled":true}}`,
	} {
		answer, text := ask(t, http.MethodGet, url+"/v2/models/"+path, "")
		assert.Equal(t, http.StatusOK, answer.StatusCode, text)
		assert.JSONEq(t, want, text)
	}
	_, text := ask(t, http.MethodGet, url+"/v2", "")
	var server struct {
		Name       string
		Extensions []string
	}
	require.NoError(t, json.Unmarshal([]byte(text), &server))
	assert.Equal(t, "gophersnake", server.Name)
	assert.Contains(t, server.Extensions, "binary_tensor_data")
}

func testBinary(t *testing.T, url string) {
	header := `{"parameters":{"binary_data_output":true},"inputs":[{"name":"a","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":4}},
		{"name":"b","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":11}},{"name":"c","datatype":"BOOL","shape":[1],"data":[true]}]}`
	body := header + "\x01\x00\xff\xff" + "\x02\x00\x00\x00hi" + "\x01\x00\x00\x00\xff"
	answer, text := ask(t, http.MethodPost, url+"/v2/models/kinds/infer", body, "Inference-Header-Content-Length", fmt.Sprint(len(header)))
	require.Equal(t, http.StatusOK, answer.StatusCode, text)
	length := answer.Header.Get("Inference-Header-Content-Length")
	want := `{"model_name":"kinds","model_version":"1","outputs":[{"name":"output","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":47}}]}`
	assert.Equal(t, fmt.Sprint(len(want)), length)
	assert.Equal(t, want+"\x2b\x00\x00\x00a=int16[2] b=list ['hi', b'\\xff'] c=bool[1]", text)
}

func TestARequestMayBeCompressed(t *testing.T) {
	t.Parallel()
	url := listen(t, map[string]*runner.Runner{"m": newRunner(t, "shout")}, serve.WithMaxBody(1000))
	compressed := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := io.WriteString(w, text)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return b.String()
	}
	status, text := infer(t, url, "m", compressed(one("text", "BYTES", "[1]", `["a"]`)), "Content-Encoding", "gzip")
	assert.Equal(t, http.StatusOK, status, text)
	status, text = infer(t, url, "m", compressed(one("text", "BYTES", "[1]", `["`+strings.Repeat("a", 2000)+`"]`)), "Content-Encoding", "gzip")
	assert.Equal(t, http.StatusRequestEntityTooLarge, status, text)
	status, text = infer(t, url, "m", "{", "Content-Encoding", "gzip")
	assert.Equal(t, http.StatusBadRequest, status, text)
	status, text = infer(t, url, "m", "{", "Content-Encoding", "zstd")
	assert.Equal(t, http.StatusUnsupportedMediaType, status, text)
}

// errorIn returns the message of an answer.
func errorIn(t testing.TB, text string) string {
	t.Helper()
	var doc map[string]string
	require.NoError(t, json.Unmarshal([]byte(text), &doc), text)
	require.Len(t, doc, 1)
	return doc["error"]
}

func testBadTensors(t *testing.T, url string) {
	binary := func(datatype, shape, size, data string) (string, []string) {
		header := fmt.Sprintf(`{"inputs":[{"name":"x","datatype":%q,"shape":%s,"parameters":{"binary_data_size":%s}}]}`, datatype, shape, size)
		return header + data, []string{"Inference-Header-Content-Length", fmt.Sprint(len(header))}
	}
	text := func(body string) func() (string, []string) {
		return func() (string, []string) { return body, nil }
	}
	raw := func(datatype, shape, size, data string) func() (string, []string) {
		return func() (string, []string) { return binary(datatype, shape, size, data) }
	}
	for name, c := range map[string]struct {
		request func() (string, []string)
		says    string
	}{
		"fewer elements":           {text(one("x", "FP32", "[2,2]", "[1,2,3]")), "do not have the 4 elements"},
		"ragged lists":             {text(one("x", "FP32", "[2,2]", "[[1,2],[3]]")), "do not have the 4 elements"},
		"no data":                  {text(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}]}`), "do not have the 2 elements"},
		"text for numbers":         {text(one("x", "FP32", "[1,2]", `["a",2]`)), "element 0: a FP32 is a number"},
		"out of range":             {text(one("x", "INT8", "[1,2]", `[1,128]`)), "element 1: it is out of the range"},
		"a fraction":               {text(one("x", "INT8", "[1,2]", `[1.5,1]`)), "a INT8 is an integer"},
		"an unknown datatype":      {text(one("x", "FP8", "[1,2]", `[1,2]`)), `there is no datatype "FP8"`},
		"a negative dimension":     {text(one("x", "FP32", "[-1,2]", `[1,2]`)), "negative dimension"},
		"a product that overflows": {text(one("x", "FP32", "[4294967296,4294967296]", `[]`)), "too many elements"},
		"no elements, but many":    {text(one("x", "FP32", "[4294967296,0]", `[]`)), "too large for one without elements"},
		"too many dimensions":      {text(one("x", "FP32", "["+strings.Repeat("1,", 64)+"1]", `[1]`)), "65 dimensions"},
		"a shape of text":          {text(one("x", "FP32", `["2"]`, `[1,2]`)), "no list of integers"},
		"truncated binary":         {raw("FP32", "[1,2]", "8", "1234567"), "7 bytes are left"},
		"too few bytes":            {raw("FP32", "[1,2]", "7", "1234567"), "takes 2 elements of 4 bytes, and there are 7 bytes"},
		"too many bytes":           {raw("FP32", "[1,1]", "8", "12345678"), "takes 1 elements of 4 bytes"},
		"bytes of no input":        {raw("FP32", "[1,2]", "8", "123456789"), "1 bytes after the JSON belong to no input"},
		"a negative size":          {raw("FP32", "[1,2]", "-1", "12345678"), "binary_data_size is -1"},
		"a length that overflows":  {raw("BYTES", "[1]", "6", "\xff\xff\xff\xffab"), "element 0 has 4294967295 bytes, and 2 are left"},
		"a length that is cut":     {raw("BYTES", "[1]", "7", "\x01\x00\x00\x00a\x00\x00"), "the data end within the length"},
		"more texts":               {raw("BYTES", "[1]", "8", "\x00\x00\x00\x00\x00\x00\x00\x00"), "more elements than the 1 of the shape"},
		"fewer texts":              {raw("BYTES", "[2]", "8", "\x04\x00\x00\x00abcd"), "there are 1 elements, and the shape takes 2"},
		"many texts of no bytes":   {raw("BYTES", "[1000000000]", "4", "\x00\x00\x00\x00"), "4 bytes cannot be 1000000000 elements"},
		"a BOOL of 2":              {raw("BOOL", "[1]", "1", "\x02"), "a BOOL is 0 or 1"},
		"a header beyond the body": {func() (string, []string) { return "{}", []string{"Inference-Header-Content-Length", "3"} }, "the body has 2 bytes"},
		"no inputs":                {text(`{"inputs":[]}`), "the request has no inputs; its input is x"},
		"another name":             {text(one("y", "FP32", "[1,2]", "[1,2]")), `has no input "y"; its input is x`},
		"the same name twice":      {text(`{"inputs":[{"name":"x","datatype":"FP32","shape":[],"data":1},{"name":"x","datatype":"FP32","shape":[],"data":1}]}`), "occurs twice"},
		"another output":           {text(strings.TrimSuffix(one("x", "FP32", "[1,2]", "[1,2]"), "}") + `,"outputs":[{"name":"y"}]}`), `no output "y"; the outputs are output`},
		"shared memory":            {text(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"r"}}]}`), "shared memory"},
		"a sequence":               {text(`{"parameters":{"sequence_id":5},"inputs":[]}`), "sequences of requests are not supported"},
		"a timeout of text":        {text(`{"parameters":{"timeout":"soon"},"inputs":[]}`), "takes microseconds"},
		"no object":                {text(`[]`), "no JSON object"},
		"inputs of another type":   {text(`{"inputs":[1]}`), "no list of objects"},
		"no JSON":                  {text(`{`), "invalid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			body, headers := c.request()
			status, text := infer(t, url, "double", body, headers...)
			assert.Equal(t, http.StatusBadRequest, status, text)
			assert.Contains(t, errorIn(t, text), c.says)
		})
	}
	status, text2 := infer(t, url, "double", one("x", "FP32", "[3]", "[1,2,3]"))
	assert.Equal(t, http.StatusUnprocessableEntity, status, "the node's own check: %s", text2)
	assert.Contains(t, errorIn(t, text2), "the value is not one that the node takes")
}

func TestErrorsHaveTheFormOfTheProtocolAndTheStatusesOfTheService(t *testing.T) {
	t.Parallel()
	runners := map[string]*runner.Runner{"m": newRunner(t, "fail", "timeout: 300ms")}
	token := []string{"Authorization", "Bearer 0123456789abcdef"}
	url := listen(t, runners, serve.WithTokens(serve.Token{Secret: "0123456789abcdef"}))
	how := func(text string) string { return one("how", "BYTES", "[1]", `["`+text+`"]`) }
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		says               string
	}{
		"no token":          {"GET", "/v2/models/m", "", nil, 401, "no valid token"},
		"another origin":    {"POST", "/v2/models/m/infer", how("x"), append([]string{"Origin", "https://evil.example"}, token...), 403, "another origin"},
		"an unknown model":  {"POST", "/v2/models/q/infer", how("x"), token, 404, `there is no pipeline "q"`},
		"another version":   {"POST", "/v2/models/m/versions/2/infer", how("x"), token, 404, `has no version "2"`},
		"another path":      {"GET", "/v2/models/m/stats", "", token, 404, "there is nothing at /v2/models/m/stats"},
		"another method":    {"GET", "/v2/models/m/infer", "", token, 405, "takes POST, not GET"},
		"shared memory":     {"POST", "/v2/systemsharedmemory/region/r/register", "{}", token, 400, "shared memory"},
		"a Permanent":       {"POST", "/v2/models/m/infer", how("permanent"), token, 422, "the node rejects the input (node \"n\"): this input is wrong"},
		"an exception":      {"POST", "/v2/models/m/infer", how("raise"), token, 500, "cannot open '…/weights.bin'"},
		"a timeout":         {"POST", "/v2/models/m/infer", how("hang"), token, 504, "within 300ms"},
		"a request timeout": {"POST", "/v2/models/m/infer", `{"parameters":{"timeout":50000},` + how("hang")[1:], token, 504, "the time that the request allows is over"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, text := ask(t, c.method, url+c.path, c.body, c.headers...)
			assert.Equal(t, c.status, answer.StatusCode, text)
			assert.Equal(t, "application/json", answer.Header.Get("Content-Type"))
			assert.NotEmpty(t, answer.Header.Get("X-Request-Id"))
			assert.Contains(t, errorIn(t, text), c.says)
		})
	}
	for _, path := range []string{"live", "ready"} {
		answer, text := ask(t, http.MethodGet, url+"/v2/health/"+path, "")
		assert.Equal(t, http.StatusOK, answer.StatusCode, text)
	}
	_, text := ask(t, http.MethodPost, url+"/v2/repository/index", "", token...)
	assert.Equal(t, `[{"name":"m","version":"1","state":"READY","reason":""}]`+"\n", text)
	require.NoError(t, runners["m"].Drain(t.Context()))
	for _, path := range []string{"/v2/health/ready", "/v2/models/m/ready"} {
		answer, text := ask(t, http.MethodGet, url+path, "", token...)
		assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode, text)
	}
	answer, text := ask(t, http.MethodPost, url+"/v2/models/m/infer", how("x"), token...)
	assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode, text)
	assert.NotEmpty(t, answer.Header.Get("Retry-After"))
	_, text = ask(t, http.MethodPost, url+"/v2/repository/index", `{"ready":true}`, token...)
	assert.Equal(t, "[]\n", text)
}

func testKey(t *testing.T, url string) {
	header := `{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a"]}],"parameters":{"binary_data_output":true}}`
	headers := []string{"Idempotency-Key", "k", "Inference-Header-Content-Length", fmt.Sprint(len(header))}
	first, text := ask(t, http.MethodPost, url+"/v2/models/shout/infer", header, headers...)
	require.Equal(t, http.StatusOK, first.StatusCode, text)
	second, again := ask(t, http.MethodPost, url+"/v2/models/shout/infer", header, headers...)
	assert.Equal(t, text, again)
	assert.Equal(t, "true", second.Header.Get("Idempotency-Replayed"))
	assert.Equal(t, first.Header.Get("Inference-Header-Content-Length"), second.Header.Get("Inference-Header-Content-Length"))
	assert.NotEmpty(t, second.Header.Get("Inference-Header-Content-Length"))
	conflict, text := ask(t, http.MethodPost, url+"/v2/models/shout/infer", header, "Idempotency-Key", "k")
	assert.Equal(t, http.StatusConflict, conflict.StatusCode, "the header with the length is a part of the request")
	assert.Contains(t, errorIn(t, text), "the key was used")
}

func TestARestClientThatLeavesCancelsItsRun(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	url := start(t, "wait", "params: {folder: '"+folder+"'}")
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v2/models/m/infer", strings.NewReader(one("value", "INT8", "[1]", "[1]")))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(req) //nolint:bodyclose // it fails
		done <- err
	}()
	appears(t, folder, "began", patience)
	leave()
	require.Error(t, <-done)
	appears(t, folder, "canceled", time.Second)
}

// appears waits until a node has noted something.
func appears(t testing.TB, folder, what string, within time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(folder, what))
		return err == nil
	}, within, time.Millisecond, "%s is missing", what)
}

// note writes a file for a node.
func note(t testing.TB, folder, what string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(folder, what), nil, 0o600))
}

func TestTheProgramOfTheGuidePrintsWhatItSays(t *testing.T) {
	t.Parallel()
	if exec.Command("python3", "-c", "import tritonclient.grpc").Run() != nil {
		t.Skip("python3 has no tritonclient here")
	}
	guide, err := os.ReadFile("../../docs/inference-protocol.md")
	require.NoError(t, err)
	block := func(after, language string) string {
		_, rest, found := strings.Cut(string(guide), after)
		require.True(t, found)
		_, rest, found = strings.Cut(rest, "```"+language+"\n")
		require.True(t, found)
		text, _, found := strings.Cut(rest, "```")
		require.True(t, found)
		return text
	}
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "nodes.py"), []byte(block("search/nodes.py -->", "python")), 0o600))
	p, err := manifest.Parse("pipeline.yaml", []byte(block("search/pipeline.yaml -->", "yaml")), folder)
	require.NoError(t, err)
	r, err := runner.New(p, runner.WithSystemPython(), runner.WithOrderedMaps())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	s := serving(t, map[string]*runner.Runner{"search": r})
	program := strings.Replace(block("With `tritonclient`", "python"), "127.0.0.1:8139", s.address, 1)
	out, err := exec.CommandContext(t.Context(), "python3", "-c", program).Output()
	require.NoError(t, err)
	assert.Equal(t, block("With `tritonclient`", "text"), string(out))
}
