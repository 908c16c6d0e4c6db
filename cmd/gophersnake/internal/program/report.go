package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// report prints the error that ended a command, unless it was printed already. If a signal
// ended the context, it prints that instead of errors that follow from it.
func (a *App) report(ctx context.Context, err error) {
	if err == nil {
		return
	}
	if _, ok := errors.AsType[failure.Reported](err); ok {
		return
	}
	if _, ok := errors.AsType[failure.Silent](err); ok {
		return
	}
	if stop, ok := failure.Interruption(ctx); ok && !errors.Is(err, stop) {
		err = stop
	}
	a.ReportError("", err)
}

// ReportError prints an error with all its details. It prints each error of a join on its
// own.
func (a *App) ReportError(prefix string, err error) {
	if parts := partsOf(err); len(parts) > 0 {
		for _, each := range parts {
			a.ReportError(prefix, each)
		}
		return
	}
	if a.JSONErrors {
		a.reportJSON(prefix, err)
		return
	}
	summary, details, _ := strings.Cut(runner.Printable(detailsOf(err)), "\n")
	text := a.errorLine(prefix, summary)
	if details != "" {
		text += a.highlight(details) + "\n"
	}
	if usage, ok := errors.AsType[*failure.UsageError](err); ok {
		text += fmt.Sprintf("see: %s --help\n", usage.Command)
	}
	a.PrintError(text)
}

// partsOf returns the errors that err joins, or nothing if it is a single error.
func partsOf(err error) []error {
	// Not errors.As: a join inside another error is a part of that error.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return e.Faults()
	}
	return nil
}

// reportSummary prints an error without details, on one line.
func (a *App) reportSummary(prefix string, err error) {
	a.PrintError(a.errorLine(prefix, runner.Printable(err.Error())))
}

func (a *App) errorLine(prefix, text string) string {
	return fmt.Sprintf("%s %s%s\n", a.Console.Style.Red("error:"), runner.PrintableLine(prefix), a.Console.Style.Bold(text))
}

// PrintError writes a text to standard error, above the progress.
func (a *App) PrintError(text string) { _, _ = io.WriteString(a.Console, text) }

// detailsOf returns an error with all its details; the first line is a summary. Each
// problem of a manifest begins with its position, which editors recognize.
func detailsOf(err error) string {
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

// highlight colors the hint among the details of an error, and dims what is rarely of
// interest.
func (a *App) highlight(details string) string {
	lines := strings.Split(details, "\n")
	for i, line := range lines {
		switch name, text, _ := strings.Cut(line, ":"); name {
		case "hint":
			lines[i] = a.Console.Style.Cyan("hint:") + text
		case "attempt", "worker", "exit code", "signal", "uptime", "max_rss", "stderr":
			lines[i] = a.Console.Style.Dim(line)
		}
	}
	return strings.Join(lines, "\n")
}

// errorDocument is the JSON form of an error.
type errorDocument struct {
	Input string `json:"input,omitempty"`
	Error any    `json:"error"`
}

func (a *App) reportJSON(prefix string, err error) {
	line, encoding := json.Marshal(errorDocument{Input: strings.TrimSuffix(prefix, ": "), Error: failure.Document(err)})
	if encoding != nil {
		line, _ = json.Marshal(errorDocument{Error: map[string]string{"kind": "other", "message": err.Error()}})
	}
	a.PrintError(document.Printable(string(line)) + "\n")
}
