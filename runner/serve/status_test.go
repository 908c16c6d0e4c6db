package serve_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve"
)

// statusOf is what tests read of the status.
type statusOf struct {
	Ready, Draining bool
	May             struct{ Admin, Logs, Details, Session bool }
	Pipelines       []struct {
		Name, State, Reason string
		Connections         []struct{ From, To, Port string }
		Nodes               []nodeStatus
		LastLog             uint64 `json:"last_log"`
	}
}

type nodeStatus struct {
	Node, Type, Kind, State, Reason, Breaker string
	Calls                                    int
	Failed                                   map[string]int
	Workers                                  struct {
		Idle, Busy int
		Waiting    int `json:"waiting_calls"`
	}
	Pool *struct {
		Generation int
		Deaths     map[string]int
		Workers    []struct {
			PID      int
			Role     string
			Resident int64
		}
	}
	Death  *struct{ Text, Report string } `json:"last_death"`
	Error  *struct{ Text, Report string } `json:"last_error"`
	Recent *struct {
		Calls, Failed int
		P50, P99      float64
		History       struct{ Rate []float64 }
	}
	LastLog uint64 `json:"last_log"`
}

// watched serves a pipeline whose runner is started and has a monitor.
func watched(t testing.TB, text string, c serve.Config, opts ...serve.Option) *service {
	t.Helper()
	m := serve.NewMonitor()
	r := newRunner(t, text, m.Options("p", hclog.NewNullLogger())...)
	require.NoError(t, r.Start(t.Context()))
	return listen(t, r, c, append(opts, serve.WithMonitor(m))...)
}

// status returns the status.
func (s *service) status(t testing.TB, headers ...string) (doc statusOf) {
	t.Helper()
	status, text := s.get(t, "/v1/status", headers...)
	require.Equal(t, http.StatusOK, status, text)
	require.NoError(t, json.Unmarshal([]byte(text), &doc), text)
	return doc
}

// node returns the status of a node.
func (s *service) node(t testing.TB, number int, headers ...string) nodeStatus {
	t.Helper()
	return s.status(t, headers...).Pipelines[0].Nodes[number]
}

func TestTheStatusHasTheGraphAndHowEachNodeIs(t *testing.T) {
	t.Parallel()
	s := watched(t, `
nodes: [{id: a, node_type: echo, workers: 2}, {id: b, node_type: echo}, {id: c, node_type: join}]
connections: [{from: a, to: c.left}, {from: b, to: c.right}]
`, serve.Config{})
	for range 20 {
		status, text := s.post(t, "1")
		require.Equal(t, http.StatusOK, status, text)
	}
	var doc statusOf
	require.Eventually(t, func() bool {
		doc = s.status(t)
		return doc.Pipelines[0].State == "healthy" && doc.Pipelines[0].Nodes[0].Calls == 20 && doc.Pipelines[0].Nodes[2].Recent.Calls == 20
	}, patience, 1e6)
	p := doc.Pipelines[0]
	assert.True(t, doc.Ready)
	assert.Equal(t, "p", p.Name)
	assert.Equal(t, "healthy", p.State)
	assert.Equal(t, []struct{ From, To, Port string }{{"a", "c", "left"}, {"b", "c", "right"}}, p.Connections)
	a := p.Nodes[0]
	assert.Equal(t, []string{"a", "echo", "python", "healthy", "closed"}, []string{a.Node, a.Type, a.Kind, a.State, a.Breaker})
	assert.Equal(t, 2, a.Workers.Idle)
	require.Len(t, a.Pool.Workers, 2)
	assert.Positive(t, a.Pool.Workers[0].PID)
	assert.Equal(t, "serving", a.Pool.Workers[0].Role)
	assert.Positive(t, a.Recent.P50)
	assert.GreaterOrEqual(t, a.Recent.P99, a.Recent.P50)
	assert.Len(t, a.Recent.History.Rate, 29)
}

func TestAPipelineWithoutAMonitorHasAStatus(t *testing.T) {
	t.Parallel()
	n := start(t, single("echo")).node(t, 0)
	assert.Equal(t, "healthy", n.State)
	assert.Nil(t, n.Recent)
}

func TestTheStatusShowsADeathAndHidesTheHost(t *testing.T) {
	t.Parallel()
	text := single("misbehave", "retry: {max_attempts: 2, fixed: 1ms}", "breaker: none")
	for _, c := range []struct {
		name  string
		opts  []serve.Option
		knows bool
	}{{"anyone", nil, false}, {"debug", []serve.Option{serve.WithDebug()}, true}, {"admin", []serve.Option{serve.WithAdmin()}, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := watched(t, text, serve.Config{}, c.opts...)
			status, _ := s.post(t, `"raise"`)
			require.Equal(t, http.StatusInternalServerError, status)
			status, _ = s.post(t, `"die"`)
			require.Equal(t, http.StatusBadGateway, status)
			require.Eventually(t, func() bool { return s.node(t, 0).Death != nil }, patience, 1e6)
			folder, err := filepath.Abs("testdata")
			require.NoError(t, err)
			n := s.node(t, 0)
			assert.Positive(t, n.Pool.Deaths["signal"])
			assert.Contains(t, n.Death.Text, "killed by SIGKILL")
			_, all := s.get(t, "/v1/status")
			_, logs := s.get(t, "/v1/pipelines/p/nodes/n/logs")
			assert.Contains(t, logs, "killed by SIGKILL")
			if !c.knows {
				assert.NotContains(t, all, folder)
			}
			assert.Equal(t, c.knows, strings.Contains(logs, folder), logs)
			assert.Equal(t, c.knows, n.Death.Report != "", n.Death.Report)
		})
	}
}

func TestTheLogOfANodeIsKeptAndBounded(t *testing.T) {
	t.Parallel()
	m := serve.NewMonitor()
	var passed strings.Builder
	var mu sync.Mutex
	to := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return passed.Write(p)
	})})
	r := newRunner(t, single("chatty"), m.Options("p", to)...)
	require.NoError(t, r.Start(t.Context()))
	s := listen(t, r, serve.Config{}, serve.WithMonitor(m))
	type records struct {
		Records []struct {
			Number              uint64
			Level, Logger, Text string
			Worker              int
		}
	}
	read := func(after uint64) (doc records) {
		status, text := s.get(t, fmt.Sprintf("/v1/pipelines/p/nodes/n/logs?after=%d", after))
		require.Equal(t, http.StatusOK, status, text)
		require.NoError(t, json.Unmarshal([]byte(text), &doc))
		return doc
	}
	_, _ = s.post(t, "1")
	var last uint64
	require.Eventually(t, func() bool {
		all := read(0).Records
		last = all[len(all)-1].Number
		return strings.Contains(all[len(all)-1].Text, "said 0")
	}, patience, 1e6)
	one := read(last - 1).Records
	require.Len(t, one, 1)
	assert.Equal(t, "info", one[0].Level, "also if the program logs only errors")
	assert.Equal(t, "shop", one[0].Logger)
	assert.Positive(t, one[0].Worker)
	assert.Contains(t, one[0].Text, `\x1b[2Jsaid 0`, "control characters are escaped")
	assert.Empty(t, read(last).Records)

	_, _ = s.post(t, "1000")
	require.Eventually(t, func() bool {
		all := read(0).Records
		return strings.Contains(all[len(all)-1].Text, "said 999")
	}, patience, 1e6)
	assert.Len(t, read(0).Records, 200)
	_, _ = s.post(t, "-1") // a record of 1 MB
	require.Eventually(t, func() bool {
		all := read(0).Records
		return strings.Contains(all[len(all)-1].Text, "xxx…")
	}, patience, 1e6)
	_, text := s.get(t, "/v1/pipelines/p/nodes/n/logs")
	assert.Less(t, len(text), 256<<10)
	status, _ := s.get(t, "/v1/pipelines/p/nodes/n/logs?after=x")
	assert.Equal(t, http.StatusBadRequest, status)
	status, text = s.get(t, "/v1/pipelines/p/logs")
	assert.Equal(t, http.StatusOK, status, text)
	mu.Lock()
	defer mu.Unlock()
	assert.NotContains(t, passed.String(), "said", "the logger of the program keeps its level")
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// nextStatus returns the next status of a stream of events.
func nextStatus(t testing.TB, from *bufio.Reader) (doc statusOf) {
	t.Helper()
	for {
		line, err := from.ReadString('\n')
		require.NoError(t, err)
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			require.NoError(t, json.Unmarshal([]byte(data), &doc))
			return doc
		}
		if event, ok := strings.CutPrefix(line, "event: "); ok {
			assert.Equal(t, "status\n", event)
		}
	}
}

func TestTheStatusIsSentSoonAfterAChange(t *testing.T) {
	t.Parallel()
	s := watched(t, single("misbehave", "retry: none", "breaker: {failures: 1}"), serve.Config{})
	for name, client := range versions {
		answer := s.with(t.Context(), t, client, http.MethodGet, "/v1/status", nil, "Accept", events)
		assert.Equal(t, events, answer.Header.Get("Content-Type"), name)
		stream := bufio.NewReader(answer.Body)
		assert.Equal(t, "p", nextStatus(t, stream).Pipelines[0].Name)
		_ = answer.Body.Close()
	}
	answer := s.do(t, http.MethodGet, "/v1/status", nil, "Accept", events)
	stream := bufio.NewReader(answer.Body)
	assert.Equal(t, "closed", nextStatus(t, stream).Pipelines[0].Nodes[0].Breaker)
	_, _ = s.post(t, `"raise"`)
	for nextStatus(t, stream).Pipelines[0].Nodes[0].Breaker != "open" {
	}
	go func() { _ = s.stop() }()
	for !nextStatus(t, stream).Draining { // the last one
	}
	_, err := io.ReadAll(stream)
	require.NoError(t, err, "the stream has a proper end")
	<-s.done
}

func TestNoClientTakesTheStreamsOfTheStatusFromOthers(t *testing.T) {
	t.Parallel()
	one, other := strings.Repeat("1", 16), strings.Repeat("2", 16)
	s := listen(t, newRunner(t, echoes), serve.Config{Tokens: []serve.Token{{Secret: one}, {Secret: other}}})
	s.watch(t, 20, "Authorization", "Bearer "+one)
	refused := s.do(t, http.MethodGet, "/v1/status", nil, "Authorization", "Bearer "+one, "Accept", lines)
	assert.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
	assert.Equal(t, "the client has 20 streams of it", problemIn(t, read(t, refused)).Detail)
	s.watch(t, 20, "Authorization", "Bearer "+other)
}

func TestAWatcherThatDoesNotReadIsDisconnected(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 7<<20) // so that a status is larger than what the system buffers
	echo := func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }
	s := listen(t, newRunner(t, single(long), runner.WithNode(long, echo)), serve.Config{DrainTimeout: time.Minute}, serve.WithStallTimeout(200*time.Millisecond))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
	require.NoError(t, err)
	answer := s.do(t, http.MethodGet, "/v1/status", nil, "Accept", events)
	stream := bufio.NewReaderSize(answer.Body, 16<<20)
	for range 2 {
		nextStatus(t, stream)
	}
	status, text := s.post(t, "1")
	assert.Equal(t, http.StatusOK, status, text)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	sent, err := io.ReadAll(conn)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Less(t, len(sent), 7<<20, "it was given no second status, nor all of the first one")
	require.NoError(t, s.stop())
}

func TestReloadAndRestartNeedTheRight(t *testing.T) {
	t.Parallel()
	admin := []string{"Authorization", "Bearer fedcba9876543210"}
	tokens := serve.WithTokens(serve.Token{Secret: firstSecret}, serve.Token{Secret: "fedcba9876543210", Admin: true})
	text := single("misbehave", "retry: none", "breaker: {failures: 1}")
	for _, c := range []struct {
		name    string
		opts    []serve.Option
		headers []string
		may     bool
	}{
		{"no token", nil, nil, false},
		{"WithAdmin", []serve.Option{serve.WithAdmin()}, nil, true},
		{"a token", []serve.Option{tokens}, []string{"Authorization", "Bearer " + firstSecret}, false},
		{"an admin's token", []serve.Option{tokens}, admin, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := watched(t, text, serve.Config{}, c.opts...)
			post := func(path string, headers ...string) (int, string) {
				answer := s.do(t, http.MethodPost, path, nil, append(headers, c.headers...)...)
				return answer.StatusCode, read(t, answer)
			}
			_, _ = s.post(t, `"raise"`, c.headers...)
			assert.Equal(t, "open", s.node(t, 0, c.headers...).Breaker)
			before := s.runner.Health().Nodes[0].Pool.Workers[0].PID
			want := http.StatusForbidden
			if c.may {
				want = http.StatusOK
			}
			for _, path := range []string{"/v1/pipelines/p/nodes/n/restart", "/v1/pipelines/p/reload"} {
				status, text := post(path)
				assert.Equal(t, want, status, text)
				status, _ = post(path, "Origin", "https://evil.example")
				assert.Equal(t, http.StatusForbidden, status)
				status, _ = s.get(t, path, c.headers...)
				assert.Equal(t, http.StatusMethodNotAllowed, status)
			}
			assert.Equal(t, c.may, s.status(t, c.headers...).May.Admin)
			n := s.node(t, 0, c.headers...)
			if !c.may {
				assert.Equal(t, "open", n.Breaker)
				assert.Equal(t, before, n.Pool.Workers[0].PID)
				return
			}
			assert.Equal(t, "closed", n.Breaker)
			assert.Equal(t, 3, n.Pool.Generation)
			status, text := s.post(t, `"fine"`, c.headers...)
			assert.Equal(t, http.StatusOK, status, text)
			status, _ = post("/v1/pipelines/p/nodes/m/restart")
			assert.Equal(t, http.StatusNotFound, status)
		})
	}
	r := newRunner(t, text)
	for name, c := range map[string]struct {
		config serve.Config
		opts   []serve.Option
	}{
		"other machines": {serve.Config{Address: "0.0.0.0:0", Insecure: true}, nil},
		"tokens":         {serve.Config{Address: "127.0.0.1:0", Tokens: []serve.Token{{Secret: firstSecret}}}, nil},
		"a proxy":        {serve.Config{Address: "127.0.0.1:0"}, []serve.Option{serve.WithHosts("proxy.example")}},
	} {
		_, err := serve.Listen(map[string]*runner.Runner{"p": r}, c.config, append(c.opts, serve.WithAdmin())...)
		require.ErrorContains(t, err, "only on a loopback address", name)
	}
}

func TestOnlyAnAdminReadsTheLogIfTokensAreRequired(t *testing.T) {
	t.Parallel()
	s := watched(t, single("echo"), serve.Config{}, serve.WithTokens(serve.Token{Secret: firstSecret}, serve.Token{Secret: secondSecret, Admin: true}))
	for secret, want := range map[string]int{firstSecret: http.StatusForbidden, secondSecret: http.StatusOK, "": http.StatusUnauthorized} {
		status, text := s.get(t, "/v1/pipelines/p/nodes/n/logs", "Authorization", "Bearer "+secret)
		assert.Equal(t, want, status, text)
		if want != http.StatusOK {
			assert.NotContains(t, text, "is ready")
		}
	}
}

func TestAMonitoredCallAllocatesLittle(t *testing.T) {
	m := serve.NewMonitor()
	double := func(context.Context, runner.Input) (any, error) { return int64(2), nil }
	allocations := func(opts ...runner.Option) float64 {
		r := newRunner(t, single("double"), append(opts, runner.WithNode("double", double))...)
		require.NoError(t, r.Start(t.Context()))
		least := math.Inf(1) // pools of memory lose some at random
		for range 200 {
			least = min(least, testing.AllocsPerRun(1, func() {
				if _, err := r.Run(context.Background(), 1); err != nil {
					t.Error(err)
				}
			}))
		}
		return least
	}
	// The events themselves are two allocations.
	assert.LessOrEqual(t, allocations(m.Options("p", hclog.NewNullLogger())...), allocations()+2)
}
