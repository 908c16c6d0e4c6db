package pyenv

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

//go:embed scripts/system.py
var systemScript string

const systemMark = "gophersnake-system:"

// lineOption matches the options at the end of a requirement.
var lineOption = regexp.MustCompile(`\s--?[a-z].*$`)

// System checks that an interpreter has the packages that the requirements and the
// worker need, so that it can be used without an environment. Lines that name a file
// or a folder, and options, do not say which package they are about and are not
// checked. If the interpreter has neither packaging nor pip, versions are compared
// roughly, and lines with environment markers are not checked.
func System(ctx context.Context, interpreter Interpreter, requirements []string) error {
	op := "use " + interpreter.String() + " without an environment"
	question, err := json.Marshal(append(namedLines(cleanLines(requirements)), workerRequirement))
	if err != nil {
		return &Error{Op: op, Cause: err}
	}
	// Without -I, since the worker sees the user's packages and PYTHONPATH too.
	out, tail, err := command{args: []string{interpreter.Path, "-c", systemScript}, env: environWithout(BreakingVariables...), stdin: string(question)}.run(ctx)
	if ctx.Err() != nil {
		return canceled(ctx, op)
	}
	var answer struct {
		Packaging bool        `json:"packaging"`
		Faults    [][2]string `json:"faults"`
	}
	if err == nil {
		err = decodeMarked(out, systemMark, &answer)
	}
	if err != nil {
		return &Error{Op: op, Message: "its packages cannot be listed", Output: tail, Cause: err,
			Hint: "choose another interpreter with --python, or omit --system-python"}
	}
	if len(answer.Faults) == 0 {
		return nil
	}
	return missingError(op, interpreter, answer.Packaging, answer.Faults)
}

// missingError lists the missing packages, and how to install them.
func missingError(op string, interpreter Interpreter, packaging bool, faults [][2]string) *Error {
	var missing, install []string
	for _, fault := range faults {
		line, why := hideCredentials(fault[0]), fault[1]
		missing = append(missing, fmt.Sprintf("%s (%s)", line, why))
		install = append(install, "'"+line+"'")
	}
	e := &Error{Op: op, Message: "it lacks " + strings.Join(missing, ", ")}
	e.Hint = fmt.Sprintf("omit --system-python to use an environment, or install the missing packages: %s -m pip install %s",
		interpreter.Path, strings.Join(install, " "))
	if !packaging {
		e.Hint += "; versions were compared roughly, because the interpreter has neither packaging nor pip"
	}
	return e
}

// namedLines returns the lines that name a package, without their options.
func namedLines(lines []string) []string {
	var named []string
	for _, line := range lines {
		if localPath(line) != "" && !strings.Contains(line, "@") || strings.HasPrefix(line, "-") {
			continue
		}
		line = strings.TrimSpace(lineOption.ReplaceAllString(line, ""))
		if scheme, _, ok := strings.Cut(line, "://"); ok && !strings.Contains(scheme, "@") {
			continue // a bare URL
		}
		named = append(named, line)
	}
	return named
}
