package runner

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
)

var allKinds = []Kind{KindOther, KindManifest, KindExecution, KindPythonVM, KindWasm, KindTransport, KindIO, KindMarshaling, KindSerialization}

// raised returns a ValueError from a node, chained to a KeyError.
func raised() *Error {
	e := NewError(KindExecution, "negative rate")
	e.PythonClass = "ValueError"
	e.Traceback = []ipc.TracebackFrame{
		{File: "nodes.py", Line: 30, Function: "process", Source: "    return check(rate)"},
		{File: "nodes.py", Line: 12, Function: "check", Source: `raise ValueError("negative rate")`},
	}
	e.Notes = []string{"the rate came from the input"}
	e.Chained = &ipc.Exception{
		Class: "KeyError", Message: "'rate'", Relation: "context",
		Frames: []ipc.TracebackFrame{{File: "nodes.py", Line: 9, Function: "check", Source: `audio["rate"]`}},
	}
	return e
}

func TestKindsThatAreRetryable(t *testing.T) {
	want := map[Kind]bool{KindExecution: true, KindPythonVM: true, KindWasm: true, KindTransport: true, KindIO: true}
	for _, kind := range allKinds {
		assert.Equal(t, want[kind], kind.Retryable(), kind)
		assert.Equal(t, want[kind], NewError(kind, "x").Retryable(), kind)
		assert.Equal(t, want[kind], IsRetryable(fmt.Errorf("wrapped: %w", NewError(kind, "x"))), kind)
	}
	assert.False(t, IsRetryable(nil))
}

func TestKindText(t *testing.T) {
	assert.Equal(t, "python_vm", KindPythonVM.String())
	for _, kind := range allKinds {
		parsed, err := ParseKind(kind.String())
		require.NoError(t, err)
		assert.Equal(t, kind, parsed)

		text, err := encoding.TextMarshaler(kind).MarshalText()
		require.NoError(t, err)
		var back Kind
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, kind, back)
	}

	_, err := ParseKind("PythonVm")
	assert.EqualError(t, err, `unknown error kind "PythonVm"; the kinds are `+
		"other, manifest, execution, python_vm, wasm, transport, io, marshaling, serialization")
	kind := KindIO
	require.Error(t, kind.UnmarshalText([]byte("nonsense")))
	assert.Equal(t, KindIO, kind, "a kind that cannot be read changes nothing")
	_, err = Kind(99).MarshalText()
	assert.EqualError(t, err, "Kind(99) is not an error kind")
}

func TestKindIsAnErrorToWrapAndToTest(t *testing.T) {
	err := fmt.Errorf("fetch the model: %w", KindIO)
	assert.Equal(t, KindIO, KindOf(err))
	assert.True(t, IsRetryable(err))
	assert.ErrorIs(t, err, KindIO)

	err = fmt.Errorf("run: %w", NewError(KindPythonVM, "died"))
	assert.ErrorIs(t, err, KindPythonVM)
	assert.NotErrorIs(t, err, KindExecution)
	assert.Equal(t, KindPythonVM, KindOf(err))

	assert.Equal(t, KindOther, KindOf(errors.New("ordinary")))
	assert.Equal(t, KindOther, KindOf(nil))
}

func TestErrorContextBuilder(t *testing.T) {
	e := NewError(KindTransport, "the connection broke").
		WithNode("vad").WithOperation("call").WithAttempt(2, 4).WithPID(812).
		WithHint("look at the worker's log").WithMetadata("socket", "/run/gs.sock").WithMetadata("frames", "17")

	assert.Equal(t, KindTransport, e.Kind)
	assert.Equal(t, "the connection broke", e.Message)
	assert.Equal(t, "vad", e.Node)
	assert.Equal(t, "call", e.Operation)
	assert.Equal(t, []int{2, 4}, []int{e.Attempt, e.Attempts})
	assert.Equal(t, 812, e.PID)
	assert.Equal(t, "look at the worker's log", e.Hint)
	assert.Equal(t, map[string]string{"socket": "/run/gs.sock", "frames": "17"}, e.Metadata)
}

func TestAddingContextLeavesASharedErrorAlone(t *testing.T) {
	shared := NewError(KindIO, "disk full").WithMetadata("disk", "sda")
	a := shared.WithNode("a").WithMetadata("key", "a")
	b := shared.WithNode("b").WithMetadata("key", "b")

	assert.Empty(t, shared.Node)
	assert.Equal(t, map[string]string{"disk": "sda"}, shared.Metadata)
	assert.Equal(t, map[string]string{"disk": "sda", "key": "a"}, a.Metadata)
	assert.Equal(t, map[string]string{"disk": "sda", "key": "b"}, b.Metadata)

	assert.ErrorIs(t, a, shared, "a copy is still the error that it was made of")
	assert.ErrorIs(t, a.WithOperation("call"), shared)
	assert.NotErrorIs(t, a, b)
	assert.NotErrorIs(t, shared, NewError(KindIO, "disk full"))
}

func TestContextChaining(t *testing.T) {
	inner := NewError(KindExecution, "bad sample").WithNode("resample").WithOperation("setup").WithAttempt(3, 4).WithPID(5).WithHint("a").WithMetadata("k", "inner")
	outer := inner.WithNode("pipeline").WithOperation("run").WithAttempt(1, 2).WithPID(9).WithHint("b").WithMetadata("k", "outer").WithMetadata("run", "7")

	assert.Equal(t, "resample", outer.Node, "the place nearest to the fault knows best")
	assert.Equal(t, "setup", outer.Operation)
	assert.Equal(t, []int{3, 4}, []int{outer.Attempt, outer.Attempts})
	assert.Equal(t, 5, outer.PID)
	assert.Equal(t, "a", outer.Hint)
	assert.Equal(t, map[string]string{"k": "inner", "run": "7"}, outer.Metadata)
}

func TestContextRetrieval(t *testing.T) {
	err := fmt.Errorf("request 12: %w", fmt.Errorf("pipeline: %w", raised().WithNode("resample").WithPID(77)))
	e, ok := errors.AsType[*Error](err)
	require.True(t, ok)
	assert.Equal(t, "resample", e.Node)
	assert.Equal(t, 77, e.PID)
	assert.Equal(t, 12, e.Traceback[len(e.Traceback)-1].Line)
}

func TestContextPropagatesThroughCalls(t *testing.T) {
	read := func() error { return Wrap(fs.ErrNotExist, KindIO, "read the model") }
	setup := func() error { return AsError(read()).WithOperation("setup").WithMetadata("model", "silero") }
	start := func() error { return AsError(setup()).WithNode("vad").WithPID(3) }

	err := start()
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorIs(t, err, KindIO)
	assert.EqualError(t, err, `io error in node "vad" during setup: read the model: file does not exist`)
	assert.Equal(t, map[string]string{"model": "silero"}, AsError(err).Metadata)
}

func TestEachKindWithContext(t *testing.T) {
	for _, kind := range allKinds {
		t.Run(kind.String(), func(t *testing.T) {
			cause := errors.New("the cause")
			e := Wrap(cause, kind, "it broke").WithNode("n").WithOperation("call").WithAttempt(1, 4).WithMetadata("k", "v")
			assert.Equal(t, kind, e.Kind)
			assert.ErrorIs(t, e, kind)
			assert.ErrorIs(t, e, cause)
			head := kind.String() + " error"
			if kind == KindOther {
				head = "error"
			}
			assert.EqualError(t, e, head+` in node "n" during call: it broke: the cause`)
		})
	}
}

func TestMetadataIsPreserved(t *testing.T) {
	err := error(NewError(KindExecution, "x").WithMetadata("model", "silero").WithMetadata("language", "en"))
	err = AsError(fmt.Errorf("outer: %w", err)).WithNode("vad").WithMetadata("request", "12")
	assert.Equal(t, map[string]string{"model": "silero", "language": "en", "request": "12"}, AsError(err).Metadata)
}

func TestTracebackPropagates(t *testing.T) {
	want := raised()
	for name, err := range map[string]error{
		"itself":       raised(),
		"with context": raised().WithNode("vad").WithOperation("call"),
		"wrapped":      AsError(fmt.Errorf("request: %w", raised())).WithNode("vad"),
		"joined":       AsError(errors.Join(errors.New("close"), raised())),
	} {
		t.Run(name, func(t *testing.T) {
			e, ok := errors.AsType[*Error](err)
			require.True(t, ok)
			assert.Equal(t, want.Traceback, e.Traceback)
			assert.Equal(t, want.PythonClass, e.PythonClass)
			assert.Equal(t, want.Notes, e.Notes)
			assert.Equal(t, want.Chained, e.Chained)
		})
	}
}

func TestContextNeverChangesRetryability(t *testing.T) {
	addAll := func(e *Error) *Error {
		return e.WithNode("n").WithOperation("call").WithAttempt(1, 2).WithPID(1).WithHint("h").WithMetadata("k", "v")
	}
	for _, kind := range allKinds {
		for _, verdict := range []Verdict{VerdictByKind, VerdictPermanent, VerdictTransient} {
			e := NewError(kind, "x")
			e.Verdict = verdict
			want := verdict == VerdictTransient || verdict == VerdictByKind && kind.Retryable()
			assert.Equal(t, want, e.Retryable(), "%v, %v", kind, verdict)
			assert.Equal(t, want, addAll(e).Retryable(), "%v, %v", kind, verdict)
			assert.Equal(t, want, AsError(fmt.Errorf("w: %w", e)).Retryable(), "%v, %v", kind, verdict)
			assert.Equal(t, kind, addAll(e).Kind)
			assert.Equal(t, kind, AsError(fmt.Errorf("w: %w", e)).Kind)
		}
	}
}

// unsure is an ordinary error that says whether it is retryable.
type unsure struct{ retryable bool }

func (unsure) Error() string                     { return "unsure" }
func (u unsure) Retryable() bool                 { return u.retryable }
func (unsure) RetryAfter() (time.Duration, bool) { return time.Minute, true }

func TestAsErrorConvertsOrdinaryErrors(t *testing.T) {
	t.Run("an ordinary error is of kind other", func(t *testing.T) {
		e := AsError(context.Canceled).WithNode("vad").WithOperation("call").WithMetadata("k", "v")
		assert.Equal(t, KindOther, e.Kind)
		assert.False(t, e.Retryable())
		assert.ErrorIs(t, e, context.Canceled)
		assert.EqualError(t, e, `error in node "vad" during call: context canceled`)
	})
	t.Run("it keeps its own word on retrying", func(t *testing.T) {
		e := AsError(fmt.Errorf("w: %w", unsure{retryable: true}))
		assert.Equal(t, KindOther, e.Kind)
		assert.True(t, e.Retryable())
		after, asked := e.RetryAfter()
		assert.True(t, asked)
		assert.Equal(t, time.Minute, after)
		assert.False(t, AsError(unsure{retryable: false}).Retryable())
	})
	t.Run("it keeps the kind that it wraps", func(t *testing.T) {
		e := AsError(fmt.Errorf("fetch: %w", KindIO))
		assert.Equal(t, KindIO, e.Kind)
		assert.Equal(t, VerdictByKind, e.Verdict)
		e = AsError(errors.Join(unsure{retryable: false}, KindIO))
		assert.Equal(t, KindIO, e.Kind)
		assert.False(t, e.Retryable(), "the first word counts")
	})
	t.Run("an Error comes back as it is", func(t *testing.T) {
		e := NewError(KindIO, "x")
		assert.Same(t, e, AsError(e))
	})
	t.Run("what wraps an Error keeps its own words", func(t *testing.T) {
		inner := NewError(KindIO, "disk full").WithNode("vad")
		wrapped := fmt.Errorf("request 12: %w", inner)
		e := AsError(wrapped)
		assert.ErrorIs(t, e, wrapped)
		assert.ErrorIs(t, e, inner)
		assert.Equal(t, "vad", e.Node)
		assert.EqualError(t, e, `request 12: io error in node "vad": disk full`)
	})
	t.Run("nil stays nil", func(t *testing.T) {
		assert.Nil(t, AsError(nil))
		assert.Nil(t, AsError(nil).WithNode("x").WithMetadata("k", "v"))
	})
}

func TestRetryAfterIsTheErrorsOwnOrItsCauses(t *testing.T) {
	_, asked := NewError(KindExecution, "x").RetryAfter()
	assert.False(t, asked)
	_, asked = Wrap(errors.New("y"), KindExecution, "x").RetryAfter()
	assert.False(t, asked)

	e := Wrap(unsure{}, KindExecution, "x")
	after, asked := e.RetryAfter()
	assert.True(t, asked)
	assert.Equal(t, time.Minute, after)

	e.After = new(time.Duration(0))
	after, asked = e.WithNode("n").RetryAfter()
	assert.True(t, asked, "at once is a delay too")
	assert.Zero(t, after)

	refused := Wrap(&retry.OpenError{State: retry.Open, Failures: 5, Wait: time.Second}, KindOther, "")
	after, asked = refused.RetryAfter()
	assert.True(t, asked)
	assert.Equal(t, time.Second, after)
	text, err := refused.MarshalJSON()
	require.NoError(t, err)
	assert.Contains(t, string(text), `"retry_after":1`)
	assert.Equal(t, 1, strings.Count(fmt.Sprintf("%+v", refused), "1s"), "it is in the message")
}

func TestVerdictString(t *testing.T) {
	assert.Equal(t, "by kind", VerdictByKind.String())
	assert.Equal(t, "permanent", VerdictPermanent.String())
	assert.Equal(t, "transient", VerdictTransient.String())
}
