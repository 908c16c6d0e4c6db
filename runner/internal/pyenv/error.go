package pyenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
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

const otherFolder = "choose another folder with --cache-dir or GOPHERSNAKE_CACHE"

// fileError returns the error of a file operation in the cache folder, with a hint.
func fileError(op string, err error) *Error {
	e := &Error{Op: op, Cause: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "free disk space, for instance with `gophersnake env prune`, or " + otherFolder
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Hint = "make the folder writable, or " + otherFolder
	default:
		e.Hint = otherFolder
	}
	return e
}

// symptoms are patterns in the output of installers, with the hint for each. The first
// match counts: pip reports a missing version even if it could not reach the index.
var symptoms = []struct {
	pattern *regexp.Regexp
	hint    string
}{
	{regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`),
		"free disk space, for instance with `gophersnake env prune`, or " + otherFolder},
	{regexp.MustCompile(`(?i)read-only file system|permission denied`),
		"make the cache folder writable, or " + otherFolder},
	{regexp.MustCompile(`(?i)ensurepip is not|no module named '?(ensurepip|venv)`),
		"install uv (`pip install uv`), or on Debian and Ubuntu the package python3-venv, or choose another interpreter with --python"},
	{regexp.MustCompile(`(?i)\b(401|403)\b.*(unauthorized|forbidden|client error)|HTTP error (401|403)|(unauthorized|forbidden)`),
		"the package index refuses the credentials: put them into the URL of the index, or into ~/.netrc"},
	{regexp.MustCompile(`(?i)certificate verify failed|invalid peer certificate|UnknownIssuer`),
		"the certificate of the package index is not trusted: set PIP_CERT or SSL_CERT_FILE to the file of its certificate authority"},
	{regexp.MustCompile(`(?i)name or service not known|name resolution|dns error|failed to establish a new connection|connection (refused|reset|broken)|network is unreachable|timed out|error sending request|could not connect|failed to fetch|network was disabled`),
		"the package index cannot be reached: check the network, or choose another index with PIP_INDEX_URL or UV_DEFAULT_INDEX"},
	{regexp.MustCompile(`(?i)resolutionimpossible|conflicting dependencies|requires-python|no solution found|could not find a version|no matching distribution|ignored the following versions`),
		"correct the pipeline's requirements, or choose an interpreter with --python that the packages support"},
	{regexp.MustCompile(`(?i)invalid requirement|couldn't parse requirement|expected .* (but|or)|trailing data|unsupported requirement`),
		"correct the pipeline's requirements: they are lines as in a pip requirements file"},
	{regexp.MustCompile(`(?i)failed to build|failed building wheel|metadata-generation-failed|build backend|subprocess-exited-with-error|error: command .*(gcc|cc|clang)`),
		"a package had to be compiled, and its build failed: use a version that has a wheel for this interpreter, or install the build's prerequisites"},
}

// reasonLine matches a line in which an installer says why it failed.
var reasonLine = regexp.MustCompile(`(?i)^\s*(error|cause|caused by|×|╰─▶|├─▶)[:\s]`)

// installerError explains the failure of an installer by the end of its output.
func installerError(python Interpreter, op, tail string, cause error) *Error {
	e := &Error{Op: op, Output: tail, Cause: cause,
		Hint: "see the output of the installer; `gophersnake doctor` checks its prerequisites"}
	for _, symptom := range symptoms {
		if symptom.pattern.MatchString(tail) {
			e.Hint = symptom.hint
			break
		}
	}
	e.Message = lastReason(tail)
	if e.Message == "" {
		e.Message = fmt.Sprintf("the installer failed for %v: %v", python, cause)
	}
	return e
}

// lastReason returns the last reason that the output gives; empty if it gives none.
func lastReason(tail string) string {
	found := ""
	for line := range strings.Lines(tail) {
		if at := reasonLine.FindStringIndex(line); at != nil {
			found = strings.TrimRight(strings.TrimSpace(line[at[1]:]), ".")
		}
	}
	return found
}
