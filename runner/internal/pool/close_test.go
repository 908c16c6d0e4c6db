package pool

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

func (f *fixture) draining(ctx context.Context) <-chan error {
	drained := make(chan error, 1)
	go func() { drained <- f.Drain(ctx) }()
	f.until(func(h Health) bool { return h.State == StateDraining })
	return drained
}

func notYet(t *testing.T, drained <-chan error) {
	t.Helper()
	select {
	case err := <-drained:
		t.Fatalf("drained: %v", err)
	default:
	}
}

func TestDrainWaitsForTheCallsUnderWayAndInTheQueue(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	gates := []string{newGate(t), newGate(t)}
	first := f.calling(map[string]any{"gate": gates[0], "value": 1})
	f.waitFor(Stats{Busy: 1})
	second := f.calling(map[string]any{"gate": gates[1], "value": 2})
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	drained := f.draining(context.Background())
	_, err := f.call(t.Context(), 3)
	require.ErrorIs(t, err, ErrDraining)
	_, err = f.Open(t.Context(), nil, false, nil)
	require.ErrorIs(t, err, ErrDraining)
	_, err = f.Warm(t.Context())
	require.ErrorIs(t, err, ErrDraining)
	require.ErrorIs(t, f.Reload(t.Context(), f.config.Worker, nil), ErrDraining)
	remove(t, gates[0])
	assert.Equal(t, answer{value: int64(1)}, <-first)
	f.waitFor(Stats{Busy: 1})
	notYet(t, drained)
	remove(t, gates[1])
	assert.Equal(t, answer{value: int64(2)}, <-second)
	require.NoError(t, <-drained)
	require.NoError(t, f.Drain(t.Context()), "it may be called again")
	assert.Equal(t, Stats{Idle: 1}, f.Stats(), "the worker stays")
}

func TestQueuedCallsAreServedAlthoughTheWorkerDiesDuringADrain(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	gate := newGate(t)
	first := f.calling(map[string]any{"gate": gate, "die": true})
	f.waitFor(Stats{Busy: 1})
	second := f.calling(2)
	f.waitFor(Stats{Busy: 1, Waiting: 1})
	drained := f.draining(context.Background())
	remove(t, gate)
	require.Error(t, (<-first).err)
	assert.Equal(t, answer{value: int64(2)}, <-second)
	require.NoError(t, <-drained)
}

func TestACallThatWasAssignedAheadMovesDuringADrain(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.quick()
	gate, log := newGate(t), t.TempDir()+"/log"
	first := f.calling(map[string]any{"gate": gate, "log": log, "value": 0, "die": true})
	f.begins(log)
	second := f.calling(2)
	f.loads(2)
	drained := f.draining(context.Background())
	remove(t, gate)
	require.Error(t, (<-first).err)
	assert.Equal(t, answer{value: int64(2)}, <-second)
	require.NoError(t, <-drained)
}

func TestDrainWaitsForSessions(t *testing.T) {
	t.Parallel()
	f := newPoolOf(t, "Sum", 1, 1)
	s := open(t, f)
	add(t, s, 40)
	drained := f.draining(context.Background())
	sum, _ := add(t, s, 2)
	assert.Equal(t, int64(42), sum)
	notYet(t, drained)
	s.Close()
	require.NoError(t, <-drained)
}

func TestDrainEndsWhenTheLastWaiterLeaves(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	put(t, f.held)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := f.call(ctx, 1)
		gone <- err
	}()
	f.waitFor(Stats{Starting: 1, Waiting: 1})
	drained := f.draining(context.Background())
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	require.NoError(t, <-drained)
}

func TestDrainReturnsWhenItsContextEndsOrThePoolCloses(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	under := f.calling(map[string]any{"gate": newGate(t)})
	f.waitFor(Stats{Busy: 1})
	cause := errors.New("no time")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	require.ErrorIs(t, f.Drain(ctx), cause)
	drained := f.draining(context.Background())
	ctx, stop := context.WithCancel(t.Context())
	stop()
	f.Close(ctx)
	require.ErrorIs(t, <-drained, ErrClosed)
	require.Error(t, (<-under).err)
	require.ErrorIs(t, f.Drain(t.Context()), ErrClosed)
}

// ignore returns an emit function that keeps nothing.
func ignore() func(ipc.Payload) error {
	return func(p ipc.Payload) error { p.Release(); return nil }
}

func TestAClosedPoolRefusesEveryKindOfCall(t *testing.T) {
	t.Parallel()
	f := newPool(t, 1, 1)
	f.Close(t.Context())
	_, err := f.call(t.Context(), 1)
	require.ErrorIs(t, err, ErrClosed)
	err = f.Items(t.Context(), ipc.Args{}, &Operation{}, ignore)
	require.ErrorIs(t, err, ErrClosed)
	_, err = f.Open(t.Context(), nil, false, nil)
	require.ErrorIs(t, err, ErrClosed)
}
