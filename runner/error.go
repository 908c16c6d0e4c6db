package runner

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Kind classifies an [Error]. The kind decides whether an operation that failed is
// retried.
//
// A Kind is an error itself. It can be the target of [errors.Is], and wrapping it
// gives any error a kind:
//
//	if errors.Is(err, runner.KindPythonVM) { … }
//	return fmt.Errorf("fetch the model: %w", runner.KindIO)
type Kind uint8

// The kinds of failure. Errors of the kinds marked as retryable are retried under the
// node's policy.
const (
	// KindOther is the kind of all other errors, for instance cancellation, and the
	// refusal of a call by an open circuit breaker. Not retryable.
	KindOther Kind = iota
	// KindManifest means that the pipeline is invalid: its manifest violates the
	// schema or names an unknown node, its connections form a cycle, or params do not
	// fit a node. Not retryable.
	KindManifest
	// KindExecution means that the node's code raised an exception. Retryable.
	KindExecution
	// KindPythonVM means that a Python interpreter died, hung past its deadline, could
	// not start, or ran out of memory. Retryable.
	KindPythonVM
	// KindWasm means that a WebAssembly module trapped, exited, hung past its deadline, ran
	// out of memory, or broke the protocol of its functions. Retryable.
	KindWasm
	// KindTransport means that the connection to a worker broke while its process
	// lived, or that the worker violated the protocol. Retryable.
	KindTransport
	// KindIO means that the operating system refused an operation on a file, a socket
	// or an environment. Retryable.
	KindIO
	// KindMarshaling means that a value cannot be passed between Go and Python: its
	// type is not supported, or it is too large or too deep. Not retryable.
	KindMarshaling
	// KindSerialization means that a document, such as a manifest or JSON input,
	// cannot be encoded or decoded. Not retryable.
	KindSerialization
)

var kindNames = [...]string{
	KindOther:         "other",
	KindManifest:      "manifest",
	KindExecution:     "execution",
	KindPythonVM:      "python_vm",
	KindWasm:          "wasm",
	KindTransport:     "transport",
	KindIO:            "io",
	KindMarshaling:    "marshaling",
	KindSerialization: "serialization",
}

// ParseKind returns the kind with the given name, as returned by [Kind.String].
func ParseKind(name string) (Kind, error) {
	if i := slices.Index(kindNames[:], name); i >= 0 {
		return Kind(i), nil
	}
	return KindOther, fmt.Errorf("unknown error kind %q; the kinds are %s", name, strings.Join(kindNames[:], ", "))
}

// KindOf returns the kind of the outermost [*Error] that err wraps, else the Kind that
// it wraps, else [KindOther].
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	kind, _ := errors.AsType[Kind](err)
	return kind
}

// String returns the name that manifests and JSON use, for instance "python_vm".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Error returns the same text as String. It makes a Kind an error.
func (k Kind) Error() string { return k.String() }

// Retryable reports whether errors of this kind are retried.
func (k Kind) Retryable() bool {
	switch k {
	case KindExecution, KindPythonVM, KindWasm, KindTransport, KindIO:
		return true
	}
	return false
}

// MarshalText returns the kind's name. It fails if k is not one of the constants.
func (k Kind) MarshalText() ([]byte, error) {
	if int(k) >= len(kindNames) {
		return nil, fmt.Errorf("%s is not an error kind", k.String())
	}
	return []byte(k.String()), nil
}

// UnmarshalText sets the kind from its name.
func (k *Kind) UnmarshalText(text []byte) error {
	kind, err := ParseKind(string(text))
	if err == nil {
		*k = kind
	}
	return err
}

// kinds is a set of kinds.
type kinds uint16

func kindSet(list []Kind) kinds {
	var set kinds
	for _, k := range list {
		set |= 1 << k
	}
	return set
}

func (s kinds) has(k Kind) bool { return s&(1<<k) != 0 }

// Verdict says whether an error is retried regardless of its kind. A node decides it
// by raising gophersnake.Permanent or gophersnake.Transient.
type Verdict uint8

const (
	// VerdictByKind means that the kind of the error decides.
	VerdictByKind Verdict = iota
	// VerdictPermanent means that the error is not retried.
	VerdictPermanent
	// VerdictTransient means that the error is retried.
	VerdictTransient
)

// String returns "by kind", "permanent" or "transient".
func (v Verdict) String() string {
	switch v {
	case VerdictPermanent:
		return "permanent"
	case VerdictTransient:
		return "transient"
	}
	return "by kind"
}

// Error is the error type of this package. Kind, Message and Cause say what happened.
// Node, Operation, Attempt, PID and Traceback locate it. Hint says what to do about it.
// A field is zero if it does not apply or is not known.
//
// Find an Error in a chain with [errors.As] or [errors.AsType], and test its kind with
// [errors.Is] and a [Kind]. The method Error returns one line; the verb %+v prints the
// full report, with the Python traceback as Python prints it; [Error.MarshalJSON]
// encodes it for machines.
//
// An Error may be shared between goroutines, so its fields must not be changed once it
// was returned. The methods that add context (WithNode, WithOperation, …) return a
// copy. They set only what is not set yet, since the code closest to the failure has
// the most precise context, and they change neither the kind, nor the cause, nor
// whether the error is retryable. On a nil *Error they return nil.
type Error struct {
	// Kind classifies the failure.
	Kind Kind
	// Message says what happened. For a Python exception it is the exception's text.
	Message string
	// Cause is the underlying error, or nil.
	Cause error

	// Node is the id of the node in the pipeline.
	Node string
	// Operation is what failed, for instance "call" or "setup".
	Operation string
	// Attempt is the number of the attempt, counted from 1.
	Attempt int
	// Attempts is the number of attempts that the policy allows.
	Attempts int
	// PID is the process id of the worker.
	PID int
	// Path is the location, inside a value, of a part that cannot be marshaled, for
	// instance "result.items[3]".
	Path string
	// Hint says what to do about the failure.
	Hint string
	// Metadata holds additional facts by name. It must not be changed; see
	// [Error.WithMetadata].
	Metadata map[string]string

	// PythonClass is the class of the Python exception, for instance "ValueError".
	PythonClass string
	// PythonBases are the classes that it inherits from, nearest first, for instance
	// "Exception".
	PythonBases []string
	// Traceback is the Python stack, innermost frame last, at the point at which the
	// exception was raised, or the interpreter hung or died. For a WebAssembly module it is
	// the stack at the trap or the exit; without debug information in the module, File is
	// the name of the module and Line is 0.
	Traceback []ipc.TracebackFrame
	// Notes are the notes that were added to the Python exception.
	Notes []string
	// Chained is the Python exception that caused this one, or that was being handled
	// when this one was raised.
	Chained *ipc.Exception

	// ExitCode is the exit code of the worker, nil if it did not exit.
	ExitCode *int
	// Signal is the name of the signal that killed the worker, for instance "SIGKILL".
	Signal string
	// Limit is the limit that was exceeded, by its name in the manifest, for instance
	// "resident".
	Limit string
	// Hang says how a worker hung that was killed for it: "blocked in Python",
	// "blocked in C code that holds the GIL" or "the process is stopped".
	Hang string
	// StderrTail holds the last lines that the worker wrote to its standard error.
	StderrTail string

	// Verdict says whether the error is retried regardless of its kind.
	Verdict Verdict
	// After is the delay before the next attempt that the node asks for, nil if it
	// asks for none.
	After *time.Duration
	// NotBegun means that no node code can have run for the call, because it was not
	// handed to a worker. So it is retried even if the node is not idempotent.
	NotBegun bool
	// BreakerExempt means that the failure does not count on the node's circuit
	// breaker, because the node did not cause it: for instance, it was the fault of the
	// input, or the queue for its workers was full. Errors of the kinds [KindManifest]
	// and [KindMarshaling] never count.
	BreakerExempt bool

	// breach is the limit that a call exceeded while its worker lived on.
	breach *worker.Breach
	// origin is the error that this one is a copy of, for errors.Is.
	origin *Error
}

// NewError returns an error of the given kind.
func NewError(kind Kind, message string) *Error {
	return &Error{Kind: kind, Message: message}
}

// Wrap returns an error of the given kind with err as its cause. The message may be
// empty; then the cause says what happened.
func Wrap(err error, kind Kind, message string) *Error {
	return &Error{Kind: kind, Message: message, Cause: err}
}

// AsError converts any error to an [*Error], so that context can be added to it.
//
//   - An *Error is returned as it is, and nil as nil.
//   - An error that wraps an *Error becomes a copy of it, with err as the cause.
//   - Any other error becomes the cause of a new *Error. Its kind is the [Kind] that
//     err wraps, else [KindOther]; its verdict follows [retry.Retryable].
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // a wrapped one is the next case
		return e
	}
	if inner, ok := errors.AsType[*Error](err); ok {
		return inner.wrappedBy(err)
	}
	e := &Error{Kind: KindOf(err), Cause: err}
	if retryable := retry.Retryable(err); retryable != e.Kind.Retryable() {
		e.Verdict = VerdictPermanent
		if retryable {
			e.Verdict = VerdictTransient
		}
	}
	return e
}

// wrappedBy returns a copy whose cause is err, which wraps e.
func (e *Error) wrappedBy(err error) *Error {
	outer := *e
	outer.Cause, outer.origin = err, nil
	return &outer
}

// IsRetryable reports whether an operation that failed with err is worth a retry.
func IsRetryable(err error) bool { return retry.Retryable(err) }

// Retryable reports whether the error is retried: as its verdict says, else its kind.
func (e *Error) Retryable() bool {
	switch e.Verdict {
	case VerdictPermanent:
		return false
	case VerdictTransient:
		return true
	}
	return e.Kind.Retryable()
}

// RetryAfter returns the delay before the next attempt that the error, or else its
// cause, asks for: an open circuit breaker asks for the time until its next probe. It
// returns false if none does.
func (e *Error) RetryAfter() (time.Duration, bool) {
	if e.After != nil {
		return *e.After, true
	}
	cause, ok := errors.AsType[interface {
		error
		RetryAfter() (time.Duration, bool)
	}](e.Cause)
	if !ok {
		return 0, false
	}
	return cause.RetryAfter()
}

// isRaisedAs reports whether Python raised an exception of one of the named classes, or
// of a class that inherits from one.
func (e *Error) isRaisedAs(names []string) bool {
	if e.PythonClass == "" {
		return false
	}
	for _, name := range names {
		if isClass(e.PythonClass, name) ||
			slices.ContainsFunc(e.PythonBases, func(base string) bool { return isClass(base, name) }) {
			return true
		}
	}
	return false
}

// isClass reports whether a name stands for a class. The last parts of both must be the
// same. Other parts may be missing in the name, since packages export the classes of
// their modules: json.JSONDecodeError stands for json.decoder.JSONDecodeError.
func isClass(class, name string) bool {
	full, parts := strings.Split(class, "."), strings.Split(name, ".")
	last := len(parts) - 1
	if full[len(full)-1] != parts[last] {
		return false
	}
	found := 0
	for _, part := range full[:len(full)-1] {
		if found < last && part == parts[found] {
			found++
		}
	}
	return found == last
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is the error's kind, or an *Error to which context was
// added to make this one.
func (e *Error) Is(target error) bool {
	switch target := target.(type) {
	case Kind:
		return e.Kind == target
	case *Error:
		for from := e.origin; from != nil; from = from.origin {
			if from == target {
				return true
			}
		}
	}
	return false
}

// WithNode returns a copy with the id of the node.
func (e *Error) WithNode(id string) *Error {
	return e.with(func(e *Error) { setIfZero(&e.Node, id) })
}

// WithOperation returns a copy with the operation that failed, for instance "call".
func (e *Error) WithOperation(operation string) *Error {
	return e.with(func(e *Error) { setIfZero(&e.Operation, operation) })
}

// WithAttempt returns a copy with the number of the attempt, counted from 1, and the
// number of attempts that the policy allows. An error that has either keeps both.
func (e *Error) WithAttempt(attempt, attempts int) *Error {
	return e.with(func(e *Error) {
		if e.Attempt == 0 && e.Attempts == 0 {
			e.Attempt, e.Attempts = attempt, attempts
		}
	})
}

// WithPID returns a copy with the process id of the worker.
func (e *Error) WithPID(pid int) *Error {
	return e.with(func(e *Error) { setIfZero(&e.PID, pid) })
}

// WithHint returns a copy with a hint about what to do.
func (e *Error) WithHint(hint string) *Error {
	return e.with(func(e *Error) { setIfZero(&e.Hint, hint) })
}

// WithMetadata returns a copy with an additional fact. A key that is set keeps its
// value.
func (e *Error) WithMetadata(key, value string) *Error {
	return e.with(func(e *Error) {
		if _, ok := e.Metadata[key]; ok {
			return
		}
		e.Metadata = maps.Clone(e.Metadata)
		if e.Metadata == nil {
			e.Metadata = make(map[string]string, 1)
		}
		e.Metadata[key] = value
	})
}

// with returns a copy to which add has added context.
func (e *Error) with(add func(*Error)) *Error {
	if e == nil {
		return nil
	}
	more := *e
	more.origin = e
	add(&more)
	return &more
}

func setIfZero[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// faults is the cause of an [Error] that joins several errors.
type faults []error

// Error returns the texts of all faults in one line.
func (f faults) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the faults, so that [errors.Is] and [errors.As] find each of them.
func (f faults) Unwrap() []error { return f }

// joinFaults returns nil if all errors are nil, the only error that is not, or one
// error that joins several. Its kind is that of the first one.
func joinFaults(all []error) error {
	all = slices.DeleteFunc(all, func(err error) bool { return err == nil })
	switch len(all) {
	case 0:
		return nil
	case 1:
		return classify(all[0])
	}
	return Wrap(faults(all), KindOf(all[0]), fmt.Sprintf("%d faults: %v", len(all), faults(all)))
}

// Faults returns the errors that e joins, for instance one for each node that could
// not be started. It is nil if e stands for a single failure.
func (e *Error) Faults() []error {
	all, _ := errors.AsType[faults](e.Cause)
	return slices.Clone(all)
}

var (
	// ErrClosed is wrapped by the errors of a runner that was closed.
	ErrClosed = errors.New("the runner is closed")
	// ErrDraining is wrapped by the errors of a runner that drains; see [Runner.Drain].
	ErrDraining = errors.New("the runner drains and takes nothing more")
)

func errClosed() *Error { return refusal(ErrClosed, ErrClosed) }

func errDraining() *Error { return refusal(ErrDraining, ErrDraining) }

// refusal returns the error of a call that a runner refuses, whatever its nodes do. The
// cause wraps the reason, which is ErrClosed or ErrDraining.
func refusal(reason, cause error) *Error {
	e := Wrap(cause, KindOther, reason.Error())
	e.BreakerExempt = true
	return e
}
