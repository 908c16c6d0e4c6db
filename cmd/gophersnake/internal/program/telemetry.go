package program

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

// TelemetryFlags are the flags of commands that send traces.
type TelemetryFlags struct{ endpoint string }

// TelemetryHelp is the part of a command's help about TelemetryFlags.
const TelemetryHelp = `--otlp URL sends traces, and the log, to an OpenTelemetry collector by OTLP over HTTP. So
does the variable OTEL_EXPORTER_OTLP_ENDPOINT; the others of OpenTelemetry, such as
OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER, apply as well.`

// Add adds the flag to a command.
func (t *TelemetryFlags) Add(c *cobra.Command) {
	c.Flags().StringVar(&t.endpoint, "otlp", "", "send traces and the log to the OpenTelemetry collector at this `URL`, such as http://localhost:4318")
}

// flushTime bounds the time in which the last traces and records are sent at the end.
const flushTime = 3 * time.Second

// TelemetrySetup is what the flags and the environment ask for.
type TelemetrySetup struct {
	Provider trace.TracerProvider // of spans; nil if there are none
	Logger   hclog.Logger         // of runners
	Stop     func(limit time.Duration)
}

// options returns the options of runners.
func (t *TelemetrySetup) options() []runner.Option {
	if t.Provider == nil {
		return nil
	}
	return []runner.Option{runner.WithTracerProvider(t.Provider), runner.WithLogger(t.Logger)}
}

// StartTelemetry sets up what the flags and the environment ask for. The caller calls Stop when
// the runners are closed.
func (a *App) StartTelemetry(ctx context.Context, flags TelemetryFlags) (*TelemetrySetup, error) {
	if flags.endpoint == "" && !telemetry.Enabled() {
		return &TelemetrySetup{Logger: a.Logger, Stop: func(time.Duration) {}}, nil
	}
	var warned atomic.Bool
	t, err := telemetry.Start(ctx, telemetry.Config{
		Endpoint: flags.endpoint, Version: ReadVersion().Version,
		OnError: func(err error) {
			log := a.Logger.Debug
			if warned.CompareAndSwap(false, true) {
				log = a.Logger.Warn // once, since the others are alike
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
			a.Logger.Debug("traces or log records are lost", "error", err)
		}
	}
	return &TelemetrySetup{t.TracerProvider(), t.Logger(a.Logger), stop}, nil
}
