package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/runner"
)

// Config names the collector that traces and logs are sent to. What it leaves out is taken from the environment
// variables of OpenTelemetry, OTEL_EXPORTER_OTLP_ENDPOINT and so on, or has the defaults of
// these. OTEL_TRACES_SAMPLER, OTEL_BSP_SCHEDULE_DELAY and OTEL_RESOURCE_ATTRIBUTES apply, too.
type Config struct {
	// Endpoint is the URL of the collector, for instance http://localhost:4318. Traces go to
	// /v1/traces below it, and logs to /v1/logs.
	Endpoint string
	// Service is the name of the service if OTEL_SERVICE_NAME does not set it, and Version its
	// version. The default name is gophersnake.
	Service, Version string
	// OnError is called with each failure to send, on a goroutine of its own; nil ignores them.
	OnError func(error)
}

// Enabled reports whether the environment names a collector, and does not turn traces off.
func Enabled() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Telemetry sends traces and logs. Spans and records wait in queues of a fixed size, from which
// a goroutine sends them. If the collector is slow or cannot be reached, they are dropped: no
// call waits for it. All methods are safe for concurrent use.
type Telemetry struct {
	traces *sdktrace.TracerProvider
	logs   *sdklog.LoggerProvider
}

const (
	// sendTimeout bounds the time of one request if OTEL_EXPORTER_OTLP_TIMEOUT does not.
	sendTimeout = 10 * time.Second
	// retryTime is how long a request that failed is repeated.
	retryTime = 30 * time.Second
)

// Start returns a Telemetry that sends to the configured collector. It does not connect to it.
// The error is of kind manifest if the endpoint is no URL, and of kind other if a variable of
// the environment is invalid.
func Start(ctx context.Context, c Config) (*Telemetry, error) {
	report := c.OnError
	if report == nil {
		report = func(error) {}
	}
	res, err := c.resource(ctx)
	if err != nil {
		return nil, err
	}
	spans, records, err := c.exporters(ctx)
	if err != nil {
		return nil, err
	}
	return &Telemetry{
		traces: sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(spanReporter{spans, report})),
		logs: sdklog.NewLoggerProvider(sdklog.WithResource(res),
			sdklog.WithAttributeCountLimit(mostAttributes), sdklog.WithAttributeValueLengthLimit(mostValue),
			sdklog.WithProcessor(sdklog.NewBatchProcessor(recordReporter{records, report}))),
	}, nil
}

// resource describes this process.
func (c *Config) resource(ctx context.Context) (*resource.Resource, error) {
	name := c.Service
	if name == "" {
		name = "gophersnake"
	}
	attributes := []resource.Option{
		resource.WithAttributes(semconv.ServiceName(name)), resource.WithTelemetrySDK(),
		resource.WithProcessPID(), resource.WithHost(), resource.WithFromEnv(),
	}
	if c.Version != "" {
		attributes = append(attributes, resource.WithAttributes(semconv.ServiceVersion(c.Version)))
	}
	res, err := resource.New(ctx, attributes...)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, runner.Wrap(err, runner.KindOther, "describe this process for OpenTelemetry")
	}
	return res, nil
}

// exporters returns what sends spans and log records.
func (c *Config) exporters(ctx context.Context) (sdktrace.SpanExporter, sdklog.Exporter, error) {
	var traceOptions []otlptracehttp.Option
	var logOptions []otlploghttp.Option
	if c.Endpoint != "" {
		base, err := url.Parse(c.Endpoint)
		if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
			return nil, nil, runner.NewError(runner.KindManifest, fmt.Sprintf("%q is not the URL of a collector", c.Endpoint)).
				WithHint("give its scheme, host and port, such as http://localhost:4318")
		}
		traceOptions = append(traceOptions, otlptracehttp.WithEndpointURL(base.JoinPath("v1/traces").String()))
		logOptions = append(logOptions, otlploghttp.WithEndpointURL(base.JoinPath("v1/logs").String()))
	}
	if os.Getenv("OTEL_EXPORTER_OTLP_TIMEOUT") == "" {
		traceOptions = append(traceOptions, otlptracehttp.WithTimeout(sendTimeout))
		logOptions = append(logOptions, otlploghttp.WithTimeout(sendTimeout))
	}
	retries := otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: retryTime}
	spans, err := otlptracehttp.New(ctx, append(traceOptions, otlptracehttp.WithRetry(retries))...)
	if err != nil {
		return nil, nil, runner.Wrap(err, runner.KindOther, "set up OpenTelemetry")
	}
	records, err := otlploghttp.New(ctx, append(logOptions, otlploghttp.WithRetry(otlploghttp.RetryConfig(retries)))...)
	if err != nil {
		return nil, nil, runner.Wrap(err, runner.KindOther, "set up OpenTelemetry")
	}
	return spans, records, nil
}

// TracerProvider returns the provider for [runner.WithTracerProvider] and for the program's own
// spans.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.traces }

// Shutdown sends what is queued, and stops. It returns when ctx ends at the latest; what has
// not been sent then is lost. The error is of kind io.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	logs := make(chan error, 1)
	go func() { logs <- t.logs.Shutdown(ctx) }()
	err := errors.Join(t.traces.Shutdown(ctx), <-logs)
	if err != nil {
		return runner.Wrap(err, runner.KindIO, "send the last traces and logs")
	}
	return nil
}

// spanReporter reports the failures of an exporter, which the SDK would give to a global handler.
type spanReporter struct {
	sdktrace.SpanExporter
	report func(error)
}

// ExportSpans implements [sdktrace.SpanExporter].
func (r spanReporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := r.SpanExporter.ExportSpans(ctx, spans); err != nil {
		r.report(runner.Wrap(err, runner.KindIO, "send traces"))
	}
	return nil
}

// recordReporter is spanReporter for log records.
type recordReporter struct {
	sdklog.Exporter
	report func(error)
}

// Export implements [sdklog.Exporter].
func (r recordReporter) Export(ctx context.Context, records []sdklog.Record) error {
	if err := r.Exporter.Export(ctx, records); err != nil {
		r.report(runner.Wrap(err, runner.KindIO, "send log records"))
	}
	return nil
}
