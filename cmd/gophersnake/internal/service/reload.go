package service

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// ReloaderOptions are the settings of [NewReloader].
type ReloaderOptions struct {
	// Watch says that each change of the code causes a reload.
	Watch  bool
	Logger hclog.Logger
	// Report prints an error that does not end the command.
	Report func(error)
}

// Reloader reloads the code of a pipeline on request and, if it watches the code, after
// each change.
type Reloader struct {
	options ReloaderOptions
	// requests holds the reason of the next reload. One reload serves all requests that
	// arrive before it begins.
	requests chan string
	reloaded chan struct{}

	stop    context.CancelFunc
	running sync.WaitGroup
}

// NewReloader begins to listen for changes. The context that it returns is for [Reloader.Start],
// and ends with [Reloader.Close], which the caller must call.
func NewReloader(ctx context.Context, p *manifest.Pipeline, o ReloaderOptions) (context.Context, *Reloader, error) {
	r := &Reloader{options: o, requests: make(chan string, 1), reloaded: make(chan struct{}, 1)}
	ctx, r.stop = context.WithCancel(ctx)
	if o.Watch {
		w, err := watchCode(p, o.Logger.Warn)
		if err != nil {
			r.stop()
			return nil, nil, err
		}
		r.running.Go(func() { w.run(ctx, func(file string) { r.Request(file + " has changed") }) })
	}
	return ctx, r, nil
}

// OnHangup calls a function after each SIGHUP, until the context ends or the caller calls stop, which
// waits for the function. If the terminal is closed, which causes a SIGHUP, too, the context that
// it returns ends instead. A command calls it once. The function onTerminal reports whether the
// command runs on a terminal.
func OnHangup(ctx context.Context, onTerminal func() bool, reload func()) (hangup context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	hangups, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	wasOnTerminal := onTerminal()
	go func() {
		defer close(ended)
		defer signal.Stop(hangups)
		for {
			select {
			case <-hangups:
				if wasOnTerminal && !onTerminal() {
					cancel(failure.Interrupted{Signal: syscall.SIGHUP})
					return
				}
				reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-ended
	}
}

// Reloaded returns a channel that receives after reloads. Several reloads may count as
// one if the receiver is slow.
func (r *Reloader) Reloaded() <-chan struct{} { return r.reloaded }

// Request requests a reload, for a reason that is logged. It does not wait.
func (r *Reloader) Request(reason string) {
	select {
	case r.requests <- reason:
	default: // the pending reload will read the code after this moment
	}
}

// Start starts a runner and begins to reload it on request. If the runner does not start
// and the code is watched, Start tries again after the next change.
func (r *Reloader) Start(ctx context.Context, run *runner.Runner) error {
	for {
		err := run.Start(ctx)
		if err == nil {
			break
		}
		err = failure.Cause(ctx, err)
		if !r.options.Watch || ctx.Err() != nil {
			return err
		}
		r.options.Report(err)
		r.options.Logger.Info("waiting for the next change of the code")
		select {
		case reason := <-r.requests:
			r.options.Logger.Info(reason + ": starting again")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r.running.Go(func() { r.serve(ctx, run) })
	return nil
}

// serve reloads the code on request until the context ends.
func (r *Reloader) serve(ctx context.Context, run *runner.Runner) {
	for {
		select {
		case reason := <-r.requests:
			r.options.Logger.Info(reason + ": reloading the code")
			if err := run.Reload(ctx); err != nil {
				if ctx.Err() != nil {
					return
				}
				r.options.Logger.Warn("the code was not reloaded; the old code stays in use")
				r.options.Report(err)
				continue
			}
			select {
			case r.reloaded <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// Close stops the reloader, and returns when its goroutines have ended.
func (r *Reloader) Close() {
	r.stop()
	r.running.Wait()
}
