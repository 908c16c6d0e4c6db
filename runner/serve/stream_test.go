package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/serve"
)

const (
	lines  = "application/x-ndjson"
	events = "text/event-stream"
)

func TestAGeneratorIsAStreamOfEventsOrLines(t *testing.T) {
	t.Parallel()
	s := start(t, single("count"))
	answer := s.do(t, http.MethodPost, "/v1/pipelines/p", strings.NewReader("2"), "Accept", events)
	assert.Equal(t, events, answer.Header.Get("Content-Type"))
	assert.Equal(t, "event: result\nid: 1\ndata: {\"result\":0}\n\nevent: result\nid: 2\ndata: {\"result\":1}\n\n"+
		"event: end\ndata: {\"results\":2}\n\n", read(t, answer))
	status, text := s.post(t, "2", "Accept", lines)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "{\"result\":0}\n{\"result\":1}\n", text)
	status, text = s.post(t, "2")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "[0,1]\n", text)
}

func TestAnErrorBeforeTheFirstValueHasAStatusAndALaterOneIsInTheStream(t *testing.T) {
	t.Parallel()
	s := start(t, single("count"))
	for _, accept := range []string{lines, events} {
		status, text := s.post(t, `"two"`, "Accept", accept)
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Equal(t, "urn:gophersnake:problem:invalid-value", problemIn(t, text).Type)
	}
	status, text := s.post(t, "-1", "Accept", lines)
	assert.Equal(t, http.StatusOK, status)
	assert.True(t, strings.HasPrefix(text, "{\"result\":0}\n{\"error\":{\"type\":\"urn:gophersnake:problem:rejected\""), text)
	_, text = s.post(t, "-1", "Accept", events)
	assert.Contains(t, text, "event: error\nid: 1\ndata: {\"error\":{")
}

// Only the node's own values come, without the name of a sink, also if the pipeline has several.
func TestANodeStreamsAloneInEachForm(t *testing.T) {
	t.Parallel()
	s := start(t, "nodes: [{id: n, node_type: count}, {id: t, node_type: Total}, {id: b, node_type: add}]\nconnections: [{from: n, to: t}]")
	path := "/v1/pipelines/p/nodes/n"
	answer := s.do(t, http.MethodPost, path, strings.NewReader("2"), "Accept", events)
	assert.Equal(t, "event: result\nid: 1\ndata: {\"result\":0}\n\nevent: result\nid: 2\ndata: {\"result\":1}\n\nevent: end\ndata: {\"results\":2}\n\n", read(t, answer))
	answer = s.do(t, http.MethodPost, path, strings.NewReader("1\n2\n"), "Content-Type", lines)
	assert.Equal(t, "{\"result\":0}\n{\"result\":0}\n{\"result\":1}\n", read(t, answer))
	k := s.dialPath(t, "/v1/pipelines/p/nodes/t/stream")
	k.send("1", "2")
	k.send(`{"$end": true}`)
	assert.Equal(t, `{"result":3}`, k.receive())
	code, _ := k.closed()
	assert.Equal(t, websocket.StatusNormalClosure, code)
	answer = s.do(t, http.MethodPost, path, strings.NewReader(`"x"`), "Accept", events)
	assert.Equal(t, http.StatusUnprocessableEntity, answer.StatusCode)
	assert.Equal(t, "n", problemIn(t, read(t, answer)).Node)
}

func TestTheItemsOfAStreamNameTheirSinks(t *testing.T) {
	t.Parallel()
	s := start(t, "nodes: [{id: a, node_type: echo}, {id: b, node_type: add}]")
	_, text := s.post(t, "1", "Accept", lines)
	assert.ElementsMatch(t, []string{`{"node":"a","result":1}`, `{"node":"b","result":2}`}, strings.Split(strings.TrimSpace(text), "\n"))
}

// dialog is a stream whose input is written while its output is read.
type dialog struct {
	in  *io.PipeWriter
	out *bufio.Reader
}

func (s *service) dialog(ctx context.Context, t *testing.T, client *http.Client) *dialog {
	t.Helper()
	body, in := io.Pipe()
	answer := s.with(ctx, t, client, http.MethodPost, "/v1/pipelines/p", body, "Content-Type", lines)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	return &dialog{in, bufio.NewReader(answer.Body)}
}

func (d *dialog) send(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(d.in, line+"\n")
	require.NoError(t, err)
}

func (d *dialog) receive(t *testing.T) string {
	t.Helper()
	line, err := d.out.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

func TestInputsAndResultsAlternateInOneRequest(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	for name, client := range versions {
		t.Run(name, func(t *testing.T) {
			d := s.dialog(t.Context(), t, client)
			for i := range 20 {
				d.send(t, fmt.Sprintf(`{"b":%d,"a":0}`, i))
				assert.Equal(t, fmt.Sprintf(`{"result":{"b":%d,"a":0}}`, i), d.receive(t))
			}
			d.send(t, "\n")
			require.NoError(t, d.in.Close())
			rest, err := io.ReadAll(d.out)
			require.NoError(t, err)
			assert.Empty(t, rest, "the answer ends with the input")
		})
	}
}

func TestRequestsAfterAStreamOfInputsAreServed(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	keeping := map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": versions["HTTP/2"]}
	for name, client := range keeping {
		for range 5 {
			d := s.dialog(t.Context(), t, client)
			d.send(t, "1")
			assert.Equal(t, `{"result":1}`, d.receive(t), name)
			require.NoError(t, d.in.Close())
			rest, err := io.ReadAll(d.out)
			require.NoError(t, err)
			assert.Empty(t, rest)
			answer := s.with(t.Context(), t, client, http.MethodPost, "/v1/pipelines/p", strings.NewReader("2"))
			assert.Equal(t, "2\n", read(t, answer), name)
		}
	}
}

func TestABodyThatIsRefusedDoesNotDisturbTheOthersOfItsConnection(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithMaxBody(1000))
	client := newClient(2)
	var connections atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused {
			connections.Add(1)
		}
	}})
	other := s.dialog(ctx, t, client)
	for range 3 {
		large := io.MultiReader(strings.NewReader(strings.Repeat(" ", 2000))) // of unknown length
		answer := s.with(ctx, t, client, http.MethodPost, "/v1/pipelines/p", large)
		assert.Equal(t, http.StatusRequestEntityTooLarge, answer.StatusCode)
	}
	other.send(t, "1")
	assert.Equal(t, `{"result":1}`, other.receive(t))
	require.NoError(t, other.in.Close())
	assert.Equal(t, int32(1), connections.Load())
}

func TestALineThatIsNotJSONEndsTheStreamAfterTheItemsBefore(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	_, text := s.post(t, "1\n2\n{\n4\n", "Content-Type", lines)
	records := strings.Split(text, "\n")
	assert.Equal(t, []string{`{"result":1}`, `{"result":2}`}, records[:2])
	assert.Contains(t, records[2], `"detail":"item 3: invalid JSON`)
	assert.Len(t, records, 4)
}

func TestAClientIsServedAfterAStreamOfInputs(t *testing.T) {
	t.Parallel()
	s := start(t, single("add"))
	client := &http.Client{} // which uses its connections again
	for _, body := range []string{"1\n", "", "\"one\"\n2\n", "{\n", "1\n2\n"} {
		for range 20 {
			answer := s.with(t.Context(), t, client, http.MethodPost, "/v1/pipelines/p", strings.NewReader(body), "Content-Type", lines)
			assert.Equal(t, lines, answer.Header.Get("Content-Type"))
			_ = read(t, answer)
			answer = s.with(t.Context(), t, client, http.MethodPost, "/v1/pipelines/p", strings.NewReader("1"))
			assert.Equal(t, "2\n", read(t, answer))
		}
	}
}

// requests are all forms of requests that a client may leave.
var requests = map[string]struct{ node, contentType, accept string }{
	"a call":                     {"wait", "application/json", "application/json"},
	"a call with a key":          {"wait", "application/json", "application/json"},
	"a stream of events":         {"ticks", "application/json", events},
	"a stream of lines":          {"ticks", "application/json", lines},
	"a stream without a value":   {"wait", "application/json", lines},
	"a stream of inputs":         {"wait", lines, lines},
	"a stream of inputs, events": {"ticks", lines, events},
}

func TestAClientThatLeavesCancelsItsRun(t *testing.T) {
	t.Parallel()
	for version, client := range versions {
		for name, c := range requests {
			t.Run(version+", "+name, func(t *testing.T) {
				t.Parallel()
				folder := t.TempDir()
				s := start(t, single(c.node, "params: {folder: '"+folder+"'}"))
				ctx, leave := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/pipelines/p", strings.NewReader("1"))
				require.NoError(t, err)
				req.Header.Set("Content-Type", c.contentType)
				req.Header.Set("Accept", c.accept)
				if strings.Contains(name, "key") {
					req.Header.Set("Idempotency-Key", "k")
				}
				left := make(chan struct{})
				go func() {
					defer close(left)
					if answer, err := client.Do(req); err == nil {
						_, _ = io.Copy(io.Discard, answer.Body)
						_ = answer.Body.Close()
					}
				}()
				appears(t, folder, "began")
				leave()
				<-left
				appears(t, folder, "canceled")
				appears(t, folder, "ended")
				require.NoError(t, s.stop(), "and the server can stop")
			})
		}
	}
}

func TestAClientThatLeavesWhileItsInputWaitsCancelsItsRun(t *testing.T) {
	t.Parallel()
	for version, client := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			s := start(t, single("wait", "params: {folder: '"+folder+"'}"))
			ctx, leave := context.WithCancel(t.Context())
			body, in := io.Pipe()
			left := make(chan struct{})
			go func() {
				defer close(left)
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/pipelines/p", body)
				req.Header.Set("Content-Type", lines)
				if answer, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
				}
			}()
			var written atomic.Int64
			go func() { // more than the stream and the socket hold
				line := []byte(`"` + strings.Repeat("x", 1<<20) + "\"\n")
				for {
					if _, err := in.Write(line); err != nil {
						return
					}
					written.Add(1)
				}
			}()
			appears(t, folder, "began")
			// The stream takes 16 items, and the server holds two more before it stops to read.
			require.Eventually(t, func() bool { return written.Load() > 17 },
				patience, time.Millisecond)
			leave()
			<-left
			_ = in.Close()
			appears(t, folder, "canceled")
			require.NoError(t, s.stop())
		})
	}
}

func TestClientsThatLeftDoNotBlockTheShutdown(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, single("ticks", "params: {folder: '"+folder+"'}", "workers: 4"))
	ctx, leave := context.WithCancel(t.Context())
	for _, client := range versions {
		for _, accept := range []string{lines, events} {
			answer := s.with(ctx, t, client, http.MethodPost, "/v1/pipelines/p", strings.NewReader("1"), "Accept", accept)
			require.Equal(t, http.StatusOK, answer.StatusCode)
		}
	}
	leave()
	require.NoError(t, s.stop())
	assert.Zero(t, s.runner.Health().Nodes[0].Pool.Busy, "no worker is left with a run")
	assert.Zero(t, s.runner.Health().Nodes[0].Failed, "and the node has not failed")
}
