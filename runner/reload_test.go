package runner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// edited is a runner of a pipeline whose code the test writes.
type edited struct {
	*runner.Runner
	t      *testing.T
	folder string
	events *recorder
}

// edit writes a file of the code.
func (e *edited) edit(file, code string) {
	e.t.Helper()
	require.NoError(e.t, os.WriteFile(filepath.Join(e.folder, file), []byte("from gophersnake import node\n"+code), 0o600))
}

// says returns the code of a node that always returns the same value.
func says(name string, value any) string {
	return fmt.Sprintf("@node\ndef %s(x):\n    return %#v\n", name, value)
}

func newEdited(t *testing.T, text string, code map[string]string, opts ...runner.Option) *edited {
	t.Helper()
	e := &edited{t: t, folder: t.TempDir(), events: &recorder{}}
	for file, text := range code {
		e.edit(file, text)
	}
	r, err := loadIn(t, e.folder, text, append(opts, runner.WithEvents(e.events.record))...)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	e.Runner = r
	return e
}

func (e *edited) gives(want any) {
	e.t.Helper()
	got, err := e.Run(e.t.Context(), 0)
	require.NoError(e.t, err)
	assert.Equal(e.t, want, got)
}

func TestReloadReadsTheCodeAgain(t *testing.T) {
	t.Parallel()
	e := newEdited(t, single("a", "workers: 2"), map[string]string{"nodes.py": says("a", "old")})
	e.gives("old")
	before := e.Health().Nodes[0].Pool
	e.edit("nodes.py", says("a", "new"))
	e.gives("old")
	require.NoError(t, e.Reload(t.Context()))
	e.gives("new")
	reloaded := of[runner.Reloaded](e.events)
	require.Len(t, reloaded, 1)
	assert.Equal(t, "a", reloaded[0].Node)
	assert.Equal(t, 2, reloaded[0].Workers)
	after := e.Health().Nodes[0].Pool
	assert.Equal(t, before.Generation+1, after.Generation)
	awaitHealth(t, e.Runner, func(h runner.Health) bool { return len(h.Nodes[0].Pool.Workers) == 2 })
	assert.Empty(t, of[runner.WorkerDied](e.events), "the old workers were shut down")
}

// Python uses cached bytecode if the source has the same size and second of change.
func TestQuickEditsAreSeen(t *testing.T) {
	t.Parallel()
	e := newEdited(t, single("a"), map[string]string{"nodes.py": "from helper import value\n@node\ndef a(x):\n    return value\n", "helper.py": "value = 0\n"})
	e.gives(int64(0))
	for i := range int64(5) {
		e.edit("helper.py", fmt.Sprintf("value = %d\n", i))
		require.NoError(t, e.Reload(t.Context()))
		e.gives(i)
	}
}

func TestTheOldCodeStaysIfTheNewCodeCannotBeLoaded(t *testing.T) {
	t.Parallel()
	whole := "@node\ndef a(left, right):\n    return 'old'\n"
	text := `
nodes: [{id: one, node_type: one, python: rest.py}, {id: two, node_type: two, python: rest.py}, {id: a, node_type: a}]
connections: [{from: one, to: a.left}, {from: two, to: a.right}]
`
	e := newEdited(t, text, map[string]string{"nodes.py": whole, "rest.py": says("one", 1) + says("two", 2)})
	e.gives("old")
	for name, c := range map[string]struct {
		code, says string
		kind       runner.Kind
	}{
		"syntax":      {"@node\ndef a(left, right) return 1\n", "SyntaxError", runner.KindExecution},
		"gone":        {"", "has no node 'a'", runner.KindManifest},
		"port":        {"@node\ndef a(left, other):\n    return 1\n", "right", runner.KindManifest},
		"many values": {"@node\ndef a(left, right):\n    yield 1\n", "the new code changes whether it gives many values", runner.KindManifest},
		"stateful":    {"@node(stateful=True)\nclass a:\n    def process(self, left, right):\n        return 1\n", "whether it is stateful", runner.KindManifest},
		"no input":    {"@node\ndef a():\n    return 1\n", "has no input 'left'", runner.KindManifest},
	} {
		t.Run(name, func(t *testing.T) {
			e.edit("nodes.py", c.code)
			err := e.Reload(t.Context())
			require.Error(t, err)
			assert.ErrorContains(t, err, c.says)
			assert.Equal(t, c.kind, runner.KindOf(err), "%v", err)
			var failure *runner.Error
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, "a", failure.Node)
			got, err := e.Run(t.Context(), 0)
			require.NoError(t, err)
			assert.Equal(t, "old", got)
		})
	}
	assert.Empty(t, of[runner.Reloaded](e.events), "the other nodes have not been reloaded either")
	e.edit("nodes.py", "@node\ndef a(left, right):\n    return 'new'\n")
	require.NoError(t, e.Reload(t.Context()))
	e.gives("new")
	assert.Len(t, of[runner.Reloaded](e.events), 3)
}

func TestANodeThatNoLongerTakesAnInputIsNotReloaded(t *testing.T) {
	t.Parallel()
	e := newEdited(t, single("a"), map[string]string{"nodes.py": says("a", "old")})
	e.edit("nodes.py", "@node\ndef a():\n    return 'new'\n")
	assert.ErrorContains(t, e.Reload(t.Context()), "the new code changes whether it takes an input, which runs and streams rely on")
	e.gives("old")
}

func TestReloadIsOfAllNodesOrNone(t *testing.T) {
	t.Parallel()
	e := newEdited(t, "nodes: [{id: a, node_type: a}, {id: b, node_type: b, python: b.py}]\nconnections: [{from: a, to: b}]",
		map[string]string{"nodes.py": says("a", 1), "b.py": "@node\ndef b(x):\n    return [x, 1]\n"})
	e.gives([]any{int64(1), int64(1)})
	e.edit("nodes.py", says("a", 2))
	e.edit("b.py", "raise RuntimeError('half an edit')\n")
	err := e.Reload(t.Context())
	require.ErrorContains(t, err, "half an edit")
	assert.NotContains(t, err.Error(), `"a"`, "the node that could have been reloaded")
	e.gives([]any{int64(1), int64(1)})

	require.NoError(t, e.Reload(t.Context(), "a", "a"), "one of them by itself")
	e.gives([]any{int64(2), int64(1)})
	e.edit("nodes.py", "raise RuntimeError('and another')\n")
	err = e.Reload(t.Context())
	require.Error(t, err)
	e.gives([]any{int64(2), int64(1)})
}

func TestCallsInProgressFinishWithTheOldCode(t *testing.T) {
	t.Parallel()
	gated := `
import os, time
@node
def a(gate):
    while gate and os.path.exists(gate):
        time.sleep(0.001)
    return "%s"
`
	e := newEdited(t, single("a"), map[string]string{"nodes.py": fmt.Sprintf(gated, "old")})
	gate := touch(t, "gate")
	old := make(chan any, 1)
	go func() {
		got, err := e.Run(t.Context(), gate)
		assert.NoError(t, err)
		old <- got
	}()
	awaitHealth(t, e.Runner, func(h runner.Health) bool { return h.Nodes[0].Pool.Busy == 1 })
	e.edit("nodes.py", fmt.Sprintf(gated, "new"))
	require.NoError(t, e.Reload(t.Context()))
	got, err := e.Run(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, "new", got)
	roles := map[string]int{}
	for _, w := range e.Health().Nodes[0].Pool.Workers {
		roles[w.Role]++
	}
	assert.Equal(t, map[string]int{"serving": 1, "retiring": 1}, roles)
	require.NoError(t, os.Remove(gate))
	assert.Equal(t, "old", <-old)
	awaitHealth(t, e.Runner, func(h runner.Health) bool { return len(h.Nodes[0].Pool.Workers) == 1 })
}

func TestNoCallFailsWhileTheCodeIsReloaded(t *testing.T) {
	t.Parallel()
	e := newEdited(t, single("a", "workers: 2", "retry: none"), map[string]string{"nodes.py": says("a", 0)})
	ctx, stop := context.WithCancel(t.Context())
	var latest atomic.Int64
	var calling sync.WaitGroup
	for range 4 {
		calling.Go(func() {
			for ctx.Err() == nil {
				least := latest.Load()
				got, err := e.Run(t.Context(), 0)
				if assert.NoError(t, err) {
					assert.GreaterOrEqual(t, got.(int64), least, "a call that begins after a reload gets the new code")
				}
			}
		})
	}
	for i := range 5 {
		e.edit("nodes.py", says("a", i+1))
		require.NoError(t, e.Reload(t.Context()))
		latest.Store(int64(i + 1))
	}
	stop()
	calling.Wait()
}

const doubled = `
@node
def tag(x):
    return ["%[1]s", x]

@node(stateful=True)
class Count:
    def begin(self):
        self.n = 0
    def process(self, x):
        self.n += 1
        return x + ["%[1]s", self.n]
`

func TestAStreamContinuesWhileItsCodeIsReloaded(t *testing.T) {
	t.Parallel()
	e := newEdited(t, "nodes: [{id: tag, node_type: tag}, {id: Count, node_type: Count}]\nconnections: [{from: tag, to: Count}]",
		map[string]string{"nodes.py": fmt.Sprintf(doubled, "old")})
	s := open(t, e.Runner)
	next := func(v any) any {
		t.Helper()
		require.NoError(t, s.Send(v))
		item, err := s.Recv()
		require.NoError(t, err)
		return item.Value
	}
	assert.Equal(t, []any{"old", int64(1), "old", int64(1)}, next(1))
	e.edit("nodes.py", fmt.Sprintf(doubled, "new"))
	require.NoError(t, e.Reload(t.Context()))
	assert.Equal(t, []any{"new", int64(2), "old", int64(2)}, next(2), "the state stays in its worker")
	second := open(t, e.Runner)
	require.NoError(t, second.Send(5))
	item, err := second.Recv()
	require.NoError(t, err)
	assert.Equal(t, []any{"new", int64(5), "new", int64(1)}, item.Value, "a new stream has the new code")
	assert.Equal(t, []any{"new", int64(3), "old", int64(3)}, next(3))
	require.NoError(t, s.Close())
	awaitHealth(t, e.Runner, func(h runner.Health) bool { return len(h.Nodes[1].Pool.Workers) == 1 })
}

func TestAReloadCanBeCanceled(t *testing.T) {
	t.Parallel()
	e := newEdited(t, "nodes: [{id: a, node_type: a}, {id: b, node_type: b, python: b.py}]",
		map[string]string{"nodes.py": says("a", "old"), "b.py": says("b", "old")})
	e.edit("nodes.py", says("a", "new"))
	e.edit("b.py", "import time\ntime.sleep(600)\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Reload(ctx) }()
	// The new worker of node a is ready, and waits for that of node b.
	testkit.Eventually(t, func() bool { return len(of[runner.WorkerStarted](e.events)) == 3 })
	changed := errors.New("changed my mind")
	cancel(changed)
	require.ErrorIs(t, <-done, changed)
	e.gives(map[string]any{"a": "old", "b": "old"})
	assert.Empty(t, of[runner.Reloaded](e.events))
	assert.ErrorIs(t, e.Reload(ctx), changed)
}

func TestAReloadEndsWithTheRunner(t *testing.T) {
	t.Parallel()
	e := newEdited(t, single("a"), map[string]string{"nodes.py": says("a", "old")})
	started := filepath.Join(t.TempDir(), "started")
	e.edit("nodes.py", fmt.Sprintf("import time\nopen(%q, 'w').close()\ntime.sleep(600)\n", started))
	done := make(chan error, 1)
	go func() { done <- e.Reload(t.Context()) }()
	testkit.Eventually(t, testkit.Exists(started))
	require.NoError(t, e.Close(t.Context()))
	require.ErrorContains(t, <-done, "the runner is closed")
	require.ErrorContains(t, e.Reload(t.Context()), "the runner is closed")
}

func TestGoNodesAndUnknownNodesCannotBeReloaded(t *testing.T) {
	t.Parallel()
	r, err := load(t, "nodes: [{id: a, node_type: echo}, {id: b, node_type: fn}]",
		runner.WithNode("fn", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }))
	require.NoError(t, err)
	require.NoError(t, r.Reload(t.Context()), "nothing has been started, so there is nothing to do")
	require.NoError(t, r.Start(t.Context()))
	assert.ErrorIs(t, r.Reload(t.Context(), "c"), runner.KindManifest)
	assert.ErrorContains(t, r.Reload(t.Context(), "c"), `there is no node "c" to reload`)
	assert.ErrorContains(t, r.Reload(t.Context(), "b"), "its kind is go, so there is no Python code to read again")
	require.NoError(t, r.Reload(t.Context()), "all that are in Python")
}
