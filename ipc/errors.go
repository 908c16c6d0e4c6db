package ipc

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// ErrClosed is wrapped by the error of a call whose connection ended before the answer
// arrived.
var ErrClosed = errors.New("the connection is closed")

// ErrAbandoned is the error of a call that was abandoned before its answer arrived, or
// canceled before it was sent.
var ErrAbandoned = errors.New("the call was abandoned before its answer")

// ProtocolError reports that the peer violated the protocol. It ends the connection.
type ProtocolError struct {
	// Reason describes the violation.
	Reason string
}

// Error returns the reason.
func (e *ProtocolError) Error() string { return "out of protocol: " + e.Reason }

// ValueError reports that a value cannot be carried.
type ValueError struct {
	// Path is the path to the part of the value that cannot be carried, for instance
	// "result.items[3].handle".
	Path string
	// Reason describes what is wrong with that part.
	Reason string
	// Hint says what to do instead. It is empty if nothing can be recommended.
	Hint string
}

// Error returns the path and the reason.
func (e *ValueError) Error() string {
	if e.Path == "" {
		return "cannot carry the value: " + e.Reason
	}
	return fmt.Sprintf("cannot carry %s: %s", e.Path, e.Reason)
}

// in puts a step before the path. Paths are built when an error returns through the
// recursion, so that a valid value costs nothing for them.
func (e *ValueError) in(step string) *ValueError {
	if e.Path != "" && e.Path[0] != '[' && e.Path[0] != '.' {
		step += "."
	}
	e.Path = step + e.Path
	return e
}

// TracebackFrame is one frame of a Python traceback.
type TracebackFrame struct {
	File     string `msgpack:"file" json:"file"`
	Line     int    `msgpack:"line" json:"line"`
	Function string `msgpack:"function" json:"function"`
	// Source is the text of the line, empty if it is not available.
	Source string `msgpack:"source" json:"source,omitempty"`
}

// Exception is a Python exception.
type Exception struct {
	Class   string `msgpack:"class" json:"class"`
	Message string `msgpack:"message" json:"message"`
	// Notes are the notes that were added to the exception by add_note.
	Notes []string `msgpack:"notes" json:"notes"`
	// Frames are the frames of the traceback, the outermost first.
	Frames []TracebackFrame `msgpack:"frames" json:"frames"`
	// Relation says how a chained exception relates to the exception that it is the
	// Cause of: "cause" (raise … from …) or "context" (raised while handling it).
	Relation string     `msgpack:"relation" json:"relation"`
	Cause    *Exception `msgpack:"cause" json:"cause"`
}

// Error returns the class and the message as Python prints them.
func (e *Exception) Error() string {
	switch {
	case e.Message == "" && e.Class == "":
		return "an unknown error"
	case e.Message == "":
		return e.Class
	case e.Class == "": // the worker itself reports it
		return e.Message
	}
	return e.Class + ": " + e.Message
}

// Unwrap returns the chained exception, nil if there is none.
func (e *Exception) Unwrap() error {
	if e.Cause == nil {
		return nil
	}
	return e.Cause
}

// The stages of a worker in which a failure can occur, see [RemoteError].Stage.
const (
	StageImport = "import" // the node's code is imported
	StageParams = "params" // the params are checked against its signature
	StageSetup  = "setup"  // the node is created and set up
	StageDecode = "decode" // the arguments of a call are decoded
	StageCall   = "call"   // the node is called
	StageEncode = "encode" // its result is encoded

	// The stages of a session, besides those of its calls.
	StageBegin    = "begin"    // the initial state is created
	StageRestore  = "restore"  // a saved state is restored
	StageFinish   = "finish"   // the last values are returned
	StageSnapshot = "snapshot" // the state is saved
)

// The kinds of failure that a worker reports, see [RemoteError].Kind.
const (
	FailureExecution  = "execution"
	FailurePythonVM   = "python_vm"
	FailureMarshaling = "marshaling"
	FailureManifest   = "manifest"
	FailureCanceled   = "canceled"
	FailureIO         = "io"
	FailureTransport  = "transport"
)

// RemoteError is a failure that the worker reports in an error frame.
type RemoteError struct {
	// Kind is one of the Failure constants.
	Kind string `msgpack:"kind" json:"kind"`
	Exception
	// Bases are the names of the classes that the class of the exception inherits from,
	// nearest first, at most [MaxBases] of them. Failures that the worker itself found have
	// none.
	Bases []string `msgpack:"bases" json:"bases,omitempty"`
	// Text is the traceback as Python prints it.
	Text string `msgpack:"text" json:"text"`
	// Stage is one of the Stage constants.
	Stage string `msgpack:"stage" json:"stage"`
	// Path is the path to the part of a value that cannot be carried, for
	// FailureMarshaling.
	Path string `msgpack:"path" json:"path"`
	// Oversize is the size in bytes of a result that is larger than SetupLimits.Result,
	// and 0 for any other failure.
	Oversize int64 `msgpack:"oversize" json:"oversize,omitempty"`
	// Hint says what the user can do next.
	Hint string `msgpack:"hint" json:"hint"`
	// Retryable is true if the node raised Transient, false if it raised Permanent, and
	// nil if it raised another exception.
	Retryable *bool `msgpack:"retryable" json:"retryable"`
	// RetryAfterSeconds is the delay that a Transient exception asks for, nil if none.
	RetryAfterSeconds *float64 `msgpack:"retry_after" json:"retry_after"`
	// Fatal means that the worker exits right after this frame.
	Fatal bool `msgpack:"fatal" json:"fatal"`
	// ExitCode is the code that was passed to sys.exit, nil if it was not called.
	ExitCode *int `msgpack:"exit_code" json:"exit_code"`
	// Member is the index of the node that failed in a fused chain.
	Member int `msgpack:"member" json:"member,omitempty"`
}

// Error returns the class, the message and the innermost frame of the exception.
func (e *RemoteError) Error() string {
	var b strings.Builder
	b.WriteString(e.Exception.Error())
	if n := len(e.Frames); n > 0 {
		fmt.Fprintf(&b, " (%s:%d in %s)", e.Frames[n-1].File, e.Frames[n-1].Line, e.Frames[n-1].Function)
	}
	return b.String()
}

// RetryAfter returns the delay that the node asked for, and whether it asked for one. A
// negative or undefined delay becomes 0, and one beyond the range of a Duration becomes
// the longest Duration.
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

// bound brings the texts of a failure within their bounds: they are logged, kept as the
// reason of a node's state, and shown on terminals.
func (e *RemoteError) bound() {
	for _, text := range []*string{&e.Text, &e.Path, &e.Hint, &e.Kind, &e.Stage} {
		*text = cut(*text, MaxMessage)
	}
	e.Bases = e.Bases[:min(len(e.Bases), MaxBases)]
	for i := range e.Bases {
		e.Bases[i] = cut(e.Bases[i], MaxName)
	}
	each := &e.Exception
	each.bound()
	for range maxCauses {
		if each = each.Cause; each == nil {
			return
		}
		each.bound()
	}
	each.Cause = nil
}

func (e *Exception) bound() {
	e.Class, e.Message, e.Relation = cut(e.Class, MaxName), cut(e.Message, MaxMessage), cut(e.Relation, MaxName)
	e.Notes = e.Notes[:min(len(e.Notes), maxNotes)]
	e.Frames = e.Frames[max(len(e.Frames)-maxFrames, 0):]
	for i := range e.Notes {
		e.Notes[i] = cut(e.Notes[i], MaxMessage)
	}
	for i := range e.Frames {
		f := &e.Frames[i]
		f.File, f.Function, f.Source = cut(f.File, MaxText), cut(f.Function, MaxText), cut(f.Source, MaxText)
	}
}
