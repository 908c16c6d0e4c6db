package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func TestErrorsFromBelowKeepTheirClassWhenWrapped(t *testing.T) {
	exit := &worker.Exit{PID: 7, Code: -1, Signal: syscall.SIGSEGV}
	raised := &ipc.RemoteError{Kind: ipc.FailureExecution, Exception: ipc.Exception{Class: "ValueError", Message: "negative"}}
	queue := worker.Breach{Limit: worker.LimitQueue, Value: "3", Bound: "2"}
	for name, err := range map[string]error{
		"Exit":           exit,
		"UnbegunError":   &worker.UnbegunError{Exit: exit},
		"a waiting call": &worker.UnbegunError{Exit: exit, Sent: true, Behind: true},
		"DeadlineError":  &worker.DeadlineError{Limit: time.Second, PID: 7, Remote: &ipc.RemoteError{}},
		"StartError":     &worker.StartError{Stage: worker.StageSetup, Cause: exit, Exit: exit},
		"BrokenError":    &worker.BrokenError{Cause: errors.New("reset"), Exit: exit},
		"CanceledError":  &worker.CanceledError{Cause: context.Canceled, Exit: exit},
		"LimitError":     &worker.LimitError{Breach: worker.Breach{Limit: worker.LimitResult}, Cause: raised},
		"pool's":         &pool.LimitError{Breach: queue, Cause: exit},
		"RemoteError":    raised,
		"ValueError":     &ipc.ValueError{Path: "input", Reason: "a channel"},
		"FullError":      &ipc.FullError{},
		"manifest's":     &manifest.Errors{Problems: []manifest.Problem{{Message: "no nodes"}}},
		"pyenv's":        &pyenv.Error{Op: "install numpy", Message: "no such version", Hint: "name another"},
		"draining":       pool.ErrDraining,
		"closed":         pool.ErrClosed,
		"an Error":       NewError(KindIO, "disk full").WithNode("vad").WithHint("make room"),
	} {
		t.Run(name, func(t *testing.T) {
			want := classify(err)
			for _, wrapped := range []error{
				fmt.Errorf("call 12: %w", err),
				fmt.Errorf("twice: %w", fmt.Errorf("call 12: %w", err)),
				errors.Join(errors.New("another"), err),
			} {
				got := classify(wrapped)
				require.NotNil(t, got)
				assert.Equal(t, want.Kind, got.Kind)
				assert.Equal(t, want.Verdict, got.Verdict)
				assert.Equal(t, want.NotBegun, got.NotBegun)
				assert.Equal(t, want.BreakerExempt, got.BreakerExempt)
				assert.Equal(t, want.PID, got.PID)
				assert.Equal(t, want.Limit, got.Limit)
				assert.Equal(t, want.Operation, got.Operation)
				assert.Equal(t, want.Hint, got.Hint)
				assert.ErrorIs(t, got, err)
				assert.ErrorIs(t, got, wrapped, "no wrapper is lost")
			}
			assert.Contains(t, classify(fmt.Errorf("call 12: %w", err)).Error(), "call 12: ")
		})
	}
}

func TestADeathIsCountedForTheFirstOfTheCallsThatItFails(t *testing.T) {
	exit := &worker.Exit{PID: 7, Signal: syscall.SIGSEGV}
	for _, first := range []bool{true, false} {
		e := classify(&worker.UnbegunError{Exit: exit, Sent: true, Behind: true, First: first})
		assert.Equal(t, !first, e.BreakerExempt)
		assert.False(t, e.NotBegun, "only the worker says so")
		assert.Contains(t, e.Message, "it had not begun this call")
		assert.Contains(t, e.Hint, "let it be idempotent")
		assert.Equal(t, !first, classify(&worker.SuspectError{Err: exit, Exit: exit, Others: 1, First: first}).BreakerExempt)
	}
	assert.True(t, classify(&worker.UnbegunError{Exit: exit}).NotBegun, "it was not written")
}

func TestAStartWithoutRoomForAProcessSaysWhatToDo(t *testing.T) {
	e := classify(&worker.StartError{Stage: worker.StageSpawn, Python: "/python", Cause: &fs.PathError{Op: "fork/exec", Path: "/python", Err: syscall.EAGAIN}})
	assert.Equal(t, KindPythonVM, e.Kind)
	assert.True(t, e.Retryable(), "there may be room later")
	assert.True(t, e.NotBegun)
	assert.Contains(t, e.Hint, "limits.threads")
}

func TestTheCauseOfAFailedStartIsFoundWhenWrapped(t *testing.T) {
	exit := &worker.Exit{PID: 7, Code: 3}
	for name, test := range map[string]struct {
		cause error
		kind  Kind
	}{
		"an exception":       {&ipc.RemoteError{Kind: ipc.FailureManifest, Stage: ipc.StageImport}, KindManifest},
		"an exit":            {exit, KindPythonVM},
		"the wrong peer":     {&ipc.PeerError{}, KindTransport},
		"out of protocol":    {&ipc.ProtocolError{Reason: "a length"}, KindTransport},
		"no such executable": {&fs.PathError{Op: "fork/exec", Path: "/python", Err: syscall.ENOENT}, KindPythonVM},
	} {
		t.Run(name, func(t *testing.T) {
			want := classify(&worker.StartError{Stage: worker.StageSetup, Cause: test.cause, Exit: exit})
			got := classify(&worker.StartError{Stage: worker.StageSetup, Cause: fmt.Errorf("start: %w", test.cause), Exit: exit})
			assert.Equal(t, test.kind, want.Kind)
			assert.Equal(t, want.Kind, got.Kind)
			assert.Equal(t, want.Verdict, got.Verdict)
			assert.Equal(t, want.Hint, got.Hint)
			assert.True(t, got.NotBegun)
		})
	}
}
