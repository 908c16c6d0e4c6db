package pyenv

import (
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// newest is the newest version whose command is looked for by name.
const newest = 20

// supportedNames are the commands of the supported versions, the newest first.
func supportedNames() []string {
	var names []string
	for minor := newest; minor >= oldest.Minor; minor-- {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	return names
}

// locate returns the absolute path of what a path or a command names. A folder is
// a virtual environment.
func locate(name string) (string, error) {
	op := fmt.Sprintf("find the interpreter %q", name)
	hint := "name a path, a command, or a version such as 3.12: `gophersnake doctor` lists what is here"
	if !strings.ContainsRune(name, filepath.Separator) {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", &Error{Op: op, Hint: hint, Cause: reason(err)}
		}
		return filepath.Abs(path)
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", &Error{Op: op, Hint: "name an absolute path", Cause: err}
		}
		name = filepath.Join(home, rest)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", &Error{Op: op, Hint: "name an absolute path", Cause: err}
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path = pythonOf(path)
		info, err = os.Stat(path)
	}
	switch {
	case err != nil:
		return "", &Error{Op: op, Hint: hint, Cause: reason(err)}
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

// onPath yields where the commands are on PATH, in the order of the names and of
// PATH.
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

// placesOf yields where a version may be: by its name on PATH, then anything on
// PATH, then where other tools put interpreters.
func placesOf(wanted string) iter.Seq[string] {
	parts := strings.SplitN(wanted, ".", 3)
	names := []string{"python" + strings.Join(parts[:min(len(parts), 2)], ".")}
	names = append(names, "python3", "python")
	return func(yield func(string) bool) {
		for path := range onPath(append(names, supportedNames()...)...) {
			if !yield(path) {
				return
			}
		}
		for path := range elsewhere() {
			if !yield(path) {
				return
			}
		}
	}
}

var commandName = regexp.MustCompile(`^python(3(\.\d+)?t?)?$`)

// elsewhere yields the interpreters in the folders of pyenv, uv, mise, asdf,
// Homebrew and the system.
func elsewhere() iter.Seq[string] {
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
			found, _ := filepath.Glob(pattern) // fails for a bad pattern only
			for _, path := range found {
				if filepath.IsAbs(path) && commandName.MatchString(filepath.Base(path)) && isProgram(path) && !yield(path) {
					return
				}
			}
		}
	}
}
