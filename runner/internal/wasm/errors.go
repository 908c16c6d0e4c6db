package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ianlancetaylor/demangle"
	"github.com/tetratelabs/wazero/sys"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
)

// ErrClosed is returned by Call after Close.
var ErrClosed = errors.New("the module is closed")

// InvalidError says that a file is no module that can be used: it is no valid WebAssembly,
// it declares more than is allowed, or it imports or exports the wrong things. Trying again
// does not help.
type InvalidError struct {
	Path  string
	Hint  string // what to do about it; may be empty
	Cause error
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("%s cannot be used: %v", filepath.Base(e.Path), e.Cause)
}

// Unwrap returns the cause.
func (e *InvalidError) Unwrap() error { return e.Cause }

// ExportError says which exports a module does not have.
type ExportError struct {
	Missing []string // with their types
	Has     []string // the functions that it exports
}

func (e *ExportError) Error() string {
	has := "exports no functions"
	if len(e.Has) > 0 {
		has = "exports " + listed(e.Has)
	}
	return fmt.Sprintf("the module does not export %s; it %s", strings.Join(e.Missing, " and "), has)
}

// ImportError says which imports of a module do not exist.
type ImportError struct{ Missing []string }

func (e *ImportError) Error() string {
	return fmt.Sprintf("the module imports %s; there are only the functions of %s", listed(e.Missing), wasiModule)
}

// listed joins the first names of a list.
func listed(names []string) string {
	const shown = 10
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ")
}

// StartError says that no instance of a module could be started. No call was begun in it.
type StartError struct{ Cause error }

func (e *StartError) Error() string { return fmt.Sprintf("the module did not start: %v", e.Cause) }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Cause }

// TrapError says that a module trapped. Its instance is closed.
type TrapError struct {
	Reason string
	// Frames is the stack at the trap, innermost frame last. The file and the line are those
	// of the source code if the module has DWARF, else the name of the module and 0.
	Frames []ipc.TracebackFrame
	Stderr string // the last lines of standard error
}

func (e *TrapError) Error() string { return "the module trapped: " + e.Reason }

// ExitError says that a module exited: a command with another code than 0, or a module with
// functions with any code. Its instance is closed.
type ExitError struct {
	Code   uint32
	Frames []ipc.TracebackFrame // as in [TrapError]
	Stderr string
}

func (e *ExitError) Error() string { return fmt.Sprintf("the module exited with code %d", e.Code) }

// MemoryError says that a module ended after it was refused memory beyond its limit, or
// needs more than that when it starts.
type MemoryError struct {
	Limit int64 // in bytes
	Asked int64 // the size of the memory that the module would have had
	// Cause is the *[TrapError] or the *[ExitError] of the module; nil if it did not start.
	Cause error
}

func (e *MemoryError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("the module starts with %d bytes of memory, more than the limit of %d", e.Asked, e.Limit)
	}
	return fmt.Sprintf("the module ran out of memory: it asked for %d bytes, more than the limit of %d; then %v", e.Asked, e.Limit, e.Cause)
}

// Unwrap returns the cause.
func (e *MemoryError) Unwrap() error { return e.Cause }

// InterruptedError says that a call's time was over, or that its context ended, before the
// call did. The instance, if the call had one, is closed.
type InterruptedError struct {
	Cause  error // the cause of the context's end, or that of the limit of the call's time
	End    error // the error of the context; nil if the call's own time was over
	Waited bool  // the call had no instance yet, because all of them were in use
	Stderr string
}

func (e *InterruptedError) Error() string {
	if e.Waited {
		return fmt.Sprintf("all instances were in use: %v", e.Cause)
	}
	return fmt.Sprintf("the module was interrupted: %v", e.Cause)
}

// Unwrap returns the cause.
func (e *InterruptedError) Unwrap() error { return e.Cause }

// Is reports whether target is the error of the context.
func (e *InterruptedError) Is(target error) bool { return e.End != nil && target == e.End }

// The limits, by their names in the manifest.
const (
	limitMemory = "memory"
	limitResult = "result"
)

// ProtocolError says that a module violated the protocol of its functions, for instance
// with a result outside of its memory. Its instance is closed.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return e.Reason }

// ResultError says that a result is larger than allowed.
type ResultError struct {
	Size  int64 // of the result, or of the part that was written before the module was ended
	Limit int64
}

func (e *ResultError) Error() string {
	return fmt.Sprintf("it takes %d bytes or more, and limits.result allows %d", e.Size, e.Limit)
}

// exit is the panic of proc_exit. wazero adds the stack to it.
type exit struct{ code uint32 }

func (e *exit) Error() string { return fmt.Sprintf("exit %d", e.code) }

// fault returns the typed error of an error that wazero returned of this instance.
func (i *instance) fault(err error) error {
	if result, ok := errors.AsType[*ResultError](err); ok {
		return result
	}
	if i.ctx.Err() != nil {
		// It ended because the module was closed. If it had trapped just before, that is of no
		// interest any more.
		return i.interrupted()
	}
	var own error
	if exited, ok := errors.AsType[*exit](err); ok {
		own = &ExitError{Code: exited.code, Frames: i.frames(err), Stderr: i.out.tail.String()}
	} else if exited, ok := errors.AsType[*sys.ExitError](err); ok {
		own = &ExitError{Code: exited.ExitCode(), Stderr: i.out.tail.String()}
	} else {
		own = &TrapError{Reason: trapReason(err), Frames: i.frames(err), Stderr: i.out.tail.String()}
	}
	if i.memory.refused > 0 {
		return &MemoryError{Limit: i.memory.limit, Asked: i.memory.refused, Cause: own}
	}
	return own
}

// interrupted returns the error of a call that was to end.
func (i *instance) interrupted() *InterruptedError {
	e := &InterruptedError{Cause: context.Cause(i.ctx), Stderr: i.out.tail.String()}
	if i.overdue == nil || e.Cause != i.overdue { //nolint:errorlint // the very error that the limit was given
		e.End = i.ctx.Err()
	}
	return e
}

const stackHeader = "\nwasm stack trace:\n"

// trapReason returns the reason of a trap from an error of wazero.
func trapReason(err error) string {
	text, _, _ := strings.Cut(err.Error(), stackHeader)
	if i := strings.LastIndex(text, "wasm error: "); i >= 0 {
		text = text[i+len("wasm error: "):]
	}
	text = strings.TrimSuffix(text, " (recovered by wazero)")
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "\ufffd")
}

// The bounds of what an error quotes. Names of functions are part of the module.
const (
	maxReason = 1 << 10
	maxName   = 1 << 10

	demangledBits = 10 // a name of C++ or Rust has 2 to the power of that many bytes at most
)

var (
	// A frame is the name of a function and the types of its parameters and results; below
	// it are the lines of its source code, if they are known.
	frameLine  = regexp.MustCompile(`^\t(\S.*)\([a-z0-9,]*\)(?: .*)?$`)
	sourceLine = regexp.MustCompile(`^\t\t\s*(?:0x[0-9a-f]+: )?(.+?):(\d+)(?::\d+)?(?: \(inlined\))?$`)
)

// frames returns the stack in an error of wazero, innermost frame last.
func (i *instance) frames(err error) []ipc.TracebackFrame {
	_, stack, _ := strings.Cut(err.Error(), stackHeader)
	var frames []ipc.TracebackFrame
	for line := range strings.Lines(stack) {
		line = strings.TrimSuffix(line, "\n")
		if found := frameLine.FindStringSubmatch(line); found != nil {
			frames = append(frames, ipc.TracebackFrame{File: i.module.name, Function: i.module.functionName(found[1])})
			continue
		}
		found := sourceLine.FindStringSubmatch(line)
		if found == nil || len(frames) == 0 {
			continue
		}
		// Of several places, the last is in the function itself, and the others are inlined.
		last := &frames[len(frames)-1]
		last.File = found[1][:min(len(found[1]), maxName)]
		last.Line, _ = strconv.Atoi(found[2])
	}
	slices.Reverse(frames)
	return frames
}

// functionName returns the name of a function as its source code has it, without that of the
// module.
func (m *Module) functionName(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, wasiModule+"."), m.compiled.Name()+".")
	name = strings.ToValidUTF8(name[:min(len(name), maxName)], "\ufffd")
	return demangle.Filter(name, demangle.NoParams, demangle.MaxLength(demangledBits))
}

// engineError returns an error of this package as the runner takes it. Errors of values, the
// end of the caller's context and ErrClosed stay as they are.
func (m *Module) engineError(err error) error {
	if err == nil {
		return nil
	}
	e := &engine.Error{Fault: engine.Wasm, Reason: err.Error(), Cause: err}
	switch found := err.(type) { //nolint:errorlint // the errors of this package, which are the outermost
	case *InvalidError:
		e.Fault, e.Hint = engine.Manifest, "build the module again, or name another one in the manifest"
		if _, ok := errors.AsType[*MemoryError](err); ok {
			e.Limit, e.Hint = limitMemory, "" // that of the limit
		}
	case *fs.PathError:
		e.Fault = engine.System
	case *StartError:
		if interrupted, ok := errors.AsType[*InterruptedError](err); ok && interrupted.End != nil {
			return err
		}
		e.NotBegun = true
		fill(e, found.Cause)
	case *InterruptedError:
		if found.End != nil {
			return err
		}
		e.Reason, e.Cause, e.Stderr = "", found.Cause, found.Stderr
	case *TrapError, *ExitError, *MemoryError, *ProtocolError, *ResultError:
		fill(e, err)
	default:
		return err
	}
	return e
}

// fill sets what an error says of the module.
func fill(e *engine.Error, err error) {
	switch found := err.(type) { //nolint:errorlint // as above
	case *TrapError:
		e.Stack, e.Stderr = found.Frames, found.Stderr
	case *ExitError:
		code := int(found.Code)
		e.ExitCode, e.Stack, e.Stderr = &code, found.Frames, found.Stderr
	case *MemoryError:
		fill(e, found.Cause)
		e.Limit = limitMemory
	case *ResultError:
		e.Fault, e.Path, e.Limit = engine.Marshaling, "result", limitResult
	case *InterruptedError:
		e.Stderr = found.Stderr
	}
}
