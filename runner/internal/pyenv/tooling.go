package pyenv

import (
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed scripts/tooling.py
var toolingScript string

const toolingMark = "gophersnake-tooling:"

// Tooling says which of the modules that create environments an interpreter has.
type Tooling struct {
	Venv      bool `json:"venv"`
	Ensurepip bool `json:"ensurepip"`
	// Pip and Msgpack are versions; empty if the package is missing.
	Pip     string `json:"pip"`
	Msgpack string `json:"msgpack"`

	pipCanTarget bool // pip is new enough to install into another environment
}

// ToolingOf runs an interpreter to determine its tooling.
func ToolingOf(ctx context.Context, python Interpreter) (Tooling, error) {
	op := "check the tooling of " + python.Path
	out, tail, err := command{args: []string{python.Path, "-c", toolingScript}}.run(ctx)
	if ctx.Err() != nil {
		return Tooling{}, canceled(ctx, op)
	}
	var has Tooling
	if err == nil {
		err = decodeMarked(out, toolingMark, &has)
	}
	if err != nil {
		return Tooling{}, &Error{Op: op, Output: tail, Cause: err, Hint: "choose another interpreter with --python"}
	}
	var major, minor int
	_, _ = fmt.Sscanf(has.Pip, "%d.%d", &major, &minor)
	has.pipCanTarget = major > 22 || major == 22 && minor >= 3
	return has, nil
}

// bytecodeScript compiles all modules of a folder.
const bytecodeScript = "import compileall, sys; compileall.compile_dir(sys.argv[1], quiet=2)"

// Compile makes an interpreter compile the modules of a worker's package, once for each
// version of Python. Workers would do so themselves, but some must not write the bytecode
// (PYTHONDONTWRITEBYTECODE) and some cannot, because they are isolated: each of those would
// compile all modules again, which takes longer than the rest of its start.
//
// It takes two tenths of a second the first time, and a system call after that. A folder that
// cannot be written to is left as it is. An error means only that workers start more slowly.
// The marker is the path of a module that each worker imports, without its suffix.
func Compile(ctx context.Context, i Interpreter, folder, marker string) error {
	tag, _, _ := strings.Cut(i.ABI, " ")
	compiled := filepath.Join(folder, filepath.Dir(marker), "__pycache__", filepath.Base(marker)+"."+tag+".pyc")
	if tag == "" || unix.Access(compiled, unix.R_OK) == nil || unix.Access(folder, unix.W_OK) != nil {
		return nil
	}
	_, tail, err := command{args: []string{i.Path, "-I", "-S", "-c", bytecodeScript, folder}}.run(ctx)
	if err != nil {
		return &Error{Op: "compile the worker's Python package", Output: tail, Cause: err}
	}
	return nil
}
