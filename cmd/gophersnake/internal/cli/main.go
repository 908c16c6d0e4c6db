// Package cli is the command line of gophersnake: one file for each command, with its
// flags and the calls of the packages that do the work.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
)

// Main runs the command line of this process and returns its exit code.
func Main() int {
	ctx, stop := withSignals(context.Background())
	defer stop()
	return newApp(os.Stdin, os.Stdout, os.Stderr).run(ctx, os.Args[1:])
}

// withSignals returns a context that ends on the first SIGINT or SIGTERM, so that the
// command stops cleanly. A second signal ends the process at once; its workers notice that
// and end, too. The caller must call the function that it returns.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				stop := failure.Interrupted{Signal: s.(syscall.Signal)}
				if ctx.Err() != nil {
					os.Exit(stop.ExitCode())
				}
				cancel(stop)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// app has the commands as methods.
type app struct{ *program.App }

func newApp(in io.Reader, out, err io.Writer) *app { return &app{program.New(in, out, err)} }

// run runs one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	return a.Execute(ctx, newRoot(a), args)
}
