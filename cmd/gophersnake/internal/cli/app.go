// Package cli is the command line of gophersnake: one file for each command, with its
// flags and the calls of the packages that do the work.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
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

// app is the state that all commands share: the standard streams, the common flags and
// the log.
type app struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	style   terminal.Style    // for out
	console *terminal.Console // writes to err

	logLevel     string
	logJSON      bool
	python       string
	systemPython bool
	cacheDir     string

	logger hclog.Logger
	// jsonErrors says that errors are printed as JSON.
	jsonErrors bool
	// parsed says that cobra accepted the command line.
	parsed bool
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: out, err: err,
		style: terminal.StyleOf(out), console: terminal.NewConsole(err), logger: hclog.NewNullLogger()}
}

// run runs one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(append([]string{}, args...)) // not nil, which cobra would replace by os.Args
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !a.parsed {
		err = &failure.UsageError{Err: err}
	}
	if usage, ok := errors.AsType[*failure.UsageError](err); ok {
		usage.Command = command.CommandPath()
	}
	a.report(ctx, err)
	return failure.ExitCode(ctx, err)
}

// prepare creates the logger. Cobra calls it before each command.
func (a *app) prepare(*cobra.Command, []string) error {
	a.parsed = true
	level := hclog.LevelFromString(a.logLevel)
	if level == hclog.NoLevel {
		return failure.Usagef("--log-level takes trace, debug, info, warn, error or off, not %q", a.logLevel)
	}
	color, times := hclog.ColorOff, "15:04:05.000"
	if a.logJSON { // for programs, which may read it on another day
		times = "2006-01-02T15:04:05.000Z07:00"
	}
	if a.console.Style.Colors && !a.logJSON {
		color = hclog.ForceColor
	}
	a.logger = hclog.New(&hclog.LoggerOptions{
		Level: level, Output: a.console, JSONFormat: a.logJSON, Color: color, TimeFormat: times,
	})
	if a.logJSON {
		a.jsonErrors = true // standard error then has JSON alone
	} else {
		a.logger = terminal.TextLogger{Logger: a.logger}
	}
	return nil
}

// options returns the runner's options for the common flags, followed by more.
func (a *app) options(more ...runner.Option) []runner.Option {
	opts := []runner.Option{runner.WithLogger(a.logger)}
	if a.python != "" {
		opts = append(opts, runner.WithPython(a.python))
	}
	if a.systemPython {
		opts = append(opts, runner.WithSystemPython())
	}
	if a.cacheDir != "" {
		opts = append(opts, runner.WithCacheDir(a.cacheDir))
	}
	return append(opts, more...)
}

// cache returns the cache folder that the common flags select.
func (a *app) cache() (string, error) { return runner.CacheDir(a.cacheDir) }

// newDisplay returns a display of the pipeline's nodes; see [terminal.NewDisplay].
func (a *app) newDisplay(nodes []string, inputs int) *terminal.Display {
	return terminal.NewDisplay(a.console, a.logger, nodes, inputs)
}

// onTerminal reports whether one of the standard streams is a terminal.
func (a *app) onTerminal() bool {
	return terminal.Is(a.in) || terminal.Is(a.out) || terminal.Is(a.err)
}
