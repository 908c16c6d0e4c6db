package cli

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

// serviceFlags are the flags of commands that keep a pipeline running.
type serviceFlags struct {
	watch     bool
	status    string // an address; empty for none
	telemetry telemetryFlags
}

const serviceHelp = `SIGHUP reloads the Python code of the nodes: new workers use the new code, and calls in
progress finish on the old workers. If the new code does not load, the old code stays in
use. --watch reloads whenever a file of the code changes.

--status ADDR answers GET /health (200 or 503; text, or JSON with ?format=json) and
GET /metrics (for Prometheus). ADDR is HOST:PORT or the path of a Unix socket.

` + telemetryHelp

func (s *serviceFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&s.watch, "watch", false, "reload the nodes' Python code whenever it changes")
	s.telemetry.add(c)
	f.StringVar(&s.status, "status", "", "answer /health and /metrics at `ADDR`: HOST:PORT or the path of a Unix socket")
}

// withRunner starts the workers of a pipeline, calls work, and closes the runner. The
// channel that work gets receives after each reload; the context ends if the terminal is
// closed. The options of the runner are those of all commands, and extra.
func (a *app) withRunner(ctx context.Context, p *manifest.Pipeline, d *terminal.Display, s serviceFlags,
	work func(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) error, extra ...runner.Option) (err error) {
	telemetry, err := a.startTelemetry(ctx, s.telemetry)
	if err != nil {
		return err
	}
	defer func() { telemetry.stop(flushTime) }()
	extra = append(extra, runner.WithEvents(d.Event), runner.WithBuildProgress(d.BuildProgress), runner.WithOrderedMaps())
	extra = append(extra, telemetry.options()...)
	r, err := runner.New(p, a.options(extra...)...)
	if err != nil {
		return err
	}
	if s.status != "" {
		stop, err := service.ServeStatus(s.status, r, a.logger)
		if err != nil {
			return err
		}
		defer stop() // after the runner is closed, so that the status shows how it closes
	}
	defer func() { err = errors.Join(err, closeRunner(ctx, r)) }()
	ctx, reloader, err := service.NewReloader(ctx, p, service.ReloaderOptions{
		Watch: s.watch, Logger: a.logger, Report: func(err error) { a.reportError("", err) },
	})
	if err != nil {
		return err
	}
	defer reloader.Close()
	ctx, stop := service.OnHangup(ctx, a.onTerminal, func() { reloader.Request("SIGHUP") })
	defer stop()
	if err := reloader.Start(ctx, r); err != nil {
		return err
	}
	d.BuildFinished()
	return work(ctx, r, reloader.Reloaded())
}

// closeRunner closes a runner, also if the context of the command has ended.
func closeRunner(ctx context.Context, r *runner.Runner) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return r.Close(ctx)
}
