package runner_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

func TestConfigureAfterNewChangesTheNodesOfAPipeline(t *testing.T) {
	calls := 0
	r := start(t, single("fail", "retry: none"), runner.WithNode("fail", func(context.Context, runner.Input) (any, error) {
		calls++
		return nil, errors.New("no such voice")
	}))
	require.NoError(t, r.Scheduler().Configure("fail", runner.NodePolicy{Breaker: &retry.BreakerConfig{Failures: 1}}))
	_, err := r.Run(t.Context(), nil)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.Equal(t, 1, calls)
	assert.True(t, r.Scheduler().Breaker("fail").IsOpen())
	assert.Equal(t, retry.Open, r.Health().Nodes[0].Breaker)
	_, err = r.Run(t.Context(), nil)
	require.ErrorIs(t, err, retry.ErrOpen)

	r.Scheduler().Breaker("fail").Reset()
	_, err = r.Run(t.Context(), nil)
	require.ErrorIs(t, err, runner.KindExecution)
	assert.Equal(t, 2, calls)
	assert.EqualValues(t, 3, r.Health().Nodes[0].Calls, "the counters continue")
}
