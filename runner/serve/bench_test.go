package serve_test

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// raceDetector says that the tests run with the race detector, which changes the number of
// allocations.
var raceDetector bool

// smallRequest is a request with a small body, as a client sends it.
var smallRequest = fmt.Appendf(nil, "POST /v1/pipelines/p HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nContent-Length: %d\r\n"+
	"Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n%s", len(smallBody), smallBody)

const smallBody = `{"id":17,"score":0.5,"done":false,"text":"short text"}`

// exchanger sends one request again and again over one connection, and allocates nothing for it.
type exchanger struct {
	conn net.Conn
	from *bufio.Reader
}

func newExchanger(t testing.TB, url string) *exchanger {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	e := &exchanger{conn: conn, from: bufio.NewReader(conn)}
	_, err = conn.Write(smallRequest)
	require.NoError(t, err)
	answer, err := http.ReadResponse(e.from, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, smallBody, strings.TrimSpace(string(body)))
	return e
}

// exchange sends the request, and reads its answer, which ends with the end of the body.
func (e *exchanger) exchange() error {
	if _, err := e.conn.Write(smallRequest); err != nil {
		return err
	}
	for {
		line, err := e.from.ReadSlice('\n')
		if err != nil || len(line) > 0 && line[0] == '{' {
			return err
		}
	}
}

// startAsCommand serves the node echo with the options of the command serve.
func startAsCommand(t testing.TB) string {
	monitor, measures, provider := serve.NewMonitor(), metrics.New(), noop.NewTracerProvider()
	r := newRunner(t, single("echo"), append(monitor.Options("p", hclog.NewNullLogger()), measures.Option("p"), runner.WithTracerProvider(provider))...)
	require.NoError(t, r.Start(t.Context()))
	return listen(t, r, serve.Config{}, serve.WithMonitor(monitor), serve.WithMetrics(measures), serve.WithTracerProvider(provider), serve.WithPage()).url
}

// floor serves a handler that copies the body, as the floor of what HTTP costs.
func floor(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if body, err := io.ReadAll(req.Body); err == nil {
			_, _ = w.Write(append(body, '\n'))
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

// What a request allocates is collected as garbage, and on a machine with few processors a collection
// delays the requests of that time. A handler that copies the body makes 22 allocations.
func TestARequestAllocatesLittle(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector changes the number of allocations")
	}
	e := newExchanger(t, startAsCommand(t))
	const most = 84
	least := math.Inf(1)
	for try := 0; try < 50 && least > most; try++ {
		least = min(least, testing.AllocsPerRun(100, func() { require.NoError(t, e.exchange()) }))
	}
	assert.LessOrEqual(t, least, float64(most))
}

func BenchmarkRequests(b *testing.B) {
	for name, start := range map[string]func(testing.TB) string{"floor": floor, "serve": startAsCommand} {
		for _, connections := range []int{1, 16} {
			b.Run(name+map[int]string{1: "/1", 16: "/16"}[connections], func(b *testing.B) {
				url := start(b)
				exchangers := make([]*exchanger, connections)
				for i := range exchangers {
					exchangers[i] = newExchanger(b, url)
				}
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for i, e := range exchangers {
					all.Go(func() {
						for j := i; j < b.N; j += connections {
							if err := e.exchange(); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}
