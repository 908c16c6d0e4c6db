package program

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/service"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// closeTimeout limits the time that workers have to shut down.
const closeTimeout = 10 * time.Second

// ServiceFlags are the flags of commands that keep a pipeline running.
type ServiceFlags struct {
	Watch     bool
	status    string // an address; empty for none
	telemetry TelemetryFlags
}

// ServiceHelp is the part of a command's help about ServiceFlags.
const ServiceHelp = `SIGHUP reloads the Python code of the nodes: new workers use the new code, and calls in
progress finish on the old workers. If the new code does not load, the old code stays in
use. --watch reloads whenever a file of the code changes.

--status ADDR answers GET /health (200 or 503; text, or JSON with ?format=json) and
GET /metrics (for Prometheus). ADDR is HOST:PORT or the path of a Unix socket.

` + TelemetryHelp

// Add adds the flags to a command.
func (s *ServiceFlags) Add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&s.Watch, "watch", false, "reload the nodes' Python code whenever it changes")
	s.telemetry.Add(c)
	f.StringVar(&s.status, "status", "", "answer /health and /metrics at `ADDR`: HOST:PORT or the path of a Unix socket")
}

// WithRunner starts the workers of a pipeline, calls work, and closes the runner. The
// channel that work gets receives after each reload; the context ends if the terminal is
// closed. The options of the runner are those of all commands, and extra.
func (a *App) WithRunner(ctx context.Context, p *manifest.Pipeline, d *terminal.Display, s ServiceFlags,
	work func(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) error, extra ...runner.Option) (err error) {
	telemetry, err := a.StartTelemetry(ctx, s.telemetry)
	if err != nil {
		return err
	}
	defer func() { telemetry.Stop(flushTime) }()
	extra = append(extra, runner.WithEvents(d.Event), runner.WithBuildProgress(d.BuildProgress), runner.WithOrderedMaps())
	extra = append(extra, telemetry.options()...)
	r, err := runner.New(p, a.Options(extra...)...)
	if err != nil {
		return err
	}
	if s.status != "" {
		stop, err := service.ServeStatus(s.status, r, a.Logger)
		if err != nil {
			return err
		}
		defer stop() // after the runner is closed, so that the status shows how it closes
	}
	defer func() { err = errors.Join(err, CloseRunner(ctx, r)) }()
	ctx, reloader, err := service.NewReloader(ctx, p, service.ReloaderOptions{
		Watch: s.Watch, Logger: a.Logger, Report: func(err error) { a.ReportError("", err) },
	})
	if err != nil {
		return err
	}
	defer reloader.Close()
	ctx, stop := service.OnHangup(ctx, a.OnTerminal, func() { reloader.Request("SIGHUP") })
	defer stop()
	if err := reloader.Start(ctx, r); err != nil {
		return err
	}
	d.BuildFinished()
	return work(ctx, r, reloader.Reloaded())
}

// CloseRunner closes a runner, also if the context of the command has ended.
func CloseRunner(ctx context.Context, r *runner.Runner) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return r.Close(ctx)
}
