package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

func TestErrorDisplay(t *testing.T) {
	withPath := NewError(KindMarshaling, "a socket has no encoding")
	withPath.Path = "result.items[3]"
	quoted := NewError(KindMarshaling, `expected an integer, got "an input"`)
	quoted.Path = "input"
	hung := NewError(KindPythonVM, "hung past its deadline of 30s")
	hung.Traceback = []ipc.TracebackFrame{{File: "nodes.py", Line: 4, Function: "process"}}

	for want, err := range map[string]error{
		`execution error: negative rate`:                                    NewError(KindExecution, "negative rate"),
		`execution error: ValueError: negative rate (nodes.py:12 in check)`: raised(),
		`execution error in node "vad" during call: ValueError: negative rate (nodes.py:12 in check); attempt 4 of 4`: raised().
			WithNode("vad").WithOperation("call").WithAttempt(4, 4),
		`execution error: KeyboardInterrupt`:                                     &Error{Kind: KindExecution, PythonClass: "KeyboardInterrupt"},
		`python_vm error: hung past its deadline of 30s (nodes.py:4 in process)`: hung,
		`marshaling error: result.items[3]: a socket has no encoding`:            withPath,
		`marshaling error: input: expected an integer, got "an input"`:           quoted,
		`io error: read the model: disk full`:                                    Wrap(errors.New("disk full"), KindIO, "read the model"),
		`io error: disk full on sda`:                                             Wrap(errors.New("disk full"), KindIO, "disk full on sda"),
		`io error: read: disk full`:                                              Wrap(errors.New("read: disk full"), KindIO, "disk full"),
		`io error: disk full`:                                                    Wrap(errors.New("disk full"), KindIO, ""),
		`io error: no details`:                                                   &Error{Kind: KindIO},
		`io error: first line …`:                                                 NewError(KindIO, "\nfirst line \nsecond\n"),
		`io error: only line`:                                                    NewError(KindIO, "only line\n\n"),
		`error in node "vad": x`:                                                 NewError(KindOther, "x").WithNode("vad").WithAttempt(1, 4),
		`transport error: call: execution error: ValueError: negative rate (nodes.py:12 in check)`: Wrap(raised(), KindTransport, "call"),
	} {
		assert.EqualError(t, err, want)
		assert.Equal(t, want, fmt.Sprintf("%v", err))
		assert.Equal(t, want, fmt.Sprintf("%s", err))
		assert.Equal(t, fmt.Sprintf("%q", want), fmt.Sprintf("%q", err))
	}
	assert.Contains(t, fmt.Sprintf("%#v", NewError(KindIO, "x")), `Message:"x"`)
}

func TestCompleteDisplay(t *testing.T) {
	e := raised()
	e.Cause = errors.New("the worker said so")
	e.ExitCode = new(3)
	e.Signal = "SIGKILL"
	e.StderrTail = "loading\nout of memory\n"
	e.Verdict = VerdictTransient
	e.After = new(2 * time.Second)
	e = e.WithNode("vad").WithOperation("call").WithAttempt(2, 4).WithPID(812).
		WithHint("give the node more memory").WithMetadata("model", "silero").WithMetadata("batch", "8")

	assert.Equal(t, `execution error in node "vad" during call: ValueError: negative rate (nodes.py:12 in check): the worker said so; attempt 2 of 4
Traceback (most recent call last):
  File "nodes.py", line 9, in check
    audio["rate"]
KeyError: 'rate'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "nodes.py", line 30, in process
    return check(rate)
  File "nodes.py", line 12, in check
    raise ValueError("negative rate")
ValueError: negative rate
the rate came from the input
attempt: 2 of 4
worker: pid 812
exit code: 3
signal: SIGKILL
the node says: transient
retry after: 2s
batch: 8
model: silero
stderr: 
  loading
  out of memory
hint: give the node more memory`, fmt.Sprintf("%+v", e))
}

func TestDisplayOfADirectCause(t *testing.T) {
	e := &Error{Kind: KindExecution, PythonClass: "RuntimeError", Message: "no model",
		Chained: &ipc.Exception{Class: "OSError", Message: "gone", Relation: "cause"}}
	assert.Equal(t, `execution error: RuntimeError: no model
OSError: gone

The above exception was the direct cause of the following exception:

RuntimeError: no model`, fmt.Sprintf("%+v", e))
}

func TestDisplayOfAnInterpreterThatHung(t *testing.T) {
	e := NewError(KindPythonVM, "hung past its deadline of 30s")
	e.Traceback = []ipc.TracebackFrame{{File: "nodes.py", Line: 4, Function: "process", Source: "time.sleep(3600)"}}
	assert.Equal(t, `python_vm error: hung past its deadline of 30s (nodes.py:4 in process)
Python was here (most recent call last):
  File "nodes.py", line 4, in process
    time.sleep(3600)`, fmt.Sprintf("%+v", e))
}

func TestDisplayPrefersPythonsOwnText(t *testing.T) {
	remote := &ipc.RemoteError{Text: "Traceback (most recent call last):\n  + Exception Group\nValueError: negative rate\n"}
	remote.Class, remote.Message = "ValueError", "negative rate"
	e := Wrap(remote, KindExecution, remote.Message)
	e.PythonClass = remote.Class
	assert.Equal(t, `execution error: ValueError: negative rate
Traceback (most recent call last):
  + Exception Group
ValueError: negative rate`, fmt.Sprintf("%+v", e))
}

func TestDisplayOfTheCauseChain(t *testing.T) {
	root := errors.New("disk full\nwrite 17 bytes")
	inner := raised().WithNode("vad").WithHint("check the rate")
	e := Wrap(errors.Join(fmt.Errorf("cache: %w", root), inner), KindIO, "start")

	assert.Equal(t, `io error in node "vad": start`, Wrap(inner, KindIO, "start").WithNode("vad").Error()[:29])
	story := fmt.Sprintf("%+v", e)
	assert.Contains(t, story, "io error: start: cache: disk full …\n", "one line first")
	assert.Contains(t, story, "caused by: cache: disk full\nwrite 17 bytes\n", "then the whole")
	assert.Contains(t, story, `Traceback (most recent call last):`)
	assert.Contains(t, story, "\nhint: check the rate")
}

func TestErrorMarshalJSON(t *testing.T) {
	e := raised().WithNode("vad").WithOperation("call").WithAttempt(2, 4).WithPID(812).WithMetadata("model", "silero")
	e.After = new(1500 * time.Millisecond)
	e.ExitCode = new(0)
	e.Cause = errors.New("the cause")
	text, err := json.Marshal(map[string]any{"error": e})
	require.NoError(t, err)
	assert.JSONEq(t, `{"error": {
		"kind": "execution",
		"message": "negative rate",
		"text": "execution error in node \"vad\" during call: ValueError: negative rate (nodes.py:12 in check): the cause; attempt 2 of 4",
		"retryable": true,
		"retry_after": 1.5,
		"node": "vad",
		"operation": "call",
		"attempt": 2,
		"attempts": 4,
		"pid": 812,
		"metadata": {"model": "silero"},
		"exit_code": 0,
		"cause": "the cause",
		"exception": {
			"class": "ValueError",
			"message": "negative rate",
			"notes": ["the rate came from the input"],
			"traceback": [
				{"file": "nodes.py", "line": 30, "function": "process", "source": "    return check(rate)"},
				{"file": "nodes.py", "line": 12, "function": "check", "source": "raise ValueError(\"negative rate\")"}
			],
			"chained": {
				"class": "KeyError", "message": "'rate'", "relation": "context",
				"traceback": [{"file": "nodes.py", "line": 9, "function": "check", "source": "audio[\"rate\"]"}]
			}
		}
	}}`, string(text))

	hung := NewError(KindPythonVM, "hung")
	hung.Traceback = []ipc.TracebackFrame{{File: "nodes.py", Line: 4, Function: "process"}}
	text, err = json.Marshal(hung)
	require.NoError(t, err)
	assert.JSONEq(t, `{"kind": "python_vm", "message": "hung", "retryable": true,
		"text": "python_vm error: hung (nodes.py:4 in process)",
		"traceback": [{"file": "nodes.py", "line": 4, "function": "process"}]}`, string(text))

	text, err = json.Marshal(Wrap(errors.New("refused"), KindOther, ""))
	require.NoError(t, err)
	assert.JSONEq(t, `{"kind": "other", "message": "refused", "cause": "refused", "text": "error: refused", "retryable": false}`, string(text))
}
