package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner"
)

// The exit codes that follow from no error's kind.
const (
	exitUsage   = 2
	exitTimeout = 124 // as timeout(1)
)

// kindCodes are the exit codes of the errors' kinds.
var kindCodes = map[runner.Kind]int{
	runner.KindOther:         1,
	runner.KindManifest:      3,
	runner.KindExecution:     4,
	runner.KindPythonVM:      5,
	runner.KindTransport:     6,
	runner.KindIO:            7,
	runner.KindMarshaling:    8,
	runner.KindSerialization: 9,
	runner.KindWasm:          10,
}

const exitCodes = `  0    all went well
  1    other: whatever is not below, an open circuit breaker included
  2    the command line is wrong
  3    manifest: the pipeline is wrong
  4    execution: a node's code raised
  5    python_vm: an interpreter died, hung, ran out of memory or could not start
  6    transport: the connection to a worker broke
  7    io: files, sockets, environments; the operating system said no
  8    marshaling: a value cannot be carried
  9    serialization: a document cannot be read or written
  10   wasm: a WASM node trapped (there are none yet)
  124  the time of --timeout was over
  129  hung up (the terminal was closed)
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)
`

func newExitCodes() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: "The exit code says how a command ended; of several errors, the first one counts.\n\n" + exitCodes +
			"\nThe names are those of error kinds, as in `kind` of an error printed as JSON.\n" +
			"Through `go run` they are lost: it exits with 1 whatever the program exits with.",
	}
}

// errTimeout is why a context ended whose --timeout was over.
var errTimeout = errors.New("the time of --timeout is over")

// usageError is a wrong command line.
type usageError struct {
	err     error
	command string // whose help tells more
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// reportedError is an error that has been printed already.
type reportedError struct{ error }

func (e reportedError) Unwrap() error { return e.error }

// silentError ends a command that has printed what is wrong as its result.
type silentError struct{ code int }

func (e silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// exitCode returns the exit code for the outcome of a command.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if stop, ok := interruption(ctx); ok {
		return stop.exitCode()
	}
	if stop, ok := errors.AsType[interrupted](err); ok { // the terminal has gone
		return stop.exitCode()
	}
	if errors.Is(err, errTimeout) {
		return exitTimeout
	}
	if silent, ok := errors.AsType[silentError](err); ok {
		return silent.code
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return kindCodes[runner.KindOf(err)]
}
