package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

const reportingCode = `
import asyncio
import contextvars
import os
import threading
import time

from gophersnake import node, progress


@node
def plain(x):
    progress("begins", 0)
    progress(f"plain {x}", 0.5)
    return x


@node
def yielding(x):
    for i in range(3):
        progress(f"yielding {i}", i / 2)
        yield i


@node
async def waiting(x):
    await asyncio.sleep(0)
    await asyncio.to_thread(progress, f"waiting {x}", 0.5)
    return x


@node
async def streaming(x):
    yield x
    progress(f"streaming {x}", 0.5)


@node(threads=4)
def threaded(x):
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(progress, f"threaded {x}", 0.5))
    thread.start()
    thread.join()
    return x


@node
def helped(x):
    thread = threading.Thread(target=progress, args=(f"helped {x}", 0.5))
    thread.start()
    thread.join()
    return x


@node(batch=8, max_wait_ms=60_000)
def together(inputs):
    progress(f"{len(inputs)} together", 0.5)
    return inputs


@node(stateful=True)
class Counting:
    def __init__(self):
        self.count = 0

    def process(self, x):
        self.count += 1
        progress(f"item {self.count}", 0.5)
        return x

    def finish(self):
        progress("finished", 1)


@node
class Model:
    def setup(self):
        progress("loading", 0.5)

    def process(self, x):
        progress(f"Model {x}", 0.5)
        return x


@node
def repeated(x):
    if not os.path.exists("died"):
        open("died", "w").close()
        progress("first attempt")
        os._exit(3)
    progress("second attempt")
    return x


@node
def flooding(x):
    end = time.monotonic() + x
    count = 0
    while time.monotonic() < end:
        count += 1
        progress(f"step {count}")
    return count


@node
def evil(x):
    progress("\x1b[2J" + "x" * 100_000, float("inf"))
    return x


@node(threads=2)
def gated(x):
    progress(f"gated {x}")
    while not os.path.exists("open"):
        time.sleep(0.001)
    return x
`

// reports keeps what a context reports.
type reports struct {
	mu  sync.Mutex
	all []runner.Progress
}

func (r *reports) note(p runner.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, p)
}

func (r *reports) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// last returns the last report, once the context is stopped.
func (r *reports) last() string {
	if len(r.all) == 0 {
		return ""
	}
	p := r.all[len(r.all)-1]
	if p.Fraction == nil {
		return p.Node + ": " + p.Message
	}
	return fmt.Sprintf("%s: %s %.0f%%", p.Node, p.Message, 100**p.Fraction)
}

// reporting starts a node of the code above, and returns its runner and its events.
func reporting(t *testing.T, nodeType string, lines ...string) (*runner.Runner, *recorder) {
	t.Helper()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(reportingCode), 0o600))
	events := &recorder{}
	r, err := loadIn(t, base, single(nodeType, append(lines, "breaker: none")...), runner.WithEvents(events.record))
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	return r, events
}

func TestAReportOfACallReachesItsCaller(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ node, lines, want string }{
		{"plain", "", "plain: plain 7 50%"},
		{"plain", "workers: {fork_server: true}", "plain: plain 7 50%"},
		{"yielding", "", "yielding: yielding 2 100%"},
		{"waiting", "", "waiting: waiting 7 50%"},
		{"streaming", "", "streaming: streaming 7 50%"},
		{"threaded", "", "threaded: threaded 7 50%"},
		{"helped", "", "helped: helped 7 50%"},
		{"Counting", "", "Counting: finished 100%"},
		{"Model", "", "Model: Model 7 50%"},
		{"repeated", "retry: {fixed: 1ms, max_attempts: 1}", "repeated: second attempt"},
	} {
		t.Run(strings.TrimSpace(c.node+" "+c.lines), func(t *testing.T) {
			t.Parallel()
			r, events := reporting(t, c.node, c.lines)
			before := len(of[runner.SetupProgress](events))
			var got reports
			ctx, stop := runner.WithProgress(t.Context(), got.note)
			_, err := r.Run(ctx, 7)
			require.NoError(t, err)
			stop()
			assert.Equal(t, c.want, got.last())
			assert.Len(t, of[runner.SetupProgress](events), before, "what is about a call is not about the node")

			_, err = r.Run(t.Context(), 8) // without a function, and for another caller
			require.NoError(t, err)
			assert.NotContains(t, got.last(), "8")
		})
	}
}

func TestAReportOfABatchReachesAllItsCallers(t *testing.T) {
	t.Parallel()
	r, _ := reporting(t, "together")
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			var got reports
			ctx, stop := runner.WithProgress(t.Context(), got.note)
			_, err := r.Run(ctx, i)
			assert.NoError(t, err)
			stop()
			assert.Equal(t, "together: 8 together 50%", got.last())
		})
	}
	callers.Wait()
}

func TestConcurrentCallsOfAWorkerReportToTheirOwnCallers(t *testing.T) {
	t.Parallel()
	r, _ := reporting(t, "gated")
	var got [2]reports
	var calls sync.WaitGroup
	for i := range got {
		calls.Go(func() {
			ctx, stop := runner.WithProgress(t.Context(), got[i].note)
			defer stop()
			_, err := r.Run(ctx, i)
			assert.NoError(t, err)
		})
	}
	for i := range got { // before the calls return
		testkit.Eventually(t, func() bool { return got[i].count() > 0 })
	}
	require.NoError(t, os.WriteFile(filepath.Join(r.Pipeline().Base, "open"), nil, 0o600))
	calls.Wait()
	assert.Equal(t, "gated: gated 0", got[0].last())
	assert.Equal(t, "gated: gated 1", got[1].last())
}

func TestAStreamReportsToItsContext(t *testing.T) {
	t.Parallel()
	r, _ := reporting(t, "Counting")
	var got reports
	ctx, stop := runner.WithProgress(t.Context(), got.note)
	s, err := r.Stream(ctx)
	require.NoError(t, err)
	for i := range 3 {
		require.NoError(t, s.Send(i))
		_, err := s.Recv()
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	stop()
	assert.Equal(t, "Counting: item 3 50%", got.last())
}

// A node may report in each step of a loop.
func TestAFloodOfReportsIsCoalesced(t *testing.T) {
	t.Parallel()
	r, _ := reporting(t, "flooding")
	var got reports
	ctx, stop := runner.WithProgress(t.Context(), got.note)
	sent, err := r.Run(ctx, 0.5)
	require.NoError(t, err)
	stop()
	assert.Equal(t, fmt.Sprintf("flooding: step %d", sent), got.last(), "the latest one counts")
	assert.Less(t, int64(len(got.all)), sent.(int64))
}

func TestWhatANodeReportsIsBounded(t *testing.T) {
	t.Parallel()
	r, _ := reporting(t, "evil")
	var got reports
	ctx, stop := runner.WithProgress(t.Context(), got.note)
	_, err := r.Run(ctx, 1)
	require.NoError(t, err)
	stop()
	require.Len(t, got.all, 1)
	assert.Less(t, len(got.all[0].Message), 8<<10)
	assert.Equal(t, 1.0, *got.all[0].Fraction)
	assertPrintable(t, runner.PrintableLine(got.all[0].Message))
}

func TestANodeInGoReportsToItsCaller(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), nil, 0o600))
	r, err := loadIn(t, base, "nodes:\n  - {id: here, node_type: go}\n", runner.WithNode("go", func(ctx context.Context, in runner.Input) (any, error) {
		runner.ReportProgress(ctx, runner.Progress{Message: "half", Fraction: new(0.5)})
		return in.Value, nil
	}))
	require.NoError(t, err)
	_, err = r.Run(t.Context(), 1)
	require.NoError(t, err, "nobody listens")
	var got reports
	ctx, stop := runner.WithProgress(t.Context(), got.note)
	_, err = r.Run(ctx, 1)
	require.NoError(t, err)
	stop()
	assert.Equal(t, "here: half 50%", got.last())
}
