// Package metrics has the metrics of runners for Prometheus: the gauges and counters of
// [runner.Runner.Metrics], and histograms of the times of calls, queues and starts, classic and
// native, with the ids of traces as exemplars.
//
//	m := metrics.New()
//	r, err := runner.New(pipeline, m.Option("shop"))
//	…
//	m.Add("shop", r)
//	mux.Handle("/metrics", m.Handler())
//
// A [Metrics] is a [prometheus.Collector], too, for a registry of the program's own. Handlers of
// package serve take one by serve.WithMetrics, and call Add themselves.
package metrics

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/runner"
)

// Metrics are the metrics of any number of runners, each of which has a name, the label
// "pipeline". All methods are safe for concurrent use.
type Metrics struct {
	calls, queues, starts, requests, rpcs, turns *prometheus.HistogramVec

	registry *prometheus.Registry
	handler  http.Handler

	mu      sync.Mutex
	sources map[string]source // by their names
}

// source is what returns gauges and counters at each scrape.
type source struct {
	pipeline string // the label; empty for none
	metrics  func() []runner.Metric
}

// buckets are the bounds of the classic histograms in seconds: from a small call to a start that
// downloads a model.
var buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// New returns metrics without runners.
func New() *Metrics {
	m := &Metrics{
		calls: histogram("gophersnake_call_duration_seconds",
			"Times of operations of a node, with their retries.", "pipeline", "node", "outcome"),
		queues: histogram("gophersnake_queue_duration_seconds",
			"Times that attempts waited for a worker.", "pipeline", "node"),
		starts: histogram("gophersnake_worker_start_duration_seconds",
			"Times from the start of a worker's process until it was ready.", "pipeline", "node"),
		requests: histogram("gophersnake_http_request_duration_seconds",
			"Times of HTTP requests, by the pattern of their path and the class of their status.", "route", "status"),
		rpcs: histogram("gophersnake_grpc_request_duration_seconds",
			"Times of calls of gRPC, and of whole streams.", "method", "code"),
		turns: histogram("gophersnake_http_queue_duration_seconds",
			"Times that HTTP requests, and the items of streams of inputs, waited for their turn in a pipeline.", "pipeline"),
		registry: prometheus.NewRegistry(),
		sources:  make(map[string]source),
	}
	m.registry.MustRegister(m)
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 8})
	return m
}

// histogram returns histograms that are classic and native. A native histogram has at most 100
// buckets.
func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

// Option makes a runner measure its calls, queues and starts under a name.
func (m *Metrics) Option(pipeline string) runner.Option {
	return runner.WithMeasurements(func(ctx context.Context, measured runner.Measurement) {
		switch measured.Quantity {
		case runner.CallTime:
			observe(ctx, m.calls.WithLabelValues(pipeline, measured.Node, outcomeOf(measured.Err)), measured.Took)
		case runner.QueueTime:
			observe(ctx, m.queues.WithLabelValues(pipeline, measured.Node), measured.Took)
		case runner.StartTime:
			observe(ctx, m.starts.WithLabelValues(pipeline, measured.Node), measured.Took)
		}
	})
}

func outcomeOf(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// observe adds a time to a histogram, with the trace that the context belongs to as an exemplar
// if that is sampled.
func observe(ctx context.Context, o prometheus.Observer, took time.Duration) {
	sc := trace.SpanContextFromContext(ctx)
	with, ok := o.(prometheus.ExemplarObserver)
	if !ok || !sc.IsSampled() || !sc.IsValid() {
		o.Observe(took.Seconds())
		return
	}
	with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String()})
}

// Request adds the time of an HTTP request. The route is the pattern of its path, so that there
// are few. The status is 0 if there was no answer, because the client had left. The context has
// the span of the request, if there is one.
func (m *Metrics) Request(ctx context.Context, route string, status int, took time.Duration) {
	class := "none"
	if status > 0 {
		class = strconv.Itoa(status/100) + "xx"
	}
	observe(ctx, m.requests.WithLabelValues(route, class), took)
}

// Call adds the time of a call of gRPC, or of a whole stream, by the name of its code. The method
// must be one that the server has, so that there are few.
func (m *Metrics) Call(ctx context.Context, method, code string, took time.Duration) {
	observe(ctx, m.rpcs.WithLabelValues(method, code), took)
}

// Turn adds the time that an HTTP request, or an item of a stream of inputs, waited until a pipeline
// could begin with it.
func (m *Metrics) Turn(ctx context.Context, pipeline string, took time.Duration) {
	observe(ctx, m.turns.WithLabelValues(pipeline), took)
}

// Add adds the gauges and counters of a runner under a name, in place of those of another one
// of the same name.
func (m *Metrics) Add(pipeline string, r *runner.Runner) {
	m.add("pipeline "+pipeline, source{pipeline, r.Metrics})
}

// AddSource adds gauges and counters that a function returns at each scrape, in place of those
// of another source of the same name. They have no label but their own.
func (m *Metrics) AddSource(name string, fn func() []runner.Metric) {
	m.add("source "+name, source{metrics: fn})
}

func (m *Metrics) add(name string, s source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[name] = s
}

// Register adds a collector of the program's own to those that [Metrics.Handler] shows. It
// panics if another one has the same metrics.
func (m *Metrics) Register(c prometheus.Collector) { m.registry.MustRegister(c) }

// Handler returns a handler for Prometheus: text, OpenMetrics or protobuf, as the client asks.
// Exemplars need OpenMetrics or protobuf, and native histograms need protobuf.
func (m *Metrics) Handler() http.Handler { return m.handler }

// Describe implements [prometheus.Collector]. It sends nothing, because the metrics of runners
// are not known before.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, h := range []*prometheus.HistogramVec{m.calls, m.queues, m.starts, m.requests, m.rpcs, m.turns} {
		h.Collect(to)
	}
	m.mu.Lock()
	sources := maps.Clone(m.sources)
	m.mu.Unlock()
	for _, s := range sources {
		for _, each := range s.metrics() {
			to <- constant(s.pipeline, each)
		}
	}
}

// constant returns a sample of a runner as a metric of Prometheus.
func constant(pipeline string, m runner.Metric) prometheus.Metric {
	var labels, values []string
	if pipeline != "" {
		labels, values = append(labels, "pipeline"), append(values, pipeline)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
		labels, values = append(labels, name), append(values, m.Labels[name])
	}
	kind := prometheus.GaugeValue
	if m.Kind == runner.MetricCounter {
		kind = prometheus.CounterValue
	}
	desc := prometheus.NewDesc(m.Name, m.Help, labels, nil)
	made, err := prometheus.NewConstMetric(desc, kind, m.Value, values...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return made
}
