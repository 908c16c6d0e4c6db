package ipc

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// ErrClosed is the error of a call whose connection ended before its answer.
var ErrClosed = errors.New("the connection is closed")

// ProtocolError says that the peer spoke out of protocol. The connection is of
// no use after it.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "out of protocol: " + e.Reason }

// ValueError says that a value cannot be carried, and where inside the value
// the reason lies.
type ValueError struct {
	// Path leads to the place, for instance "result.items[3].handle".
	Path string
	// Reason says what is wrong there.
	Reason string
}

func (e *ValueError) Error() string {
	if e.Path == "" {
		return "cannot carry the value: " + e.Reason
	}
	return fmt.Sprintf("cannot carry %s: %s", e.Path, e.Reason)
}

// in puts a step of the path before what is there. Paths are built on the way
// out of the recursion, so that a value without fault pays nothing for them.
func (e *ValueError) in(step string) *ValueError {
	if e.Path != "" && e.Path[0] != '[' && e.Path[0] != '.' {
		step += "."
	}
	e.Path = step + e.Path
	return e
}

// TracebackFrame is one line of a Python traceback, the outermost first.
type TracebackFrame struct {
	File     string `msgpack:"file" json:"file"`
	Line     int    `msgpack:"line" json:"line"`
	Function string `msgpack:"function" json:"function"`
	Source   string `msgpack:"source" json:"source,omitempty"`
}

// Exception is a Python exception: its class, its words and where it was raised.
type Exception struct {
	Class   string           `msgpack:"class" json:"class"`
	Message string           `msgpack:"message" json:"message"`
	Notes   []string         `msgpack:"notes" json:"notes"`
	Frames  []TracebackFrame `msgpack:"frames" json:"frames"`
	// Relation is "cause" (raise … from …) or "context" (raised while handling),
	// said of a chained exception.
	Relation string     `msgpack:"relation" json:"relation"`
	Cause    *Exception `msgpack:"cause" json:"cause"`
}

func (e *Exception) Error() string {
	switch {
	case e.Message == "" && e.Class == "":
		return "an error of which nothing is told"
	case e.Message == "":
		return e.Class
	case e.Class == "": // what the worker says itself
		return e.Message
	}
	return e.Class + ": " + e.Message
}

// Unwrap returns the chained exception.
func (e *Exception) Unwrap() error {
	if e.Cause == nil {
		return nil
	}
	return e.Cause
}

// Where a failure happened in the life of a worker.
const (
	StageImport = "import"
	StageParams = "params"
	StageSetup  = "setup"
	StageDecode = "decode"
	StageCall   = "call"
	StageEncode = "encode"
)

// The kinds of failure that a worker reports.
const (
	FailureExecution  = "execution"
	FailurePythonVM   = "python_vm"
	FailureMarshaling = "marshaling"
	FailureManifest   = "manifest"
	FailureCancelled  = "cancelled"
	FailureIO         = "io"
	FailureTransport  = "transport"
)

// RemoteError is a failure as the worker reports it in an error frame.
type RemoteError struct {
	Kind string `msgpack:"kind" json:"kind"`
	Exception
	// Text is the traceback as Python prints it.
	Text string `msgpack:"text" json:"text"`
	// Stage says where in the worker's life it happened.
	Stage string `msgpack:"stage" json:"stage"`
	// Path leads to the place inside the value, for FailureMarshaling.
	Path string `msgpack:"path" json:"path"`
	// Oversize is the bytes of a result that is larger than SetupLimits.Result, 0 for
	// any other failure.
	Oversize int64 `msgpack:"oversize" json:"oversize,omitempty"`
	// Hint says what to do next.
	Hint string `msgpack:"hint" json:"hint"`
	// Retryable is the node's own word (Permanent, Transient); nil where it said nothing.
	Retryable *bool `msgpack:"retryable" json:"retryable"`
	// RetryAfterSeconds is the delay that a Transient error asks for.
	RetryAfterSeconds *float64 `msgpack:"retry_after" json:"retry_after"`
	// Fatal says that the worker ends right after this frame.
	Fatal bool `msgpack:"fatal" json:"fatal"`
	// ExitCode is the code given to sys.exit.
	ExitCode *int `msgpack:"exit_code" json:"exit_code"`
}

func (e *RemoteError) Error() string {
	var b strings.Builder
	b.WriteString(e.Exception.Error())
	if n := len(e.Frames); n > 0 {
		fmt.Fprintf(&b, " (%s:%d in %s)", e.Frames[n-1].File, e.Frames[n-1].Line, e.Frames[n-1].Function)
	}
	return b.String()
}

// RetryAfter returns the delay that the node asked for, and whether it did. A
// negative or undefined delay is none; one beyond what a Duration holds is the
// longest.
func (e *RemoteError) RetryAfter() (time.Duration, bool) {
	if e.RetryAfterSeconds == nil {
		return 0, false
	}
	nanos := *e.RetryAfterSeconds * float64(time.Second)
	switch {
	case nanos >= math.MaxInt64:
		return math.MaxInt64, true
	case nanos > 0:
		return time.Duration(nanos), true
	}
	return 0, true
}
