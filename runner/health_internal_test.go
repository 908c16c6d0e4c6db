package runner

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
)

func TestHealthString(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 30, 15, 0, time.UTC)
	broken := NewError(KindPythonVM, "it broke").WithNode("vad")
	h := Health{State: StateDegraded, Reason: `node "vad": spare workers die`, Err: broken, Nodes: []NodeHealth{
		{Node: "vad", State: StateDegraded, Reason: "spare workers die", Err: broken, Breaker: retry.HalfOpen, Failures: 5,
			LastError: NewError(KindExecution, "the last one"),
			Pool: &PoolHealth{
				Min: 1, Max: 4, Busy: 1, Idle: 1, Starting: 1, Waiting: 3, ConsecutiveFailures: 2, NextStart: at,
				SpareNote: "no spare: too little memory", ForkNote: "importing it started 2 threads",
				LastDeath: &WorkerDeath{Time: at, Err: broken},
				Workers: []WorkerHealth{
					{PID: 812, Role: "serving", Load: 1, Sessions: 2, Calls: 30, Age: Seconds(90 * time.Second), Resident: 45 << 20, CPU: Seconds(1500 * time.Millisecond), OpenFiles: 12},
					{PID: 813, Role: "serving"},
				},
			}},
		{Node: "go", State: StateHealthy},
	}}
	assert.Equal(t, `degraded: node "vad": spare workers die: python_vm error in node "vad": it broke

NODE  STATE     WORKERS                               SPARES  WAITING  CALLS  FAILED  BREAKER
vad   degraded  1 busy, 1 idle of 1 to 4, 1 starting  0       3        0      0       half-open
go    healthy   -                                     -       -        0      0       closed

vad:
  degraded: spare workers die: python_vm error in node "vad": it broke
  circuit breaker half-open, 5 failed in a row
  2 worker failures in a row, the next start without a call is at 12:30:15
  no spare: too little memory
  fork server: importing it started 2 threads
  last death at 12:30:15: python_vm error in node "vad": it broke
  last error: execution error: the last one

WORKER  NODE  ROLE     LOAD  STREAMS  CALLS  AGE    IDLE  MEMORY  CPU   FILES
812     vad   serving  1     2        30     1m30s  -     45 MiB  1.5s  12
813     vad   serving  0     0        0      -      -     -       -     -
`, h.String())
	assert.Equal(t, "1.5s", Seconds(1500*time.Millisecond).String())
	text, err := json.Marshal(Seconds(1500 * time.Millisecond))
	require.NoError(t, err)
	assert.Equal(t, "1.5", string(text))
}

func TestEveryStateHasItsRank(t *testing.T) {
	assert.Equal(t, []HealthState{
		StateHealthy, StateDegraded, StateNew, StateStarting, StateDraining, StateUnhealthy, StateClosed,
	}, healthStates)
	for _, s := range []pool.State{
		pool.StateHealthy, pool.StateDegraded, pool.StateNew, pool.StateStarting, pool.StateDraining, pool.StateUnhealthy, pool.StateClosed,
	} {
		assert.Contains(t, healthStates, HealthState(s))
	}
}

func TestADrainingPoolDoesNotCountAgainstTheNode(t *testing.T) {
	e := classify(pool.ErrDraining)
	assert.Equal(t, KindOther, e.Kind)
	assert.True(t, e.BreakerExempt)
	assert.Equal(t, "the runner drains and takes nothing more", e.Message)
}

func TestTheLocationFollowsTheTextOfACause(t *testing.T) {
	e := Wrap(context.Canceled, KindOther, "").WithOperation("call")
	e.Traceback = []ipc.TracebackFrame{{File: "nodes.py", Line: 54, Function: "f"}}
	assert.Equal(t, "error during call: context canceled (nodes.py:54 in f)", e.Error())
	assert.Equal(t, "error during call: context canceled (nodes.py:54 in f)", Wrap(e, KindOther, "").Error())
}
