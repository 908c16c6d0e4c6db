package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// interrupted is why a context ended that a signal ended.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string {
	switch i.signal {
	case syscall.SIGTERM:
		return "terminated"
	case syscall.SIGHUP:
		return "hung up: the terminal was closed"
	}
	return "interrupted"
}

// exitCode is what a shell reports of a process that the signal ended.
func (i interrupted) exitCode() int { return 128 + int(i.signal) }

// interruption returns the signal that ended the context, if one did.
func interruption(ctx context.Context) (interrupted, bool) {
	return errors.AsType[interrupted](context.Cause(ctx))
}

// withSignals returns a context that the first SIGINT or SIGTERM ends, so that
// the command stops cleanly. The second one ends the process at once: its workers
// notice and end too.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				stop := interrupted{s.(syscall.Signal)}
				if ctx.Err() != nil {
					os.Exit(stop.exitCode())
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
