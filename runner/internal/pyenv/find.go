package pyenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// FindOptions say which interpreter [Find] chooses.
type FindOptions struct {
	// Explicit and Manifest name an interpreter: a path, a command, or a version
	// such as "3.12".
	Explicit string
	Manifest string
	// CacheDir is the cache folder. If it is empty, interpreters are probed every time.
	CacheDir string
}

// Find chooses the interpreter: the explicit one, otherwise the manifest's, otherwise
// that of GOPHERSNAKE_PYTHON, otherwise that of the active virtual environment
// (VIRTUAL_ENV, CONDA_PREFIX), otherwise python3 or python on PATH, otherwise a newer
// one on PATH. If a named or active interpreter cannot be used, Find fails and does
// not choose another.
func Find(ctx context.Context, o FindOptions) (Interpreter, error) {
	for _, named := range []struct{ source, name string }{
		{"--python", o.Explicit},
		{"manifest", o.Manifest},
		{"GOPHERSNAKE_PYTHON", os.Getenv("GOPHERSNAKE_PYTHON")},
	} {
		if named.name != "" {
			return findNamed(ctx, named.name, named.source, o.CacheDir)
		}
	}
	for _, variable := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		// The folder may have been removed, and Conda's need not contain a Python.
		if path := pythonOf(os.Getenv(variable)); filepath.IsAbs(path) && isProgram(path) {
			return use(ctx, path, variable, o.CacheDir)
		}
	}
	return findOnPath(ctx, o.CacheDir)
}

// use returns the interpreter at a path, or an error if it is not supported.
func use(ctx context.Context, path, source, cache string) (Interpreter, error) {
	found, err := describe(ctx, path, cache)
	if err != nil {
		return Interpreter{}, withSource(err, source)
	}
	found.Source = source
	if problem := found.Problem(); problem != "" {
		return Interpreter{}, &Error{Op: fmt.Sprintf("use %s as the interpreter, from %s", found.Path, source), Message: problem,
			Hint: "choose another one with --python: `gophersnake doctor` lists the available interpreters"}
	}
	return found, nil
}

// withSource adds the source of the interpreter's name to an error.
func withSource(err error, source string) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Op != "" {
		more := *e
		more.Op += ", from " + source
		return &more
	}
	return err
}

// findNamed finds an interpreter by a version, a path or a command.
func findNamed(ctx context.Context, name, source, cache string) (Interpreter, error) {
	if wantedVersion.MatchString(name) {
		return findVersion(ctx, name, source, cache)
	}
	path, err := locate(name)
	if err != nil {
		return Interpreter{}, withSource(err, source)
	}
	return use(ctx, path, source, cache)
}

// findVersion finds an interpreter by its version, on PATH first. It skips programs
// that do not run, such as the shims of versions that are not enabled.
func findVersion(ctx context.Context, wanted, source, cache string) (Interpreter, error) {
	var refused error
	for path := range candidates(wanted) {
		if err := ctx.Err(); err != nil {
			return Interpreter{}, canceled(ctx, "find Python "+wanted)
		}
		found, err := describe(ctx, path, cache)
		if err != nil || !found.Version.matches(wanted) {
			continue
		}
		if found, err = use(ctx, found.Path, source, cache); err == nil {
			return found, nil
		}
		refused = err
	}
	if refused != nil {
		return Interpreter{}, refused
	}
	return Interpreter{}, &Error{Op: fmt.Sprintf("find Python %s, from %s", wanted, source), Message: "it is not installed on this machine",
		Hint: "install it, for instance with `uv python install " + wanted + "`, or choose another one: `gophersnake doctor` lists the available interpreters"}
}

// findOnPath returns the interpreter that `python3` would start, or a newer one on PATH
// if that is too old.
func findOnPath(ctx context.Context, cache string) (Interpreter, error) {
	var first error
	for path := range onPath(append([]string{"python3", "python"}, supportedNames()...)...) {
		found, err := use(ctx, path, filepath.Base(path)+" on PATH", cache)
		if err == nil {
			return found, nil
		}
		if ctx.Err() != nil {
			return Interpreter{}, err
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return Interpreter{}, first
	}
	return Interpreter{}, &Error{Op: "find an interpreter", Message: "there is no python3 on PATH",
		Hint: fmt.Sprintf("install Python %d.%d or newer, or choose one with --python", oldest.Major, oldest.Minor)}
}
