package pyenv

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

//go:embed system.py
var systemScript string

const systemMark = "gophersnake-system:"

// lineOption is an option at the end of a requirement.
var lineOption = regexp.MustCompile(`\s--?[a-z].*$`)

// System checks that an interpreter, as it is, has what the requirements and the
// worker need. Lines that name a file or a folder, or that are options, do not say
// which package they are about and pass. Where the interpreter has neither
// packaging nor pip, versions are compared roughly and lines with environment
// markers pass.
func System(ctx context.Context, interpreter Interpreter, requirements []string) error {
	op := "use " + interpreter.String() + " as it is"
	question, err := json.Marshal(append(checkable(cleanLines(requirements)), workerRequirement))
	if err != nil {
		return &Error{Op: op, Cause: err}
	}
	// Not isolated: the worker sees the user's packages and PYTHONPATH too.
	out, tail, err := command{args: []string{interpreter.Path, "-c", systemScript}, stdin: string(question)}.run(ctx)
	if ctx.Err() != nil {
		return canceled(ctx, op)
	}
	var answer struct {
		Packaging bool        `json:"packaging"`
		Faults    [][2]string `json:"faults"`
	}
	if err == nil {
		_, text, _ := strings.Cut(out, systemMark)
		line, _, _ := strings.Cut(text, "\n")
		err = json.Unmarshal([]byte(line), &answer)
	}
	if err != nil {
		return &Error{Op: op, Message: "its packages cannot be listed", Output: tail, Cause: err,
			Hint: "name another interpreter with --python, or leave out --system-python"}
	}
	if len(answer.Faults) == 0 {
		return nil
	}
	return lacking(op, interpreter, answer.Packaging, answer.Faults)
}

// lacking lists what is missing, and how to get it.
func lacking(op string, interpreter Interpreter, packaging bool, faults [][2]string) *Error {
	var missing, install []string
	for _, fault := range faults {
		line, why := hideCredentials(fault[0]), fault[1]
		missing = append(missing, fmt.Sprintf("%s (%s)", line, why))
		install = append(install, "'"+line+"'")
	}
	e := &Error{Op: op, Message: "it lacks " + strings.Join(missing, ", ")}
	e.Hint = fmt.Sprintf("leave out --system-python, so that an environment is made, or install what is missing: %s -m pip install %s",
		interpreter.Path, strings.Join(install, " "))
	if !packaging {
		e.Hint += "; versions were compared roughly, because it has neither packaging nor pip"
	}
	return e
}

// checkable are the lines that name a package, without options.
func checkable(lines []string) []string {
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
