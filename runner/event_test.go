package runner

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func TestEventsDescribeThemselves(t *testing.T) {
	broken := errors.New("it broke")
	for want, event := range map[string]Event{
		`node "vad": worker 812 is ready after 152.35ms`:                                 WorkerStarted{Node: "vad", PID: 812, Took: 152_345_678},
		`node "vad": worker 812 died: it broke`:                                          WorkerDied{Node: "vad", PID: 812, Err: broken},
		`node "vad": attempt 2 failed, the next follows in 200ms: it broke`:              CallRetried{Node: "vad", Attempt: 2, Delay: 200 * time.Millisecond, Err: broken},
		`node "vad": the circuit breaker is open, it was closed`:                         BreakerChanged{Node: "vad", From: retry.Closed, To: retry.Open},
		`node "vad": loading the model`:                                                  SetupProgress{Node: "vad", Message: "loading the model"},
		`node "vad": loading the model (50%)`:                                            SetupProgress{Node: "vad", Message: "loading the model", Fraction: new(0.5)},
		`node "vad": spare worker 812 is ready after 1ms`:                                WorkerStarted{Node: "vad", PID: 812, Took: time.Millisecond, Spare: true},
		`node "vad": a worker could not be started: it broke`:                            WorkerStartFailed{Node: "vad", Err: broken},
		`node "vad": worker 812 retires: resident_soft is 812 MiB, the limit is 750 MiB`: WorkerRetired{Node: "vad", PID: 812, Limit: "resident_soft", Value: "812 MiB", Bound: "750 MiB"},
		`node "vad": spare worker 812 was promoted and now serves calls`:                 SparePromoted{Node: "vad", PID: 812},
		`node "vad": a call was refused: queue is 11, the limit is 10`:                   CallRefused{Node: "vad", Limit: "queue", Value: "11", Bound: "10"},
		`node "vad" is healthy, it was new`:                                              HealthChanged{Node: "vad", From: StateNew, To: StateHealthy},
		`node "vad" is unhealthy, it was healthy: 3 consecutive failures: it broke`:      HealthChanged{Node: "vad", From: StateHealthy, To: StateUnhealthy, Reason: "3 consecutive failures", Err: broken},
		`node "vad": reloaded, 1 new worker after 1ms`:                                   Reloaded{Node: "vad", Workers: 1, Took: time.Millisecond},
		`node "vad": reloaded, 2 new workers after 1ms`:                                  Reloaded{Node: "vad", Workers: 2, Took: time.Millisecond},
		`node "vad": started`:                                                            NodeStarted{Node: "vad"},
		`node "vad": finished after 42ns`:                                                NodeFinished{Node: "vad", Took: 42},
		`node "vad": failed after 1.23s: it broke`:                                       NodeFinished{Node: "vad", Took: 1_234_567_890, Err: broken},
	} {
		event.event()
		assert.Equal(t, want, event.String())
	}
}

func TestEachFunctionGetsTheEventsInTheirOrder(t *testing.T) {
	var seen []string
	note := func(name string) Option {
		return WithEvents(func(e Event) { seen = append(seen, fmt.Sprintf("%s: %T", name, e)) })
	}
	p, err := manifest.Parse("test.yaml", []byte("version: v1\nnodes: [{id: n, node_type: echo}]\n"), t.TempDir())
	require.NoError(t, err)
	echo := func(_ context.Context, in Input) (any, error) { return in.Value, nil }
	r, err := New(p, WithNode("echo", echo), note("first"), note("second"))
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close(context.Background())) }()
	_, err = r.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, []string{
		"first: runner.NodeStarted", "second: runner.NodeStarted", "first: runner.NodeFinished", "second: runner.NodeFinished",
	}, seen)
}
