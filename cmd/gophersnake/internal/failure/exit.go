package failure

import (
	"context"
	"errors"

	"github.com/gophersnake/gophersnake/runner"
)

// Exit codes of failures that have no kind.
const (
	exitUsage   = 2
	exitTimeout = 124 // as timeout(1)
)

// kindCodes are the exit codes of the kinds of errors.
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

// ExitCodes lists the exit codes for the help texts.
const ExitCodes = `  0    success
  1    other: any failure that is not listed below, such as an open circuit breaker
  2    the command line is invalid
  3    manifest: the pipeline is invalid
  4    execution: the Python code of a node raised an exception
  5    python_vm: an interpreter died, hung, ran out of memory or could not start
  6    transport: the connection to a worker broke
  7    io: an operation on a file, a socket or an environment failed
  8    marshaling: a value cannot be sent to a node or returned by it
  9    serialization: a document, such as a JSON file, cannot be read or written
  10   wasm: a WebAssembly module trapped, exited, hung or ran out of memory
  124  the --timeout expired
  129  the terminal was closed (SIGHUP)
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)
`

// ExitCode returns the exit code of a command that returned err. The context is that of
// the command: a signal that ended it takes precedence over err.
func ExitCode(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if stop, ok := Interruption(ctx); ok {
		return stop.ExitCode()
	}
	if stop, ok := errors.AsType[Interrupted](err); ok { // the terminal was closed
		return stop.ExitCode()
	}
	if errors.Is(err, ErrTimeout) {
		return exitTimeout
	}
	if silent, ok := errors.AsType[Silent](err); ok {
		return silent.Code
	}
	if _, ok := errors.AsType[*UsageError](err); ok {
		return exitUsage
	}
	return kindCodes[runner.KindOf(err)]
}
