package pyenv

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"

	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
)

// Error says why an interpreter or an environment is not available.
type Error struct {
	// Op is the operation that failed, such as "install numpy".
	Op string
	// Message says what went wrong.
	Message string
	// Output is the end of the installer's or the interpreter's output.
	Output string
	// Hint says what to do next.
	Hint string
	// Requirements says that the requirements are at fault, and not this machine, its
	// network, or the package index.
	Requirements bool
	// Cause is the underlying error; if the context ended, its cause.
	Cause error
}

// Error returns one line.
func (e *Error) Error() string {
	text := e.Message
	_, status := errors.AsType[*exec.ExitError](e.Cause) // adds nothing to a message
	if _, reaped := errors.AsType[*lifeline.ExitError](e.Cause); reaped {
		status = true
	}
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

// canceled returns the error of an operation whose context has ended.
func canceled(ctx context.Context, op string) *Error {
	return &Error{Op: op, Cause: context.Cause(ctx)}
}

// withoutPath returns an error without the name of its file or command, for an
// operation that names it already.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	if command, ok := errors.AsType[*exec.Error](err); ok {
		return command.Err
	}
	return err
}

const spaceHint = "free disk space, for instance with `gophersnake env prune`, or " + otherFolder

const otherFolder = "choose another folder with --cache-dir or GOPHERSNAKE_CACHE"

// FileError returns the error of a file operation in the cache folder, with a hint.
func FileError(op string, err error) *Error {
	e := &Error{Op: op, Cause: err}
	path, _ := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, syscall.ENOSPC) && path != nil && lacksInodes(path.Path):
		e.Message = "the file system has no inode left for another file"
		e.Hint = "remove files, for instance with `gophersnake env prune`, or " + otherFolder
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = spaceHint
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Hint = "make the folder writable, or " + otherFolder
	default:
		e.Hint = otherFolder
	}
	return e
}
