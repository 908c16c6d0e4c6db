package worker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
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

// Besides polling, a small call is one system call to read and one to write.
func TestASmallCallTakesTwoSystemCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	w := start(t, testConfig(t, "echo"))
	output := filepath.Join(t.TempDir(), "calls")
	tracer := exec.Command(strace, "-o", output, "-p", strconv.Itoa(w.PID())) // the main thread
	require.NoError(t, tracer.Start())
	done := make(chan struct{})
	go func() { defer close(done); _ = tracer.Wait() }() // it ends by a signal
	isTraced := func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID()))
		return err == nil && !strings.Contains(string(status), "TracerPid:\t0\n")
	}
	for !isTraced() {
		select {
		case <-done:
			t.Skip("strace may not trace a worker here")
		case <-time.After(time.Millisecond):
		}
	}
	const calls = 200
	for range calls {
		_, err := call(t.Context(), w, 1)
		require.NoError(t, err)
	}
	require.NoError(t, tracer.Process.Signal(os.Interrupt))
	<-done
	text, err := os.ReadFile(output)
	require.NoError(t, err)
	counts := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		if name, _, found := strings.Cut(line, "("); found {
			counts[name]++
		}
	}
	others := 0
	for name, count := range counts {
		if name != "recvfrom" && name != "sendto" && name != "poll" {
			others += count
		}
	}
	const more = 20 // what is not for each call, and what strace interrupts
	assert.LessOrEqual(t, counts["recvfrom"], calls+more)
	assert.LessOrEqual(t, counts["sendto"], calls+more)
	assert.LessOrEqual(t, others, more, "%v", counts)
	assert.GreaterOrEqual(t, counts["sendto"], calls-1, "%v", counts)
}
