package pyenv

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"
)

// Error says why there is no interpreter or no environment.
type Error struct {
	// Op is what was being done, such as "install numpy".
	Op string
	// Message says what went wrong.
	Message string
	// Output is the end of what the installer or the interpreter printed.
	Output string
	// Hint says what to do next.
	Hint string
	// Cause is the error below, the context's cause where the context ended.
	Cause error
}

// Error returns one line.
func (e *Error) Error() string {
	text := e.Message
	_, status := errors.AsType[*exec.ExitError](e.Cause) // says less than the message
	if e.Cause != nil && (text == "" || !status) && !strings.Contains(text, e.Cause.Error()) {
		if text != "" {
			text += ": "
		}
		text += e.Cause.Error()
	}
	if e.Op == "" {
		return text
	}
	return "cannot " + e.Op + ": " + text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// canceled is the error of a context that ended.
func canceled(ctx context.Context, op string) *Error {
	return &Error{Op: op, Cause: context.Cause(ctx)}
}

// reason is an error without the name of the file or command, where the operation
// names it already.
func reason(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	if command, ok := errors.AsType[*exec.Error](err); ok {
		return command.Err
	}
	return err
}

const otherFolder = "name another folder with --cache-dir or GOPHERSNAKE_CACHE"

// fileError is what the operating system says about the cache folder.
func fileError(op string, err error) *Error {
	e := &Error{Op: op, Cause: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "make room, for instance with `gophersnake env prune`, or " + otherFolder
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Hint = "make the folder writable, or " + otherFolder
	default:
		e.Hint = otherFolder
	}
	return e
}
