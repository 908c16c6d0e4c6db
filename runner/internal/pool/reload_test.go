package pool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// code returns the pool's worker configuration with the node's module replaced.
func (f *fixture) code(text string) worker.Config {
	config := f.config.Worker
	config.Setup.Base = f.t.TempDir()
	require.NoError(f.t, os.WriteFile(filepath.Join(config.Setup.Base, "nodes.py"), []byte(text), 0o600))
	return config
}

const (
	second = `
from gophersnake import node

@node
def work(how):
    return "second"

@node(stateful=True)
class Sum:
    def process(self, number):
        return ["second", 0]
`
	broken = `raise RuntimeError("half written")`
)

func TestReloadMovesNewCallsToTheNewCode(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 2, Max: 3, Spare: 1})
	f.warm()
	f.hasSpares(1)
	old := append(f.pids(RoleServing), f.pids(RoleSpare)...)
	gate := newGate(t)
	under := f.calling(map[string]any{"gate": gate, "value": "first"})
	f.waitFor(Stats{Idle: 1, Busy: 1})
	asked := 0
	require.NoError(t, f.Reload(t.Context(), f.code(second), func(d ipc.Description) error {
		asked++
		assert.Equal(t, "work", d.Name)
		got, err := f.call(t.Context(), "still first")
		assert.NoError(t, err)
		assert.Equal(t, "still first", got)
		return nil
	}))
	assert.Equal(t, 1, asked)
	for range 5 {
		got, err := f.call(t.Context(), 1)
		require.NoError(t, err)
		assert.Equal(t, "second", got)
	}
	f.until(func(Health) bool { return len(f.pids(RoleRetiring)) == 1 }, "the old worker still has a call")
	remove(t, gate)
	assert.Equal(t, answer{value: "first"}, <-under)
	f.until(func(h Health) bool { return len(h.Workers) == 3 && h.Spares == 1 && h.Idle == 2 })
	h := f.Health()
	assert.Equal(t, 2, h.Generation)
	assert.EqualValues(t, 1, h.Counters.Reloads)
	assert.Zero(t, h.Counters.Deaths)
	assert.Equal(t, StateHealthy, h.State)
	for _, w := range h.Workers {
		assert.Equal(t, 2, w.Generation)
		assert.NotContains(t, old, w.PID)
	}
	events := eventsOf[Reloaded](f)
	require.Len(t, events, 1)
	assert.Equal(t, 2, events[0].Workers)
	assert.Empty(t, eventsOf[WorkerRetired](f), "the old workers have reached no limit")
}

func TestReloadServesTheQueueWithTheNewCode(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	gate := newGate(t)
	under := f.calling(map[string]any{"gate": gate, "value": "first"})
	f.waitFor(Stats{Busy: 1})
	waiting := f.calling(2)
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	require.NoError(t, f.Reload(t.Context(), f.code(second), nil))
	assert.Equal(t, answer{value: "second"}, <-waiting)
	remove(t, gate)
	assert.Equal(t, answer{value: "first"}, <-under)
}

func TestReloadWithBrokenCodeChangesNothing(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 2, Max: 2})
	f.warm()
	before := f.pids(RoleServing)
	err := f.Reload(t.Context(), f.code(broken), nil)
	var failed *worker.StartError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "half written")
	f.unchanged(before)
}

// unchanged requires that nothing is left of a failed reload.
func (f *fixture) unchanged(before []int) {
	f.t.Helper()
	h := f.Health()
	assert.ElementsMatch(f.t, before, f.pids(RoleServing))
	assert.Len(f.t, h.Workers, len(before))
	assert.Equal(f.t, 1, h.Generation)
	assert.Equal(f.t, StateHealthy, h.State)
	assert.Zero(f.t, h.Counters.Reloads)
	assert.Zero(f.t, h.Counters.Deaths)
	assert.Empty(f.t, eventsOf[Reloaded](f))
	got, err := f.call(f.t.Context(), "first")
	require.NoError(f.t, err)
	assert.Equal(f.t, "first", got)
}

func TestReloadThatIsRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 2, Max: 2})
	f.warm()
	before := f.pids(RoleServing)
	no := errors.New("it takes other inputs")
	require.ErrorIs(t, f.Reload(t.Context(), f.code(second), func(ipc.Description) error { return no }), no)
	f.unchanged(before)
	assert.Equal(t, 4, f.starts())
}

func TestReloadWhoseWorkerDiesBeforeItServesChangesNothing(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.warm()
	before := f.pids(RoleServing)
	err := f.Reload(t.Context(), f.code(second), func(ipc.Description) error {
		f.kill()
		f.until(func(h Health) bool { return len(h.Workers) == 1 })
		return nil
	})
	var exit *worker.Exit
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
	f.Pool.mu.Lock()
	f.counters.Deaths = 0
	f.Pool.mu.Unlock()
	f.unchanged(before)
}

func TestACanceledReloadChangesNothing(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.warm()
	before := f.pids(RoleServing)
	put(t, f.held)
	ctx, cancel := context.WithCancelCause(t.Context())
	reloaded := make(chan error, 1)
	go func() { reloaded <- f.Reload(ctx, f.config.Worker, nil) }()
	cause := errors.New("changed my mind")
	cancel(cause)
	require.ErrorIs(t, <-reloaded, cause)
	remove(t, f.held)
	f.unchanged(before)
}

func TestCloseEndsAReloadAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, point := range map[string]func(f *fixture, reload func() error) error{
		"while it starts": func(f *fixture, reload func() error) error {
			put(f.t, f.held)
			reloaded := make(chan error, 1)
			go func() { reloaded <- reload() }()
			f.until(func(Health) bool { return f.reloadIsUnderWay() })
			f.Close(f.t.Context())
			return <-reloaded
		},
		"when it is over": func(f *fixture, reload func() error) error {
			f.Close(f.t.Context())
			return reload()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newPool(t, 1, 1)
			f.warm()
			require.ErrorIs(t, point(f, func() error { return f.Reload(context.Background(), f.config.Worker, nil) }), ErrClosed)
			f.nothingIsLeft()
		})
	}
	t.Run("while it is checked", func(t *testing.T) {
		f := newPool(t, 1, 1)
		f.warm()
		require.ErrorIs(t, f.Reload(context.Background(), f.config.Worker, func(ipc.Description) error {
			f.Close(t.Context())
			return nil
		}), ErrClosed)
		f.nothingIsLeft()
	})
}

func (f *fixture) reloadIsUnderWay() bool {
	if f.reloading.TryLock() {
		f.reloading.Unlock()
		return false
	}
	return true
}

func (f *fixture) nothingIsLeft() {
	f.t.Helper()
	assert.Empty(f.t, f.Health().Workers)
	assert.Zero(f.t, f.Health().Starting)
	assert.Len(f.t, f.ended, f.starts(), "each end is reported once")
	for _, w := range f.started {
		assert.True(f.t, testkit.Gone(w.PID()))
	}
}

func TestReloadEndsTheStartsOfOldCode(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 2})
	f.warm()
	gate := newGate(t)
	under := f.calling(map[string]any{"gate": gate, "value": "first"})
	f.waitFor(Stats{Busy: 1})
	put(t, f.held)
	waiting := f.calling(2)
	f.waitFor(Stats{Busy: 1, Starting: 1, Waiting: 1})
	old := f.generation
	require.NoError(t, f.Reload(t.Context(), f.code(second), nil))
	require.Error(t, old.ctx.Err())
	assert.Equal(t, answer{value: "second"}, <-waiting)
	remove(t, gate)
	assert.Equal(t, answer{value: "first"}, <-under)
	f.waitFor(Stats{Idle: 1})
	assert.Equal(t, 2, f.starts())
	assert.Empty(t, eventsOf[WorkerStartFailed](f))
}

func TestReloadRepairsAPoolThatCannotStart(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	put(t, f.broken)
	for range 2 {
		_, err := f.Warm(t.Context())
		require.Error(t, err)
	}
	require.Equal(t, StateUnhealthy, f.Health().State)
	require.NoError(t, f.Reload(t.Context(), f.code(second), nil))
	assert.Equal(t, StateHealthy, f.Health().State)
	got, err := f.call(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, "second", got)
}

func TestASessionStaysWithTheOldCodeUntilItIsClosed(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 1)
	s := open(t, f)
	add(t, s, 40)
	require.NoError(t, f.Reload(t.Context(), f.code(second), nil))
	sum, _ := add(t, s, 2)
	assert.Equal(t, int64(42), sum)
	var got []any
	require.NoError(t, open(t, f).Call(t.Context(), arg(t, 1), into(t, &got)))
	assert.Equal(t, []any{[]any{"second", int64(0)}}, got)
	f.until(func(Health) bool { return len(f.pids(RoleRetiring)) == 1 })
	s.Close()
	f.until(func(h Health) bool { return len(h.Workers) == 1 })
}

func TestConcurrentCallsReloadsAndDeathsLoseNothing(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 2, Spare: 1, MaxCalls: 20})
	f.warm()
	var calls sync.WaitGroup
	for caller := range 8 {
		calls.Go(func() {
			for i := range 25 {
				die := caller == 0 && i%10 == 5
				got, err := f.call(context.Background(), map[string]any{"value": i, "die": die})
				var exit *worker.Exit
				if die {
					assert.ErrorAs(t, err, &exit)
				} else if assert.NoError(t, err) {
					assert.Equal(t, int64(i), got)
				}
			}
		})
	}
	for range 2 {
		assert.NoError(t, f.Reload(t.Context(), f.config.Worker, nil))
	}
	calls.Wait()
	assert.Equal(t, 3, f.Health().Generation)
	f.Close(t.Context())
	f.nothingIsLeft()
}
