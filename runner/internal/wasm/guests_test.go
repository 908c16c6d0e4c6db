package wasm_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/wasm"
)

func TestAGoCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles a Go program twice")
	}
	var log bytes.Buffer
	m := start(t, buildGo(t, "command"), logged(&log), func(c *wasm.Config) { c.JSON, c.Memory = true, 64<<20 })

	t.Run("has no ambient authority, but clocks", func(t *testing.T) {
		out, err := m.Call(t.Context(), encoded(t, "look"))
		require.NoError(t, err)
		assert.Equal(t, map[string]any{
			"args": int64(0), "env": int64(0), "file": false, "folder": false, "year": true, "slept": true,
		}, decoded(t, out))
	})
	t.Run("panics", func(t *testing.T) {
		_, err := m.Call(t.Context(), encoded(t, "panic"))
		exit := as[*wasm.ExitError](t, err)
		assert.Equal(t, uint32(2), exit.Code)
		assert.Contains(t, functions(exit.Frames), "main.main main.fail runtime.gopanic")
		assert.Contains(t, exit.Stderr, "panic: a panic in the command")
		assert.Contains(t, log.String(), "panic: a panic in the command")
	})
	t.Run("runs out of memory", func(t *testing.T) {
		_, err := m.Call(t.Context(), encoded(t, "memory"))
		out := as[*wasm.MemoryError](t, err)
		assert.Equal(t, int64(64<<20), out.Limit)
		is[*wasm.ExitError](t, err)
		assert.Contains(t, log.String(), "fatal error: out of memory")
	})
	t.Run("is interrupted in its sleep", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := m.Call(ctx, encoded(t, "sleep"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestAGoModuleWithFunctionsIsReused(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles a Go program twice")
	}
	m := start(t, buildGo(t, "functions", "-buildmode=c-shared"))
	for call := range 5 {
		text := strings.Repeat("ab", 3*call+1)
		out, err := m.Call(t.Context(), encoded(t, text))
		require.NoError(t, err)
		// One buffer is that of the input; the results and smaller inputs were freed.
		assert.Equal(t, []any{strings.ToUpper(text), int64(call + 1), int64(1)}, decoded(t, out))
	}
	_, err := m.Call(t.Context(), encoded(t, 7))
	trap := as[*wasm.TrapError](t, err) // Go's runtime ends so outside of main
	assert.Contains(t, functions(trap.Frames), "main.call runtime.gopanic")
	assert.Contains(t, trap.Stderr, "panic: not a short text")
	out, err := m.Call(t.Context(), encoded(t, "x"))
	require.NoError(t, err)
	assert.Equal(t, []any{"X", int64(1), int64(1)}, decoded(t, out), "a new instance")
}
