// Package program is what the commands of gophersnake share: the streams and flags of the process,
// its log and the report of errors, pipelines and their runners, and connections to NATS.
package program

import (
	"context"
	"errors"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
)

// App is the state that all commands share: the standard streams, the common flags and
// the log.
type App struct {
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Style   terminal.Style    // for Out
	Console *terminal.Console // writes to Err

	// Logger discards records until the command line is parsed.
	Logger hclog.Logger
	// CacheDir is the flag --cache-dir.
	CacheDir string
	// JSONErrors says that errors are printed as JSON.
	JSONErrors bool

	logLevel     string
	logJSON      bool
	python       string
	systemPython bool
	// parsed says that cobra accepted the command line.
	parsed bool
}

// New returns the state of a process with the given standard streams.
func New(in io.Reader, out, err io.Writer) *App {
	return &App{In: in, Out: out, Err: err,
		Style: terminal.StyleOf(out), Console: terminal.NewConsole(err), Logger: hclog.NewNullLogger()}
}

// AddFlags adds the flags of all commands to the root command, and has the
// logger created before each of them.
func (a *App) AddFlags(root *cobra.Command) {
	root.PersistentPreRunE = a.prepare
	flags := root.PersistentFlags()
	flags.StringVar(&a.logLevel, "log-level", "info", "lowest level to log: trace, debug, info, warn, error or off")
	flags.BoolVar(&a.logJSON, "log-json", false, "write the log as JSON, one record per line")
	flags.StringVar(&a.python, "python", "", "Python interpreter: a path, a command, or a version such as 3.12")
	flags.BoolVar(&a.systemPython, "system-python", false, "run nodes in the interpreter itself instead of a managed environment")
	flags.StringVar(&a.CacheDir, "cache-dir", "", "folder for environments (default: a folder in the user's cache folder)")
}

// Execute runs one command line of the root command and returns the exit code.
func (a *App) Execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(append([]string{}, args...)) // not nil, which cobra would replace by os.Args
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
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
func (a *App) prepare(*cobra.Command, []string) error {
	a.parsed = true
	level := hclog.LevelFromString(a.logLevel)
	if level == hclog.NoLevel {
		return failure.Usagef("--log-level takes trace, debug, info, warn, error or off, not %q", a.logLevel)
	}
	color, times := hclog.ColorOff, "15:04:05.000"
	if a.logJSON { // for programs, which may read it on another day
		times = "2006-01-02T15:04:05.000Z07:00"
	}
	if a.Console.Style.Colors && !a.logJSON {
		color = hclog.ForceColor
	}
	a.Logger = hclog.New(&hclog.LoggerOptions{
		Level: level, Output: a.Console, JSONFormat: a.logJSON, Color: color, TimeFormat: times,
	})
	if a.logJSON {
		a.JSONErrors = true // standard error then has JSON alone
	} else {
		a.Logger = terminal.TextLogger{Logger: a.Logger}
	}
	return nil
}

// Options returns the runner's options for the common flags, followed by more.
func (a *App) Options(more ...runner.Option) []runner.Option {
	opts := []runner.Option{runner.WithLogger(a.Logger)}
	if a.python != "" {
		opts = append(opts, runner.WithPython(a.python))
	}
	if a.systemPython {
		opts = append(opts, runner.WithSystemPython())
	}
	if a.CacheDir != "" {
		opts = append(opts, runner.WithCacheDir(a.CacheDir))
	}
	return append(opts, more...)
}

// Cache returns the cache folder that the common flags select.
func (a *App) Cache() (string, error) { return runner.CacheDir(a.CacheDir) }

// NewDisplay returns a display of the pipeline's nodes; see [terminal.NewDisplay].
func (a *App) NewDisplay(nodes []string, inputs int) *terminal.Display {
	return terminal.NewDisplay(a.Console, a.Logger, nodes, inputs)
}

// OnTerminal reports whether one of the standard streams is a terminal.
func (a *App) OnTerminal() bool {
	return terminal.Is(a.In) || terminal.Is(a.Out) || terminal.Is(a.Err)
}
