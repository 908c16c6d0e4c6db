package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

func TestWarmStartsTheMinimum(t *testing.T) {
	t.Parallel()
	f := newPool(t, 2, 3)
	description, err := f.Warm(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "work", description.Name)
	f.waitFor(Stats{Idle: 2})
	_, err = f.Warm(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, f.starts(), "the second Warm has nothing to start")
}

func TestWarmStartsOneWorkerWithoutAMinimum(t *testing.T) {
	t.Parallel()
	f := newPool(t, 0, 0)
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Stats{Idle: 1}, f.Stats())
}

func TestWarmReturnsTheErrorOfAFailedStart(t *testing.T) {
	t.Parallel()
	f := newPool(t, 2, 2)
	put(t, f.broken)
	_, err := f.Warm(t.Context())
	var failed *worker.StartError
	require.ErrorAs(t, err, &failed)
	assert.ErrorContains(t, err, "the module is broken")
	f.waitFor(Stats{})
}

func TestThePoolGrowsWithItsCallersUpToTheMaximum(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 3)
	gate := newGate(t)
	var calls []<-chan answer
	for i := range 5 {
		calls = append(calls, f.calling(map[string]any{"gate": gate, "value": i}))
	}
	f.waitFor(Stats{Busy: 3, Waiting: 2})
	remove(t, gate)
	for i, c := range calls {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
	f.waitFor(Stats{Idle: 3})
	assert.Equal(t, 3, f.starts())
}

func TestSerialCallsUseOneWorker(t *testing.T) {
	t.Parallel()
	f := newPool(t, 0, 3)
	for i := range 10 {
		got, err := f.call(t.Context(), i)
		require.NoError(t, err)
		assert.Equal(t, int64(i), got)
	}
	assert.Equal(t, Stats{Idle: 1}, f.Stats())
}

func TestCallersAreServedInTheOrderOfTheirArrival(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	gate, log := newGate(t), filepath.Join(t.TempDir(), "log")
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": 0})
	f.waitFor(Stats{Busy: 1})
	var rest []<-chan answer
	for i := 1; i <= 5; i++ {
		rest = append(rest, f.calling(map[string]any{"log": log, "value": i}))
		f.waitFor(Stats{Busy: 1, Waiting: i})
	}
	remove(t, gate)
	require.NoError(t, (<-first).err)
	for _, c := range rest {
		require.NoError(t, (<-c).err)
	}
	order, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, "0 1 2 3 4 5", strings.Join(strings.Fields(string(order)), " "))
}

func TestAThousandCallersGetTheirOwnAnswers(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 3)
	var calls sync.WaitGroup
	for i := range 1000 {
		calls.Go(func() {
			got, err := f.call(context.Background(), i)
			assert.NoError(t, err)
			assert.Equal(t, int64(i), got)
		})
	}
	calls.Wait()
	// A start that is no longer needed may still be under way.
	testkit.Eventually(t, func() bool { return f.Stats() == Stats{Idle: f.starts()} })
	assert.LessOrEqual(t, f.starts(), 3)
}

func TestACanceledCallerLeavesTheQueue(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "value": 1})
	f.waitFor(Stats{Busy: 1})
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := f.call(ctx, 2)
		gaveUp <- err
	}()
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	third := f.calling(3)
	f.waitFor(Stats{Busy: 1, Waiting: 2})
	cause := errors.New("changed my mind")
	cancel(cause)
	require.ErrorIs(t, <-gaveUp, cause)
	assert.Equal(t, Stats{Busy: 1, Waiting: 1}, f.Stats())
	remove(t, gate)
	require.NoError(t, (<-first).err)
	assert.Equal(t, answer{value: int64(3)}, <-third)
}

func TestCallersThatAreCanceledWhileResolvedLoseNoWorker(t *testing.T) {
	t.Parallel()
	f := newPool(t, 2, 2)
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		for i := range 8 {
			calls.Go(func() { _, _ = f.call(ctx, i) })
		}
		cancel()
		calls.Wait()
	}
	f.waitFor(Stats{Idle: 2})
	assert.Zero(t, f.deaths())
}

func TestTheDeathOfAnIdleWorkerFailsNoCall(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	for i := range 5 {
		f.kill()
		got, err := f.call(t.Context(), i)
		require.NoError(t, err)
		assert.Equal(t, int64(i), got)
	}
	assert.Equal(t, 6, f.starts())
}

func TestAnIdleWorkerThatDiesIsReplacedWithoutACaller(t *testing.T) {
	t.Parallel()
	f := newPool(t, 2, 2)
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	f.waitFor(Stats{Idle: 2})
	f.kill()
	testkit.Eventually(t, func() bool { return f.deaths() == 1 && f.starts() == 3 && f.Stats() == Stats{Idle: 2} })
	assert.Equal(t, worker.ReasonSelf, f.ended[0].Reason)
}

func TestADeathFailsOneCallAndTheNextInTheQueueGetsAReplacement(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "value": 1})
	f.waitFor(Stats{Busy: 1})
	second := f.calling(map[string]any{"die": true})
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	third := f.calling(3)
	f.waitFor(Stats{Busy: 1, Waiting: 2})
	remove(t, gate)
	require.NoError(t, (<-first).err)
	var exit *worker.Exit
	require.ErrorAs(t, (<-second).err, &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
	assert.Equal(t, answer{value: int64(3)}, <-third)
	assert.Equal(t, 2, f.starts())
}

func TestAnExceptionKeepsTheWorker(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	_, err := f.call(t.Context(), map[string]any{"raise": "no"})
	var remote *ipc.RemoteError
	require.ErrorAs(t, err, &remote)
	_, err = f.call(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, 1, f.starts())
}

func TestAFailedStartFailsNoCallerWhileAnotherWorkerServes(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 2)
	f.freeze()
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "value": 1})
	f.waitFor(Stats{Busy: 1})
	put(t, f.broken)
	put(t, f.held)
	second := f.calling(2)
	f.waitFor(Stats{Busy: 1, Starting: 1, Waiting: 1})
	remove(t, f.held)
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	remove(t, gate)
	require.NoError(t, (<-first).err)
	assert.Equal(t, answer{value: int64(2)}, <-second)
}

func TestAFailedStartFailsAllWaitersIfNoWorkerServes(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 2)
	put(t, f.broken)
	put(t, f.held)
	var calls []<-chan answer
	for i := range 5 {
		calls = append(calls, f.calling(i))
	}
	f.waitFor(Stats{Starting: 2, Waiting: 5})
	remove(t, f.held)
	for _, c := range calls {
		var failed *worker.StartError
		require.ErrorAs(t, (<-c).err, &failed)
	}
	f.waitFor(Stats{})
	remove(t, f.broken)
	got, err := f.call(t.Context(), 1)
	require.NoError(t, err, "the pool recovers")
	assert.Equal(t, int64(1), got)
}

func TestCloseWaitsForTheCallsUnderWay(t *testing.T) {
	t.Parallel()
	f := newPool(t, 3, 3)
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	f.waitFor(Stats{Idle: 3})
	gate := newGate(t)
	under := f.calling(map[string]any{"gate": gate, "value": 1})
	f.waitFor(Stats{Idle: 2, Busy: 1})
	closed := make(chan struct{})
	go func() {
		f.Close(context.Background())
		close(closed)
	}()
	f.waitFor(Stats{Busy: 1}) // the idle workers have ended
	_, err = f.call(t.Context(), 2)
	require.ErrorIs(t, err, ErrClosed)
	_, err = f.Warm(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	select {
	case <-closed:
		t.Fatal("closed while a call is under way")
	default:
	}
	remove(t, gate)
	assert.Equal(t, answer{value: int64(1)}, <-under)
	<-closed
	f.Close(t.Context())
	assert.Equal(t, Stats{}, f.Stats())
	f.Pool.mu.Lock()
	f.dirty = true
	f.reconcileLocked()
	assert.Zero(t, f.starting, "a closed pool starts nothing")
	f.Pool.mu.Unlock()
	for _, exit := range f.ended {
		assert.Equal(t, worker.ReasonShutdown, exit.Reason)
	}
	assert.Len(t, f.ended, 3)
}

func TestCloseKillsTheWorkersWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	under := f.calling(map[string]any{"gate": newGate(t)})
	f.waitFor(Stats{Busy: 1})
	waiting := f.calling(1)
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	patient := make(chan struct{})
	go func() {
		f.Close(context.Background())
		close(patient)
	}()
	require.ErrorIs(t, (<-waiting).err, ErrClosed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Close(ctx) // a second Close, with a shorter deadline
	var exit *worker.Exit
	require.ErrorAs(t, (<-under).err, &exit)
	assert.Equal(t, worker.ReasonKilled, exit.Reason)
	<-patient
}

func TestCloseEndsTheStartsUnderWay(t *testing.T) {
	t.Parallel()
	f := newPool(t, 2, 2)
	put(t, f.held)
	waiting := f.calling(1)
	warming := make(chan error, 1)
	go func() {
		_, err := f.Warm(context.Background())
		warming <- err
	}()
	f.waitFor(Stats{Starting: 2, Waiting: 2})
	f.Close(t.Context())
	require.ErrorIs(t, (<-waiting).err, ErrClosed)
	require.ErrorIs(t, <-warming, ErrClosed)
	assert.Equal(t, Stats{}, f.Stats())
	assert.Zero(t, f.starts())
}

func TestAReplacementThatStartsDuringCloseIsEnded(t *testing.T) {
	t.Parallel()
	for range 3 {
		f := newPoolWith(t, "work", Config{Min: 2, Max: 2, Spare: 1})
		f.warm()
		var both sync.WaitGroup
		for _, pid := range f.pids(RoleServing) {
			both.Go(func() { assert.NoError(t, syscall.Kill(pid, syscall.SIGKILL)) })
		}
		both.Go(func() { f.Close(context.Background()) })
		both.Wait()
		f.nothingIsLeft()
	}
}

func TestManyConcurrentStartsAndDeathsLeakNothing(t *testing.T) {
	held := func() (fds, goroutines int) {
		entries, err := os.ReadDir("/dev/fd")
		require.NoError(t, err)
		return len(entries), runtime.NumGoroutine()
	}
	round := func() {
		f := newPool(t, 2, 3)
		var calls sync.WaitGroup
		for i := range 30 {
			calls.Go(func() {
				got, err := f.call(context.Background(), map[string]any{"die": i%10 == 3, "value": i})
				var exit *worker.Exit
				if i%10 == 3 {
					assert.ErrorAs(t, err, &exit)
				} else if assert.NoError(t, err) {
					assert.Equal(t, int64(i), got)
				}
			})
		}
		calls.Wait()
		f.Close(t.Context())
		for _, w := range f.started {
			assert.True(t, testkit.Gone(w.PID()))
		}
		assert.Len(t, f.ended, len(f.started), "each end is reported once")
	}
	round()
	fds, goroutines := held()
	for range 2 {
		round()
	}
	var now string
	for deadline := time.Now().Add(long); time.Now().Before(deadline); runtime.Gosched() {
		// A goroutine of go-plugin may still be ending.
		fdsNow, goroutinesNow := held()
		if fdsNow <= fds && goroutinesNow <= goroutines {
			return
		}
		now = fmt.Sprintf("%d descriptors and %d goroutines, before %d and %d", fdsNow, goroutinesNow, fds, goroutines)
	}
	t.Error(now)
}

func TestAPoolWorksWithoutAnObserver(t *testing.T) {
	t.Parallel()
	config := newPool(t, 1, 1).config
	config.Observe = nil
	p := New(config)
	_, err := p.Warm(t.Context())
	require.NoError(t, err)
	p.Close(t.Context())
	assert.Empty(t, p.undelivered)
}

func TestWorkersAreForkedFromATemplate(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pid", Config{Min: 1, Max: 1, Spare: 1, ForkServer: true})
	f.warm()
	f.hasSpares(1)
	assert.Empty(t, f.Health().ForkNote)
	_, err := f.call(t.Context(), "die")
	var exit *worker.Exit
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
	f.until(func(h Health) bool { return h.Counters.Promoted == 1 && h.Spares == 1 })
	first := f.generation.config.Template
	require.NoError(t, f.Reload(t.Context(), f.config.Worker, nil))
	assert.NotSame(t, first, f.generation.config.Template)
	f.until(func(h Health) bool { return len(h.Workers) == 2 })
	f.Close(t.Context())
	f.nothingIsLeft()
	assert.NotEmpty(t, f.Health().ForkNote, "its template is closed")
}
