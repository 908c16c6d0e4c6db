package runner_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestDrainWaitsForTheCallsInProgress(t *testing.T) {
	t.Parallel()
	r := start(t, supervised("gated"))
	gate, begun := touch(t, "gate"), filepath.Join(t.TempDir(), "begun")
	first := called(t, r, map[string]any{"gate": gate, "begun": begun})
	testkit.Eventually(t, testkit.Exists(begun))
	queued := called(t, r, map[string]any{})
	awaitHealth(t, r, func(h runner.Health) bool { return h.Nodes[0].Pool.Waiting == 1 })

	drained := make(chan error, 1)
	go func() { drained <- r.Drain(t.Context()) }()
	h := awaitHealth(t, r, inState(runner.StateDraining))
	assert.False(t, h.OK())
	_, err := r.Run(t.Context(), map[string]any{})
	require.ErrorIs(t, err, runner.KindOther)
	assert.ErrorContains(t, err, "the runner drains and takes nothing more")
	assert.ErrorIs(t, err, runner.ErrDraining)
	_, err = r.Stream(t.Context())
	assert.ErrorContains(t, err, "the runner drains")
	assert.ErrorContains(t, r.Reload(t.Context()), "the runner drains")
	assert.Empty(t, drained)

	require.NoError(t, os.Remove(gate))
	require.NoError(t, <-first)
	require.NoError(t, <-queued, "the queued call has been served")
	require.NoError(t, <-drained)
	assert.Len(t, r.Health().Nodes[0].Pool.Workers, 1, "the workers stay")
	require.NoError(t, r.Drain(t.Context()), "a second call has nothing to do")
	require.NoError(t, r.Close(t.Context()))
	assert.ErrorContains(t, r.Drain(t.Context()), "the runner is closed")
}

func TestDrainEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	s := open(t, r)
	require.NoError(t, s.Send(1))
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("it takes too long")
	cancel(late)
	require.ErrorIs(t, r.Drain(ctx), late, "the stream is still open")
	item, err := s.Recv()
	require.NoError(t, err, "the stream continues")
	assert.Equal(t, int64(1), item.Value)
	require.NoError(t, s.Send(2))
	s.CloseSend()
	item, err = s.Recv()
	require.NoError(t, err)
	assert.Equal(t, int64(2), item.Value)
	require.NoError(t, s.Close())
	require.NoError(t, r.Drain(t.Context()))
}

func TestARunnerThatWasNotStartedDrainsAtOnce(t *testing.T) {
	t.Parallel()
	r, err := load(t, single("echo"))
	require.NoError(t, err)
	require.NoError(t, r.Drain(t.Context()))
	_, err = r.Run(t.Context(), 1)
	assert.ErrorContains(t, err, "the runner drains", "a run does not start it either")
}

// The race detector checks that the two share nothing without a lock.
func TestCloseWhileTheRunnerStarts(t *testing.T) {
	r, err := load(t, single("echo"))
	require.NoError(t, err)
	started := make(chan error, 1)
	go func() { started <- r.Start(t.Context()) }()
	awaitHealth(t, r, inState(runner.StateStarting))
	require.NoError(t, r.Close(t.Context()))
	assert.ErrorContains(t, <-started, "the runner is closed")
	assert.Equal(t, runner.StateClosed, r.Health().State)
}
