package runner

import (
	"fmt"
	"io"
	"strings"
)

// Error returns one line: the kind, the node, the operation, what happened,
// where in Python, and which attempt it was.
func (e *Error) Error() string {
	line, head := e.what(), e.head()
	if !strings.Contains(line, head) { // as it does where it quotes another Error
		line = head + ": " + line
	}
	attempt := fmt.Sprintf("; attempt %d of %d", e.Attempt, e.Attempts)
	if e.Attempt > 1 && !strings.Contains(line, attempt) {
		line += attempt
	}
	return line
}

// head says which kind of error it is, and where in the pipeline.
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

// what says what happened, in one line. Of two texts of which one holds the
// other, as a cause's text is often held by the message, the longer is enough.
func (e *Error) what() string {
	message := oneLine(exceptionLine(e.PythonClass, e.Message))
	if e.Path != "" && !strings.Contains(message, e.Path) {
		message = e.Path + ": " + message
	}
	place := e.place()
	if message == "" && e.Cause != nil {
		cause := oneLine(e.Cause.Error())
		if !strings.Contains(cause, place) {
			cause += place
		}
		return cause
	}
	message += place
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

// exceptionLine is the last line of a Python traceback, or the message of what
// is no Python exception.
func exceptionLine(class, message string) string {
	switch {
	case class == "":
		return message
	case message == "":
		return class
	}
	return class + ": " + message
}

// place is the innermost line of Python.
func (e *Error) place() string {
	if len(e.Traceback) == 0 {
		return ""
	}
	f := e.Traceback[len(e.Traceback)-1]
	return fmt.Sprintf(" (%s:%d in %s)", f.File, f.Line, f.Function)
}

// oneLine keeps the first line that says something.
func oneLine(text string) string {
	text = strings.TrimSpace(text)
	first, rest, more := strings.Cut(text, "\n")
	first = strings.TrimRight(first, " \t\r")
	if more && strings.TrimSpace(rest) != "" {
		first += " …"
	}
	return first
}

// Format prints the line of Error, or with %+v the whole story.
func (e *Error) Format(state fmt.State, verb rune) {
	switch {
	case verb == 'v' && state.Flag('+'):
		_, _ = io.WriteString(state, e.story())
	case verb == 'v' && state.Flag('#'):
		type plain Error // without the methods
		_, _ = fmt.Fprintf(state, "%#v", (*plain)(e))
	case verb == 'q':
		_, _ = fmt.Fprintf(state, "%q", e.Error())
	default:
		_, _ = io.WriteString(state, e.Error())
	}
}
