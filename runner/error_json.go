package runner

import (
	"encoding/json"

	"github.com/gophersnake/gophersnake/ipc"
)

// errorJSON is an Error for machines.
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
	Message   string               `json:"message"`
	Notes     []string             `json:"notes,omitempty"`
	Traceback []ipc.TracebackFrame `json:"traceback,omitempty"`
	Relation  string               `json:"relation,omitempty"`
	Chained   *exceptionJSON       `json:"chained,omitempty"`
}

// MarshalJSON writes the error for machines: what is known, by name; text is
// the line of Error, and retry_after is in seconds. A traceback stands under
// exception where Python raised, and by itself where an interpreter hung or died.
func (e *Error) MarshalJSON() ([]byte, error) {
	out := errorJSON{
		Kind: e.Kind, Message: e.Message, Text: e.Error(), Retryable: e.Retryable(),
		Node: e.Node, Operation: e.Operation, Attempt: e.Attempt, Attempts: e.Attempts, PID: e.PID,
		Path: e.Path, Hint: e.Hint, Metadata: e.Metadata,
		ExitCode: e.ExitCode, Signal: e.Signal, Limit: e.Limit, Hang: e.Hang, StderrTail: e.StderrTail,
	}
	if out.Message == "" && e.Cause != nil {
		out.Message = e.Cause.Error() // then that is all there is to say
	}
	if after, ok := e.RetryAfter(); ok {
		seconds := after.Seconds()
		out.RetryAfter = &seconds
	}
	if e.PythonClass != "" {
		out.Exception = &exceptionJSON{Class: e.PythonClass, Message: e.Message, Notes: e.Notes,
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
