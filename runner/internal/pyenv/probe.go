package pyenv

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed probe.py
var probeScript string

// probeMark begins the line of the answer: other code may print at start-up too.
const probeMark = "gophersnake-probe:"

// probeTime is how long an interpreter may take to say what it is.
const probeTime = 30 * time.Second

// said is an interpreter's answer.
type said struct {
	Executable string `json:"executable"`
	Interpreter
}

// probe runs a program that should be a Python interpreter, and has it describe
// itself.
func probe(ctx context.Context, path string) (said, error) {
	limited, cancel := context.WithTimeoutCause(ctx, probeTime, fmt.Errorf("no answer within %v", probeTime))
	defer cancel()
	// -E and -s keep the user's own modules out. Python 2 does not know -I.
	out, tail, err := command{args: []string{path, "-E", "-s", "-c", probeScript}}.run(limited)
	if ctx.Err() != nil {
		return said{}, canceled(ctx, "ask "+path+" about itself")
	}
	op := "use " + path + " as the interpreter"
	if err != nil {
		return said{}, &Error{Op: op, Message: "it is no Python that works", Output: tail, Cause: err,
			Hint: "run it to see what is wrong with it, or name another one: `gophersnake doctor` lists those that are here"}
	}
	var answer said
	begin := strings.LastIndex(out, probeMark)
	if begin >= 0 {
		line, _, _ := strings.Cut(out[begin+len(probeMark):], "\n")
		err = json.Unmarshal([]byte(line), &answer)
	}
	if begin < 0 || err != nil || answer.Prefix == "" {
		return said{}, &Error{Op: op, Message: "it is no Python interpreter", Output: tail, Cause: err,
			Hint: "name another one: `gophersnake doctor` lists those that are here"}
	}
	answer.Virtual = answer.Prefix != answer.BasePrefix
	return answer, nil
}

// ask returns what is known of the interpreter at an absolute path, asking it only
// where it has changed. A shim is followed to the interpreter that it starts here
// and now, and its answer is not kept: it depends on the folder and on variables.
func ask(ctx context.Context, path, cache string) (Interpreter, error) {
	file, err := identify(path)
	if err != nil {
		return Interpreter{}, &Error{Op: "use " + path + " as the interpreter", Cause: reason(err),
			Hint: "name another one: `gophersnake doctor` lists those that are here"}
	}
	if known, ok := readAnswer(cache, file); ok {
		return known, nil
	}
	answer, err := probe(ctx, path)
	if err != nil {
		return Interpreter{}, err
	}
	if target := answer.Executable; isShim(path, target) {
		if file, err = identify(target); err != nil {
			return Interpreter{}, &Error{Op: "use " + path + " as the interpreter",
				Message: "it starts " + target + ", which is not there", Cause: reason(err)}
		}
		if known, ok := readAnswer(cache, file); ok {
			return known, nil
		}
		// Asked without the shim, which may have set variables.
		if answer, err = probe(ctx, target); err != nil {
			return Interpreter{}, err
		}
	}
	found := answer.Interpreter
	found.Path, found.Resolved = file.Path, file.Resolved
	writeAnswer(cache, file, found)
	return found, nil
}

// isShim reports whether a program started an interpreter that is another file.
func isShim(path, executable string) bool {
	if !filepath.IsAbs(executable) {
		return false // an interpreter that does not know where it is
	}
	asked, err := os.Stat(path)
	if err != nil {
		return false
	}
	real, err := os.Stat(executable)
	return err == nil && !os.SameFile(asked, real)
}
