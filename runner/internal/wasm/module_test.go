package wasm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/wasm"
)

// What the modules of faults.wat and command.wat do if their input is this number.
const (
	functionTraps = iota + 1
	functionLoops
	functionEatsMemory
	functionResultBeyondMemory
	functionResultTooLarge
	functionDividesByZero
	functionRecurses
	functionExits
	functionWritesAndTraps
	functionReturnsNothing
	functionCallsNull
	functionEatsTable
	functionSleeps
	functionFloods
	functionFloodsAndReturns
	functionAsksForRandomBytes
)

const (
	commandTraps          = 1
	commandExits          = 3
	commandWritesForever  = 5
	commandWritesNothing  = 7
	commandWritesAndExits = 9
)

func TestBothFormsReturnTheirResult(t *testing.T) {
	for _, name := range []string{"faults.wasm", "command.wasm"} {
		t.Run(name, func(t *testing.T) {
			m := start(t, name)
			for _, v := range []any{nil, "x", "", map[string]any{"a": []any{1.5, true}}, strings.Repeat("long", 1000), bytes.Repeat([]byte{7}, 60_000)} {
				echoes(t, m, v)
			}
		})
	}
}

func TestATrapHasItsReasonAndTheNamesOfTheFunctions(t *testing.T) {
	m := start(t, "faults.wasm")
	for _, c := range []struct {
		way               int
		reason, functions string
	}{
		{functionTraps, "unreachable", "call deeper trap"},
		{functionDividesByZero, "integer divide by zero", "call"},
		{functionCallsNull, "invalid table access", "call"},
		{functionRecurses, "stack overflow", ""},
	} {
		t.Run(c.reason, func(t *testing.T) {
			trap := callError[*wasm.TrapError](t, m, c.way)
			assert.Equal(t, c.reason, trap.Reason)
			assert.Equal(t, c.functions, functions(trap.Frames))
			for _, f := range trap.Frames {
				assert.Equal(t, "faults.wasm", f.File)
			}
		})
	}
	trap := callError[*wasm.TrapError](t, start(t, "command.wasm"), commandTraps)
	assert.Equal(t, "main", functions(trap.Frames))
}

func TestATrapHasTheLinesOfModulesWithDebugInformation(t *testing.T) {
	trap := callError[*wasm.TrapError](t, start(t, "lines.wasm"), 1)
	assert.Equal(t, []ipc.TracebackFrame{
		{File: "lines.rs", Line: 20, Function: "gophersnake_call"},
		{File: "lines.rs", Line: 28, Function: "lines::check"},
		{File: "lines.rs", Line: 34, Function: "lines::fail"},
	}, trap.Frames)
}

func TestNamesThatAreTooLongAreLeftOut(t *testing.T) {
	whole, err := os.ReadFile("testdata/faults.wasm")
	require.NoError(t, err)
	// The names of the module are at its end. Others follow, of which the last ones count.
	long := append([]byte("\x04name\x01"), named(append([]byte{1, 0}, named(bytes.Repeat([]byte("x"), 70_000))...))...)
	module := slices.Concat(whole, []byte{0}, named(long))
	file := filepath.Join(t.TempDir(), "faults.wasm")
	require.NoError(t, os.WriteFile(file, module, 0o600))
	trap := callError[*wasm.TrapError](t, start(t, file), functionTraps)
	assert.Equal(t, "call deeper trap", functions(trap.Frames))
}

// named returns bytes after their number.
func named(content []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(content))), content...)
}

func TestATrapHasTheEndOfStandardError(t *testing.T) {
	trap := callError[*wasm.TrapError](t, start(t, "faults.wasm"), functionWritesAndTraps)
	assert.Equal(t, "words", trap.Stderr)
}

func TestAnExitHasItsCodeAndStack(t *testing.T) {
	exit := callError[*wasm.ExitError](t, start(t, "faults.wasm"), functionExits)
	assert.Equal(t, uint32(3), exit.Code)
	assert.Equal(t, "call proc_exit", functions(exit.Frames))

	command := start(t, "command.wasm")
	exit = callError[*wasm.ExitError](t, command, commandExits)
	assert.Equal(t, uint32(3), exit.Code)
	exit = callError[*wasm.ExitError](t, command, commandWritesAndExits)
	assert.Equal(t, uint32(9), exit.Code)
	assert.Equal(t, "nothing works", exit.Stderr)
}

func TestALoopASleepAndAFloodEndWithTheContext(t *testing.T) {
	m := start(t, "faults.wasm")
	for _, way := range []int{functionLoops, functionSleeps, functionFloods, functionAsksForRandomBytes} {
		t.Run(fmt.Sprint(way), func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("the time is up"))
			defer cancel()
			_, err := m.Call(ctx, encoded(t, way))
			interrupted := as[*wasm.InterruptedError](t, err)
			assert.ErrorContains(t, interrupted.Cause, "the time is up")
			assert.False(t, interrupted.Waited)
			echoes(t, m, "the next call")
		})
	}
}

func TestCancellationInterruptsACall(t *testing.T) {
	m := start(t, "faults.wasm")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := m.Call(ctx, encoded(t, functionLoops))
	is[*wasm.InterruptedError](t, err)
	require.ErrorIs(t, err, context.Canceled)
	_, err = m.Call(ctx, encoded(t, 0))
	require.ErrorIs(t, err, context.Canceled)
	echoes(t, m, "the next call")
}

func TestMemoryIsBounded(t *testing.T) {
	const limit = 8 << 20
	m := start(t, "faults.wasm", func(c *wasm.Config) { c.Memory = limit })
	out := callError[*wasm.MemoryError](t, m, functionEatsMemory)
	assert.Equal(t, int64(limit), out.Limit)
	assert.Greater(t, out.Asked, int64(limit))
	assert.Equal(t, "call eat_memory trap", functions(as[*wasm.TrapError](t, out).Frames))

	// A failure of a later call in the same instance is not blamed on memory.
	_, err := m.Call(t.Context(), encoded(t, functionTraps))
	is[*wasm.TrapError](t, err)
	require.NotErrorAs(t, err, new(*wasm.MemoryError))
}

func TestTablesAreBounded(t *testing.T) {
	m := start(t, "faults.wasm")
	out, err := m.Call(t.Context(), encoded(t, functionEatsTable))
	require.NoError(t, err) // growing was refused
	assert.EqualValues(t, functionEatsTable, decoded(t, out))
}

func TestAResultOutsideOfTheMemoryIsRefused(t *testing.T) {
	m := start(t, "faults.wasm")
	err := callError[*wasm.ProtocolError](t, m, functionResultBeyondMemory)
	assert.Equal(t, "gophersnake_call returned 64 bytes at 4294967280, outside of the module's memory of 131072 bytes", err.Error())
	tooLarge := callError[*wasm.ResultError](t, m, functionResultTooLarge)
	assert.Equal(t, int64(1<<32-1), tooLarge.Size)
	nothing := callError[*ipc.ValueError](t, m, functionReturnsNothing)
	assert.Equal(t, "gophersnake_call returned no bytes", nothing.Reason)
}

func TestTheResultIsBounded(t *testing.T) {
	small := func(c *wasm.Config) { c.Result = 1 << 10 }
	for _, name := range []string{"faults.wasm", "command.wasm"} {
		err := callError[*wasm.ResultError](t, start(t, name, small), strings.Repeat("x", 1<<10))
		assert.Equal(t, int64(1<<10), err.Limit)
	}
	err := callError[*wasm.ResultError](t, start(t, "command.wasm", small), commandWritesForever)
	assert.Equal(t, int64(1<<16), err.Size)
}

func TestACommandThatWritesNothingIsAnError(t *testing.T) {
	err := callError[*ipc.ValueError](t, start(t, "command.wasm"), commandWritesNothing)
	assert.Equal(t, "the module wrote nothing to its standard output", err.Reason)
}

func TestAnInputForWhichThereIsNoRoomIsRefused(t *testing.T) {
	err := callError[*wasm.ProtocolError](t, start(t, "faults.wasm"), strings.Repeat("x", 1<<16))
	assert.Equal(t, "gophersnake_alloc(65541) returned 0: the module has no buffer for the input", err.Error())
}

func TestTheLogOfACallIsBounded(t *testing.T) {
	var log bytes.Buffer
	m := start(t, "faults.wasm", logged(&log))
	_, err := m.Call(t.Context(), encoded(t, functionFloodsAndReturns))
	require.NoError(t, err)
	assert.Contains(t, log.String(), "[INFO]  node: words\n")
	assert.Equal(t, 1, strings.Count(log.String(), "further output of this call is not logged"))
	assert.Less(t, log.Len(), 1<<19)

	log.Reset()
	_, err = m.Call(t.Context(), encoded(t, functionFloodsAndReturns))
	require.NoError(t, err)
	assert.Contains(t, log.String(), "[INFO]  node: words\n", "each call has a log of its own")
}

func TestAModuleThatCannotBeUsedDoesNotStart(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.wasm")
	require.NoError(t, os.WriteFile(garbage, []byte("#!/bin/sh"), 0o600))
	component := filepath.Join(t.TempDir(), "component.wasm")
	require.NoError(t, os.WriteFile(component, []byte("\x00asm\x0d\x00\x01\x00"), 0o600))
	whole, err := os.ReadFile("testdata/faults.wasm")
	require.NoError(t, err)
	truncated := filepath.Join(t.TempDir(), "truncated.wasm")
	require.NoError(t, os.WriteFile(truncated, whole[:len(whole)/2], 0o600))
	for _, c := range []struct{ name, says string }{
		{garbage, "garbage.wasm cannot be used: it is no WebAssembly module: it does not begin with \\0asm and version 1"},
		{component, "component.wasm cannot be used: it is a component of WASI 0.2; build it as a core module, for instance for wasm32-wasip1"},
		{truncated, "truncated.wasm cannot be used: the module is truncated"},
		{"no_functions.wasm", "no_functions.wasm cannot be used: the module does not export gophersnake_call(i32, i32) → i64 and gophersnake_alloc(i32) → i32; it exports gophersnake_call(i32) → i64, process(i32, i32) → i32"},
		{"foreign_imports.wasm", "foreign_imports.wasm cannot be used: the module imports env.alert, wasi_snapshot_preview1.fork; there are only the functions of wasi_snapshot_preview1"},
		{"large_memory.wasm", "large_memory.wasm cannot be used: the module starts with 1073741824 bytes of memory, more than the limit of 268435456"},
		{"large_table.wasm", "large_table.wasm cannot be used: a table has 134217728 elements, more than the 1048576 that are allowed"},
		{"both_forms.wasm", "both_forms.wasm cannot be used: the module exports _start and gophersnake_call; a command has no functions that are called, and a module with functions is built as a reactor"},
	} {
		t.Run(filepath.Base(c.name), func(t *testing.T) {
			_, err := tryStart(t, t.Context(), c.name)
			is[*wasm.InvalidError](t, err)
			assert.Equal(t, c.says, err.Error())
		})
	}
	_, err = tryStart(t, t.Context(), "missing.wasm")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAStartFunctionThatFailsOrDoesNotEndIsAnErrorOfTheStart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := tryStart(t, ctx, "start_loops.wasm")
	is[*wasm.StartError](t, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	_, err = tryStart(t, t.Context(), "start_traps.wasm")
	is[*wasm.StartError](t, err)
	assert.Equal(t, "initialize", functions(as[*wasm.TrapError](t, err).Frames))
	assert.Equal(t, "the module did not start: the module trapped: unreachable", err.Error())
}

func TestCompiledCodeIsKeptAndMayBeDamaged(t *testing.T) {
	dir := t.TempDir()
	cached := func(c *wasm.Config) { c.CacheDir = dir }
	echoes(t, start(t, "faults.wasm", cached), "compiled")
	entries, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	echoes(t, start(t, "faults.wasm", cached), "cached")
	for _, damage := range []string{"", "WAZEVO", strings.Repeat("x", 5000)} {
		require.NoError(t, os.WriteFile(entries[0], []byte(damage), 0o600))
		echoes(t, start(t, "faults.wasm", cached), "damaged")
	}
	unusable := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(unusable, nil, 0o600))
	echoes(t, start(t, "faults.wasm", func(c *wasm.Config) { c.CacheDir = unusable }), "no cache")
}

func TestCheckFindsWhatStartWouldRefuse(t *testing.T) {
	for name, valid := range map[string]bool{"faults.wasm": true, "command.wasm": true, "no_functions.wasm": false, "faults.wat": false} {
		err := wasm.New(wasm.Config{Path: filepath.Join("testdata", name)}).Check(t.Context())
		if valid {
			require.NoError(t, err)
		} else {
			is[*wasm.InvalidError](t, err)
		}
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	for limit, change := range map[string]func(*wasm.Config){
		"queue":      func(c *wasm.Config) { c.Queue = 1 },
		"queue_wait": func(c *wasm.Config) { c.Queue, c.QueueWait = 2, 5*time.Millisecond },
	} {
		t.Run(limit, func(t *testing.T) {
			m := start(t, "faults.wasm", change, func(c *wasm.Config) { c.Max = 1 })
			ctx, cancel := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			calls.Go(func() {
				_, err := m.Call(ctx, encoded(t, functionLoops))
				assert.ErrorIs(t, err, context.Canceled)
			})
			require.Eventually(t, func() bool { return m.Active() == 1 }, time.Minute, time.Millisecond)
			if limit == "queue" {
				calls.Go(func() {
					_, err := m.Call(ctx, encoded(t, 0))
					assert.ErrorIs(t, err, context.Canceled)
				})
				require.Eventually(t, func() bool { return m.Waiting() == 1 }, time.Minute, time.Millisecond)
			}
			_, err := m.Call(t.Context(), encoded(t, 0))
			busy := as[*engine.Error](t, err)
			assert.Equal(t, engine.Busy, busy.Fault)
			assert.Equal(t, limit, busy.Limit)
			cancel()
			calls.Wait()
			echoes(t, m, "the next call")
		})
	}
}

func TestTheTimeOfACallBeginsWithItsInstance(t *testing.T) {
	m := start(t, "faults.wasm", func(c *wasm.Config) { c.Max = 1 })
	late := errors.New("the time is up")
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			_, err := m.CallWithin(t.Context(), engine.Within{Limit: 50 * time.Millisecond, Cause: late}, encoded(t, functionLoops))
			assert.ErrorIs(t, err, late)
			assert.NotEqual(t, engine.Busy, as[*engine.Error](t, err).Fault)
		})
	}
	calls.Wait()
	_, err := m.CallWithin(t.Context(), engine.Within{Limit: time.Hour, Cause: late}, encoded(t, 0))
	require.NoError(t, err)
}

func TestConcurrentCallsHaveInstancesOfTheirOwn(t *testing.T) {
	for _, name := range []string{"faults.wasm", "command.wasm"} {
		t.Run(name, func(t *testing.T) {
			m := start(t, name)
			var calls sync.WaitGroup
			for i := range 64 {
				calls.Go(func() {
					for j := range 20 {
						in := encoded(t, fmt.Sprintf("call %d.%d", i, j))
						out, err := m.Call(t.Context(), in)
						assert.NoError(t, err)
						assert.Equal(t, in, out)
						if j%7 == 0 {
							_, err = m.Call(t.Context(), encoded(t, 1))
							assert.Error(t, err)
						}
					}
				})
			}
			calls.Wait()
		})
	}
}

func TestACallWaitsForAPlaceUntilItsContextEnds(t *testing.T) {
	m := start(t, "faults.wasm", func(c *wasm.Config) { c.Max = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := m.Call(ctx, encoded(t, functionLoops))
		ended <- err
	}()
	require.Eventually(t, func() bool { return m.Active() == 1 }, time.Minute, time.Millisecond)
	waiting, stop := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer stop()
	_, err := m.Call(waiting, encoded(t, 0))
	assert.True(t, as[*wasm.InterruptedError](t, err).Waited)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	echoes(t, m, "the next call")
}

func TestIdleInstancesAreDropped(t *testing.T) {
	m := start(t, "faults.wasm", func(c *wasm.Config) { c.IdleTimeout = time.Millisecond })
	echoes(t, m, "x")
	require.Eventually(t, func() bool { return m.Idle() == 0 }, time.Minute, time.Millisecond)
	echoes(t, m, "x")

	kept := start(t, "faults.wasm", func(c *wasm.Config) { c.Min, c.IdleTimeout = 2, time.Millisecond })
	assert.Equal(t, 2, kept.Idle())
}

func TestCloseWaitsForCallsAndEndsThemWithItsContext(t *testing.T) {
	m := start(t, "faults.wasm")
	ended := make(chan error)
	go func() {
		_, err := m.Call(context.Background(), encoded(t, functionLoops))
		ended <- err
	}()
	require.Eventually(t, func() bool { return m.Active() == 1 }, time.Minute, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	m.Close(ctx)
	require.ErrorIs(t, <-ended, wasm.ErrClosed)
	_, err := m.Call(t.Context(), encoded(t, 0))
	require.ErrorIs(t, err, wasm.ErrClosed)
	assert.Zero(t, m.Idle())
}

func TestJSON(t *testing.T) {
	for _, name := range []string{"faults.wasm", "command.wasm"} {
		m := start(t, name, func(c *wasm.Config) { c.JSON = true })
		value := ipc.Object{{Key: "z", Value: int64(1)}, {Key: "a", Value: []any{1.0, "ä\n", nil}}}
		out, err := m.Call(t.Context(), encoded(t, value))
		require.NoError(t, err)
		got, err := ipc.Payload{Body: out}.Ordered().Decode("result", ipc.DefaultLimits())
		require.NoError(t, err)
		assert.Equal(t, value, got)
		_, err = m.Call(t.Context(), encoded(t, []byte{1}))
		is[*ipc.ValueError](t, err)
	}
}

// TestTheModulesAreThoseOfTheirSources builds the modules again if Debian's wabt is installed.
func TestTheModulesAreThoseOfTheirSources(t *testing.T) {
	compiler, err := exec.LookPath("wat2wasm")
	if err != nil {
		t.Skip("wat2wasm is not installed (Debian's package wabt)")
	}
	sources, err := filepath.Glob("testdata/*.wat")
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	for _, source := range sources {
		built := filepath.Join(t.TempDir(), "built.wasm")
		text, err := exec.Command(compiler, "--debug-names", source, "-o", built).CombinedOutput()
		require.NoError(t, err, string(text))
		want, err := os.ReadFile(built)
		require.NoError(t, err)
		got, err := os.ReadFile(strings.TrimSuffix(source, ".wat") + ".wasm")
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), "run wat2wasm --debug-names %s", source)
	}
}
