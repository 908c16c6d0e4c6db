package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// exhausting starts a pipeline with one node of testdata/exhausting.py, without spares and
// retries. It skips the test if the node is to be isolated and cannot be.
func exhausting(t *testing.T, nodeType string, events *recorder, more ...string) *runner.Runner {
	t.Helper()
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 && strings.Contains(strings.Join(more, " "), "isolation:") {
		t.Skip(missing)
	}
	more = append([]string{"python: exhausting.py", "retry: none", "breaker: none", "timeout: 1m", "workers: {spare: 0}"}, more...)
	return start(t, single(nodeType, more...), runner.WithEvents(events.record))
}

// skipIfTheKernelBoundsThreads skips a test of the sampler.
func skipIfTheKernelBoundsThreads(t *testing.T) {
	t.Helper()
	if isolation.BoundsThreads() {
		t.Skip("a cgroup bounds the threads of isolated nodes here")
	}
}

func TestANodeThatStartsThreadsWithoutEndIsEnded(t *testing.T) {
	skipIfTheKernelBoundsThreads(t)
	for name, more := range map[string][]string{
		"strict":               {"isolation: strict"},
		"with a limit":         {"limits: {threads: 100}"},
		"strict, with a limit": {"isolation: strict", "limits: {threads: 100}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := &recorder{}
			r := exhausting(t, "threads", events, more...)
			_, err := r.Run(t.Context(), map[string]any{})
			e := endedFor(t, r, events, err, "threads")
			assert.Regexp(t, `the node started too many threads: the worker had \d+ threads, more than the limit of (100|\d{3,}) threads \(threads\)`, e.Message)
			assert.Contains(t, e.Hint, "limits.threads")
			if len(e.Traceback) > 0 { // there may have been no time to dump the stacks
				assert.Contains(t, []string{"start_threads", "threads"}, e.Traceback[len(e.Traceback)-1].Function)
			}
			got, err := start(t, single("echo")).Run(t.Context(), "another pipeline")
			require.NoError(t, err)
			assert.Equal(t, "another pipeline", got)
		})
	}
}

func TestThreadsAreBoundedBetweenCalls(t *testing.T) {
	skipIfTheKernelBoundsThreads(t)
	events := &recorder{}
	folder := t.TempDir()
	gate := filepath.Join(folder, "gate")
	r := exhausting(t, "threads_later", events, fmt.Sprintf("isolation: {read: [%s]}", folder))
	got, err := r.Run(t.Context(), gate)
	require.NoError(t, err)
	assert.Equal(t, "returned", got)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	testkit.Eventually(t, func() bool { return len(of[runner.WorkerDied](events)) == 1 })
	assert.Equal(t, "threads", of[runner.WorkerDied](events)[0].Limit)
	got, err = r.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "returned", got)
}

func TestThreadsOfProcessesThatLeaveTheGroupCount(t *testing.T) {
	skipIfTheKernelBoundsThreads(t)
	events := &recorder{}
	folder := t.TempDir()
	file := filepath.Join(folder, "children")
	r := exhausting(t, "processes", events, fmt.Sprintf("isolation: {processes: any, write: [%s]}", folder), "limits: {threads: 100}")
	_, err := r.Run(t.Context(), file)
	_ = endedFor(t, r, events, err, "threads")
}

func TestAWorkerWithManyThreadsIsReplaced(t *testing.T) {
	events := &recorder{}
	r := exhausting(t, "threads", events, "limits: {threads: 100}")
	got, err := r.Run(t.Context(), map[string]any{"count": 80})
	require.NoError(t, err)
	assert.EqualValues(t, 80, got)
	e := retiredFor(t, r, events, "threads")
	assert.Equal(t, "3/4 of 100", e.Bound)
}

func TestMemoryThatIsNotResidentCounts(t *testing.T) {
	for _, way := range []string{"memfds", "a mapping whose file is closed", "shared pages that are dropped", "a socket's queue", "no first thread"} {
		for _, limit := range []string{"resident", "memory"} {
			t.Run(way+", "+limit, func(t *testing.T) {
				if strings.Contains(way, "pages") || strings.Contains(way, "mapping") {
					if os.Getuid() != 0 {
						t.Skip("only a privileged supervisor sees mapped files that are not open")
					}
				}
				want := limit
				switch way {
				case "no first thread":
					want = "resident" // the kernel bounds private memory
					if limit == "memory" {
						t.Skip("the kernel bounds it")
					}
				case "a socket's queue":
					want = "memory" // it is refused, whatever the size
				}
				events := &recorder{}
				r := exhausting(t, "memory", events, "isolation: strict", fmt.Sprintf("limits: {%s: 300MiB}", limit))
				_, err := r.Run(t.Context(), way)
				e := endedFor(t, r, events, err, want)
				assert.Contains(t, e.Message, "out of memory")
			})
		}
	}
}

func TestANodeWithinItsLimitsIsLeftAlone(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	events := &recorder{}
	r := start(t, "requirements: [numpy==2.2.6]\n"+single("work", "python: exhausting.py", "isolation: strict",
		"limits: {memory: 2GiB, resident: 300MiB}", "workers: {spare: 0}"), runner.WithEvents(events.record))
	for range 3 {
		got, err := r.Run(t.Context(), 150)
		require.NoError(t, err)
		assert.EqualValues(t, 27e6, got)
	}
	assert.Empty(t, of[runner.WorkerDied](events))
	assert.Empty(t, of[runner.WorkerRetired](events))
}

func TestWhatTheSupervisorLendsCountsOnlyIfItIsRead(t *testing.T) {
	events := &recorder{}
	r := start(t, "requirements: [numpy==2.2.6]\n"+single("ignore", "python: exhausting.py", "retry: none", "limits: {resident: 200MiB, memory: 2GiB}"),
		runner.WithEvents(events.record))
	const size = 64 << 20 // of 4 bytes
	for range 2 {
		got, err := r.Run(t.Context(), floats(t, size))
		require.NoError(t, err)
		assert.EqualValues(t, size, got)
	}
	assert.Empty(t, of[runner.WorkerDied](events))
}

func TestAnIsolatedNodeCannotHideWhatItUses(t *testing.T) {
	r := exhausting(t, "hide", &recorder{}, "isolation: strict")
	got, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	const refused = ": Operation not permitted"
	assert.Equal(t, []any{"dumpable" + refused, "close_range" + refused, "a thread with other files" + refused, "vmsplice" + refused}, got)
}

// unprivileged returns the options with which another user runs a pipeline.
func unprivileged(t *testing.T, python string, events *recorder) []runner.Option {
	return []runner.Option{
		runner.WithPython(python), runner.WithSystemPython(), runner.WithCacheDir(t.TempDir()), runner.WithEvents(events.record),
	}
}

func TestAnOrdinaryUsersNodesAreBoundedAsWell(t *testing.T) {
	python, here := testkit.Unprivileged(t, "testdata")
	if !here {
		return
	}
	assert.NotZero(t, os.Getuid())
	skipIfTheKernelBoundsThreads(t)
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	for _, c := range []struct {
		node, want string
		input      any
	}{
		{"threads", "threads", map[string]any{}},
		{"memory", "resident", "memfds"},
		{"memory", "memory", "a socket's queue"},
		{"memory", "resident", "no first thread"},
	} {
		t.Run(fmt.Sprint(c.node, c.input), func(t *testing.T) {
			events := &recorder{}
			options := unprivileged(t, python, events)
			r := start(t, single(c.node, "python: exhausting.py", "retry: none", "isolation: strict", "limits: {resident: 300MiB}"), options...)
			_, err := r.Run(t.Context(), c.input)
			_ = endedFor(t, r, events, err, c.want)
			got, err := start(t, single("echo"), options...).Run(t.Context(), "another pipeline")
			require.NoError(t, err)
			assert.Equal(t, "another pipeline", got)
		})
	}
}

func TestWorkersLeaveThreadsToTheSupervisor(t *testing.T) {
	python, here := testkit.Unprivileged(t, "testdata")
	if !here {
		return
	}
	const most = 800
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: most, Max: most}))
	events := &recorder{}
	options := unprivileged(t, python, events)
	r := start(t, single("threads", "python: exhausting.py", "retry: none", "limits: {threads: 100000}"), options...)
	got, err := r.Run(t.Context(), map[string]any{"count": 5000})
	require.NoError(t, err)
	assert.Greater(t, got, int64(100))
	assert.LessOrEqual(t, got, int64(most-most/8))
	for range 3 {
		other := start(t, single("echo"), options...)
		got, err = other.Run(t.Context(), "another pipeline")
		require.NoError(t, err)
		assert.Equal(t, "another pipeline", got)
	}
	assert.Empty(t, of[runner.WorkerDied](events))
}
