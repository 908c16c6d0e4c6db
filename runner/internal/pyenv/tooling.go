package pyenv

import (
	"context"
	_ "embed"
	"fmt"
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
