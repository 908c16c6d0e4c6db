package serve_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/serve"
)

// talk is a client of a WebSocket.
type talk struct {
	t    *testing.T
	ctx  context.Context
	conn *websocket.Conn
}

// dial opens a WebSocket of the pipeline. The query begins with a question mark, or is empty.
func (s *service) dial(t *testing.T, query string, headers ...string) *talk {
	t.Helper()
	return s.dialPath(t, "/v1/pipelines/p/stream"+query, headers...)
}

// dialPath opens the WebSocket of a path.
func (s *service) dialPath(t *testing.T, path string, headers ...string) *talk {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Add(headers[i], headers[i+1])
	}
	protocols := header.Values("Sec-WebSocket-Protocol")
	header.Del("Sec-WebSocket-Protocol")
	conn, _, err := websocket.Dial(ctx, s.url+path, &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(-1)
	return &talk{t, ctx, conn}
}

func (k *talk) send(texts ...string) {
	k.t.Helper()
	for _, text := range texts {
		require.NoError(k.t, k.conn.Write(k.ctx, websocket.MessageText, []byte(text)))
	}
}

func (k *talk) sendBytes(data []byte) {
	k.t.Helper()
	require.NoError(k.t, k.conn.Write(k.ctx, websocket.MessageBinary, data))
}

func (k *talk) receive() string {
	k.t.Helper()
	kind, data, err := k.conn.Read(k.ctx)
	require.NoError(k.t, err)
	require.Equal(k.t, websocket.MessageText, kind)
	return string(data)
}

func (k *talk) receiveBytes() []byte {
	k.t.Helper()
	kind, data, err := k.conn.Read(k.ctx)
	require.NoError(k.t, err)
	require.Equal(k.t, websocket.MessageBinary, kind, string(data))
	return data
}

// closed reads the end of the WebSocket.
func (k *talk) closed() (websocket.StatusCode, string) {
	k.t.Helper()
	_, data, err := k.conn.Read(k.ctx)
	var end websocket.CloseError
	require.ErrorAs(k.t, err, &end, string(data))
	return end.Code, end.Reason
}

// end ends the input, and checks that the stream ends properly.
func (k *talk) end() {
	k.t.Helper()
	k.send(`{"$end": true}`)
	code, _ := k.closed()
	assert.Equal(k.t, websocket.StatusNormalClosure, code)
}

func TestAWebSocketIsAStreamOfInputsAndResults(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	k := s.dial(t, "")
	for i := range 20 {
		k.send(fmt.Sprintf(`{"b":%d,"a":[0.5]}`, i))
		assert.Equal(t, fmt.Sprintf(`{"result":{"b":%d,"a":[0.5]}}`, i), k.receive())
	}
	k.sendBytes([]byte("abc"))
	assert.Contains(t, k.receive(), `"$base64":"YWJj"`, "binary frames are bytes")
	k.end()
}

func TestTheLastResultsComeBeforeTheEndOfAWebSocket(t *testing.T) {
	t.Parallel()
	k := start(t, single("Total")).dial(t, "")
	k.send("1", "2", "39", `{"$end": true}`)
	assert.Equal(t, `{"result":42}`, k.receive())
	code, _ := k.closed()
	assert.Equal(t, websocket.StatusNormalClosure, code)
}

func TestBinaryFramesHaveADeclaredType(t *testing.T) {
	t.Parallel()
	s := start(t, single("kind"))
	floats := make([]byte, 0, 16)
	for range 4 {
		floats = binary.LittleEndian.AppendUint32(floats, math.Float32bits(0.5))
	}
	for query, c := range map[string]struct {
		data []byte
		want string
	}{
		"?input=audio/pcm&rate=16000":                        {make([]byte, 640), "Audio "},
		"?input=audio/pcm&rate=8000&channels=2&format=f32le": {floats, "Audio "},
		"?input=audio/wav":                                   {[]byte(wav(t)), "Audio "},
		"?input=image/png":                                   {[]byte(png(t)), "Image "},
		"?input=application/x-npy":                           {[]byte(npy(t)), "Tensor (2, 3)"},
		"?input=text/plain":                                  {[]byte("höhe"), "str "},
		"":                                                   {[]byte(wav(t)), "bytes "},
	} {
		k := s.dial(t, query)
		k.sendBytes(c.data)
		assert.Equal(t, `{"result":"`+c.want+`"}`, k.receive(), query)
		k.end()
	}
}

func TestSamplesGoInAndComeBackAsTheyAre(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	samples := []byte{0, 0, 255, 127, 0, 128, 1, 0}
	k := s.dial(t, "?input=audio/pcm&rate=16000&channels=2&output=audio/pcm")
	for i := range 3 {
		k.sendBytes(samples)
		if i == 0 {
			assert.JSONEq(t, `{"binary":{"content_type":"audio/pcm","rate":16000,"channels":2,"format":"s16le"}}`, k.receive())
		}
		assert.Equal(t, samples, k.receiveBytes())
	}
	k.send(`"words"`)
	assert.Equal(t, `{"result":"words"}`, k.receive(), "what is no recording is JSON")
	k.sendBytes(nil)
	assert.Empty(t, k.receiveBytes())
	k.end()

	k = s.dial(t, "?input=audio/wav&output=audio/wav")
	k.sendBytes([]byte(wav(t)))
	assert.JSONEq(t, `{"binary":{"content_type":"audio/wav"}}`, k.receive())
	assert.Equal(t, wav(t), string(k.receiveBytes()))
	k.end()
}

func TestBinaryFramesOfSeveralSinksAreAnnounced(t *testing.T) {
	t.Parallel()
	k := start(t, "nodes: [{id: a, node_type: tone}, {id: b, node_type: echo}]").dial(t, "?output=audio/pcm")
	k.send("0.001", `{"$end": true}`)
	var got []string
	for range 3 {
		_, data, err := k.conn.Read(k.ctx)
		require.NoError(t, err)
		got = append(got, string(data))
	}
	assert.ElementsMatch(t, []string{
		`{"node":"b","result":0.001}`,
		`{"node":"a","binary":{"content_type":"audio/pcm","rate":8000,"channels":1,"format":"s16le"}}`, string(make([]byte, 16)),
	}, got)
}

// refused is a handshake that fails.
func (s *service) refused(t *testing.T, path string, headers ...string) (*http.Response, problem) {
	t.Helper()
	if len(headers)%2 != 0 {
		headers = headers[1:]
	} else {
		headers = append([]string{
			"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==",
		}, headers...)
	}
	answer := s.do(t, http.MethodGet, path, nil, headers...)
	return answer, problemIn(t, read(t, answer))
}

func TestAWebSocketThatCannotBeOpenedHasAStatus(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithTokens(serve.Token{Secret: "0123456789abcdef"}))
	const path, token = "/v1/pipelines/p/stream", "Bearer 0123456789abcdef"
	for _, c := range []struct {
		path, want string
		status     int
		headers    []string
	}{
		{"/v1/pipelines/q/stream", "not-found", 404, nil},
		{path + "?input=video/mp4", "media-type", 415, nil},
		{path + "?output=video/mp4", "not-acceptable", 406, nil},
		{path + "?input=audio/pcm", "malformed", 400, nil},
		{path + "?input=audio/pcm&rate=fast", "malformed", 400, nil},
		{path + "?format=mp3", "malformed", 400, nil},
		{path + "?sound=1", "malformed", 400, nil},
		{path, "forbidden", 403, []string{"Origin", "https://evil.example"}},
		{path, "malformed", 400, []string{"Sec-WebSocket-Key", "short"}},
		{path, "malformed", 400, []string{"Idempotency-Key", "k"}},
		{path, "upgrade", 426, []string{"Upgrade", "h2c"}},
		{path, "upgrade", 426, []string{"Sec-WebSocket-Version", "8"}},
		{path, "unauthorized", 401, []string{"Authorization", "Bearer x"}},
	} {
		answer, p := s.refused(t, c.path, append([]string{"Authorization", token}, c.headers...)...)
		assert.Equal(t, c.status, answer.StatusCode, "%s %v: %v", c.path, c.headers, p)
		assert.Equal(t, "urn:gophersnake:problem:"+c.want, p.Type)
		if c.status == http.StatusUpgradeRequired {
			assert.Equal(t, "websocket", answer.Header.Get("Upgrade"))
		}
	}
	require.NoError(t, s.runner.Drain(t.Context()))
	answer, p := s.refused(t, path, "Authorization", token)
	assert.Equal(t, 503, answer.StatusCode)
	assert.Equal(t, "urn:gophersnake:problem:draining", p.Type)
}

func TestAPageOpensAWebSocketWithATokenInASubprotocol(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithTokens(serve.Token{Secret: "0123456789abcdef"}))
	k := s.dial(t, "", "Origin", s.url, "Sec-WebSocket-Protocol", "gophersnake",
		"Sec-WebSocket-Protocol", "gophersnake.bearer.0123456789abcdef")
	assert.Equal(t, "gophersnake", k.conn.Subprotocol(), "the token is not in the answer")
	k.send("1")
	assert.Equal(t, `{"result":1}`, k.receive())
	k.end()
	answer, _ := s.refused(t, "/v1/pipelines/p/stream", "Sec-WebSocket-Protocol", "gophersnake, gophersnake.bearer.0123456789abcdeg")
	assert.Equal(t, 401, answer.StatusCode)
}

func TestEveryEndOfAWebSocketHasACode(t *testing.T) {
	t.Parallel()
	type end struct {
		when, manifest, query string
		opts                  []serve.Option
		sends                 any // the text or the bytes of a frame
		code                  websocket.StatusCode
		reason                string
	}
	rows := []end{
		{"the input has ended, and all results were sent", echoes, "", nil, `{"$end": true}`, 1000, ""},
		{"the service drains; results of what it had taken were sent", echoes, "", nil, nil, 1001, "draining"},
		{"a text frame is not JSON", echoes, "", nil, "{", 1007, "malformed"},
		{"a binary frame is not of its declared type", echoes, "?input=image/png", nil, []byte("x"), 1007, "malformed"},
		{"the value is not of the type that the node is annotated with", single("add"), "", nil, `"one"`, 1008, "invalid-value"},
		{"the node raises `gophersnake.Permanent`", misbehave, "", nil, `"permanent"`, 1008, "rejected"},
		{"a message is larger than the limit", echoes, "", []serve.Option{serve.WithMaxBody(10)}, `"more than ten bytes"`, 1009, "too-large"},
		{"the node raises an exception", misbehave, "", nil, `"raise"`, 1011, "execution"},
		{"the interpreter dies", misbehave, "", nil, `"die"`, 1011, "interpreter"},
		{"the call takes longer than the node's `timeout`", misbehave, "", nil, `"hang"`, 1011, "deadline"},
		{"the circuit breaker of a node is open", single("misbehave", "retry: none", "breaker: {failures: 1}"), "", nil, `"raise"`, 1013, "breaker-open"},
	}
	table := make([]string, len(rows))
	t.Run("rows", func(t *testing.T) {
		for i, c := range rows {
			t.Run(c.when, func(t *testing.T) {
				t.Parallel()
				s := start(t, c.manifest, c.opts...)
				if c.reason == "breaker-open" {
					_, _ = s.ask(t, c.sends.(string))
				}
				k := s.dial(t, c.query)
				switch frame := c.sends.(type) {
				case string:
					k.send(frame)
				case []byte:
					k.sendBytes(frame)
				default:
					k.send("1")
					assert.Equal(t, `{"result":1}`, k.receive())
					go func() { _ = s.stop() }()
				}
				if c.reason != "" {
					var r struct{ Error problem }
					require.NoError(t, json.Unmarshal([]byte(k.receive()), &r))
					assert.Equal(t, "urn:gophersnake:problem:"+c.reason, r.Error.Type)
				}
				code, reason := k.closed()
				assert.Equal(t, c.code, code)
				assert.Equal(t, c.reason, reason)
				require.NoError(t, s.stop(), "and nothing is left")
				table[i] = fmt.Sprintf("| %d | %s | %s |\n", code, orDash(reason), c.when)
			})
		}
	})
	if !t.Failed() {
		compareTable(t, "serve-websocket.md", "| code | reason | when |\n| ---: | --- | --- |\n"+strings.Join(table, ""))
	}
}

func TestAClientThatLeavesAWebSocketCancelsItsRun(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		node  string
		sends func(k *talk) // besides the first item
		leave func(k *talk)
	}{
		"by a close frame":             {"wait", nil, func(k *talk) { _ = k.conn.Close(websocket.StatusNormalClosure, "") }},
		"by the end of its connection": {"wait", nil, func(k *talk) { _ = k.conn.CloseNow() }},
		"while results come":           {"ticks", nil, func(k *talk) { _ = k.conn.CloseNow() }},
		"by a close frame, while frames wait": {"wait", func(k *talk) {
			for range 200 { // more than the stream takes
				k.send("1")
			}
		}, func(k *talk) { _ = k.conn.Close(websocket.StatusNormalClosure, "") }},
		"while its input waits": {"wait", func(k *talk) { // more than the stream and the sockets hold
			ctx, cancel := context.WithTimeout(k.ctx, time.Second/2)
			defer cancel()
			for range 100 {
				if err := k.conn.Write(ctx, websocket.MessageText, []byte(`"`+large+`"`)); err != nil {
					return
				}
			}
			k.t.Error("the server reads without end")
		}, func(k *talk) { _ = k.conn.CloseNow() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			s := start(t, single(c.node, "params: {folder: '"+folder+"'}"))
			k := s.dial(t, "")
			k.send("1")
			appears(t, folder, "began")
			if c.sends != nil {
				c.sends(k)
			}
			c.leave(k)
			appears(t, folder, "canceled")
			require.NoError(t, s.stop(), "and the server can stop")
			assert.Zero(t, s.runner.Health().Nodes[0].Failed, "the node has not failed")
		})
	}
}

// silent opens a WebSocket and never reads from it.
func (s *service) silent(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET /v1/pipelines/p/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	require.NoError(t, err)
	status, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, status, " 101 ")
	_, err = conn.Write([]byte{0x81, 0x81, 0, 0, 0, 0, '1'}) // the text frame 1
	require.NoError(t, err)
	return conn
}

func TestAClientThatIsSilentOrDoesNotReadIsDisconnected(t *testing.T) {
	t.Parallel()
	for _, node := range []string{"wait", "flood"} {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			s := start(t, single(node, "params: {folder: '"+folder+"'}"), serve.WithStallTimeout(500*time.Millisecond))
			conn := s.silent(t)
			appears(t, folder, "began")
			appears(t, folder, "canceled")
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
			_, err := io.Copy(io.Discard, conn)
			assert.False(t, errors.Is(err, context.DeadlineExceeded), "the connection has ended")
			require.NoError(t, s.stop())
		})
	}
}

func TestAClientThatAnswersPingsMaySayNothing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, single("wait", "params: {folder: '"+folder+"'}"), serve.WithStallTimeout(300*time.Millisecond))
	k := s.dial(t, "")
	k.send("1")
	appears(t, folder, "began")
	time.AfterFunc(time.Second, func() { write(t, folder, "go") }) // three times the stall timeout
	assert.Equal(t, `{"result":1}`, k.receive())
	k.end()
}
