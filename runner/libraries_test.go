package runner_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// libraries starts a pipeline of one node from a file in testdata/libraries, whose
// environment has the packages of its requirements.txt. The first test builds it.
func libraries(t *testing.T, file, nodeType string, events *recorder, opts []runner.Option, more ...string) *runner.Runner {
	t.Helper()
	base, err := filepath.Abs("testdata/libraries")
	require.NoError(t, err)
	text := "version: v1\npython: " + file + "\nrequirements: requirements.txt\n" + single(nodeType, more...)
	r := parse(t, text, base, append(opts, runner.WithEvents(events.record))...)
	require.NoError(t, r.Start(t.Context()))
	return r
}

// do is the input of the nodes in testdata/libraries: a function, and its arguments.
func do(function string, with ...any) map[string]any {
	return map[string]any{"do": function, "with": with}
}

// plainAndForked are the lines of a manifest that choose how workers start.
var plainAndForked = map[string]string{"plain": "workers: {spare: 0}", "forked": "workers: {spare: 0, fork_server: true}"}

// greenCalls are calls of testdata/libraries/green.py, and their results. The first ones
// also work in threads other than the main one, and in isolated nodes.
var greenCalls = []struct {
	in   map[string]any
	want any
}{
	{do("echo", "x"), "x"},
	{do("threads", 3), []any{int64(0), int64(1), int64(2)}},
	{do("log", 50), int64(50)},
	{do("nap", 0.1), 0.1},
	{do("get_signal"), []any{int64(syscall.SIGUSR2)}},
	{do("talk"), "HELLO"},
	{do("fork", 3), []any{int64(0), int64(1), int64(2)}},
	{do("run", 2), []any{"child\n", "child\n"}},
}

const threadedGreenCalls, isolatedGreenCalls = 4, 5

func TestAMonkeyPatchedNodeWorks(t *testing.T) {
	for _, library := range []string{"gevent", "eventlet"} {
		for _, nodeType := range []string{"work", "work_async"} {
			for name, workers := range plainAndForked {
				t.Run(fmt.Sprintf("%s/%s/%s", library, nodeType, name), func(t *testing.T) {
					events := &recorder{}
					r := libraries(t, "with_"+library+".py", nodeType, events, nil, workers, "timeout: 20s", "retry: none")
					for range 3 {
						for _, c := range greenCalls {
							got, err := r.Run(t.Context(), c.in)
							if assert.NoError(t, err, "%v: %+v", c.in, err) {
								assert.Equal(t, c.want, got, "%v", c.in)
							}
						}
					}
					assert.Empty(t, of[runner.WorkerDied](events))
					note := r.Health().Nodes[0].Pool.ForkNote
					if library == "eventlet" && name == "forked" {
						assert.Contains(t, note, "event loop", "forked workers would share it")
					} else {
						assert.Empty(t, note)
					}
				})
			}
		}
	}
}

func TestAnIsolatedMonkeyPatchedNodeWorks(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	for _, library := range []string{"gevent", "eventlet"} {
		t.Run(library, func(t *testing.T) {
			events := &recorder{}
			r := libraries(t, "with_"+library+".py", "work", events, nil, "isolation: strict", "timeout: 20s", "retry: none")
			for range 3 {
				for _, c := range greenCalls[:isolatedGreenCalls] {
					got, err := r.Run(t.Context(), c.in)
					if assert.NoError(t, err, "%v: %+v", c.in, err) {
						assert.Equal(t, c.want, got, "%v", c.in)
					}
				}
			}
			assert.Empty(t, of[runner.WorkerDied](events))
		})
	}
}

// The threads of the worker are real ones, and gevent has an event loop in each. The locks
// of eventlet do not work between threads.
func TestANodePatchedByGeventWorksInThreads(t *testing.T) {
	events := &recorder{}
	r := libraries(t, "with_gevent.py", "work_threads", events, nil, "workers: {min: 1, max: 1, spare: 0}", "timeout: 20s", "retry: none")
	var calls sync.WaitGroup
	for i := range 24 {
		c := greenCalls[i%threadedGreenCalls]
		calls.Go(func() {
			got, err := r.Run(t.Context(), c.in)
			if assert.NoError(t, err, "%v: %+v", c.in, err) {
				assert.Equal(t, c.want, got, "%v", c.in)
			}
		})
	}
	calls.Wait()
	assert.Empty(t, of[runner.WorkerDied](events))
}

// Many calls are in flight on one worker, and each of them runs loops inside the loop.
func TestNestedEventLoopsLoseNoCall(t *testing.T) {
	for _, c := range []struct {
		file, nodeType string
		want           func(i int64) any
	}{
		{"loops.py", "nested", func(i int64) any { return i }},
		{"loops.py", "nested_in_a_turn", func(i int64) any { return i }},
		{"loops.py", "nested_plainly", func(i int64) any { return i }},
		{"loops.py", "run_plainly", func(i int64) any { return i }},
		{"loops.py", "nested_items", func(i int64) any {
			items := make([]any, i%10)
			for k := range items {
				items[k] = int64(k)
			}
			return items
		}},
		{"with_uvloop.py", "on_uvloop", func(i int64) any { return []any{"uvloop", i} }},
		{"with_uvloop.py", "run_on_uvloop", func(i int64) any { return []any{"uvloop", i} }},
	} {
		t.Run(c.nodeType, func(t *testing.T) {
			events := &recorder{}
			r := libraries(t, c.file, c.nodeType, events, nil, "workers: {min: 1, max: 1, spare: 0}", "timeout: 20s", "retry: none")
			var calls sync.WaitGroup
			for i := range int64(100) {
				calls.Go(func() {
					got, err := r.Run(t.Context(), i)
					if assert.NoError(t, err, "%+v", err) {
						assert.Equal(t, c.want(i), got)
					}
				})
			}
			calls.Wait()
			assert.Empty(t, of[runner.WorkerDied](events))
		})
	}
}

func TestLoguruAndJoblibWork(t *testing.T) {
	squares := make([]any, 20)
	for i := range squares {
		squares[i] = int64(i * i)
	}
	for name, workers := range plainAndForked {
		t.Run(name, func(t *testing.T) {
			events := &recorder{}
			out := &lockedBuffer{}
			log := runner.WithLogger(hclog.New(&hclog.LoggerOptions{Output: out, Level: hclog.Info}))
			r := libraries(t, "tools.py", "with_loguru", events, []runner.Option{log}, workers, "timeout: 60s")
			for i := range 5 {
				text := fmt.Sprint("text ", i)
				got, err := r.Run(t.Context(), text)
				require.NoError(t, err, "%+v", err)
				assert.Equal(t, text, got)
			}
			for _, line := range []string{"usual: text 4", "queued: text 4", "ValueError: text 4"} {
				testkit.Eventually(t, func() bool { return out.contains(line) }, line)
			}
			r = libraries(t, "tools.py", "with_joblib", events, nil, workers, "timeout: 60s")
			for _, backend := range []string{"threading", "loky", "multiprocessing", "sequential", "loky"} {
				got, err := r.Run(t.Context(), map[string]any{"backend": backend})
				if assert.NoError(t, err, "%s: %+v", backend, err) {
					assert.Equal(t, squares, got, backend)
				}
			}
			assert.Empty(t, of[runner.WorkerDied](events))
		})
	}
}

// What a recursion without a limit ends in depends on Python's version and its memory.
func TestTheHintForARecursionNamesItsLimit(t *testing.T) {
	for way, memory := range map[string]string{"in_python": "100MiB", "in_attributes": "100MiB", "in_repr": "256MiB"} {
		t.Run(way, func(t *testing.T) {
			r := libraries(t, "tools.py", "recurse", &recorder{}, nil, "limits: {memory: "+memory+"}", "timeout: 60s", "retry: none")
			_, err := r.Run(t.Context(), do(way))
			e := asError(t, err)
			require.NotNil(t, e)
			if way != "in_repr" || e.PythonClass != "RecursionError" { // Python 3.12 limits recursions in C
				assert.Contains(t, e.Hint, "sys.setrecursionlimit", "%+v", err)
			}
			pid, err := r.Run(t.Context(), map[string]any{})
			require.NoError(t, err)
			assert.NotNil(t, pid)
		})
	}
}

func TestALoopInsideARunningOneIsRefusedAsByPython(t *testing.T) {
	for nodeType, says := range map[string]string{
		"run_wrongly":                "asyncio.run() cannot be called from a running event loop",
		"run_until_complete_wrongly": "This event loop is already running",
	} {
		t.Run(nodeType, func(t *testing.T) {
			events := &recorder{}
			r := libraries(t, "loops.py", nodeType, events, nil, "retry: none")
			for range 3 {
				_, err := r.Run(t.Context(), 1)
				assert.ErrorIs(t, err, runner.KindExecution)
				assert.ErrorContains(t, err, says)
			}
			assert.Empty(t, of[runner.WorkerDied](events), "the worker lives on")
		})
	}
}
