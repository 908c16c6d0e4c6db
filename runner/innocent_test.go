package runner_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// TestInnocentCallsSucceedAmongDeathsCancellationsAndReloads gives each kind of node calls of
// many callers, some of which end the interpreter or leave, while its workers are replaced.
func TestInnocentCallsSucceedAmongDeathsCancellationsAndReloads(t *testing.T) {
	for _, node := range poisonedNodes {
		t.Run(node.name, func(t *testing.T) {
			t.Parallel()
			lines := []string{"retry: {fixed: 1ms, max_attempts: 1}", "breaker: none", "workers: {max: 2, spare: 1}"}
			r := crashing(t, "testdata", "poison.py", node.nodeType, lines)
			var running sync.WaitGroup
			for caller := range 8 {
				running.Go(func() { mixedCalls(t, r, caller, node.result) })
			}
			running.Go(func() {
				for range 2 {
					assert.NoError(t, r.Reload(t.Context()))
				}
			})
			running.Wait()
		})
	}
}

// mixedCalls makes innocent calls, poisons, and calls whose caller leaves.
func mixedCalls(t *testing.T, r *runner.Runner, caller int, result func(int64) any) {
	for i := range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		n := int64(caller*100 + i)
		var input any = n
		leaves := false
		switch rand.IntN(10) { //nolint:gosec // a test
		case 0:
			input = "kills the interpreter"
		case 1, 2:
			leaves = true
			time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, cancel) //nolint:gosec // a test
		}
		got, err := r.Run(ctx, input)
		cancel()
		switch {
		case input != n:
			assert.Error(t, err)
		case err == nil:
			assert.Equal(t, result(n), got)
		default:
			assert.True(t, leaves, "caller %d, call %d: %v", caller, i, err)
		}
	}
}

// TestCallsEndWhenTheRunnerClosesAmongDeaths closes a runner in the middle of such calls.
func TestCallsEndWhenTheRunnerClosesAmongDeaths(t *testing.T) {
	for _, node := range poisonedNodes {
		t.Run(node.name, func(t *testing.T) {
			t.Parallel()
			r := crashing(t, "testdata", "poison.py", node.nodeType, []string{"retry: {fixed: 1ms, max_attempts: 1}", "breaker: none"})
			_, err := r.Run(t.Context(), 1)
			require.NoError(t, err)
			var callers sync.WaitGroup
			for caller := range 12 {
				callers.Go(func() {
					for i := range 20 {
						var input any = i
						if (caller+i)%9 == 0 {
							input = "kills the interpreter"
						}
						_, _ = r.Run(t.Context(), input)
					}
				})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			assert.NoError(t, r.Close(ctx))
			callers.Wait()
		})
	}
}
