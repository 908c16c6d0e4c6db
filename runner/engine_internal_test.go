package runner

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func TestFaultsOfEnginesBecomeErrors(t *testing.T) {
	code, cause := 3, errors.New("cause")
	for fault, kind := range faultKinds {
		e := classify(&engine.Error{
			Fault: fault, Reason: "it ended", Hint: "do this", Cause: cause, PID: 7, ExitCode: &code, Signal: "SIGKILL",
			Stderr: "last words", Path: "result", Limit: "result", Stack: []ipc.TracebackFrame{{Function: "f"}},
		})
		assert.Equal(t, kind, e.Kind)
		assert.Equal(t, "it ended", e.Message)
		assert.Equal(t, "do this", e.Hint)
		assert.ErrorIs(t, e, cause)
		assert.Equal(t, 7, e.PID)
		assert.Equal(t, &code, e.ExitCode)
		assert.Equal(t, "SIGKILL", e.Signal)
		assert.Equal(t, "last words", e.StderrTail)
		assert.Equal(t, "result", e.Path)
		assert.Len(t, e.Traceback, 1)
	}
}

func TestTheDeadlineOfAnEngineHasItsKindAndLimit(t *testing.T) {
	for fault, want := range map[engine.Fault]Kind{engine.Wasm: KindWasm, engine.Transport: KindTransport} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, &engineDeadline{fault: fault, limit: time.Nanosecond})
		defer cancel()
		<-ctx.Done()
		e := classify(endOf(ctx, ctx.Err()))
		assert.Equal(t, want, e.Kind)
		assert.True(t, e.Retryable())
		assert.Contains(t, e.Error(), "no answer within 1ns; the call was interrupted")
		assert.Equal(t, "timeout", e.Limit)
	}
}

func TestAResultOfAnEngineIsChecked(t *testing.T) {
	config := manifest.NewNode("a", "a")
	config.Limits.Result = 3
	n := &node{id: "a", config: &config}
	require.NoError(t, n.checkResult(ipc.Payload{Body: []byte{0x01}}))
	assert.ErrorContains(t, n.checkResult(ipc.Payload{Body: []byte{0x01, 0x02}}), "1 bytes follow the value")
	assert.ErrorContains(t, n.checkResult(ipc.Payload{Body: []byte{0x93, 0x01, 0x02, 0x03}}), "exceeds limits.result, 3")
}
