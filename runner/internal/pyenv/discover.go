package pyenv

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// A shim is a script that starts one of several interpreters. One of pyenv takes 0.1 s to
// find out which, so its answer is cached together with all that it depends on. Others are
// asked each time, because what they depend on is not known.

// pyenvShim matches the last line of a shim of pyenv, up to the path of its program.
var pyenvShim = regexp.MustCompile(`(?m)^exec "(.*)/libexec/pyenv" exec `)

// maxShim bounds the part of a program that is searched for that line.
const maxShim = 4 << 10

// shimState is all that the answer of a shim of pyenv depends on.
type shimState struct {
	Folder    string            `json:"folder"`    // the current one
	Variables []string          `json:"variables"` // in order
	Files     map[string]string `json:"files"`     // their versions, by path
}

// equal reports whether a shim gives the same answer in both states.
func (s shimState) equal(other shimState) bool {
	a, errA := json.Marshal(s)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && string(a) == string(b)
}

// stateOf returns the state of a shim, and whether it is one of pyenv.
func stateOf(path string) (shimState, bool) {
	root := pyenvRoot(path)
	if root == "" {
		return shimState{}, false
	}
	folder, err := os.Getwd()
	if err != nil {
		return shimState{}, false
	}
	s := shimState{Folder: folder, Files: make(map[string]string)}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PYENV_") || slices.Contains([]string{"PATH", "HOME"}, name) {
			s.Variables = append(s.Variables, entry)
		}
	}
	slices.Sort(s.Variables)
	files := []string{path, os.Getenv("PYENV_VERSION_FILE"), os.Getenv("PYENV_HOOK_PATH")}
	for _, root := range []string{root, os.Getenv("PYENV_ROOT")} {
		for _, name := range []string{"version", "versions", "plugins", "pyenv.d", "libexec/pyenv"} {
			files = append(files, filepath.Join(root, name))
		}
	}
	for _, begin := range []string{folder, os.Getenv("PYENV_DIR")} {
		for dir := begin; filepath.IsAbs(dir); dir = filepath.Dir(dir) {
			files = append(files, filepath.Join(dir, ".python-version"))
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	for _, file := range files {
		if filepath.IsAbs(file) {
			s.Files[file] = versionOf(file)
		}
	}
	return s, true
}

// pyenvRoot returns the folder of pyenv that a shim belongs to, empty for other programs.
func pyenvRoot(path string) string {
	if filepath.Base(filepath.Dir(path)) != "shims" {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	begin := make([]byte, maxShim)
	n, _ := f.Read(begin)
	if found := pyenvShim.FindSubmatch(begin[:n]); found != nil {
		return string(found[1])
	}
	return ""
}

// versionOf returns what changes with the content of a file or folder; empty if there is none.
func versionOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	if content, err := os.ReadFile(path); err == nil && info.Size() <= maxShim {
		sum := sha256.Sum256(content)
		return hex.EncodeToString(sum[:])
	}
	return info.ModTime().UTC().Format("2006-01-02T15:04:05.999999999")
}

// cachedShim is the content of a file in the cache.
type cachedShim struct {
	Of     shimState `json:"of"`
	Target string    `json:"target"`
}

func cachedShimPath(cache, path string, of shimState) string {
	sum := sha256.Sum256([]byte(path + "\x00" + of.Folder))
	return filepath.Join(cache, "interpreters", "shim-"+hex.EncodeToString(sum[:10])+".json")
}

// readShim returns the interpreter that a shim starts, empty if that is not cached, and the
// state of the shim for [writeShim]; nil for other programs.
func readShim(cache, path string) (target string, state *shimState) {
	if cache == "" {
		return "", nil
	}
	now, ok := stateOf(path)
	if !ok {
		return "", nil
	}
	content, err := os.ReadFile(cachedShimPath(cache, path, now))
	var kept cachedShim
	if err != nil || json.Unmarshal(content, &kept) != nil || !kept.Of.equal(now) || !filepath.IsAbs(kept.Target) {
		return "", &now
	}
	return kept.Target, &now
}

// writeShim caches the interpreter that a shim starts in a state. It ignores errors: the shim
// is then asked again.
func writeShim(cache, path, target string, state *shimState) {
	if state == nil {
		return
	}
	file := cachedShimPath(cache, path, *state)
	content, err := json.Marshal(cachedShim{*state, target})
	if err != nil || os.MkdirAll(filepath.Dir(file), 0o777) != nil {
		return
	}
	_ = writeFile(file, content)
}
