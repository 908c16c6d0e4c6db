// Package telemetry sends the traces of runners, and the log records that belong to them, to an
// OpenTelemetry collector, by OTLP over HTTP. Programs that set OpenTelemetry up themselves do not
// need it: they give their own provider to [runner.WithTracerProvider].
//
//	t, err := telemetry.Start(ctx, telemetry.Config{Endpoint: "http://localhost:4318"})
//	…
//	defer t.Shutdown(ctx)
//	r, err := runner.New(pipeline, runner.WithTracerProvider(t.TracerProvider()))
//
// Package [github.com/gophersnake/gophersnake/runner/telemetry/metrics] has the metrics, for
// Prometheus.
package telemetry
