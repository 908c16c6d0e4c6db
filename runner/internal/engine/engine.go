// Package engine is the seam for nodes whose code is neither Python nor Go: modules of
// WebAssembly, and executables. Its errors say what happened in terms that the package runner
// turns into its kinds.
package engine

import (
	"context"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// Engine runs the calls of a node. Its methods are safe for concurrent use, except that Start
// ends before the first Call.
type Engine interface {
	// Start makes the engine ready, or says why it cannot be. It is called once.
	Start(ctx context.Context) error
	// CallWithin runs the node once. The input and the output are one value each, in msgpack as
	// the package ipc describes it, with the data of tensors in place. The caller checks the
	// output, which is not trusted.
	CallWithin(ctx context.Context, within Within, in []byte) (out []byte, err error)
	// Close ends what the engine runs: calls that are in progress fail, and so do later ones.
	// It gives what it ends the time until the context ends. When it returns, nothing is left.
	// It may be called several times, and after a Start that failed.
	Close(ctx context.Context)
}

// Within says what bounds a call. The zero value is a call without bounds.
type Within struct {
	// Limit, 0 for none, is that of the time from the moment at which the engine begins the
	// call: waiting for other calls does not use it up. Cause is that of a call that exceeds it.
	Limit time.Duration
	Cause error
	// Turn is that of the operation that the call is an attempt of, or nil.
	Turn *Turn
}

// Fault classifies an [Error].
type Fault int

const (
	// Wasm means that a module of WebAssembly trapped, exited, or exceeded a limit.
	Wasm Fault = iota
	// Execution means that a program said that it failed.
	Execution
	// Transport means that a program died, hung, or broke the protocol.
	Transport
	// Marshaling means that a value cannot be carried to or from the program.
	Marshaling
	// System means that the operating system refused something.
	System
	// Manifest means that the manifest names something that cannot be run.
	Manifest
	// Busy means that a limit of the queue refused the call. Limit has its name.
	Busy
)

// Error is what went wrong in an engine. Fields that do not apply are zero.
type Error struct {
	Fault  Fault
	Reason string // one line: what happened
	Hint   string // what to do about it
	Cause  error  // the underlying error

	PID      int                  // of the process
	ExitCode *int                 // nil if it did not exit
	Signal   string               // that killed it, for instance "SIGKILL"
	Stderr   string               // the last lines of its standard error
	Stack    []ipc.TracebackFrame // innermost frame last
	Path     string               // of the part of a value that cannot be carried
	Limit    string               // that was exceeded, by its name in the manifest
	NotBegun bool                 // the call did not reach the node's code
}

// Error returns the reason and the cause.
func (e *Error) Error() string {
	if e.Cause == nil || strings.Contains(e.Reason, e.Cause.Error()) {
		return e.Reason
	}
	if e.Reason == "" {
		return e.Cause.Error()
	}
	return e.Reason + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }
