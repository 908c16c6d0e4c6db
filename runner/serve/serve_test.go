package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/media"
	"github.com/gophersnake/gophersnake/runner/serve"
)

// patience bounds what must happen at once.
const patience = 30 * time.Second

// service is a server with one pipeline, named p.
type service struct {
	url    string
	server *serve.Server
	runner *runner.Runner
	stop   func() error // ends the server as SIGTERM does, and returns what Run returns
	done   chan struct{}
}

// newRunner returns a runner for a pipeline of the nodes in testdata, whose manifest is text.
// It is not started. Nodes have no spares.
func newRunner(t testing.TB, text string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	base, err := filepath.Abs("testdata")
	require.NoError(t, err)
	p, err := manifest.Parse("test.yaml", []byte("version: v1\npython: nodes.py\nmetadata: {description: a test}\n"+text), base)
	require.NoError(t, err)
	for i := range p.Nodes {
		p.Nodes[i].Workers.Spare = 0
	}
	r, err := runner.New(p, append(opts, runner.WithOrderedMaps())...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

// single returns a manifest with one node.
func single(nodeType string, more ...string) string {
	text := fmt.Sprintf("nodes:\n  - id: n\n    node_type: %s\n", nodeType)
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}

// start serves a pipeline whose runner is started.
func start(t testing.TB, text string, opts ...serve.Option) *service {
	t.Helper()
	r := newRunner(t, text)
	require.NoError(t, r.Start(t.Context()))
	return listen(t, r, serve.Config{}, opts...)
}

// listen serves the pipeline of a runner.
func listen(t testing.TB, r *runner.Runner, c serve.Config, opts ...serve.Option) *service {
	t.Helper()
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = patience
	}
	server, err := serve.Listen(map[string]*runner.Runner{"p": r}, c, opts...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{url: server.URL(), server: server, runner: r, done: make(chan struct{})}
	var result error
	go func() {
		defer close(s.done)
		result = server.Run(ctx)
	}()
	s.stop = func() error {
		cancel()
		<-s.done
		return result
	}
	t.Cleanup(func() { _ = s.stop() })
	return s
}

// versions are clients of both versions of HTTP.
var versions = map[string]*http.Client{"HTTP/1.1": newClient(1), "HTTP/2": newClient(2)}

func newClient(version int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetUnencryptedHTTP2(version == 2)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, DisableKeepAlives: version == 1}}
}

// do sends a request with headers, which are alternating names and values.
func (s *service) do(t testing.TB, method, path string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	return s.with(t.Context(), t, versions["HTTP/1.1"], method, path, body, headers...)
}

func (s *service) with(ctx context.Context, t testing.TB, client *http.Client, method, path string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	answer, err := client.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

// post calls the pipeline, and returns the status and the body of the answer.
func (s *service) post(t testing.TB, body string, headers ...string) (int, string) {
	t.Helper()
	answer := s.do(t, http.MethodPost, "/v1/pipelines/p", strings.NewReader(body), headers...)
	return answer.StatusCode, read(t, answer)
}

func (s *service) get(t testing.TB, path string, headers ...string) (int, string) {
	t.Helper()
	answer := s.do(t, http.MethodGet, path, nil, headers...)
	return answer.StatusCode, read(t, answer)
}

func read(t testing.TB, answer *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(body)
}

// problem is what tests read of a problem document.
type problem struct {
	Type, Title, Detail, Kind, Node, Hint, Exception, Path string
	Status, Attempt                                        int
	RequestID                                              string  `json:"request_id"`
	RetryAfter                                             float64 `json:"retry_after"`
	Error                                                  map[string]any
}

func problemIn(t testing.TB, text string) (p problem) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &p), text)
	return p
}

// appears waits until a node has noted something.
func appears(t testing.TB, folder, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return exists(folder, what) }, patience, time.Millisecond, "%s is missing", what)
}

func exists(folder, what string) bool {
	_, err := os.Stat(filepath.Join(folder, what))
	return err == nil
}

func write(t testing.TB, folder, what string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(folder, what), nil, 0o600))
}

func encoded(t testing.TB, encode func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, encode(&b))
	return b.String()
}

// The files of the tests.
func wav(t testing.TB) string {
	return encoded(t, func(w io.Writer) error {
		return media.EncodeWAV(w, &ipc.Audio{Samples: []float32{0, 0.5, -0.5, 0}, Rate: 8000, Channels: 2}, media.Float32)
	})
}

func png(t testing.TB) string {
	return encoded(t, func(w io.Writer) error {
		return media.EncodePNG(w, &ipc.Image{Pixels: make([]byte, 6), Format: "rgb8", Width: 2, Height: 1})
	})
}

func npy(t testing.TB) string {
	tensor, err := ipc.NewTensor([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	require.NoError(t, err)
	return encoded(t, func(w io.Writer) error { return media.EncodeNPY(w, tensor) })
}

func TestAValueComesBackAsItWasSent(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	for name, c := range map[string]struct{ contentType, body, accept, wantType, want string }{
		"the order of keys":     {"application/json", `{"z":1,"a":{"y":[],"b":null}}`, "", "application/json", `{"z":1,"a":{"y":[],"b":null}}` + "\n"},
		"integers of 64 bits":   {"application/json", `[18446744073709551615,-9223372036854775808,0.5]`, "*/*", "application/json", `[18446744073709551615,-9223372036854775808,0.5]` + "\n"},
		"JSON by another name":  {"application/vnd.shop+json; charset=utf-8", `1`, "", "application/json", "1\n"},
		"what curl sends":       {"application/x-www-form-urlencoded", `{"a":1}`, "*/*", "application/json", `{"a":1}` + "\n"},
		"no body":               {"", "", "", "application/json", "null\n"},
		"text":                  {"text/plain", "höhe", "text/plain", "text/plain; charset=utf-8", "höhe"},
		"text as JSON":          {"text/plain", "a \"b\"", "application/json", "application/json", `"a \"b\""` + "\n"},
		"a recording":           {"audio/wav", wav(t), "audio/wav", "audio/wav", wav(t)},
		"a recording, by curl":  {"application/x-www-form-urlencoded", wav(t), "audio/*", "audio/wav", wav(t)},
		"an image":              {"image/png", png(t), "image/png", "image/png", png(t)},
		"an array":              {"application/x-npy", npy(t), "application/x-npy", "application/x-npy", npy(t)},
		"an array, undeclared":  {"", npy(t), "application/octet-stream", "application/octet-stream", npy(t)},
		"bytes":                 {"application/octet-stream", "\x00\xff{}", "application/octet-stream", "application/octet-stream", "\x00\xff{}"},
		"bytes as JSON":         {"application/octet-stream", "abc", "", "application/json", `{"$base64":"YWJj","content_type":"application/octet-stream","type":"bytes","bytes":3}` + "\n"},
		"the most wanted first": {"audio/wav", wav(t), "application/json;q=0.1, image/png, audio/wav;q=0.5", "audio/wav", wav(t)},
	} {
		t.Run(name, func(t *testing.T) {
			headers := []string{"Content-Type", c.contentType}
			if c.accept != "" {
				headers = append(headers, "Accept", c.accept)
			}
			answer := s.do(t, http.MethodPost, "/v1/pipelines/p", strings.NewReader(c.body), headers...)
			body := read(t, answer)
			assert.Equal(t, http.StatusOK, answer.StatusCode, body)
			assert.Equal(t, c.wantType, answer.Header.Get("Content-Type"))
			assert.Equal(t, c.want, body)
		})
	}
}

// form returns a multipart body: the parts are their headers, joined by line feeds, and content.
func form(t testing.TB, parts ...[2]string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		header := textproto.MIMEHeader{}
		for line := range strings.SplitSeq(p[0], "\n") {
			name, value, _ := strings.Cut(line, ": ")
			header.Set(name, value)
		}
		part, err := w.CreatePart(header)
		require.NoError(t, err)
		_, err = io.WriteString(part, p[1])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.String()
}

func TestEachPartOfAMultipartBodyIsAPort(t *testing.T) {
	t.Parallel()
	s := start(t, `
nodes: [{id: a, node_type: echo}, {id: b, node_type: echo}, {id: kind, node_type: join}]
connections: [{from: a, to: kind.left}, {from: b, to: kind.right}]
`)
	contentType, body := form(t,
		[2]string{`Content-Disposition: form-data; name="right"` + "\n" + `Content-Type: application/json`, `{"b":1,"a":2}`},
		[2]string{`Content-Disposition: form-data; name="left"`, `not JSON`})
	answer := s.do(t, http.MethodPost, "/v1/pipelines/p/nodes/kind", strings.NewReader(body), "Content-Type", contentType)
	assert.Equal(t, `["not JSON",{"b":1,"a":2}]`+"\n", read(t, answer))

	contentType, body = form(t,
		[2]string{`Content-Disposition: form-data; name="sound"; filename="a.bin"` + "\n" + `Content-Type: application/octet-stream`, wav(t)},
		[2]string{`Content-Disposition: form-data; name="raw"; filename="b.bin"` + "\n" + `Content-Type: application/octet-stream`, "{}"},
		[2]string{`Content-Disposition: form-data; name="number"`, "7"})
	status, text := s.post(t, body, "Content-Type", contentType)
	assert.Equal(t, http.StatusOK, status)
	var both [2]map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &both), text)
	assert.Equal(t, "audio", both[0]["sound"].(map[string]any)["type"])
	assert.Equal(t, "e30=", both[0]["raw"].(map[string]any)["$base64"])
	assert.Equal(t, float64(7), both[0]["number"])
}

func TestOneNodeIsCalledAlone(t *testing.T) {
	t.Parallel()
	s := start(t, "nodes: [{id: add, node_type: add}, {id: text, node_type: text_of}]\nconnections: [{from: add, to: text}]")
	status, text := s.post(t, "1")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "\"2\"\n", text)
	answer := s.do(t, http.MethodPost, "/v1/pipelines/p/nodes/text", strings.NewReader("[1]"))
	assert.Equal(t, "\"[1]\"\n", read(t, answer))
}

func TestAPipelineDescribesItself(t *testing.T) {
	t.Parallel()
	s := start(t, "nodes: [{id: add, node_type: add}, {id: text, node_type: text_of}]\nconnections: [{from: add, to: text}]")
	_, text := s.get(t, "/v1/pipelines")
	assert.JSONEq(t, `{"pipelines": [{"name": "p", "description": "a test", "url": "/v1/pipelines/p"}]}`, text)
	status, text := s.get(t, "/v1/pipelines/p")
	require.Equal(t, http.StatusOK, status, text)
	var d struct {
		Name  string
		Sinks []string
		Nodes []struct {
			ID, Doc, File string
			Inputs        []struct {
				Name   string
				Schema map[string]any
			}
		}
		Connections []map[string]string
	}
	require.NoError(t, json.Unmarshal([]byte(text), &d))
	assert.Equal(t, "p", d.Name)
	assert.Equal(t, []string{"text"}, d.Sinks)
	assert.Equal(t, "Add one.", d.Nodes[0].Doc)
	assert.Equal(t, "integer", d.Nodes[0].Inputs[0].Schema["type"])
	assert.Equal(t, []map[string]string{{"from": "add", "to": "text"}}, d.Connections)
	assert.Empty(t, d.Nodes[0].File, "paths of the host are hidden")
}

func TestARequestIDIsKeptOrMade(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	answer := s.do(t, http.MethodGet, "/livez", nil, "X-Request-Id", "abc-1")
	assert.Equal(t, "abc-1", answer.Header.Get("X-Request-Id"))
	answer = s.do(t, http.MethodGet, "/livez", nil, "X-Request-Id", strings.Repeat("x", 200))
	assert.Len(t, answer.Header.Get("X-Request-Id"), 26)
	answer = s.do(t, http.MethodPost, "/v1/pipelines/p", strings.NewReader("{"), "X-Request-Id", "abc-2")
	assert.Equal(t, "abc-2", problemIn(t, read(t, answer)).RequestID)
}

func TestTheSameIDTwiceIsAnsweredTwice(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, single("wait", "params: {folder: '"+folder+"'}", "workers: 2"))
	answers := make(chan string, 2)
	for range 2 {
		go func() {
			_, text := s.post(t, "1", "X-Request-Id", "same")
			answers <- text
		}()
	}
	require.Eventually(t, func() bool {
		p := s.runner.Health().Nodes[0].Pool
		return p.Busy == 2
	}, patience, time.Millisecond)
	write(t, folder, "go")
	assert.Equal(t, "1\n", <-answers)
	assert.Equal(t, "1\n", <-answers)
}

func TestAFrameThatIsTooLargeCostsNothingButItself(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithMaxBody(1000))
	large := `"` + strings.Repeat("x", 2000) + `"`
	for range 3 {
		status, text := s.post(t, large)
		assert.Equal(t, http.StatusRequestEntityTooLarge, status, text)
		status, text = s.post(t, large, "Transfer-Encoding", "chunked")
		assert.Equal(t, http.StatusRequestEntityTooLarge, status, text)
		status, text = s.post(t, "1\n"+large+"\n3\n", "Content-Type", "application/x-ndjson")
		assert.Equal(t, http.StatusOK, status)
		assert.True(t, strings.HasPrefix(text, `{"result":1}`+"\n"+`{"error":{"type":"urn:gophersnake:problem:too-large"`), text)
		status, text = s.post(t, `"small"`)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, "\"small\"\n", text)
	}
	assert.Equal(t, "idle 1", fmt.Sprintf("idle %d", s.runner.Health().Nodes[0].Pool.Idle))
}

func TestAClientThatSendsNothingMoreIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithStallTimeout(50*time.Millisecond))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "POST /v1/pipelines/p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n\"abc")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "HTTP/1.1 408 ")
	assert.Contains(t, string(answer), "urn:gophersnake:problem:stalled")
}
