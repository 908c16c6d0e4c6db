package pyenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// FindOptions say where [Find] looks first.
type FindOptions struct {
	// Explicit and Manifest name an interpreter: a path, a command, or a version
	// such as "3.12".
	Explicit string
	Manifest string
	// CacheDir keeps what interpreters say of themselves; without it each is asked
	// every time.
	CacheDir string
}

// Find chooses the interpreter: the explicit one, else the manifest's, else that
// of GOPHERSNAKE_PYTHON, else that of the active virtual environment (VIRTUAL_ENV,
// CONDA_PREFIX), else python3 or python on PATH, else a newer one there. What is
// named, or active, is used or is an error; another is never taken in its place.
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
		// The folder may be gone, and Conda's need not hold a Python.
		if path := pythonOf(os.Getenv(variable)); filepath.IsAbs(path) && isProgram(path) {
			return use(ctx, path, variable, o.CacheDir)
		}
	}
	return findOnPath(ctx, o.CacheDir)
}

// use asks an interpreter about itself, and refuses one that is not supported.
func use(ctx context.Context, path, source, cache string) (Interpreter, error) {
	found, err := ask(ctx, path, cache)
	if err != nil {
		return Interpreter{}, sourced(err, source)
	}
	found.Source = source
	if problem := found.Problem(); problem != "" {
		return Interpreter{}, &Error{Op: fmt.Sprintf("use %s as the interpreter, from %s", found.Path, source), Message: problem,
			Hint: "name another one with --python: `gophersnake doctor` lists those that are here"}
	}
	return found, nil
}

// sourced adds to an error who wanted the interpreter.
func sourced(err error, source string) error {
	if e, ok := err.(*Error); ok && e.Op != "" {
		more := *e
		more.Op += ", from " + source
		return &more
	}
	return err
}

// findNamed finds what somebody named.
func findNamed(ctx context.Context, name, source, cache string) (Interpreter, error) {
	if wantedVersion.MatchString(name) {
		return findVersion(ctx, name, source, cache)
	}
	path, err := locate(name)
	if err != nil {
		return Interpreter{}, sourced(err, source)
	}
	return use(ctx, path, source, cache)
}

// findVersion finds a version, on PATH first. What does not run is passed over:
// the shims of versions that are not switched on are such.
func findVersion(ctx context.Context, wanted, source, cache string) (Interpreter, error) {
	var refused error
	for path := range placesOf(wanted) {
		if err := ctx.Err(); err != nil {
			return Interpreter{}, canceled(ctx, "find Python "+wanted)
		}
		found, err := ask(ctx, path, cache)
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
	return Interpreter{}, &Error{Op: fmt.Sprintf("find Python %s, from %s", wanted, source), Message: "there is none on this machine",
		Hint: "install it, for instance with `uv python install " + wanted + "`, or name another one: `gophersnake doctor` lists those that are here"}
}

// findOnPath takes what `python3` would start, and where that is too old, a newer
// one beside it.
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
		Hint: fmt.Sprintf("install Python %d.%d or newer, or name one with --python", oldest.Major, oldest.Minor)}
}
