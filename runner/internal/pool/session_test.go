package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// into returns an emit function that appends the decoded values.
func into(t *testing.T, values *[]any) func(ipc.Payload) error {
	return func(p ipc.Payload) error {
		defer p.Release()
		v, err := p.Decode("item", ipc.DefaultLimits())
		assert.NoError(t, err)
		*values = append(*values, v)
		return nil
	}
}

// again returns the same emit function for each attempt.
func again(emit func(ipc.Payload) error) func() func(ipc.Payload) error {
	return func() func(ipc.Payload) error { return emit }
}

func arg(t *testing.T, v any) ipc.Args {
	p, err := ipc.Encode("input", v)
	require.NoError(t, err)
	return ipc.OneArg(p)
}

// add gives a session of Sum a number, and returns the sum and the process ID.
func add(t *testing.T, s *Session, number any) (sum int64, pid int64) {
	var got []any
	require.NoError(t, s.Call(t.Context(), arg(t, number), into(t, &got)))
	require.Len(t, got, 1)
	pair := got[0].([]any)
	return pair[0].(int64), pair[1].(int64)
}

func open(t *testing.T, f *fixture) *Session {
	s, err := f.Open(t.Context(), nil, false, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestASessionKeepsItsStateApartAndItsWorker(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 2, 2)
	_, err := f.Warm(t.Context())
	require.NoError(t, err)
	f.waitFor(Stats{Idle: 2})
	sessions := []*Session{open(t, f), open(t, f), open(t, f)}
	pids := map[int64]bool{}
	for round := int64(1); round <= 5; round++ {
		for i, s := range sessions {
			sum, pid := add(t, s, i+1)
			assert.Equal(t, round*int64(i+1), sum)
			pids[pid] = true
			assert.EqualValues(t, s.member.worker.PID(), pid)
		}
	}
	assert.Len(t, pids, 2, "the sessions are spread over the workers")
	for i, s := range sessions {
		var got []any
		require.NoError(t, s.Finish(t.Context(), ipc.Args{}, into(t, &got)))
		assert.Equal(t, []any{int64(5 * (i + 1))}, got)
		s.Close()
		s.Close()
	}
	f.waitFor(Stats{Idle: 2})
	for _, m := range f.members {
		assert.Zero(t, m.sessions)
	}
}

func TestSessionsOfOneWorkerShareIt(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 1)
	var streams sync.WaitGroup
	for range 10 {
		s := open(t, f)
		streams.Go(func() {
			for i := int64(1); i <= 50; i++ {
				var got []any
				if assert.NoError(t, s.Call(context.Background(), arg(t, 1), into(t, &got))) {
					assert.Equal(t, i, got[0].([]any)[0])
				}
			}
		})
	}
	streams.Wait()
	assert.Equal(t, 1, f.starts())
}

func TestASessionGrowsThePoolForTheNextOnes(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 2)
	first, second := open(t, f), open(t, f)
	assert.Same(t, first.member, second.member, "the second session does not wait for a start")
	f.waitFor(Stats{Idle: 2})
	assert.NotSame(t, first.member, open(t, f).member)
}

func TestASessionTakesTheSpareIfAllWorkersHaveSessions(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "Sum", Config{Min: 1, Max: 2, Spare: 1})
	f.warm()
	f.hasSpares(1)
	first := open(t, f)
	put(t, f.held)
	assert.NotSame(t, first.member, open(t, f).member)
	remove(t, f.held)
	f.hasSpares(1)
}

func TestASessionKeepsAnOldWorkerUntilItIsClosed(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "Sum", Config{Min: 1, Max: 1, MaxAge: time.Hour})
	clock := f.freeze()
	f.warm()
	s := open(t, f)
	add(t, s, 40)
	clock.pass(time.Hour)
	f.until(func(h Health) bool { return h.Counters.Promoted == 1 })
	later := open(t, f)
	assert.NotSame(t, s.member, later.member)
	sum, _ := add(t, s, 2)
	assert.Equal(t, int64(42), sum)
	assert.Len(t, f.pids(RoleRetiring), 1)
	s.Close()
	f.retired(worker.LimitAge, 1)
	add(t, later, 1)
}

func TestCallsOfASessionGoOnAfterItsWorkerHasReachedMaxCalls(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "Sum", Config{Min: 1, Max: 1, MaxCalls: 3})
	s := open(t, f) // the first call
	for i := int64(1); i <= 5; i++ {
		sum, _ := add(t, s, 1)
		assert.Equal(t, i, sum)
	}
	assert.NotSame(t, s.member, open(t, f).member)
	var got []any
	require.NoError(t, s.Finish(t.Context(), ipc.Args{}, into(t, &got)))
	s.Close()
	f.retired(worker.LimitCalls, 1)
}

func TestAWorkerWithASessionIsNotIdle(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "Sum", Config{Min: 0, Max: 1, IdleTimeout: time.Minute})
	clock := f.freeze()
	s := open(t, f)
	clock.pass(time.Hour)
	add(t, s, 1)
	s.Close()
	clock.pass(time.Minute - 1)
	assert.Len(t, f.pids(RoleServing), 1)
	clock.pass(time.Minute)
	f.retired(worker.LimitIdle, 1)
}

// A caller that waits to open a session on a worker that retires goes to another one.
func TestAWaiterThatOpensASessionIsUnpinnedFromARetiringWorker(t *testing.T) {
	t.Parallel()
	f := newPoolWith(t, "Sum", Config{Min: 1, Max: 1, Spare: 1, MaxAge: time.Hour})
	clock := f.freeze()
	f.warm()
	f.hasSpares(1)
	s := open(t, f)
	gate := newGate(t)
	var got []any
	under := make(chan error, 1)
	go func() { under <- s.Call(context.Background(), arg(t, gate), into(t, &got)) }()
	f.waitFor(Stats{Busy: 1})
	opened := make(chan *Session, 1)
	go func() {
		later, err := f.Open(context.Background(), nil, false, nil)
		assert.NoError(t, err)
		opened <- later
	}()
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	clock.pass(time.Hour)
	later := <-opened
	t.Cleanup(later.Close)
	assert.NotSame(t, s.member, later.member)
	remove(t, gate)
	require.NoError(t, <-under)
}

func TestASessionEndsWithItsWorker(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 1)
	dies, neighbor := open(t, f), open(t, f)
	add(t, dies, 1)
	var exit *worker.Exit
	require.ErrorAs(t, dies.Call(t.Context(), arg(t, "die"), nil), &exit)
	var late *worker.UnbegunError
	require.ErrorAs(t, dies.Call(t.Context(), arg(t, 1), nil), &late)
	require.ErrorAs(t, neighbor.Call(t.Context(), arg(t, 1), nil), &late)
	_, err := neighbor.Snapshot(t.Context())
	require.ErrorAs(t, err, &late)
	require.ErrorAs(t, neighbor.Finish(t.Context(), ipc.Args{}, nil), &late)
	sum, _ := add(t, open(t, f), 7)
	assert.Equal(t, int64(7), sum)
}

func TestASessionIsRestoredOnAnotherWorker(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 1)
	s := open(t, f)
	_, before := add(t, s, 40)
	state, err := s.Snapshot(t.Context())
	require.NoError(t, err)
	require.Error(t, s.Call(t.Context(), arg(t, "die"), nil))
	s.Close()
	s, err = f.Open(t.Context(), &state, false, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	sum, after := add(t, s, 2)
	assert.Equal(t, int64(42), sum)
	assert.NotEqual(t, before, after)
}

func TestAnExceptionLeavesTheSessionAsItIs(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 1)
	s := open(t, f)
	add(t, s, 1)
	var remote *ipc.RemoteError
	require.ErrorAs(t, s.Call(t.Context(), arg(t, "raise"), nil), &remote)
	assert.Equal(t, "ValueError", remote.Class)
	sum, _ := add(t, s, 1)
	assert.Equal(t, int64(2), sum)
}

func TestTheErrorOfABadStateReachesTheFirstCall(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 1)
	bad, err := ipc.Encode("state", "no number")
	require.NoError(t, err)
	s, err := f.Open(t.Context(), &bad, false, nil)
	require.NoError(t, err) // restore accepts anything
	t.Cleanup(s.Close)
	var remote *ipc.RemoteError
	require.ErrorAs(t, s.Call(t.Context(), arg(t, 1), nil), &remote)
	assert.Equal(t, "TypeError", remote.Class)
}

func TestItemsEmitsAllValues(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "count", 1, 1)
	var got []any
	require.NoError(t, f.Items(t.Context(), arg(t, 100), &Operation{}, again(into(t, &got))))
	require.Len(t, got, 100)
	assert.Equal(t, int64(99), got[99])
	assert.True(t, f.Description().Many)

	got = nil
	var exit *worker.Exit
	require.ErrorAs(t, f.Items(t.Context(), arg(t, -5), &Operation{}, again(into(t, &got))), &exit)
	assert.Len(t, got, 5, "the values before the death are emitted")
}

func TestAFailedEmitEndsTheCallButNotTheWorker(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "count", 1, 1)
	full := errors.New("full")
	n := 0
	err := f.Items(t.Context(), arg(t, 1_000_000), &Operation{}, again(func(p ipc.Payload) error {
		p.Release()
		if n++; n == 3 {
			return full
		}
		return nil
	}))
	require.ErrorIs(t, err, full)
	assert.Equal(t, 3, n)
	var got []any
	require.NoError(t, f.Items(t.Context(), arg(t, 2), &Operation{}, again(into(t, &got))))
	assert.Len(t, got, 2)
	assert.Equal(t, 1, f.starts())
}
