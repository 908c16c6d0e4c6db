package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/printable"
)

// Error returns one line: the kind, the node, the operation, what happened, the
// innermost Python frame and, from the second attempt on, the number of the attempt.
// Control characters are escaped, as [Printable] does, here and in the report of %+v. The
// fields of the error have the original texts.
func (e *Error) Error() string {
	line, head := e.summary(), e.head()
	if !strings.Contains(line, head) { // it does if it quotes another Error
		line = head + ": " + line
	}
	attempt := fmt.Sprintf("; attempt %d of %d", e.Attempt, e.Attempts)
	if e.Attempt > 1 && !strings.Contains(line, attempt) {
		line += attempt
	}
	return printable.Line(line)
}

// head returns the kind, the node and the operation.
func (e *Error) head() string {
	head := "error"
	if e.Kind != KindOther {
		head = e.Kind.String() + " error"
	}
	if e.Node != "" {
		head += fmt.Sprintf(" in node %q", e.Node)
	}
	if e.Operation != "" {
		head += " during " + e.Operation
	}
	return head
}

// summary returns in one line what happened: the message and the cause. If one of the
// two contains the other, as causes often repeat the message, it is the longer one.
func (e *Error) summary() string {
	message := oneLine(exceptionLine(e.PythonClass, e.Message))
	if e.Path != "" && !strings.Contains(message, e.Path+": ") {
		message = e.Path + ": " + message
	}
	location := e.location()
	if message == "" && e.Cause != nil {
		cause := oneLine(e.Cause.Error())
		if !strings.Contains(cause, location) {
			cause += location
		}
		return cause
	}
	message += location
	if e.Cause == nil {
		if message == "" {
			return "no details"
		}
		return message
	}
	cause := oneLine(e.Cause.Error())
	switch {
	case strings.Contains(cause, message):
		return cause
	case strings.Contains(message, cause):
		return message
	}
	return message + ": " + cause
}

// exceptionLine returns the last line of a Python traceback, or the message alone if
// there is no exception class.
func exceptionLine(class, message string) string {
	switch {
	case class == "":
		return message
	case message == "":
		return class
	}
	return class + ": " + message
}

// location returns the innermost frame in parentheses.
func (e *Error) location() string {
	if len(e.Traceback) == 0 {
		return ""
	}
	f := e.Traceback[len(e.Traceback)-1]
	if f.Line == 0 { // a module without debug information
		return fmt.Sprintf(" (%s in %s)", f.File, f.Function)
	}
	return fmt.Sprintf(" (%s:%d in %s)", f.File, f.Line, f.Function)
}

// oneLine returns the first line that is not empty, with "…" if there are more.
func oneLine(text string) string {
	text = strings.TrimSpace(text)
	first, rest, more := strings.Cut(text, "\n")
	first = strings.TrimRight(first, " \t\r")
	if more && strings.TrimSpace(rest) != "" {
		first += " …"
	}
	return first
}

// Printable returns a text that may come from a node, in a form that can be shown on a
// terminal or written to a text log: control characters, and those that change the
// direction of text, are written as escapes such as \x1b. Line feeds and tabs stay.
func Printable(text string) string { return printable.Text(text) }

// PrintableLine is [Printable] for a single line: line feeds are escaped as well.
func PrintableLine(text string) string { return printable.Line(text) }

// Format implements [fmt.Formatter]. The verbs %v and %s print the line of
// [Error.Error], and %+v the full report: that line, the Python traceback, the chain of
// causes, the remaining fields, and the hint last.
func (e *Error) Format(state fmt.State, verb rune) {
	switch {
	case verb == 'v' && state.Flag('+'):
		var r report
		e.report(&r, "")
		_, _ = io.WriteString(state, printable.Text(r.String()))
	case verb == 'v' && state.Flag('#'):
		type plain Error // without the methods
		_, _ = fmt.Fprintf(state, "%#v", (*plain)(e))
	case verb == 'q':
		_, _ = fmt.Fprintf(state, "%q", e.Error())
	default:
		_, _ = io.WriteString(state, e.Error())
	}
}

// report is the text of %+v. It consists of sections. Errors quote their causes, so a
// section that the text contains already is left out.
type report struct{ strings.Builder }

func (r *report) add(prefix, section string) {
	if section == "" || strings.Contains(r.String(), section) {
		return
	}
	if r.Len() > 0 {
		r.WriteString("\n")
	}
	r.WriteString(prefix + section)
}

func (e *Error) report(r *report, prefix string) {
	r.add(prefix, e.Error())
	r.add("", e.tracebackText())
	r.addCause(e.Cause)
	for _, fact := range e.facts() {
		r.add("", fact.name+": "+strings.ReplaceAll(strings.TrimRight(fact.text, "\n"), "\n", "\n  "))
	}
}

// addCause adds a cause and its own causes.
func (r *report) addCause(err error) {
	const prefix = "caused by: "
	switch cause := err.(type) { //nolint:errorlint // it walks the chain itself
	case nil:
	case *ipc.RemoteError, *ipc.Exception: // the traceback shows these
	case *Error:
		cause.report(r, prefix)
	case interface{ Unwrap() []error }:
		r.add(prefix, err.Error())
		for _, each := range cause.Unwrap() {
			r.addCause(each)
		}
	default:
		r.add(prefix, err.Error())
		r.addCause(errors.Unwrap(err))
	}
}

type fact struct{ name, text string }

// facts returns the fields that neither the line nor the traceback shows. The hint is
// the last one, so that it stands out on a terminal.
func (e *Error) facts() []fact {
	var facts []fact
	add := func(isSet bool, name, format string, values ...any) {
		if isSet {
			facts = append(facts, fact{name, fmt.Sprintf(format, values...)})
		}
	}
	add(e.Attempt > 0, "attempt", "%d of %d", e.Attempt, e.Attempts)
	add(e.PID > 0, "worker", "pid %d", e.PID)
	if e.ExitCode != nil {
		add(true, "exit code", "%d", *e.ExitCode)
	}
	add(e.Signal != "", "signal", "%s", e.Signal)
	add(e.Verdict != VerdictByKind, "the node says", "%v", e.Verdict)
	if after, ok := e.RetryAfter(); ok && !errors.Is(e, retry.ErrOpen) { // whose text has it
		add(true, "retry after", "%v", after)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		add(true, key, "%s", e.Metadata[key])
	}
	add(e.StderrTail != "", "stderr", "\n%s", e.StderrTail)
	add(e.Hint != "", "hint", "%s", e.Hint)
	return facts
}

// tracebackText returns the traceback as Python printed it, or would print it.
func (e *Error) tracebackText() string {
	if remote, ok := errors.AsType[*ipc.RemoteError](e.Cause); ok && remote.Text != "" {
		return strings.TrimRight(remote.Text, "\n")
	}
	var b strings.Builder
	switch {
	case e.PythonClass != "":
		writeException(&b, &ipc.Exception{Class: e.PythonClass, Message: e.Message, Notes: e.Notes, Frames: e.Traceback, Cause: e.Chained})
	case len(e.Traceback) > 0:
		b.WriteString(e.whose() + " was here (most recent call last):\n")
		writeFrames(&b, e.Traceback)
	}
	return strings.TrimRight(b.String(), "\n")
}

// whose returns what a stack belongs to that is not that of an exception.
func (e *Error) whose() string {
	if e.Kind == KindWasm {
		return "The module"
	}
	return "Python"
}

// writeException writes an exception as Python prints it, after the one that it is
// chained to.
func writeException(b *strings.Builder, x *ipc.Exception) {
	if x.Cause != nil {
		writeException(b, x.Cause)
		if x.Cause.Relation == "cause" {
			b.WriteString("\nThe above exception was the direct cause of the following exception:\n\n")
		} else {
			b.WriteString("\nDuring handling of the above exception, another exception occurred:\n\n")
		}
	}
	if len(x.Frames) > 0 {
		b.WriteString("Traceback (most recent call last):\n")
		writeFrames(b, x.Frames)
	}
	b.WriteString(exceptionLine(x.Class, x.Message) + "\n")
	for _, note := range x.Notes {
		b.WriteString(note + "\n")
	}
}

func writeFrames(b *strings.Builder, frames []ipc.TracebackFrame) {
	for _, f := range frames {
		line := ""
		if f.Line > 0 {
			line = fmt.Sprintf("line %d, ", f.Line)
		}
		fmt.Fprintf(b, "  File \"%s\", %sin %s\n", f.File, line, f.Function)
		if source := strings.TrimSpace(f.Source); source != "" {
			fmt.Fprintf(b, "    %s\n", source)
		}
	}
}

// errorJSON is an Error in JSON.
type errorJSON struct {
	Kind       Kind                 `json:"kind"`
	Message    string               `json:"message"`
	Text       string               `json:"text"`
	Retryable  bool                 `json:"retryable"`
	RetryAfter *float64             `json:"retry_after,omitempty"`
	Node       string               `json:"node,omitempty"`
	Operation  string               `json:"operation,omitempty"`
	Attempt    int                  `json:"attempt,omitempty"`
	Attempts   int                  `json:"attempts,omitempty"`
	PID        int                  `json:"pid,omitempty"`
	Path       string               `json:"path,omitempty"`
	Hint       string               `json:"hint,omitempty"`
	Metadata   map[string]string    `json:"metadata,omitempty"`
	Exception  *exceptionJSON       `json:"exception,omitempty"`
	Traceback  []ipc.TracebackFrame `json:"traceback,omitempty"`
	ExitCode   *int                 `json:"exit_code,omitempty"`
	Signal     string               `json:"signal,omitempty"`
	Limit      string               `json:"limit,omitempty"`
	Hang       string               `json:"hang,omitempty"`
	StderrTail string               `json:"stderr_tail,omitempty"`
	Cause      string               `json:"cause,omitempty"`
}

type exceptionJSON struct {
	Class     string               `json:"class"`
	Bases     []string             `json:"bases,omitempty"`
	Message   string               `json:"message"`
	Notes     []string             `json:"notes,omitempty"`
	Traceback []ipc.TracebackFrame `json:"traceback,omitempty"`
	Relation  string               `json:"relation,omitempty"`
	Chained   *exceptionJSON       `json:"chained,omitempty"`
}

// MarshalJSON encodes the error with snake_case keys; fields that are not set are left
// out. The key "text" has the line of [Error.Error], "cause" the text of the cause, and
// "retry_after" the delay in seconds. If Python raised an exception, its class, the
// classes that this inherits from, message, notes and traceback are under "exception"; the stack of an interpreter that hung or
// died is under "traceback".
func (e *Error) MarshalJSON() ([]byte, error) {
	out := errorJSON{
		Kind: e.Kind, Message: e.Message, Text: e.Error(), Retryable: e.Retryable(),
		Node: e.Node, Operation: e.Operation, Attempt: e.Attempt, Attempts: e.Attempts, PID: e.PID,
		Path: e.Path, Hint: e.Hint, Metadata: e.Metadata,
		ExitCode: e.ExitCode, Signal: e.Signal, Limit: e.Limit, Hang: e.Hang, StderrTail: e.StderrTail,
	}
	if out.Message == "" && e.Cause != nil {
		out.Message = e.Cause.Error()
	}
	if after, ok := e.RetryAfter(); ok {
		seconds := after.Seconds()
		out.RetryAfter = &seconds
	}
	if e.PythonClass != "" {
		out.Exception = &exceptionJSON{Class: e.PythonClass, Bases: e.PythonBases, Message: e.Message, Notes: e.Notes,
			Traceback: e.Traceback, Chained: newExceptionJSON(e.Chained)}
	} else {
		out.Traceback = e.Traceback
	}
	if e.Cause != nil {
		out.Cause = e.Cause.Error()
	}
	return json.Marshal(out)
}

func newExceptionJSON(x *ipc.Exception) *exceptionJSON {
	if x == nil {
		return nil
	}
	return &exceptionJSON{Class: x.Class, Message: x.Message, Notes: x.Notes,
		Traceback: x.Frames, Relation: x.Relation, Chained: newExceptionJSON(x.Cause)}
}
