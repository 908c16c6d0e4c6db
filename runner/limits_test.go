package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// breaches returns how often each limit of the only node was exceeded.
func breaches(r *runner.Runner) map[string]uint64 { return r.Health().Nodes[0].Pool.Breaches }

// asError returns an error as the *runner.Error that it must be.
func asError(t *testing.T, err error) *runner.Error {
	t.Helper()
	require.IsType(t, (*runner.Error)(nil), err)
	return runner.AsError(err)
}

// called starts a call in the background, and returns a channel with its error.
func called(t *testing.T, r *runner.Runner, value any) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := r.Run(t.Context(), value)
		done <- err
	}()
	return done
}

// occupied keeps a worker busy until the returned function is called.
func occupied(t *testing.T, r *runner.Runner) (free func()) {
	t.Helper()
	gate, begun := touch(t, "gate"), filepath.Join(t.TempDir(), "begun")
	done := called(t, r, map[string]any{"gate": gate, "begun": begun})
	testkit.Eventually(t, testkit.Exists(begun))
	return sync.OnceFunc(func() {
		require.NoError(t, os.Remove(gate))
		require.NoError(t, <-done)
	})
}

// endedFor checks that a call failed because its worker was killed for a limit.
func endedFor(t *testing.T, r *runner.Runner, events *recorder, err error, limit string) *runner.Error {
	t.Helper()
	require.ErrorIs(t, err, runner.KindPythonVM)
	e := asError(t, err)
	assert.Equal(t, limit, e.Limit)
	assert.Contains(t, e.Hint, "in the manifest")
	testkit.Eventually(t, func() bool { return len(of[runner.WorkerDied](events)) == 1 })
	assert.Equal(t, limit, of[runner.WorkerDied](events)[0].Limit)
	assert.Equal(t, map[string]uint64{limit: 1}, breaches(r))
	assert.Equal(t, map[string]uint64{limit: 1}, r.Health().Nodes[0].Pool.Deaths)
	return e
}

// retiredFor waits until a worker has retired for a limit.
func retiredFor(t *testing.T, r *runner.Runner, events *recorder, limit string) runner.WorkerRetired {
	t.Helper()
	testkit.Eventually(t, func() bool { return len(of[runner.WorkerRetired](events)) > 0 })
	e := of[runner.WorkerRetired](events)[0]
	assert.Equal(t, limit, e.Limit)
	assert.NotEmpty(t, e.Value)
	assert.NotEmpty(t, e.Bound)
	assert.GreaterOrEqual(t, breaches(r)[limit], uint64(1))
	assert.GreaterOrEqual(t, r.Health().Nodes[0].Pool.Retired[limit], uint64(1))
	assert.Empty(t, of[runner.WorkerDied](events), "it was told to end")
	return e
}

func TestLimitOfTheStart(t *testing.T) {
	events := &recorder{}
	gate := touch(t, "gate")
	r, err := load(t, supervised("Slow", "params: {gate: "+gate+"}", "setup_timeout: 1s"), runner.WithEvents(events.record))
	require.NoError(t, err)
	err = r.Start(t.Context())
	require.ErrorIs(t, err, runner.KindPythonVM)
	e := asError(t, err)
	assert.Equal(t, "start_timeout", e.Limit)
	assert.Equal(t, "blocked in Python", e.Hang)
	assert.Contains(t, e.Hint, "setup_timeout")
	failed := of[runner.WorkerStartFailed](events)
	require.Len(t, failed, 1)
	assert.Equal(t, "start_timeout", failed[0].Limit)
}

func TestLimitOfACallsTime(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("gated", "timeout: 1s", "retry: none"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), map[string]any{"gate": touch(t, "gate")})
	e := endedFor(t, r, events, err, "timeout")
	assert.Equal(t, "blocked in Python", e.Hang)
	assert.Equal(t, "wait_for", e.Traceback[len(e.Traceback)-1].Function)
}

func TestLimitOfACallsTimeWhoseWorkerLivesOn(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("dawdle", "timeout: 1s", "retry: none"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindPythonVM)
	assert.Equal(t, "timeout", asError(t, err).Limit)
	assert.Equal(t, map[string]uint64{"timeout": 1}, breaches(r))
	_, err = r.Run(t.Context(), 0)
	require.NoError(t, err)
	assert.Empty(t, of[runner.WorkerDied](events))
}

func TestLimitOfACallsProcessorTime(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("busy", "limits: {cpu_time: 500ms}", "retry: none"), runner.WithEvents(events.record))
	got, err := r.Run(t.Context(), 0.01)
	require.NoError(t, err)
	assert.Equal(t, "done", got)
	_, err = r.Run(t.Context(), 600)
	e := endedFor(t, r, events, err, "cpu_time")
	assert.Contains(t, e.Message, "500ms")
	assert.Equal(t, "busy", e.Traceback[len(e.Traceback)-1].Function)
}

func TestLimitOfTheMemoryInUse(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("patient_greedy", "limits: {resident: 150MiB}", "retry: none"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), 300)
	e := endedFor(t, r, events, err, "resident")
	assert.Contains(t, e.Message, "out of memory")
	assert.Contains(t, e.Message, "150 MiB")
}

func TestLimitOfTheAddressSpace(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("greedy", "limits: {memory: 512MiB}", "retry: none"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), 2000)
	_ = endedFor(t, r, events, err, "memory")
}

func TestLimitOfTheAddressSpaceInTheStart(t *testing.T) {
	events := &recorder{}
	r, err := load(t, supervised("GreedyStart", "limits: {memory: 512MiB}"), runner.WithEvents(events.record))
	require.NoError(t, err)
	err = r.Start(t.Context())
	require.ErrorIs(t, err, runner.KindPythonVM)
	e := asError(t, err)
	assert.Equal(t, "memory", e.Limit)
	assert.Contains(t, e.Hint, "limits.memory")
	failed := of[runner.WorkerStartFailed](events)
	require.NotEmpty(t, failed)
	assert.Equal(t, "memory", failed[0].Limit)
}

func TestSoftLimitOfTheMemoryInUse(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("greedy", "limits: {resident_soft: 100MiB}"), runner.WithEvents(events.record))
	first, err := r.Run(t.Context(), 200)
	require.NoError(t, err, "its call notices nothing")
	e := retiredFor(t, r, events, "resident_soft")
	assert.Equal(t, "100 MiB", e.Bound)
	assert.EqualValues(t, first, e.PID)
	second, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
}

func TestLimitOfOpenDescriptors(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("opener", "limits: {open_files: 128}", "retry: none"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), 90)
	require.NoError(t, err)
	retiredFor(t, r, events, "open_files")
	_, err = r.Run(t.Context(), 200)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.Equal(t, "OSError", asError(t, err).PythonClass, "opening fails")
}

func TestLimitOfAResult(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("large", "limits: {result: 1KiB}"), runner.WithEvents(events.record))
	_, err := r.Run(t.Context(), 500)
	require.NoError(t, err)
	_, err = r.Run(t.Context(), 5000)
	require.ErrorIs(t, err, runner.KindMarshaling)
	e := asError(t, err)
	assert.Equal(t, "result", e.Limit)
	assert.Contains(t, e.Hint, "limits.result")
	refused := of[runner.CallRefused](events)
	require.Len(t, refused, 1)
	assert.Equal(t, "result", refused[0].Limit)
	assert.Equal(t, "1 KiB", refused[0].Bound)
	assert.Equal(t, map[string]uint64{"result": 1}, breaches(r))
	assert.Len(t, of[runner.WorkerStarted](events), 1, "the worker lives on")
}

func TestLimitOfAge(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("pid", "workers: {max_age: 1s}"), runner.WithEvents(events.record))
	first, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	e := retiredFor(t, r, events, "max_age")
	assert.EqualValues(t, first, e.PID)
	assert.Equal(t, "1s", e.Bound)
	second, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
}

func TestLimitOfCallsServed(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("pid", "workers: {max_calls: 3}"), runner.WithEvents(events.record))
	calls := map[any]int{}
	for range 9 {
		pid, err := r.Run(t.Context(), nil)
		require.NoError(t, err)
		calls[pid]++
	}
	e := retiredFor(t, r, events, "max_calls")
	assert.Equal(t, "3", e.Bound)
	for pid, n := range calls {
		assert.LessOrEqual(t, n, 3, "%v", pid)
	}
	assert.Empty(t, of[runner.CallRetried](events))
}

func TestLimitOfIdleTime(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("gated", "workers: {min: 1, max: 2, scale_after: 0, idle_timeout: 300ms}"), runner.WithEvents(events.record))
	free := occupied(t, r)
	_, err := r.Run(t.Context(), map[string]any{}) // by a second worker
	require.NoError(t, err)
	free()
	e := retiredFor(t, r, events, "idle_timeout")
	assert.Equal(t, "300ms", e.Bound)
	awaitHealth(t, r, func(h runner.Health) bool { return len(h.Nodes[0].Pool.Workers) == 1 })
}

func TestLimitOfTheQueue(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("gated", "limits: {queue: 1}", "retry: {fixed: 1ms, max_attempts: 2}", "breaker: {failures: 1}"),
		runner.WithEvents(events.record))
	free := occupied(t, r)
	second := called(t, r, map[string]any{})
	awaitHealth(t, r, func(h runner.Health) bool { return h.Nodes[0].Pool.Waiting == 1 })
	_, err := r.Run(t.Context(), map[string]any{})
	require.ErrorIs(t, err, runner.KindOther)
	e := asError(t, err)
	assert.Equal(t, "queue", e.Limit)
	assert.True(t, e.NotBegun)
	assert.True(t, e.Retryable())
	assert.Equal(t, 3, e.Attempt, "a later attempt may find room")
	assert.Contains(t, err.Error(), "1 call is already waiting for a worker: 1 worker is busy")
	assert.Equal(t, map[string]uint64{"queue": 3}, breaches(r))
	refused := of[runner.CallRefused](events)
	require.Len(t, refused, 3)
	assert.Equal(t, "queue", refused[0].Limit)
	assert.Equal(t, 1, refused[0].Waiting)
	assert.Zero(t, r.Scheduler().Breaker("gated").Failures(), "the node is not to blame")
	free()
	require.NoError(t, <-second)
}

func TestLimitOfTheTimeInTheQueue(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("gated", "limits: {queue_wait: 50ms}"), runner.WithEvents(events.record))
	free := occupied(t, r)
	_, err := r.Run(t.Context(), map[string]any{})
	require.ErrorIs(t, err, runner.KindOther)
	e := asError(t, err)
	assert.Equal(t, "queue_wait", e.Limit)
	assert.False(t, e.Retryable(), "it has waited for as long as it may")
	assert.Contains(t, err.Error(), "no worker had capacity within 50ms: 1 worker is busy")
	// The pool emits the event just after the caller has returned.
	awaitHealth(t, r, func(runner.Health) bool { return len(of[runner.CallRefused](events)) > 0 })
	assert.Equal(t, map[string]uint64{"queue_wait": 1}, breaches(r))
	assert.Len(t, of[runner.CallRefused](events), 1)
	free()
}

func TestWaitingCallsStartMoreWorkers(t *testing.T) {
	r := start(t, supervised("gated", "workers: {min: 1, max: 2, scale_after: 0s}"))
	free := occupied(t, r)
	_, err := r.Run(t.Context(), map[string]any{})
	require.NoError(t, err, "by a second one")
	assert.Len(t, r.Health().Nodes[0].Pool.Workers, 2)
	free()
}

func TestASpareTakesOver(t *testing.T) {
	events := &recorder{}
	r := start(t, supervised("gated", "workers: {spare: 1}", "retry: {fixed: 0s, max_attempts: 1}"), runner.WithEvents(events.record))
	h := awaitHealth(t, r, func(h runner.Health) bool { return h.Nodes[0].Pool.Spares == 1 })
	var spare int
	for _, w := range h.Nodes[0].Pool.Workers {
		if w.Role == "spare" {
			spare = w.PID
		}
	}
	got, err := r.Run(t.Context(), map[string]any{"die": true, "begun": filepath.Join(t.TempDir(), "begun")})
	require.ErrorIs(t, err, runner.KindPythonVM, "it kills the spare too, got %v", got)
	var promoted []runner.SparePromoted
	awaitHealth(t, r, func(h runner.Health) bool { // both are told when it has happened
		promoted = of[runner.SparePromoted](events)
		return len(promoted) > 0 && uint64(len(promoted)) == h.Nodes[0].Pool.Promoted
	})
	assert.Equal(t, spare, promoted[0].PID)
	spares := 0
	for _, e := range of[runner.WorkerStarted](events) {
		if e.Spare {
			spares++
			assert.Contains(t, e.String(), fmt.Sprintf("spare worker %d is ready", e.PID))
		}
	}
	assert.Positive(t, spares)
}

func TestAStatefulNodeKeepsWorkingWithAllOfThem(t *testing.T) {
	r := start(t, single("Total", "python: streams.py",
		"workers: {min: 1, max: 2, spare: 1, scale_after: 0s, idle_timeout: 1s, max_age: 1m, max_calls: 5}",
		"limits: {resident: 1GiB, resident_soft: 900MiB, cpu_time: 30s, open_files: 256, result: 1MiB, queue: 100, queue_wait: 30s}"))
	s := open(t, r)
	var in []any
	for i := range 40 {
		in = append(in, i)
	}
	feed(t, s, in...)
	got, err := values(s)
	require.NoError(t, err)
	assert.NotEmpty(t, got)
}
