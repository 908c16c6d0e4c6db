package pyenv

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// newest is the minor version of the newest command that is looked for.
const newest = 20

// supportedNames returns the commands of the supported versions, the newest first.
func supportedNames() []string {
	var names []string
	for minor := newest; minor >= oldest.Minor; minor-- {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	return names
}

// locate returns the absolute path of the interpreter that a path or a command names. A
// folder is taken for a virtual environment.
func locate(name string) (string, error) {
	op := fmt.Sprintf("find the interpreter %q", name)
	hint := "give a path, a command, or a version such as 3.12: `gophersnake doctor` lists the available interpreters"
	if !strings.ContainsRune(name, filepath.Separator) {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", &Error{Op: op, Hint: hint, Cause: withoutPath(err)}
		}
		return filepath.Abs(path)
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", &Error{Op: op, Hint: "give an absolute path", Cause: err}
		}
		name = filepath.Join(home, rest)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", &Error{Op: op, Hint: "give an absolute path", Cause: err}
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path = pythonOf(path)
		info, err = os.Stat(path)
	}
	switch {
	case err != nil:
		return "", &Error{Op: op, Hint: hint, Cause: withoutPath(err)}
	case !executable(info):
		return "", &Error{Op: op, Message: path + " is not executable", Hint: hint}
	}
	return path, nil
}

func executable(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode()&0o111 != 0 }

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && executable(info)
}

// onPath yields the paths of the commands on PATH: those of the first name first, each
// in the order of PATH.
func onPath(names ...string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range names {
			for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
				path := filepath.Join(dir, name)
				if filepath.IsAbs(path) && isProgram(path) && !yield(path) {
					return
				}
			}
		}
	}
}

// candidates yields the paths at which a version may be: its own command on PATH, then
// any Python command on PATH, then the folders of other tools.
func candidates(wanted string) iter.Seq[string] {
	parts := strings.SplitN(wanted, ".", 3)
	names := []string{"python" + strings.Join(parts[:min(len(parts), 2)], ".")}
	names = append(names, "python3", "python")
	return func(yield func(string) bool) {
		for path := range onPath(append(names, supportedNames()...)...) {
			if !yield(path) {
				return
			}
		}
		for path := range inKnownFolders() {
			if !yield(path) {
				return
			}
		}
	}
}

var commandName = regexp.MustCompile(`^python(3(\.\d+)?t?)?$`)

// inKnownFolders yields the interpreters in the folders of pyenv, uv, mise, asdf,
// Homebrew and the system.
func inKnownFolders() iter.Seq[string] {
	home, _ := os.UserHomeDir()
	in := func(variable, otherwise string) string {
		if dir := os.Getenv(variable); dir != "" {
			return dir
		}
		return otherwise
	}
	data := in("XDG_DATA_HOME", filepath.Join(home, ".local", "share"))
	patterns := []string{
		filepath.Join(in("PYENV_ROOT", filepath.Join(home, ".pyenv")), "versions", "*", "bin", "python"),
		filepath.Join(in("UV_PYTHON_INSTALL_DIR", filepath.Join(data, "uv", "python")), "*", "bin", "python3"),
		filepath.Join(in("MISE_DATA_DIR", filepath.Join(data, "mise")), "installs", "python", "*", "bin", "python"),
		filepath.Join(in("ASDF_DATA_DIR", filepath.Join(home, ".asdf")), "installs", "python", "*", "bin", "python"),
		"/opt/homebrew/bin/python3*",
		"/usr/local/bin/python3*",
		"/usr/bin/python3*",
	}
	return func(yield func(string) bool) {
		for _, pattern := range patterns {
			found, _ := filepath.Glob(pattern) // it fails only for a malformed pattern
			for _, path := range found {
				if filepath.IsAbs(path) && commandName.MatchString(filepath.Base(path)) && isProgram(path) && !yield(path) {
					return
				}
			}
		}
	}
}

// Interpreters lists the interpreters of this machine, the newest first. It includes
// those that are not supported, see [Interpreter.Problem], and leaves out programs
// that do not run.
func Interpreters(ctx context.Context, cache string) ([]Interpreter, error) {
	type candidate struct{ path, source string }
	var found []candidate
	for _, variable := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if path := pythonOf(os.Getenv(variable)); filepath.IsAbs(path) && isProgram(path) {
			found = append(found, candidate{path, variable})
		}
	}
	names := append([]string{"python3", "python"}, supportedNames()...)
	for path := range onPath(names...) {
		// A folder of shims has one for each version, and most of them are not enabled.
		shim := filepath.Base(filepath.Dir(path)) == "shims"
		if name := filepath.Base(path); !shim || name == "python3" || name == "python" {
			found = append(found, candidate{path, "PATH"})
		}
	}
	for path := range inKnownFolders() {
		found = append(found, candidate{path, "found"})
	}

	interpreters := make([]Interpreter, len(found))
	var probes errgroup.Group
	probes.SetLimit(8)
	for i, c := range found {
		probes.Go(func() error {
			if interpreter, err := describe(ctx, c.path, cache); err == nil {
				interpreter.Source = c.source
				interpreters[i] = interpreter
			}
			return nil
		})
	}
	_ = probes.Wait() // no probe returns an error
	if ctx.Err() != nil {
		return nil, canceled(ctx, "list the interpreters")
	}
	return distinct(interpreters), nil
}

// distinct drops the entries without an interpreter and those of the same interpreter by another path.
func distinct(all []Interpreter) []Interpreter {
	type key struct{ resolved, prefix string }
	seen := make(map[key]bool)
	found := slices.DeleteFunc(all, func(i Interpreter) bool {
		k := key{i.Resolved, i.Prefix}
		again := i.Path == "" || seen[k]
		seen[k] = true
		return again
	})
	slices.SortStableFunc(found, func(a, b Interpreter) int {
		return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(a.Path, b.Path))
	})
	return found
}
