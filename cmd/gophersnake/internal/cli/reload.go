package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// reloader has a pipeline's code read again, when SIGHUP or --watch ask for it.
type reloader struct {
	app *app
	// asked holds why it is to be done; what comes while one is waiting is done with it.
	asked chan string
	// done is told of each time that it was done.
	done chan struct{}
	// watches says that changes of the code are looked for.
	watches bool

	stop    context.CancelFunc
	running sync.WaitGroup
}

// newReloader begins to listen. The context that it returns ends when the terminal
// has gone, which SIGHUP says as well.
func (a *app) newReloader(ctx context.Context, p *manifest.Pipeline, watch bool) (context.Context, *reloader, error) {
	r := &reloader{app: a, asked: make(chan string, 1), done: make(chan struct{}, 1), watches: watch}
	ctx, cancel := context.WithCancelCause(ctx)
	r.stop = func() { cancel(nil) }
	if watch {
		w, err := watchCode(p, a.logger.Warn)
		if err != nil {
			r.stop()
			return nil, nil, err
		}
		r.running.Go(func() { w.run(ctx, func(file string) { r.ask(file + " has changed") }) })
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	onTerminal := a.onTerminal()
	r.running.Go(func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-hangups:
				if onTerminal && !a.onTerminal() {
					cancel(interrupted{syscall.SIGHUP})
					return
				}
				r.ask("SIGHUP")
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, r, nil
}

// onTerminal reports whether somebody's terminal is there.
func (a *app) onTerminal() bool {
	return isTerminal(a.in) || isTerminal(a.out) || isTerminal(a.err)
}

func (r *reloader) ask(why string) {
	select {
	case r.asked <- why:
	default: // the one that waits reads the code later than now
	}
}

// start starts a runner. Where changes of the code are looked for, one that cannot
// be started is tried again after the next change.
func (r *reloader) start(ctx context.Context, run *runner.Runner) error {
	for {
		err := run.Start(ctx)
		if err == nil {
			break
		}
		err = whyEnded(ctx, err)
		if !r.watches || ctx.Err() != nil {
			return err
		}
		r.app.reportError("", err)
		r.app.logger.Info("the next change of the code is waited for")
		select {
		case why := <-r.asked:
			r.app.logger.Info(why + ": starting again")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r.running.Go(func() { r.serve(ctx, run) })
	return nil
}

// serve reloads whenever it is asked to.
func (r *reloader) serve(ctx context.Context, run *runner.Runner) {
	for {
		select {
		case why := <-r.asked:
			r.app.logger.Info(why + ": reading the code again")
			if err := run.Reload(ctx); err != nil {
				if ctx.Err() != nil {
					return
				}
				r.app.logger.Warn("the code was not reloaded; what ran before goes on")
				r.app.reportError("", err)
				continue
			}
			select {
			case r.done <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// close returns when nothing of it is running any more.
func (r *reloader) close() {
	r.stop()
	r.running.Wait()
}
