package runner

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// story is the text of %+v: sections, none of which says what the text says
// already. Errors quote their causes, so much would be there twice.
type story struct{ strings.Builder }

func (s *story) add(prefix, section string) {
	if section == "" || strings.Contains(s.String(), section) {
		return
	}
	if s.Len() > 0 {
		s.WriteString("\n")
	}
	s.WriteString(prefix + section)
}

// story tells all that is known.
func (e *Error) story() string {
	var s story
	e.tell(&s, "")
	return s.String()
}

func (e *Error) tell(s *story, prefix string) {
	s.add(prefix, e.Error())
	s.add("", e.traceback())
	tellCause(s, e.Cause)
	for _, fact := range e.facts() {
		s.add("", fact.name+": "+strings.ReplaceAll(strings.TrimRight(fact.text, "\n"), "\n", "\n  "))
	}
}

// tellCause tells of a cause and of its own causes.
func tellCause(s *story, err error) {
	const prefix = "caused by: "
	switch cause := err.(type) {
	case nil:
	case *ipc.RemoteError, *ipc.Exception: // they are the traceback
	case *Error:
		cause.tell(s, prefix)
	case interface{ Unwrap() []error }:
		s.add(prefix, err.Error())
		for _, each := range cause.Unwrap() {
			tellCause(s, each)
		}
	default:
		s.add(prefix, err.Error())
		tellCause(s, errors.Unwrap(err))
	}
}

type fact struct{ name, text string }

// facts are what neither the line nor the traceback tells. The hint comes last,
// where the eye stops.
func (e *Error) facts() []fact {
	var facts []fact
	add := func(known bool, name, format string, values ...any) {
		if known {
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
	if after, ok := e.RetryAfter(); ok {
		add(true, "retry after", "%v", after)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		add(true, key, "%s", e.Metadata[key])
	}
	add(e.StderrTail != "", "stderr", "\n%s", e.StderrTail)
	add(e.Hint != "", "hint", "%s", e.Hint)
	return facts
}

// traceback is what Python printed, or would have.
func (e *Error) traceback() string {
	if remote, ok := errors.AsType[*ipc.RemoteError](e.Cause); ok && remote.Text != "" {
		return strings.TrimRight(remote.Text, "\n")
	}
	var b strings.Builder
	switch {
	case e.PythonClass != "":
		writeException(&b, &ipc.Exception{Class: e.PythonClass, Message: e.Message, Notes: e.Notes, Frames: e.Traceback, Cause: e.Chained})
	case len(e.Traceback) > 0:
		b.WriteString("Python was here (most recent call last):\n")
		writeFrames(&b, e.Traceback)
	}
	return strings.TrimRight(b.String(), "\n")
}

// writeException writes an exception as Python prints it: first the one that it
// came from.
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
		fmt.Fprintf(b, "  File \"%s\", line %d, in %s\n", f.File, f.Line, f.Function)
		if source := strings.TrimSpace(f.Source); source != "" {
			fmt.Fprintf(b, "    %s\n", source)
		}
	}
}
