package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// quick makes the pool estimate the shortest latency, as many short calls would.
func (f *fixture) quick() {
	_, err := f.Warm(f.t.Context())
	require.NoError(f.t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Pool.mu.Lock()
	defer f.Pool.mu.Unlock()
	f.latency.mean = workAhead / maxAhead
}

// begins waits until the node has written its log file.
func (f *fixture) begins(log string) {
	f.t.Helper()
	testkit.Eventually(f.t, testkit.Exists(log))
}

// loads waits until the load of the pool's only worker is want.
func (f *fixture) loads(want int) {
	f.t.Helper()
	testkit.Eventually(f.t, func() bool {
		f.Pool.mu.Lock()
		defer f.Pool.mu.Unlock()
		for _, m := range f.members {
			return m.load == want
		}
		return false
	})
}

func TestShortCallsRaiseTheCapacityOfTheOnlyWorker(t *testing.T) {
	t.Parallel()
	p := newLatency()
	assert.Equal(t, 1, p.ahead())
	for range 100 {
		p.add(30 * time.Microsecond)
	}
	assert.Equal(t, 60, p.ahead())
	for range 100 {
		p.add(time.Microsecond)
	}
	assert.Equal(t, maxAhead, p.ahead())
	p.add(5 * time.Second)
	assert.Equal(t, 1, p.ahead(), "one long call is enough")
	for range 100 {
		p.add(time.Millisecond)
	}
	assert.Equal(t, 1, p.ahead())
	for range 100 {
		p.add(600 * time.Microsecond)
	}
	assert.Equal(t, 3, p.ahead())
	p.add(0)
	p.mean = 0
	assert.Equal(t, maxAhead, p.ahead())
}

func TestTheOnlyWorkerOfANodeWithShortCallsIsAssignedCallsAhead(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.quick()
	gate, log := newGate(t), filepath.Join(t.TempDir(), "log")
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": "first"})
	f.begins(log)
	var rest []<-chan answer
	for i := range 10 {
		rest = append(rest, f.calling(i))
	}
	f.loads(11)
	assert.Equal(t, Stats{Busy: 1}, f.Stats())
	remove(t, gate)
	assert.Equal(t, answer{value: "first"}, <-first)
	for i, c := range rest {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
}

func TestWithSeveralWorkersNoCallIsAssignedBehindAnother(t *testing.T) {
	t.Parallel()
	f := newPool(t, 2, 2)
	f.quick()
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate})
	second := f.calling(map[string]any{"gate": gate})
	f.waitFor(Stats{Busy: 2})
	third := f.calling(3)
	f.waitFor(Stats{Busy: 2, Waiting: 1})
	remove(t, gate)
	for _, c := range []<-chan answer{first, second, third} {
		require.NoError(t, (<-c).err)
	}
}

func TestARetryQueuesAheadOfCallsThatBeganLater(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	log := filepath.Join(t.TempDir(), "log")
	var op Operation
	attempt := func(value any) error {
		_, err := f.Call(t.Context(), arg(t, value).WithAttempt(1), &op)
		return err
	}
	require.Error(t, attempt(map[string]any{"raise": "no luck", "log": log, "value": "retried"}))
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": "first"})
	f.waitFor(Stats{Busy: 1})
	var later []<-chan answer
	for i := range 5 {
		later = append(later, f.calling(map[string]any{"log": log, "value": fmt.Sprint("later ", i)}))
		f.waitFor(Stats{Busy: 1, Waiting: i + 1})
	}
	again := make(chan error, 1)
	go func() { again <- attempt(map[string]any{"log": log, "value": "retried"}) }()
	f.waitFor(Stats{Busy: 1, Waiting: 6})
	remove(t, gate)
	require.NoError(t, <-again)
	for _, c := range append(later, first) {
		require.NoError(t, (<-c).err)
	}
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, "retried\nfirst\nretried\nlater 0\nlater 1\nlater 2\nlater 3\nlater 4\n", string(text))
}

// A retry at the front of the queue has not waited for as long as the callers behind it.
func TestARetryThatWaitsDoesNotHideThatOthersWaitForLonger(t *testing.T) {
	t.Parallel()
	p := &Pool{}
	now := time.Now()
	for i, again := range []bool{true, true, false, false} {
		p.queue = append(p.queue, &waiter{request: request{turn: uint64(i)}, again: again, since: now.Add(time.Duration(2*i-5) * time.Second)})
	}
	p.queue[0].since = now
	assert.Equal(t, now.Add(-3*time.Second), p.waitsSinceLocked())
	p.queue[1].pinned = &member{}
	assert.Equal(t, now.Add(-time.Second), p.waitsSinceLocked())
	p.queue = nil
	assert.Zero(t, p.waitsSinceLocked())
}

func TestALongQueueKeepsItsOrderAndReleasesThoseThatLeave(t *testing.T) {
	t.Parallel()
	p := &Pool{}
	var want []*waiter
	for i := range 3 * shiftedQueue {
		w := &waiter{request: request{turn: uint64(i)}}
		want = append(want, w)
		p.enqueueLocked(w)
	}
	all := p.queue
	p.dequeueLocked(70)
	want = append(want[:70:70], want[71:]...)
	for i := 0; len(p.queue) > 0; i++ {
		assert.Same(t, want[i], p.queue[0])
		p.dequeueLocked(0)
		if i%2 == 0 { // another one queues meanwhile
			w := &waiter{request: request{turn: uint64(1000 + i)}}
			want = append(want, w)
			p.enqueueLocked(w)
		}
	}
	assert.Nil(t, all[0], "the array does not keep a waiter that has left")
}

// A call that was assigned ahead does not fail with a worker that had not begun it.
func TestACallBehindOneThatKillsItsWorkerMovesToTheNextWorker(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.quick()
	gate, log := newGate(t), filepath.Join(t.TempDir(), "log")
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": 0, "die": true})
	f.begins(log)
	var rest []<-chan answer
	for i := range 10 {
		rest = append(rest, f.calling(i))
	}
	f.loads(11)
	remove(t, gate)
	var exit *worker.Exit
	require.ErrorAs(t, (<-first).err, &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
	assert.True(t, exit.Counted)
	for i, c := range rest {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
	assert.Equal(t, 2, f.starts())
}

// The answers to calls that ran before the deadly one may be lost with the worker, because
// it sends them together.
func TestFinishedCallsBeforeOneThatKillsItsWorkerMoveToTheNextWorker(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.quick()
	gate, log := newGate(t), filepath.Join(t.TempDir(), "log")
	calls := []<-chan answer{f.calling(map[string]any{"gate": gate, "log": log, "value": int64(0)})}
	f.begins(log)
	for i := range 10 {
		calls = append(calls, f.calling(i+1))
	}
	f.loads(11)
	deadly := f.calling(map[string]any{"die": true})
	f.loads(12)
	remove(t, gate)
	for i, c := range calls {
		assert.Equal(t, answer{value: int64(i)}, <-c)
	}
	var exit *worker.Exit
	err := (<-deadly).err
	require.ErrorAs(t, err, &exit)
	var suspect *worker.SuspectError
	assert.NotErrorAs(t, err, &suspect)
	f.dies(1)
}

// A call that may not run twice is not lost with the worker because of another call.
func TestNoCallIsAssignedAheadIfItMayNotRunTwice(t *testing.T) {
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, MayRepeat: func() bool { return false }})
	f.quick()
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "die": true})
	f.waitFor(Stats{Busy: 1})
	second := f.calling(2)
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	remove(t, gate)
	var exit *worker.Exit
	require.ErrorAs(t, (<-first).err, &exit)
	assert.Equal(t, answer{value: int64(2)}, <-second)
}

func TestTheMovesOfACallAreBounded(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.quick()
	_, err := f.call(t.Context(), map[string]any{"die": true})
	var exit *worker.Exit
	require.ErrorAs(t, err, &exit, "this call was begun")
	f.waitFor(Stats{Idle: 1})

	gate := newGate(t)
	var poison []<-chan answer
	for range maxMoves + 2 {
		f.quick()
		poison = append(poison, f.calling(map[string]any{"gate": gate, "die": true}))
		f.loads(len(poison))
	}
	remove(t, gate)
	moved := 0
	for _, c := range poison {
		err := (<-c).err
		require.Error(t, err)
		var unbegun *worker.UnbegunError
		if errors.As(err, &unbegun) {
			moved++
		}
	}
	assert.LessOrEqual(t, moved, 1, "all calls but the last are begun by some worker before maxMoves")
}

func TestACanceledCallThatWasAssignedAheadReturnsAtOnceAndIsSkipped(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.quick()
	gate, log := newGate(t), filepath.Join(t.TempDir(), "log")
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": "first"})
	f.begins(log)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("changed my mind")
	gaveUp := make(chan error, 1)
	go func() {
		_, err := f.call(ctx, map[string]any{"log": log, "value": "second"})
		gaveUp <- err
	}()
	f.loads(2)
	third := f.calling(map[string]any{"log": log, "value": "third"})
	f.loads(3)
	cancel(cause)
	var canceled *worker.CanceledError
	require.ErrorAs(t, <-gaveUp, &canceled)
	require.ErrorIs(t, canceled, cause)
	remove(t, gate) // so neither call waited for it
	assert.Equal(t, answer{value: "first"}, <-first)
	assert.Equal(t, answer{value: "third"}, <-third)
	ran, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, "first third", strings.Join(strings.Fields(string(ran)), " "))
	assert.Equal(t, 1, f.starts())
}

func TestCanceledCallsDoNotDelayTheDeadlineOfTheCallBeforeThem(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "work", Config{Min: 1, Max: 1, Worker: worker.Config{Timeout: time.Second}})
	f.quick()
	log := filepath.Join(t.TempDir(), "log")
	first := f.calling(map[string]any{"gate": newGate(t), "log": log, "value": "first"})
	f.begins(log)
	for {
		select {
		case a := <-first:
			var exit *worker.Exit
			require.ErrorAs(t, a.err, &exit)
			assert.Equal(t, worker.ReasonDeadline, exit.Reason)
			return
		case <-time.After(20 * time.Millisecond):
		}
		f.quick()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, _ = f.call(ctx, 1)
		cancel()
	}
}

func TestABatchNodeGetsItsCallsTogether(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "together", 1, 1)
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	gate := newGate(t)
	first := f.calling(gate)
	f.begins(gate + ".begun")
	var rest []<-chan answer
	for i := 10; i < 17; i++ {
		rest = append(rest, f.calling(i))
	}
	f.loads(8)
	ninth := f.calling(17)
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	remove(t, gate)
	sizes := map[any]int{}
	for i, c := range append(rest, ninth, first) {
		a := <-c
		if i == 3 {
			var remote *ipc.RemoteError
			require.ErrorAs(t, a.err, &remote)
			assert.Equal(t, "thirteen", remote.Message)
			continue
		}
		require.NoError(t, a.err)
		pair := a.value.([]any)
		if i < 8 {
			assert.EqualValues(t, 10+i, pair[0])
		}
		sizes[pair[1]]++
	}
	assert.GreaterOrEqual(t, sizes[int64(4)], 3, "%v", sizes)
}

// The deadline of an abandoned call is not enforced, so that of the call beside it must be.
func TestABatchThatHangsIsEndedAfterItsFirstCallWasCanceled(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pair", Config{Min: 1, Max: 1, Worker: worker.Config{Timeout: 2 * time.Second}})
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	hang := newGate(t)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := f.call(ctx, hang)
		gaveUp <- err
	}()
	f.loads(1)
	beside := f.calling(2)
	f.begins(hang + ".begun")
	cancel()
	var canceled *worker.CanceledError
	require.ErrorAs(t, <-gaveUp, &canceled)
	var exit *worker.Exit
	require.ErrorAs(t, (<-beside).err, &exit)
	assert.Equal(t, worker.ReasonDeadline, exit.Reason)
}

func TestABatchThatHangsIsEndedAfterAllItsCallsWereCanceled(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "pair", Config{Min: 1, Max: 1, Worker: worker.Config{Timeout: time.Second}})
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	hang := newGate(t)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 2)
	for _, value := range []any{hang, 2} {
		go func() {
			_, err := f.call(ctx, value)
			gaveUp <- err
		}()
	}
	f.begins(hang + ".begun")
	cancel()
	for range 2 {
		var canceled *worker.CanceledError
		require.ErrorAs(t, <-gaveUp, &canceled)
	}
	testkit.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.ended) == 1 && f.ended[0].Reason == worker.ReasonDeadline
	})
	third, fourth := f.calling(3), f.calling(4)
	require.NoError(t, (<-third).err)
	require.NoError(t, (<-fourth).err)
	assert.Equal(t, 2, f.starts())
}

func TestAnAsyncNodeHasManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "wait", 1, 1)
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			got, err := f.call(context.Background(), map[string]any{"until": 50})
			assert.NoError(t, err)
			assert.Equal(t, int64(50), got)
		})
	}
	calls.Wait()
	assert.Equal(t, 1, f.starts())
}

// The error of emit can come from a call of another node, which was not begun. It must
// not make this call again.
func TestAnUnbegunCallOfAnotherWorkerDoesNotMoveThisCall(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "count", 1, 1)
	other := fmt.Errorf("the next node: %w", &worker.UnbegunError{Exit: &worker.Exit{}})
	emitted := 0
	err := f.Items(t.Context(), arg(t, 3), &Operation{}, again(func(p ipc.Payload) error {
		p.Release()
		emitted++
		return other
	}))
	require.ErrorIs(t, err, other)
	assert.Equal(t, 1, emitted)
}
