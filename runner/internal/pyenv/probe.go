package pyenv

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed scripts/probe.py
var probeScript string

// probeMark begins the line of the result. Other code may print at start-up too.
const probeMark = "gophersnake-probe:"

// probeTime is how long a probe may take.
const probeTime = 30 * time.Second

// probeResult is the output of the script.
type probeResult struct {
	Executable string `json:"executable"`
	Interpreter
}

// probe runs a program that should be a Python interpreter with a script that describes
// it.
func probe(ctx context.Context, path string) (probeResult, error) {
	limited, cancel := context.WithTimeoutCause(ctx, probeTime, fmt.Errorf("no answer within %v", probeTime))
	defer cancel()
	// -E and -s exclude the user's own modules. Python 2 does not support -I.
	out, tail, err := command{args: []string{path, "-E", "-s", "-c", probeScript}}.run(limited)
	if ctx.Err() != nil {
		return probeResult{}, canceled(ctx, "probe "+path)
	}
	op := "use " + path + " as the interpreter"
	if err != nil {
		return probeResult{}, &Error{Op: op, Message: "it does not work as a Python interpreter", Output: tail, Cause: err,
			Hint: "run it to see what is wrong, or choose another one: `gophersnake doctor` lists the available interpreters"}
	}
	var answer probeResult
	begin := strings.LastIndex(out, probeMark)
	if begin >= 0 {
		line, _, _ := strings.Cut(out[begin+len(probeMark):], "\n")
		err = json.Unmarshal([]byte(line), &answer)
	}
	if begin < 0 || err != nil || answer.Prefix == "" {
		return probeResult{}, &Error{Op: op, Message: "it is not a Python interpreter", Output: tail, Cause: err,
			Hint: "choose another one: `gophersnake doctor` lists the available interpreters"}
	}
	answer.Virtual = answer.Prefix != answer.BasePrefix
	return answer, nil
}

// describe returns the interpreter at an absolute path. It probes the interpreter only
// if the file has changed since the cached probe. A shim is followed to the interpreter
// that it starts now, which depends on the current folder, on variables and more; see
// [shimState].
func describe(ctx context.Context, path, cache string) (Interpreter, error) {
	file, err := identify(path)
	if err != nil {
		return Interpreter{}, &Error{Op: "use " + path + " as the interpreter", Cause: withoutPath(err),
			Hint: "choose another one: `gophersnake doctor` lists the available interpreters"}
	}
	if known, ok := readCached(cache, file); ok {
		return known, nil
	}
	target, shim := readShim(cache, path)
	if target != "" {
		if file, err := identify(target); err == nil {
			if known, ok := readCached(cache, file); ok {
				return known, nil
			}
		}
	}
	answer, err := probe(ctx, path)
	if err != nil {
		return Interpreter{}, err
	}
	if target := answer.Executable; isShim(path, target) {
		if file, err = identify(target); err != nil {
			return Interpreter{}, &Error{Op: "use " + path + " as the interpreter",
				Message: "it starts " + target + ", which does not exist", Cause: withoutPath(err)}
		}
		writeShim(cache, path, target, shim)
		if known, ok := readCached(cache, file); ok {
			return known, nil
		}
		// The target is probed without the shim, which may have set variables.
		if answer, err = probe(ctx, target); err != nil {
			return Interpreter{}, err
		}
	}
	found := answer.Interpreter
	found.Path, found.Resolved = file.Path, file.Resolved
	writeCached(cache, file, found)
	return found, nil
}

// isShim reports whether a program started an interpreter that is another file.
func isShim(path, executable string) bool {
	if !filepath.IsAbs(executable) {
		return false // the interpreter cannot determine its own path
	}
	asked, err := os.Stat(path)
	if err != nil {
		return false
	}
	real, err := os.Stat(executable)
	return err == nil && !os.SameFile(asked, real)
}

// probeFormat changes when cached probes of older versions lack something.
const probeFormat = 1

// identity identifies the file of an interpreter, to detect that it has changed.
type identity struct {
	Format   int    `json:"format"`
	Path     string `json:"path"`
	Resolved string `json:"resolved"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"`
}

func identify(path string) (identity, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return identity{}, err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return identity{}, err
	}
	return identity{probeFormat, path, resolved, info.Size(), info.ModTime().UnixNano()}, nil
}

// cachedProbe is the content of a file in the cache.
type cachedProbe struct {
	Of     identity    `json:"of"`
	Answer Interpreter `json:"answer"`
}

func cachedPath(cache string, of identity) string {
	sum := sha256.Sum256([]byte(of.Path))
	return filepath.Join(cache, "interpreters", hex.EncodeToString(sum[:10])+".json")
}

// readCached returns a cached probe, and whether there is a valid one.
func readCached(cache string, of identity) (Interpreter, bool) {
	if cache == "" {
		return Interpreter{}, false
	}
	content, err := os.ReadFile(cachedPath(cache, of))
	if err != nil {
		return Interpreter{}, false
	}
	var kept cachedProbe
	if json.Unmarshal(content, &kept) != nil || kept.Of != of || kept.Answer.Path != of.Path {
		return Interpreter{}, false
	}
	return kept.Answer, true
}

// writeCached caches a probe. It ignores errors: the interpreter is then probed again.
func writeCached(cache string, of identity, found Interpreter) {
	if cache == "" {
		return
	}
	path := cachedPath(cache, of)
	content, err := json.Marshal(cachedProbe{of, found})
	if err != nil || os.MkdirAll(filepath.Dir(path), 0o777) != nil {
		return
	}
	_ = writeFile(path, content)
}
