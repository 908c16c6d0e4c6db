package pyenv

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

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
