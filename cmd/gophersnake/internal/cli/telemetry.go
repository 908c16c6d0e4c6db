package cli

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/telemetry"
)

// telemetryFlags are the flags of commands that send traces.
type telemetryFlags struct{ endpoint string }

const telemetryHelp = `--otlp URL sends traces, and the log, to an OpenTelemetry collector by OTLP over HTTP. So
does the variable OTEL_EXPORTER_OTLP_ENDPOINT; the others of OpenTelemetry, such as
OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER, apply as well.`

func (t *telemetryFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&t.endpoint, "otlp", "", "send traces and the log to the OpenTelemetry collector at this `URL`, such as http://localhost:4318")
}

// flushTime bounds the time in which the last traces and records are sent at the end.
const flushTime = 3 * time.Second

// telemetrySetup is what the flags and the environment ask for.
type telemetrySetup struct {
	provider trace.TracerProvider // of spans; nil if there are none
	logger   hclog.Logger         // of runners
	stop     func(limit time.Duration)
}

// options returns the options of runners.
func (t *telemetrySetup) options() []runner.Option {
	if t.provider == nil {
		return nil
	}
	return []runner.Option{runner.WithTracerProvider(t.provider), runner.WithLogger(t.logger)}
}

// startTelemetry sets up what the flags and the environment ask for. The caller calls stop when
// the runners are closed.
func (a *app) startTelemetry(ctx context.Context, flags telemetryFlags) (*telemetrySetup, error) {
	if flags.endpoint == "" && !telemetry.Enabled() {
		return &telemetrySetup{logger: a.logger, stop: func(time.Duration) {}}, nil
	}
	var warned atomic.Bool
	t, err := telemetry.Start(ctx, telemetry.Config{
		Endpoint: flags.endpoint, Version: readVersion().Version,
		OnError: func(err error) {
			log := a.logger.Debug
			if warned.CompareAndSwap(false, true) {
				log = a.logger.Warn // once, since the others are alike
			}
			log("traces or log records are lost", "error", err)
		},
	})
	if errors.Is(err, runner.KindManifest) {
		return nil, failure.Usagef("--otlp takes the URL of a collector, such as http://localhost:4318, not %q", flags.endpoint)
	}
	if err != nil {
		return nil, err
	}
	stop := func(limit time.Duration) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(limit, flushTime))
		defer cancel()
		if err := t.Shutdown(ctx); err != nil {
			a.logger.Debug("traces or log records are lost", "error", err)
		}
	}
	return &telemetrySetup{t.TracerProvider(), t.Logger(a.logger), stop}, nil
}
