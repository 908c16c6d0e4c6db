package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) contains(s string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.String(), s)
}

// deaths are ways in which an interpreter ends or hangs, and what the caller must see
// of each.
var deaths = []struct {
	way      string
	signal   string
	exitCode int
	function string // the innermost Python function, empty if it cannot be found
	says     string
}{
	{"kill_segv", "SIGSEGV", -1, "kill_segv", "SIGSEGV"},
	{"abort", "SIGABRT", -1, "abort", "SIGABRT"},
	{"exit_now", "", 3, "exit_now", "os._exit(3)"},
	{"sys_exit", "", 4, "sys_exit", "sys.exit(4)"},
	{"null_pointer", "SIGSEGV", -1, "string_at", "SIGSEGV"},
	{"recurse_in_c", "SIGSEGV", -1, "recurse_in_c", "SIGSEGV"},
	{"eat_memory", "", -2, "eat_memory", "out of memory"},
	{"loop_for_ever", "SIGABRT", -1, "loop_for_ever", "hung: no answer within 2s; it was blocked in Python"},
	{"hang_in_c", "SIGABRT", -1, "hang_in_c", "hung: no answer within 2s; it was blocked in C code that holds the GIL"},
	{"stop_self", "SIGABRT", -1, "stop_self", "hung: no answer within 2s; the process was stopped"},
	{"kill_kill", "SIGKILL", -1, "", "SIGKILL"},
}

const mortal = `
nodes:
  - {id: misbehave, node_type: misbehave, timeout: 2s, limits: {memory: 256MiB}, retry: {fixed: 1ms, max_attempts: 1}}
`

func TestAnInterpretersEndIsExplained(t *testing.T) {
	r := start(t, mortal)
	for _, d := range deaths {
		t.Run(d.way, func(t *testing.T) {
			r.Scheduler().Breaker("misbehave").Reset()
			_, err := r.Run(t.Context(), map[string]any{"way": d.way})
			require.ErrorIs(t, err, runner.KindPythonVM)
			e := asError(t, err)
			require.NotNil(t, e)
			assert.Equal(t, "misbehave", e.Node)
			assert.Equal(t, 2, e.Attempt, "it was retried")
			assert.Equal(t, d.signal, e.Signal)
			assert.Contains(t, err.Error(), d.says)
			switch d.exitCode {
			case -1:
				assert.Nil(t, e.ExitCode)
			case -2: // any
				assert.NotNil(t, e.ExitCode)
			default:
				require.NotNil(t, e.ExitCode)
				assert.Equal(t, d.exitCode, *e.ExitCode)
			}
			if d.function == "" {
				return
			}
			require.NotEmpty(t, e.Traceback, "%+v", err)
			last := e.Traceback[len(e.Traceback)-1]
			assert.Equal(t, d.function, last.Function, "%+v", err)
			assert.Positive(t, last.Line)
			inNodes := false
			for _, f := range e.Traceback {
				inNodes = inNodes || filepath.Base(f.File) == "nodes.py" && f.Source != ""
			}
			assert.True(t, inNodes, "the traceback shows the node's source: %+v", err)
		})
	}
}

func TestADeathThatHappensOnceIsCuredByRetry(t *testing.T) {
	events := &recorder{}
	r := start(t, mortal, runner.WithEvents(events.record))
	for i, d := range deaths {
		t.Run(d.way, func(t *testing.T) {
			got, err := r.Run(t.Context(), map[string]any{"way": d.way, "marker": filepath.Join(t.TempDir(), "once")})
			require.NoError(t, err)
			assert.Equal(t, "fine", got)
			assert.Len(t, of[runner.CallRetried](events), i+1)
		})
	}
	awaitDeaths(t, events, len(deaths)) // each death cost one worker
}

func TestAnExceptionIsExecution(t *testing.T) {
	events := &recorder{}
	r := start(t, single("fail", "retry: {fixed: 1ms, max_attempts: 2}"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), map[string]any{"with": "plain"})
	require.ErrorIs(t, err, runner.KindExecution)
	e := asError(t, err)
	assert.Equal(t, "ValueError", e.PythonClass)
	assert.Equal(t, "the answer is not 42", e.Message)
	assert.Equal(t, 3, e.Attempt)
	last := e.Traceback[len(e.Traceback)-1]
	assert.Equal(t, "raise_value_error", last.Function)
	assert.Equal(t, `raise ValueError("the answer is not 42")`, last.Source)
	assert.Len(t, of[runner.CallRetried](events), 2)
	assert.Empty(t, of[runner.WorkerDied](events), "the worker lives on")
	assert.Contains(t, fmt.Sprintf("%+v", err), "Traceback (most recent call last)")
}

func TestChainedExceptionsKeepTheirCauses(t *testing.T) {
	r := start(t, single("fail", "retry: none"))
	_, err := r.Run(t.Context(), map[string]any{"with": "chain"})
	e := asError(t, err)
	assert.Equal(t, "RuntimeError", e.PythonClass)
	require.NotNil(t, e.Chained)
	assert.Equal(t, "ValueError", e.Chained.Class)
	assert.Contains(t, fmt.Sprintf("%+v", err), "direct cause")
}

func TestANodeSaysWhetherToRetry(t *testing.T) {
	events := &recorder{}
	r := start(t, single("fail", "retry: {fixed: 1h, max_attempts: 2}"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), map[string]any{"with": "permanent"})
	require.ErrorIs(t, err, runner.KindExecution)
	assert.Empty(t, of[runner.CallRetried](events))

	_, err = r.Run(t.Context(), map[string]any{"with": "transient", "after": 0.001})
	require.ErrorIs(t, err, runner.KindExecution)
	retried := of[runner.CallRetried](events)
	require.Len(t, retried, 2)
	assert.Equal(t, time.Millisecond, retried[0].Delay, "the node's own delay, not the policy's hour")
}

func TestAValueThatCannotBeCarriedIsMarshaling(t *testing.T) {
	events := &recorder{}
	r := start(t, single("bad_value"), runner.WithEvents(events.record))
	for which, want := range map[string]struct{ path, says string }{
		"file":  {"result.items[3].handle", "TextIOWrapper"},
		"set":   {"result.labels", "set"},
		"int":   {"result[0]", "64 bits"},
		"cycle": {"result[0]", "cycle"},
		"deep":  {"result[0][0]", "64"},
		"keys":  {"result.items[0]", "keys must be str"},
	} {
		t.Run(which, func(t *testing.T) {
			r.Scheduler().Breaker("bad_value").Reset()
			_, err := r.Run(t.Context(), which)
			require.ErrorIs(t, err, runner.KindMarshaling)
			e := asError(t, err)
			assert.True(t, strings.HasPrefix(e.Path, want.path), e.Path)
			assert.Contains(t, err.Error(), want.says)
		})
	}
	got, err := r.Run(t.Context(), "fine")
	require.NoError(t, err)
	assert.Equal(t, "fine", got)
	assert.Empty(t, of[runner.CallRetried](events), "not retried")
	assert.Len(t, of[runner.WorkerStarted](events), 1, "the worker lives on")
}

func TestAnInputThatCannotBeCarriedIsTheCallers(t *testing.T) {
	r := start(t, single("echo"))
	for range 6 {
		_, err := r.Run(t.Context(), map[string]any{"c": make(chan int)})
		require.ErrorIs(t, err, runner.KindMarshaling)
		assert.ErrorContains(t, err, "input.c")
	}
	assert.Zero(t, r.Scheduler().Breaker("echo").Failures())
}

func TestFiveFailedOperationsOpenTheBreaker(t *testing.T) {
	events := &recorder{}
	r := start(t, single("misbehave", "retry: {fixed: 1ms, max_attempts: 1}", "breaker: {failures: 5, cool_down: 200ms}"),
		runner.WithEvents(events.record))
	crash := map[string]any{"way": "abort"}
	for range 5 {
		_, err := r.Run(t.Context(), crash)
		require.ErrorIs(t, err, runner.KindPythonVM)
	}
	breaker := r.Scheduler().Breaker("misbehave")
	require.True(t, breaker.IsOpen() || breaker.State() == retry.HalfOpen)
	// A fresh breaker that is open for an hour: no probe in between.
	r = start(t, single("misbehave", "retry: none", "breaker: {failures: 5, cool_down: 1h}"), runner.WithEvents(events.record))
	for range 5 {
		_, err := r.Run(t.Context(), crash)
		require.ErrorIs(t, err, runner.KindPythonVM)
	}
	const attempts = 5*2 + 5 // of both runners
	awaitDeaths(t, events, attempts)
	begun := time.Now()
	_, err := r.Run(t.Context(), crash)
	took := time.Since(begun)
	require.ErrorIs(t, err, retry.ErrOpen)
	assert.ErrorIs(t, err, runner.KindOther)
	assert.Len(t, of[runner.WorkerDied](events), attempts, "no worker was touched")
	t.Logf("refused in %v", took)
}

func TestAHalfOpenBreakerRecoversByItself(t *testing.T) {
	events := &recorder{}
	r := start(t, single("misbehave", "retry: none", "breaker: {failures: 2, cool_down: 50ms}"), runner.WithEvents(events.record))
	marker := filepath.Join(t.TempDir(), "twice")
	flaky := map[string]any{"way": "raise_value_error", "marker": marker, "times": 2}
	for range 2 {
		_, err := r.Run(t.Context(), flaky)
		require.ErrorIs(t, err, runner.KindExecution)
	}
	breaker := r.Scheduler().Breaker("misbehave")
	testkit.Eventually(t, func() bool { return breaker.State() == retry.HalfOpen })
	got, err := r.Run(t.Context(), flaky)
	require.NoError(t, err)
	assert.Equal(t, "fine", got)
	assert.Equal(t, retry.Closed, breaker.State())
	changes := of[runner.BreakerChanged](events)
	require.NotEmpty(t, changes)
	assert.Equal(t, retry.Closed, changes[len(changes)-1].To)
}

func TestOutputNeitherBreaksNorBlocksTheProtocol(t *testing.T) {
	r := start(t, single("noisy", "retry: none", "timeout: 60s"))
	for _, what := range []string{"print", "fd 1", "binary", "flood", "stdout flood", "input", "subprocess"} {
		got, err := r.Run(t.Context(), what)
		require.NoError(t, err, what)
		if what == "input" {
			assert.Equal(t, "end of file", got)
		}
	}
}

func TestCancellationReachesTheNode(t *testing.T) {
	events := &recorder{}
	r := start(t, single("wait"), runner.WithEvents(events.record))
	dir := t.TempDir()
	started, ended := filepath.Join(dir, "started"), filepath.Join(dir, "ended")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		assert.Eventually(t, testkit.Exists(started), 10*time.Second, time.Millisecond)
		cancel()
	}()
	_, err := r.Run(ctx, map[string]any{"started": started, "ended": ended})
	require.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, runner.KindOther)
	assert.FileExists(t, ended, "the node's finally block ran")
	_, err = r.Run(t.Context(), map[string]any{"started": started, "seconds": 0})
	require.NoError(t, err)
	assert.Len(t, of[runner.WorkerStarted](events), 1, "the worker lives on")
	assert.Zero(t, r.Scheduler().Breaker("wait").Failures(), "it does not count against the node")
}

func TestANodeThatIgnoresCancellationIsEnded(t *testing.T) {
	r := start(t, single("wait"))
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		assert.Eventually(t, testkit.Exists(started), 10*time.Second, time.Millisecond)
		cancel()
	}()
	_, err := r.Run(ctx, map[string]any{"started": started, "stubborn": true})
	require.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "after its call was canceled")
	_, err = r.Run(t.Context(), map[string]any{"started": started, "seconds": 0})
	require.NoError(t, err)
}

func TestANodeThatMayNotRunTwiceDoesNot(t *testing.T) {
	events := &recorder{}
	r := start(t, single("misbehave", "idempotent: false", "retry: {fixed: 1ms, max_attempts: 3}"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), map[string]any{"way": "abort"})
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.Empty(t, of[runner.CallRetried](events))
	assert.Equal(t, 1, asError(t, err).Attempt)
}

// A worker can write what it likes into its begun count.
func TestAWorkerThatDeniesThatItBeganACallDoesNotMakeItRunAgain(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		most   int
	}{
		"a call that may not run twice": {"idempotent: false", 1},
		"a call that may run twice":     {"idempotent: true", 3 * 4}, // attempts, and the moves that each allows
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			r := start(t, single("misbehave", c.policy, "retry: {fixed: 1ms, max_attempts: 2}"))
			_, err := r.Run(t.Context(), map[string]any{"way": "deny", "marker": log, "times": 100})
			require.ErrorIs(t, err, runner.KindPythonVM)
			assert.False(t, asError(t, err).NotBegun)
			text, err := os.ReadFile(log)
			require.NoError(t, err)
			assert.LessOrEqual(t, len(text), c.most, "one dot for each run")
		})
	}
}

// The policy can change while the node runs.
func TestACallThatMayNoLongerRunTwiceDoesNotRunAgain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	r := start(t, single("misbehave"))
	policy := runner.DefaultNodePolicy()
	policy.Idempotent = false
	require.NoError(t, r.Scheduler().Configure("misbehave", policy))
	_, err := r.Run(t.Context(), map[string]any{"way": "deny", "marker": log, "times": 100})
	require.ErrorIs(t, err, runner.KindPythonVM)
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, ".", string(text))
}
