package pyenv

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed equipment.py
var equipmentScript string

const equipmentMark = "gophersnake-equipment:"

// Equipment is what an interpreter has of what environments are made with.
type Equipment struct {
	Venv      bool `json:"venv"`
	Ensurepip bool `json:"ensurepip"`
	// Pip and Msgpack are versions, empty where the package is missing.
	Pip     string `json:"pip"`
	Msgpack string `json:"msgpack"`

	pipReaches bool // pip can install into another environment
}

// EquipmentOf asks an interpreter what it has.
func EquipmentOf(ctx context.Context, python Interpreter) (Equipment, error) {
	op := "see what " + python.Path + " has"
	out, tail, err := command{args: []string{python.Path, "-c", equipmentScript}}.run(ctx)
	if ctx.Err() != nil {
		return Equipment{}, canceled(ctx, op)
	}
	var has Equipment
	if err == nil {
		_, answer, _ := strings.Cut(out, equipmentMark)
		line, _, _ := strings.Cut(answer, "\n")
		err = json.Unmarshal([]byte(line), &has)
	}
	if err != nil {
		return Equipment{}, &Error{Op: op, Output: tail, Cause: err, Hint: "name another interpreter with --python"}
	}
	var major, minor int
	_, _ = fmt.Sscanf(has.Pip, "%d.%d", &major, &minor)
	has.pipReaches = major > 22 || major == 22 && minor >= 3
	return has, nil
}
