package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// closeTimeout bounds how long the workers may take to shut down.
const closeTimeout = 10 * time.Second

// service is what goes on beside the work of a pipeline.
type service struct {
	watch  bool
	status string // an address, empty for none
}

const serviceHelp = `SIGHUP has the nodes' Python code read again: new workers start with it, what is
under way ends on the old ones, and where the new code cannot be used the old one
stays. --watch does so whenever a file of it changes.

--status ADDR answers GET /health (200 or 503, as text, or as JSON with ?format=json)
and GET /metrics (for Prometheus). ADDR is host:port, or the path of a Unix socket.`

func (s *service) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&s.watch, "watch", false, "read the nodes' Python code again whenever it changes")
	f.StringVar(&s.status, "status", "", "answer /health and /metrics at this `ADDR`: host:port, or the path of a socket")
}

// withRunner starts a pipeline's workers, has the work done, and ends them. The work
// is told of reloads.
func (a *app) withRunner(ctx context.Context, p *manifest.Pipeline, d *display, s service, work func(context.Context, *runner.Runner, <-chan struct{}) error) (err error) {
	r, err := runner.New(p, a.options(runner.WithEvents(d.event), runner.WithBuildProgress(d.building))...)
	if err != nil {
		return err
	}
	if s.status != "" {
		stop, err := a.serveStatus(s.status, r)
		if err != nil {
			return err
		}
		defer stop() // last, so that it can be seen how the runner closes
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, r.Close(closing))
	}()
	ctx, reloads, err := a.newReloader(ctx, p, s.watch)
	if err != nil {
		return err
	}
	defer reloads.close()
	if err := reloads.start(ctx, r); err != nil {
		return err
	}
	d.built()
	return work(ctx, r, reloads.done)
}
