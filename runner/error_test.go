package runner

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

var allKinds = []Kind{KindOther, KindManifest, KindExecution, KindPythonVM, KindWasm, KindTransport, KindIO, KindMarshaling, KindSerialization}

// raised is a ValueError from a node, chained to a KeyError.
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
	assert.EqualError(t, err, `there is no error kind "PythonVm"; the kinds are `+
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
		InNode("vad").During("call").OnAttempt(2, 4).OnWorker(812).
		Suggest("look at the worker's log").With("socket", "/run/gs.sock").With("frames", "17")

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
	shared := NewError(KindIO, "disk full").With("disk", "sda")
	a := shared.InNode("a").With("key", "a")
	b := shared.InNode("b").With("key", "b")

	assert.Empty(t, shared.Node)
	assert.Equal(t, map[string]string{"disk": "sda"}, shared.Metadata)
	assert.Equal(t, map[string]string{"disk": "sda", "key": "a"}, a.Metadata)
	assert.Equal(t, map[string]string{"disk": "sda", "key": "b"}, b.Metadata)

	assert.ErrorIs(t, a, shared, "a copy is still the error that it was made of")
	assert.ErrorIs(t, a.During("call"), shared)
	assert.NotErrorIs(t, a, b)
	assert.NotErrorIs(t, shared, NewError(KindIO, "disk full"))
}

func TestContextChaining(t *testing.T) {
	inner := NewError(KindExecution, "bad sample").InNode("resample").During("setup").OnAttempt(3, 4).OnWorker(5).Suggest("a").With("k", "inner")
	outer := inner.InNode("pipeline").During("run").OnAttempt(1, 2).OnWorker(9).Suggest("b").With("k", "outer").With("run", "7")

	assert.Equal(t, "resample", outer.Node, "the place nearest to the fault knows best")
	assert.Equal(t, "setup", outer.Operation)
	assert.Equal(t, []int{3, 4}, []int{outer.Attempt, outer.Attempts})
	assert.Equal(t, 5, outer.PID)
	assert.Equal(t, "a", outer.Hint)
	assert.Equal(t, map[string]string{"k": "inner", "run": "7"}, outer.Metadata)
}

func TestContextRetrieval(t *testing.T) {
	err := fmt.Errorf("request 12: %w", fmt.Errorf("pipeline: %w", raised().InNode("resample").OnWorker(77)))
	e, ok := errors.AsType[*Error](err)
	require.True(t, ok)
	assert.Equal(t, "resample", e.Node)
	assert.Equal(t, 77, e.PID)
	assert.Equal(t, 12, e.Traceback[len(e.Traceback)-1].Line)
}

func TestContextPropagatesThroughCalls(t *testing.T) {
	read := func() error { return Wrap(fs.ErrNotExist, KindIO, "read the model") }
	setup := func() error { return Extend(read()).During("setup").With("model", "silero") }
	start := func() error { return Extend(setup()).InNode("vad").OnWorker(3) }

	err := start()
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorIs(t, err, KindIO)
	assert.EqualError(t, err, `io error in node "vad" during setup: read the model: file does not exist`)
	assert.Equal(t, map[string]string{"model": "silero"}, Extend(err).Metadata)
}

func TestEachKindWithContext(t *testing.T) {
	for _, kind := range allKinds {
		t.Run(kind.String(), func(t *testing.T) {
			cause := errors.New("the cause")
			e := Wrap(cause, kind, "it broke").InNode("n").During("call").OnAttempt(1, 4).With("k", "v")
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
	err := error(NewError(KindExecution, "x").With("model", "silero").With("language", "en"))
	err = Extend(fmt.Errorf("outer: %w", err)).InNode("vad").With("request", "12")
	assert.Equal(t, map[string]string{"model": "silero", "language": "en", "request": "12"}, Extend(err).Metadata)
}

func TestTracebackPropagates(t *testing.T) {
	want := raised()
	for name, err := range map[string]error{
		"itself":       raised(),
		"with context": raised().InNode("vad").During("call"),
		"wrapped":      Extend(fmt.Errorf("request: %w", raised())).InNode("vad"),
		"joined":       Extend(errors.Join(errors.New("close"), raised())),
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
		return e.InNode("n").During("call").OnAttempt(1, 2).OnWorker(1).Suggest("h").With("k", "v")
	}
	for _, kind := range allKinds {
		for _, verdict := range []Verdict{VerdictByKind, VerdictPermanent, VerdictTransient} {
			e := NewError(kind, "x")
			e.Verdict = verdict
			want := verdict == VerdictTransient || verdict == VerdictByKind && kind.Retryable()
			assert.Equal(t, want, e.Retryable(), "%v, %v", kind, verdict)
			assert.Equal(t, want, addAll(e).Retryable(), "%v, %v", kind, verdict)
			assert.Equal(t, want, Extend(fmt.Errorf("w: %w", e)).Retryable(), "%v, %v", kind, verdict)
			assert.Equal(t, kind, addAll(e).Kind)
			assert.Equal(t, kind, Extend(fmt.Errorf("w: %w", e)).Kind)
		}
	}
}

// unsure is an ordinary error with a word of its own on retrying.
type unsure struct{ retryable bool }

func (unsure) Error() string                     { return "unsure" }
func (u unsure) Retryable() bool                 { return u.retryable }
func (unsure) RetryAfter() (time.Duration, bool) { return time.Minute, true }

func TestExtendOrdinaryErrors(t *testing.T) {
	t.Run("an ordinary error is of kind other", func(t *testing.T) {
		e := Extend(context.Canceled).InNode("vad").During("call").With("k", "v")
		assert.Equal(t, KindOther, e.Kind)
		assert.False(t, e.Retryable())
		assert.ErrorIs(t, e, context.Canceled)
		assert.EqualError(t, e, `error in node "vad" during call: context canceled`)
	})
	t.Run("it keeps its own word on retrying", func(t *testing.T) {
		e := Extend(fmt.Errorf("w: %w", unsure{retryable: true}))
		assert.Equal(t, KindOther, e.Kind)
		assert.True(t, e.Retryable())
		after, asked := e.RetryAfter()
		assert.True(t, asked)
		assert.Equal(t, time.Minute, after)
		assert.False(t, Extend(unsure{retryable: false}).Retryable())
	})
	t.Run("it keeps the kind that it wraps", func(t *testing.T) {
		e := Extend(fmt.Errorf("fetch: %w", KindIO))
		assert.Equal(t, KindIO, e.Kind)
		assert.Equal(t, VerdictByKind, e.Verdict)
		e = Extend(errors.Join(unsure{retryable: false}, KindIO))
		assert.Equal(t, KindIO, e.Kind)
		assert.False(t, e.Retryable(), "the first word counts")
	})
	t.Run("an Error comes back as it is", func(t *testing.T) {
		e := NewError(KindIO, "x")
		assert.Same(t, e, Extend(e))
	})
	t.Run("what wraps an Error keeps its own words", func(t *testing.T) {
		inner := NewError(KindIO, "disk full").InNode("vad")
		wrapped := fmt.Errorf("request 12: %w", inner)
		e := Extend(wrapped)
		assert.ErrorIs(t, e, wrapped)
		assert.ErrorIs(t, e, inner)
		assert.Equal(t, "vad", e.Node)
		assert.EqualError(t, e, `request 12: io error in node "vad": disk full`)
	})
	t.Run("nil stays nil", func(t *testing.T) {
		assert.Nil(t, Extend(nil))
		assert.Nil(t, Extend(nil).InNode("x").With("k", "v"))
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
	after, asked = e.InNode("n").RetryAfter()
	assert.True(t, asked, "at once is a delay too")
	assert.Zero(t, after)
}

func TestVerdictString(t *testing.T) {
	assert.Equal(t, "by kind", VerdictByKind.String())
	assert.Equal(t, "permanent", VerdictPermanent.String())
	assert.Equal(t, "transient", VerdictTransient.String())
}
