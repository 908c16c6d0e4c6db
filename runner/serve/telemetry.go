package serve

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// WithTracerProvider makes an OpenTelemetry span of each request, except those for health and
// metrics. Its parent is the span that the headers traceparent and tracestate name, and it is
// the parent of the runs: give the same provider to [runner.WithTracerProvider]. With the provider of
// package go.opentelemetry.io/otel/trace/noop, there are no spans, but runs get the context of the
// client.
func WithTracerProvider(provider trace.TracerProvider) Option {
	return func(o *options) {
		o.propagates = true
		if _, isNoop := provider.(noop.TracerProvider); !isNoop {
			o.tracer = provider.Tracer("github.com/gophersnake/gophersnake/runner/serve")
		}
	}
}

// WithMetrics makes /metrics answer with these metrics, to which the handler adds its runners
// and the times of its requests. The histograms of calls need [metrics.Metrics.Option], too. By
// default a handler has metrics of its own.
func WithMetrics(m *metrics.Metrics) Option {
	return func(o *options) { o.metrics = m }
}

// observation is what is noted of a request.
type observation struct {
	writer  statusWriter
	started time.Time
	span    trace.Span // nil if the request is not traced
}

// statusWriter notes the status of the answer to an exchange.
type statusWriter struct {
	http.ResponseWriter
	x      *exchange
	status int // 0 until there is one
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(status int) {
	if w.status < http.StatusOK {
		w.status = status // an informational one is not the last
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status < http.StatusOK {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap returns the writer below, for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe begins the observation of a request. The caller ends it with observed.
func (x *exchange) observe() {
	o := &x.observation
	o.started = time.Now()
	o.writer.ResponseWriter, o.writer.x = x.w, x
	x.w = &o.writer
	if !x.h.propagates {
		return
	}
	ctx := x.h.continueTrace(x.ctx, x.req.Header)
	if x.h.tracer == nil {
		x.ctx = ctx
		return
	}
	route := x.route()
	isProbe := x.protocol != nil && slices.Contains(x.protocol.Probes, x.req.URL.Path)
	if isProbe || slices.Contains(untraced, route) {
		return
	}
	x.ctx, o.span = x.h.tracer.Start(ctx, methodOf(x.req)+" "+route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(x.requestAttributes(route)...))
	x.req = x.req.WithContext(x.ctx)
}

// continueTrace returns a context with the span of the caller that the headers name, if there are
// traces.
func (h *handler) continueTrace(ctx context.Context, header http.Header) context.Context {
	if !h.propagates || header["Traceparent"] == nil {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
}

// Observe begins the observation of a call of another server in the same program, such as one for
// gRPC: it makes a span, whose parent is the span that the headers name, and measures its time. The
// context is for [Server.Open]. The caller calls end with the code of gRPC; isFault says that the
// server is at fault.
func (s *Server) Observe(ctx context.Context, method string, header http.Header) (observed context.Context, end func(code string, isFault bool)) {
	h, started := s.handler, time.Now()
	name := strings.TrimPrefix(method, "/")
	ctx = h.continueTrace(ctx, header)
	var span trace.Span
	if h.tracer != nil {
		ctx, span = h.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", name)))
	}
	return ctx, func(code string, isFault bool) {
		h.metrics.Call(ctx, name, code, time.Since(started))
		if span == nil {
			return
		}
		span.SetAttributes(attribute.String("rpc.response.status_code", code))
		if isFault {
			span.SetAttributes(semconv.ErrorTypeKey.String(code))
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// untraced are the routes without spans.
var untraced = []string{"/livez", "/readyz", "/readyz/{name}", "/healthz", "/metrics"}

// route returns the pattern of the request's path.
func (x *exchange) route() string {
	pattern := x.req.Pattern
	if pattern == "" {
		_, pattern = x.h.mux.Handler(x.req)
	}
	if i := strings.IndexByte(pattern, '/'); i >= 0 {
		pattern = pattern[i:] // without a method
	}
	if pattern == "" {
		return "none"
	}
	return pattern
}

// methodOf returns the method as the semantic conventions name it: one that is known, or HTTP.
func methodOf(req *http.Request) string {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return req.Method
	}
	return "HTTP"
}

// mostText bounds what a span has of a header or a path, in bytes.
const mostText = 1 << 10

// requestAttributes returns the attributes of a request by the semantic conventions for HTTP,
// without its query, which may hold secrets.
func (x *exchange) requestAttributes(route string) []attribute.KeyValue {
	req, scheme := x.req, "http"
	if req.TLS != nil {
		scheme = "https"
	}
	major, minor := strconv.Itoa(req.ProtoMajor), strconv.Itoa(req.ProtoMinor)
	version := major
	if req.ProtoMajor < 2 {
		version += "." + minor
	}
	all := []attribute.KeyValue{
		semconv.HTTPRoute(route), semconv.URLPath(limited(req.URL.Path)), semconv.URLScheme(scheme),
		semconv.NetworkProtocolVersion(version), attribute.String("gophersnake.request.id", x.id),
	}
	if method := methodOf(req); method == "HTTP" {
		all = append(all, semconv.HTTPRequestMethodKey.String("_OTHER"), semconv.HTTPRequestMethodOriginal(limited(req.Method)))
	} else {
		all = append(all, semconv.HTTPRequestMethodKey.String(method))
	}
	host, port, err := net.SplitHostPort(req.Host)
	if err != nil {
		host = req.Host
	}
	all = append(all, semconv.ServerAddress(limited(host)))
	if number, err := strconv.Atoi(port); err == nil {
		all = append(all, semconv.ServerPort(number))
	}
	if agent := req.UserAgent(); agent != "" {
		all = append(all, semconv.UserAgentOriginal(limited(agent)))
	}
	if peer, _, err := net.SplitHostPort(req.RemoteAddr); err == nil {
		all = append(all, semconv.ClientAddress(peer))
	}
	return all
}

// limited returns the beginning of a text.
func limited(text string) string { return strings.ToValidUTF8(text[:min(len(text), mostText)], "") }

// observed ends the observation of a request.
func (x *exchange) observed() {
	o := &x.observation
	x.h.metrics.Request(x.ctx, x.route(), o.writer.status, time.Since(o.started))
	if o.span == nil {
		return
	}
	if x.pipeline != nil {
		o.span.SetAttributes(attribute.String("gophersnake.pipeline", x.pipeline.name))
	}
	if status := o.writer.status; status > 0 {
		o.span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		if status >= http.StatusInternalServerError {
			o.span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
			o.span.SetStatus(codes.Error, "")
		}
	}
	o.span.End()
}

// noteFailure adds the problem of a request to its span, also if it is a part of a stream.
func (x *exchange) noteFailure(p *problem) {
	if span := x.observation.span; span != nil {
		span.AddEvent("gophersnake.problem", trace.WithAttributes(
			attribute.String("gophersnake.problem.type", p.Type), attribute.Int("gophersnake.problem.status", p.Status)))
	}
}
