package worker

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// A worker does not poll while the node has threads, so it must not take its own for those.
func TestAWorkerKnowsItsOwnThreads(t *testing.T) {
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("no worker polls on one processor")
	}
	c := testConfig(t, "threads")
	c.Setup.Python = "polling.py"
	w := start(t, c)
	isOwn := func() bool {
		found, err := call(t.Context(), w, false)
		require.NoError(t, err)
		counts := found.([]any)
		require.Len(t, counts, 2, "it does not poll")
		return counts[0] == counts[1] // Python counts a thread when it runs
	}
	testkit.Eventually(t, isOwn)
	var callers sync.WaitGroup
	for range 64 { // the worker may start a thread that sends their answers
		callers.Go(func() {
			_, err := call(t.Context(), w, false)
			assert.NoError(t, err)
		})
	}
	callers.Wait()
	testkit.Eventually(t, isOwn)
}

// An idle worker costs no processor time: it polls only right after a call.
func TestAnIdleWorkerSleeps(t *testing.T) {
	w := start(t, testConfig(t, "echo"))
	for range 500 {
		_, err := call(t.Context(), w, 1)
		require.NoError(t, err)
	}
	used := func() (nanoseconds uint64) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", w.PID(), w.PID()))
		if err != nil {
			t.Skip("this kernel does not say how long a thread ran")
		}
		_, err = fmt.Sscan(string(text), &nanoseconds)
		require.NoError(t, err)
		return nanoseconds
	}
	testkit.Eventually(t, func() bool {
		before := used()
		time.Sleep(20 * time.Millisecond) // the time that is measured
		return used() == before
	})
}
