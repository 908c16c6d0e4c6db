package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// report prints the error that ended a command.
func (a *app) report(ctx context.Context, err error) {
	if err == nil {
		return
	}
	if _, ok := errors.AsType[reportedError](err); ok {
		return
	}
	if _, ok := errors.AsType[silentError](err); ok {
		return
	}
	if stop, ok := interruption(ctx); ok && !errors.Is(err, stop) {
		err = stop // whatever followed from it
	}
	a.reportError("", err)
}

// reportError prints one error, or several joined ones, with its whole story: the
// traceback is what its reader needs first.
func (a *app) reportError(prefix string, err error) {
	if faults := joinedErrors(err); len(faults) > 0 {
		for _, each := range faults {
			a.reportError(prefix, each)
		}
		return
	}
	if a.jsonErrors {
		a.reportJSON(prefix, err)
		return
	}
	head, rest, _ := strings.Cut(storyOf(err), "\n")
	text := a.errorLine(prefix, head)
	if rest != "" {
		text += a.highlight(rest) + "\n"
	}
	if usage, ok := errors.AsType[*usageError](err); ok {
		text += fmt.Sprintf("see: %s --help\n", usage.command)
	}
	a.printError(text)
}

// reportLine prints one error in a line.
func (a *app) reportLine(prefix string, err error) {
	a.printError(a.errorLine(prefix, err.Error()))
}

func (a *app) errorLine(prefix, text string) string {
	return fmt.Sprintf("%s %s%s\n", a.errStyle.red("error:"), prefix, a.errStyle.bold(text))
}

// printError prints above the progress, where there is some.
func (a *app) printError(text string) { _, _ = io.WriteString(a.log, text) }

// joinedErrors returns the errors that err joins, if it does nothing else.
func joinedErrors(err error) []error {
	if e, ok := err.(*runner.Error); ok {
		return e.Faults()
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

// storyOf is all that is known of an error. A wrong manifest is told problem by
// problem; each begins with its place, where editors jump to.
func storyOf(err error) string {
	if problems, ok := errors.AsType[*manifest.Errors](err); ok {
		if len(problems.Problems) == 1 {
			return problems.Error()
		}
		return fmt.Sprintf("the manifest has %d problems\n%s", len(problems.Problems)+problems.Omitted, problems)
	}
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return fmt.Sprintf("%+v", e)
	}
	return err.Error()
}

// highlight dims what is background in a story, and shows the hint.
func (a *app) highlight(story string) string {
	lines := strings.Split(story, "\n")
	for i, line := range lines {
		switch name, text, _ := strings.Cut(line, ":"); name {
		case "hint":
			lines[i] = a.errStyle.cyan("hint:") + text
		case "attempt", "worker", "exit code", "signal", "uptime", "max_rss", "stderr":
			lines[i] = a.errStyle.dim(line)
		}
	}
	return strings.Join(lines, "\n")
}

// errorDocument is an error in JSON.
type errorDocument struct {
	Input string `json:"input,omitempty"`
	Error any    `json:"error"`
}

// errorValue is what JSON holds of an error.
func errorValue(err error) any {
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return e
	}
	kind := "other"
	switch {
	case errors.Is(err, errTimeout):
		kind = "timeout"
	case errors.As(err, new(interrupted)):
		kind = "interrupted"
	case errors.As(err, new(*usageError)):
		kind = "usage"
	}
	return map[string]string{"kind": kind, "message": err.Error(), "text": err.Error()}
}

func (a *app) reportJSON(prefix string, err error) {
	line, failure := json.Marshal(errorDocument{Input: strings.TrimSuffix(prefix, ": "), Error: errorValue(err)})
	if failure != nil {
		line, _ = json.Marshal(errorDocument{Error: map[string]string{"kind": "other", "message": err.Error()}})
	}
	a.printError(string(line) + "\n")
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
