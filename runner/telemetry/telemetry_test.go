package telemetry_test

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracespb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logpb "go.opentelemetry.io/proto/otlp/logs/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/telemetry"
)

// collector is a receiver of OTLP over HTTP that keeps what it is sent.
type collector struct {
	url string

	mu      sync.Mutex
	spans   []*tracepb.Span
	records []*logpb.LogRecord
	service string
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, req *http.Request) {
		var sent tracespb.ExportTraceServiceRequest
		receive(t, req, &sent)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range sent.GetResourceSpans() {
			c.service = text(of.GetResource().GetAttributes(), "service.name")
			for _, scope := range of.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	})
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, req *http.Request) {
		var sent logspb.ExportLogsServiceRequest
		receive(t, req, &sent)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range sent.GetResourceLogs() {
			for _, scope := range of.GetScopeLogs() {
				c.records = append(c.records, scope.GetLogRecords()...)
			}
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// receive decodes a request.
func receive(t *testing.T, req *http.Request, into proto.Message) {
	var body io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		var err error
		body, err = gzip.NewReader(body)
		assert.NoError(t, err)
	}
	assert.Equal(t, "application/x-protobuf", req.Header.Get("Content-Type"))
	data, err := io.ReadAll(body)
	assert.NoError(t, err)
	assert.NoError(t, proto.Unmarshal(data, into))
}

func text(attributes []*commonpb.KeyValue, key string) string {
	for _, each := range attributes {
		if each.GetKey() == key {
			return each.GetValue().GetStringValue()
		}
	}
	return ""
}

func number(attributes []*commonpb.KeyValue, key string) int64 {
	for _, each := range attributes {
		if each.GetKey() == key {
			return each.GetValue().GetIntValue()
		}
	}
	return 0
}

// named returns the spans of a name, in the order in which they ended.
func (c *collector) named(name string) (found []*tracepb.Span) {
	for _, s := range c.spans {
		if s.GetName() == name {
			found = append(found, s)
		}
	}
	return found
}

func eventsOf(s *tracepb.Span) (names []string) {
	for _, e := range s.GetEvents() {
		names = append(names, e.GetName())
	}
	return names
}

const nodes = `
import logging, os
from gophersnake import node

@node
def work(x):
    logging.getLogger("mine").warning("working on %s", x)
    if not os.path.exists("died"):
        open("died", "w").close()
        os._exit(3)
    return x
`

// newRunner returns a runner whose worker dies at the first call.
func newRunner(t *testing.T, opts ...runner.Option) *runner.Runner {
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(nodes), 0o600))
	p, err := manifest.Parse("test.yaml", []byte("version: v1\npython: nodes.py\nmetadata: {name: shop}\n"+
		"nodes: [{id: work, node_type: work, retry: {base: 1ms}, workers: {spare: 0}}]\n"), base)
	require.NoError(t, err)
	r, err := runner.New(p, opts...)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

// One trace goes from the client's span through the request, the run and the attempts, of which
// the first one ends with the crash of the interpreter, to the log record that Python writes.
func TestACollectorSeesOneTraceFromTheRequestToTheLogRecord(t *testing.T) {
	c := newCollector(t)
	sent, err := telemetry.Start(t.Context(), telemetry.Config{Endpoint: c.url, Service: "test", OnError: func(err error) { t.Error(err) }})
	require.NoError(t, err)
	r := newRunner(t, runner.WithTracerProvider(sent.TracerProvider()), runner.WithLogger(sent.Logger(hclog.New(&hclog.LoggerOptions{Output: io.Discard}))))
	server := httptest.NewServer(serve.Handler(map[string]*runner.Runner{"shop": r}, serve.WithTracerProvider(sent.TracerProvider())))
	defer server.Close()

	const trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/pipelines/shop?secret=1", strings.NewReader(`"tea"`))
	require.NoError(t, err)
	req.Header.Set("traceparent", "00-"+trace+"-"+caller+"-01")
	req.Header.Set("X-Request-Id", "r1")
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.Equal(t, "\"tea\"\n", string(body))
	require.NoError(t, r.Close(t.Context()))
	server.Close()
	require.NoError(t, sent.Shutdown(t.Context()))

	assert.Equal(t, "test", c.service)
	parents := map[string]string{}
	for _, s := range c.spans {
		assert.Equal(t, trace, hex.EncodeToString(s.GetTraceId()), s.GetName())
		parents[s.GetName()] = hex.EncodeToString(s.GetParentSpanId())
	}
	id := func(name string) string {
		found := c.named(name)
		require.NotEmpty(t, found, name)
		return hex.EncodeToString(found[0].GetSpanId())
	}
	request := "POST /v1/pipelines/{name}"
	assert.Equal(t, map[string]string{
		request: caller, "run shop": id(request), "call work": id("run shop"), "attempt work": id("call work"),
	}, parents)

	served := c.named(request)[0]
	assert.Equal(t, tracepb.Span_SPAN_KIND_SERVER, served.GetKind())
	for key, want := range map[string]string{
		"http.request.method": "POST", "http.route": "/v1/pipelines/{name}", "url.path": "/v1/pipelines/shop", "url.scheme": "http",
		"url.query": "", "server.address": "127.0.0.1", "network.protocol.version": "1.1",
		"gophersnake.request.id": "r1", "gophersnake.pipeline": "shop",
	} {
		assert.Equal(t, want, text(served.GetAttributes(), key), key)
	}
	assert.EqualValues(t, 200, number(served.GetAttributes(), "http.response.status_code"))

	attempts := c.named("attempt work")
	require.Len(t, attempts, 2)
	assert.Equal(t, tracepb.Status_STATUS_CODE_ERROR, attempts[0].GetStatus().GetCode())
	assert.Equal(t, "python_vm", text(attempts[0].GetAttributes(), "error.type"))
	assert.Equal(t, []string{"gophersnake.worker.died"}, eventsOf(attempts[0]))
	assert.Equal(t, []string{"gophersnake.retry"}, eventsOf(c.named("call work")[0]))
	assert.Equal(t, tracepb.Status_STATUS_CODE_UNSET, attempts[1].GetStatus().GetCode())

	var records []*logpb.LogRecord
	for _, each := range c.records {
		if each.GetBody().GetStringValue() == "working on tea" {
			records = append(records, each)
		}
	}
	require.Len(t, records, 2)
	for i, each := range records {
		assert.Equal(t, trace, hex.EncodeToString(each.GetTraceId()))
		assert.Equal(t, attempts[i].GetSpanId(), each.GetSpanId())
		assert.Equal(t, "WARN", strings.ToUpper(each.GetSeverityText()))
		assert.Equal(t, "work", text(each.GetAttributes(), "node"))
		assert.Equal(t, "work.mine", text(each.GetAttributes(), "logger"))
		assert.Equal(t, text(c.named("run shop")[0].GetAttributes(), "gophersnake.run.id"), text(each.GetAttributes(), "run"))
		assert.Equal(t, number(attempts[i].GetAttributes(), "gophersnake.worker.pid"), number(each.GetAttributes(), "worker"))
		assert.EqualValues(t, 1, number(each.GetAttributes(), "call"))
	}
}

// A collector that accepts connections and never answers delays neither a call nor the end.
func TestACollectorThatDoesNotAnswerDelaysNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
	var failures sync.Map
	sent, err := telemetry.Start(t.Context(), telemetry.Config{
		Endpoint: "http://" + listener.Addr().String(), OnError: func(err error) { failures.Store(err.Error(), true) },
	})
	require.NoError(t, err)
	r := newRunner(t, runner.WithTracerProvider(sent.TracerProvider()), runner.WithLogger(sent.Logger(hclog.NewNullLogger())))
	for i := range 200 { // far more spans than the queue holds
		v, err := r.Run(t.Context(), i)
		require.NoError(t, err)
		assert.EqualValues(t, i, v)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err = sent.Shutdown(ctx)
	require.ErrorIs(t, err, runner.KindIO)
	assert.Less(t, time.Since(begun), 20*time.Second, "it would wait for the timeout of a request otherwise")
}

func TestAnEndpointMustBeAURL(t *testing.T) {
	for _, endpoint := range []string{"localhost:4318", "ftp://host", "http://"} {
		_, err := telemetry.Start(t.Context(), telemetry.Config{Endpoint: endpoint})
		require.ErrorIs(t, err, runner.KindManifest, endpoint)
	}
}

func TestTheEnvironmentSwitchesTelemetryOn(t *testing.T) {
	assert.False(t, telemetry.Enabled())
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
	assert.True(t, telemetry.Enabled())
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	assert.False(t, telemetry.Enabled())
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_SDK_DISABLED", "true")
	assert.False(t, telemetry.Enabled())
}
