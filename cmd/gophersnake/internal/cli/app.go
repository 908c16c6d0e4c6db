// Package cli is the command line of gophersnake.
package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gophersnake/gophersnake/runner"
)

// app is what all commands share: the streams, the flags that every command
// takes, and the log.
type app struct {
	in       io.Reader
	out      io.Writer
	err      io.Writer
	outStyle style
	errStyle style
	version  string // of a release build, else empty

	logLevel     string
	logJSON      bool
	python       string
	systemPython bool
	cacheDir     string

	log    *logWriter
	logger hclog.Logger

	// jsonErrors says that errors are wanted as JSON.
	jsonErrors bool
	// parsed says that the command line was understood.
	parsed bool
}

// Main carries the command line out and returns the exit code. The version is that of a
// release build, else empty.
func Main(version string) int {
	ctx, stop := withSignals(context.Background())
	defer stop()
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	a.version = version
	return a.run(ctx, os.Args[1:])
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: out, err: err,
		outStyle: styleOf(out), errStyle: styleOf(err),
		log: &logWriter{to: err}, logger: hclog.NewNullLogger()}
}

// run carries one command line out and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(append([]string{}, args...)) // of nil, cobra would make os.Args
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !a.parsed {
		err = &usageError{err: err}
	}
	if usage, ok := errors.AsType[*usageError](err); ok {
		usage.command = command.CommandPath()
	}
	a.report(ctx, err)
	return exitCode(ctx, err)
}

// prepare makes the log; it runs before each command.
func (a *app) prepare(*cobra.Command, []string) error {
	a.parsed = true
	level := hclog.LevelFromString(a.logLevel)
	if level == hclog.NoLevel {
		return usagef("--log-level takes trace, debug, info, warn, error or off, not %q", a.logLevel)
	}
	color := hclog.ColorOff
	if a.errStyle.on && !a.logJSON {
		color = hclog.ForceColor
	}
	a.logger = hclog.New(&hclog.LoggerOptions{
		Level: level, Output: a.log, JSONFormat: a.logJSON, Color: color, TimeFormat: "15:04:05.000",
	})
	return nil
}

// options are the runner's options that follow from the common flags.
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

// isTerminal reports whether a stream is somebody's screen or keyboard.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
