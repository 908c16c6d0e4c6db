package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serveName is the name of the section that compares servers of Python over HTTP.
const serveName = "serve"

// httpPeer is a server that returns the JSON that it gets, from Python.
type httpPeer struct {
	name, about  string
	requirements string // of its environment; empty for none
	path         string // of its URL
	body, answer string
	// command returns the command of the server at a port. The program dir has the Python files.
	command func(python, programs, port string) []string
	// isolates says that the node is in another process than the server.
	isolates bool
}

// sentBack is the value that all servers return.
const sentBack = `{"id":17,"score":0.5,"done":false,"text":"a short text"}`

// script returns the command of a Python file that takes the port.
func script(name string, arguments ...string) func(python, programs, port string) []string {
	return func(python, programs, port string) []string {
		return append([]string{python, filepath.Join(programs, name)}, append(arguments, port)...)
	}
}

// httpPeers are all servers, in the order of their turns.
var httpPeers = []httpPeer{
	{name: "floor", about: "`net/http`, a handler that copies the body", path: "/", body: sentBack, answer: sentBack, command: func(_, _, port string) []string {
		self, _ := os.Executable()
		return []string{self, floorCommand, port}
	}},
	{name: gophersnakeName, about: "gophersnake serve, one worker", path: "/v1/pipelines/echo", body: sentBack, answer: sentBack + "\n", isolates: true,
		command: func(python, programs, port string) []string {
			return []string{filepath.Join(programs, "gophersnake"), "serve", "--python", python, "echo=" + filepath.Join(programs, "echo.yaml"), "clock=" + filepath.Join(programs, "clock.yaml"), "--listen", "127.0.0.1:" + port}
		}},
	{name: "litserve", about: "LitServe, one worker", requirements: "litserve", path: "/predict", body: sentBack, answer: sentBack, isolates: true, command: script("servers/serve_litserve.py")},
	{name: "mosec", about: "mosec, one worker", requirements: "mosec", path: "/inference", body: sentBack, answer: sentBack, isolates: true,
		command: script("servers/serve_mosec.py", "--address", "127.0.0.1", "--log-level", "error", "--port")},
	{name: "fastapi", about: "FastAPI and ProcessPoolExecutor, one worker", requirements: "fastapi", path: "/echo", body: sentBack, answer: sentBack, isolates: true, command: script("servers/serve_fastapi.py")},
	{name: "bentoml", about: "BentoML, one worker", requirements: "bentoml", path: "/echo", body: `{"value":` + sentBack + `}`, answer: sentBack,
		command: func(python, programs, port string) []string {
			return []string{filepath.Join(filepath.Dir(python), "bentoml"), "serve", "serve_bentoml:Echo", "--working-dir", filepath.Join(programs, "servers"), "--host", "127.0.0.1", "--port", port}
		}},
	{name: "ray", about: "Ray Serve, one replica", requirements: "rayserve", path: "/", body: sentBack, answer: sentBack, isolates: true, command: script("servers/serve_ray.py")},
}

// floorCommand is the subcommand that serves the floor.
const floorCommand = "floor"

// floor answers each request with its body.
func floor(port string) error {
	server := &http.Server{Addr: "127.0.0.1:" + port, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			_, _ = w.Write(body)
		}
	})}
	return server.ListenAndServe()
}

// runningServer is a server that is set up.
type runningServer struct {
	httpPeer
	*process
	url    string
	client *http.Client
	series map[int]series // by the number of connections
	failed bool           // while it was measured; it is left out since then
}

// isNeeded reports whether the section is of no use without the server.
func (p *httpPeer) isNeeded() bool { return p.name == gophersnakeName || p.name == floorCommand }

// connections are the numbers of connections that are measured.
var connections = []int{1, 16}

// serverStart is how long a server may take to answer its first request.
const serverStart = 2 * time.Minute

// measureServe compares servers of Python over HTTP, with one client for all.
func measureServe(ctx context.Context, b *bench) error {
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.host.programs, "gophersnake"),
		"github.com/gophersnake/gophersnake/cmd/gophersnake").CombinedOutput(); err != nil {
		return fmt.Errorf("building gophersnake: %w\n%s", err, text)
	}
	var servers []*runningServer
	defer func() {
		for _, s := range servers {
			s.kill()
		}
	}()
	for _, p := range b.httpPeers {
		b.logf("setting up %s", p.name)
		s, err := b.startServer(ctx, p)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && p.isNeeded():
			return fmt.Errorf("%s: %w", p.name, err)
		case err != nil:
			b.skip(serveName, p.name, err)
			continue
		}
		servers = append(servers, s)
	}
	for _, count := range connections {
		if err := b.measureServers(ctx, servers, count); err != nil {
			return err
		}
	}
	b.report.addServers(servers)
	return b.measureEvents(ctx, servers)
}

// startServer starts a server and waits for its first right answer.
func (b *bench) startServer(ctx context.Context, p httpPeer) (*runningServer, error) {
	python := b.host.python.Path
	if p.requirements != "" {
		env, err := b.host.environment(ctx, p.requirements)
		if err != nil {
			return nil, err
		}
		python = env.Python
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	command := p.command(python, b.host.programs, port)
	process, err := startProcess(ctx, func(c *exec.Cmd) error {
		c.Env, c.Dir = b.host.variables(python), b.host.programs
		return nil
	}, command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: slices.Max(connections), DisableCompression: true}
	s := &runningServer{httpPeer: p, process: process, url: "http://127.0.0.1:" + port, client: &http.Client{Transport: transport, Timeout: time.Minute}, series: make(map[int]series)}
	for until := time.Now().Add(serverStart); ; time.Sleep(100 * time.Millisecond) {
		err = s.ask(ctx)
		select {
		case <-s.ended:
			return nil, fmt.Errorf("it ended: %w\n%s", s.err, s.stderr.String())
		default:
		}
		if err == nil {
			return s, nil
		}
		if time.Now().After(until) || ctx.Err() != nil {
			s.kill()
			return nil, fmt.Errorf("%w\n%s", err, s.stderr.String())
		}
	}
}

func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), nil
}

// ask makes one request, and compares the answer.
func (s *runningServer) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+s.path, strings.NewReader(s.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err == nil && (answer.StatusCode != http.StatusOK || string(body) != s.answer && !sameJSON(body)) {
		err = fmt.Errorf("status %d: %.300s", answer.StatusCode, body)
	}
	return err
}

// sameJSON reports whether a text is the value that was sent, with other spaces.
func sameJSON(text []byte) bool {
	var compact bytes.Buffer
	return json.Compact(&compact, text) == nil && compact.String() == sentBack
}

// measureServers measures the servers in turns, with a number of connections.
func (b *bench) measureServers(ctx context.Context, servers []*runningServer, count int) error {
	b.logf("measuring %d connections: %d rounds of %d requests", count, b.rounds, b.calls)
	var tasks []task
	for _, s := range servers {
		tasks = append(tasks, func() ([]time.Duration, error) {
			if s.failed {
				return nil, nil
			}
			took, err := s.round(ctx, count, b.calls)
			if err == nil || ctx.Err() != nil || s.isNeeded() {
				return took, err
			}
			b.skip(serveName, fmt.Sprintf("%s with %d connections", s.name, count), err)
			s.failed = true
			return nil, nil
		})
	}
	all, err := takeTurns(b.rounds, tasks...)
	for i, s := range servers {
		if err == nil && !s.failed {
			s.series[count] = all[i]
		}
	}
	return err
}

// round makes the requests of a round. Some before them are not timed.
func (s *runningServer) round(ctx context.Context, count, requests int) ([]time.Duration, error) {
	_, err := s.requests(ctx, count, max(requests/5, count))
	var took []time.Duration
	if err == nil {
		took, err = s.requests(ctx, count, requests)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	return took, err
}

// requests makes a number of requests over a number of connections, and returns how long each
// took.
func (s *runningServer) requests(ctx context.Context, count, requests int) ([]time.Duration, error) {
	took := make([]time.Duration, requests)
	failed := make([]error, count)
	var all sync.WaitGroup
	for c := range count {
		all.Go(func() {
			for i := c; i < requests && failed[c] == nil; i += count {
				started := time.Now()
				failed[c] = s.ask(ctx)
				took[i] = time.Since(started)
			}
		})
	}
	all.Wait()
	return took, errors.Join(failed...)
}

// addServers adds the tables of the section serve.
func (r *report) addServers(servers []*runningServer) {
	var own *runningServer
	for _, s := range servers {
		if s.name == gophersnakeName {
			own = s
		}
	}
	rows := [][]string{{"server", "node in a process of its own"}}
	for _, count := range connections {
		head := fmt.Sprintf("%d connection%s", count, map[bool]string{true: "s"}[count > 1])
		rows[0] = append(rows[0], head+": p50 µs", "p99 µs", "÷ gophersnake")
	}
	for _, s := range servers {
		row := []string{s.about, map[bool]string{true: "yes", false: "no"}[s.isolates]}
		for _, count := range connections {
			all := s.series[count]
			if all == nil {
				row = append(row, "–", "–", "–")
				continue
			}
			row = append(row, number(microseconds(all.percentile(0.5))), number(microseconds(all.percentile(0.99))), times(all.ratio(own.series[count])))
		}
		rows = append(rows, row)
	}
	r.Tables = append(r.Tables, table{Section: serveName, Title: "Servers: a small echo over HTTP, connections kept", Rows: rows})
}

// eventCount is the number of events of a stream, of which a node yields one each 5 ms.
const eventCount = 400

// measureEvents measures the time from the yield of a node to the arrival of the event at a
// client. The node sends its clock, which is that of the client.
func (b *bench) measureEvents(ctx context.Context, servers []*runningServer) error {
	for _, s := range servers {
		if s.name != gophersnakeName {
			continue
		}
		took, err := s.events(ctx)
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		rows := [][]string{{"events", "p50 µs", "p90 µs", "p99 µs", "longest µs", "within 5 ms"}, {
			strconv.Itoa(len(took)), number(microseconds(percentile(took, 0.5))), number(microseconds(percentile(took, 0.9))),
			number(microseconds(percentile(took, 0.99))), number(microseconds(percentile(took, 1))), within(took, 5*time.Millisecond),
		}}
		b.report.Tables = append(b.report.Tables, table{Section: serveName, Title: "Server-sent events: from the yield to the client", Rows: rows})
	}
	return nil
}

// within returns the part of the durations that are not longer than a limit.
func within(took []time.Duration, limit time.Duration) string {
	n := 0
	for _, one := range took {
		if one <= limit {
			n++
		}
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(len(took)))
}

// events reads a stream, and returns how long each event took.
func (s *runningServer) events(ctx context.Context) (took []time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/pipelines/clock", strings.NewReader(strconv.Itoa(eventCount)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), `data: {"result":`)
		if !ok {
			continue
		}
		sent, err := strconv.ParseInt(strings.TrimSuffix(text, "}"), 10, 64)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(time.Unix(0, sent)))
	}
	if lines.Err() == nil && len(took) != eventCount {
		err = fmt.Errorf("%d events came", len(took))
	}
	return took, err
}
