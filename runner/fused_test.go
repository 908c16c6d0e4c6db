package runner_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// fusedNodes is the code of the nodes in these tests.
const fusedNodes = `
import gophersnake, logging, os, sys, time
from gophersnake import node

@node
def echo(x):
    return x

@node
def add(x, amount=1):
    return x + amount

@node
def fail(x):
    if x == "raise":
        raise ValueError("no good")
    if x == "permanent":
        raise gophersnake.Permanent("never")
    if x == "kill":
        os.kill(os.getpid(), 9)
    if x == "exit":
        sys.exit(3)
    if x == "_exit":
        os._exit(4)
    if x == "hang":
        time.sleep(600)
    if x == "memory":
        raise MemoryError
    if x == "object":
        return object()
    return x

@node(name="Flaky")
class Flaky:
    """Fails as often as the input says, in all of its workers together."""
    def __init__(self, file: str):
        self.file = file
    def process(self, x):
        with open(self.file, "a+") as file:
            file.seek(0)
            before = len(file.read())
            if before < x:
                file.write("x")
                raise ValueError(f"failure {before + 1}")
        return gophersnake.attempt()

@node
def where(x):
    logging.info("here")
    return [*x, gophersnake.node_id(), os.getpid()]

@node
def measure(x: str) -> int:
    return len(x)

@node
def half(x: int) -> float:
    return x / 2
`

// fusedChain returns a manifest with a chain of nodes a, b, c, … of the given types. Those after
// the first may have settings behind their type.
func fusedChain(nodes ...string) string {
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i, each := range nodes {
		kind, more, _ := strings.Cut(each, " ")
		if more != "" {
			more = ", " + more
		}
		fmt.Fprintf(&b, "  - {id: %c, node_type: %s%s}\n", 'a'+i, kind, more)
	}
	b.WriteString("connections:\n")
	for i := range nodes[1:] {
		fmt.Fprintf(&b, "  - {from: %c, to: %c, fuse: true}\n", 'a'+i, 'a'+i+1)
	}
	return b.String()
}

func startFused(t *testing.T, text string, opts ...runner.Option) *edited {
	t.Helper()
	return newEdited(t, text, map[string]string{"nodes.py": fusedNodes}, opts...)
}

func TestFusedNodesRunInOneWorker(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("where", "where", "where"))
	got, err := e.Run(t.Context(), []any{})
	require.NoError(t, err)
	pid := int64(e.Health().Nodes[0].Pool.Workers[0].PID)
	assert.Equal(t, []any{"a", pid, "b", pid, "c", pid}, got)
	h := e.Health()
	assert.Nil(t, h.Nodes[1].Pool)
	assert.Equal(t, "a", h.Nodes[2].FusedWith)
	for _, n := range h.Nodes {
		assert.Equal(t, runner.StateHealthy, n.State)
		assert.EqualValues(t, 1, n.Calls, n.Node)
	}
	assert.Contains(t, h.String(), "those of a")
	assert.Equal(t, 1, e.Capacity())
}

func TestOneFusedNodeIsCalledAlone(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("add", "add params: {amount: 10}", "where"))
	got, err := e.Node("b").Call(t.Context(), 1)
	require.NoError(t, err)
	assert.EqualValues(t, 11, got)
	got, err = e.Node("c").Call(t.Context(), []any{})
	require.NoError(t, err)
	assert.Equal(t, "c", got.([]any)[0])
	var calls []uint64
	for _, n := range e.Health().Nodes {
		calls = append(calls, n.Calls)
	}
	assert.Equal(t, []uint64{0, 1, 1}, calls)
}

// noRetry are the settings of a node without retries.
const noRetry = "retry: none"

func TestAnErrorNamesTheFusedNode(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("echo", "fail breaker: none, "+noRetry, "echo"))
	for input, want := range map[string]struct {
		kind runner.Kind
		text string
	}{
		"raise":     {runner.KindExecution, "no good"},
		"permanent": {runner.KindExecution, "never"},
		"kill":      {runner.KindPythonVM, "SIGKILL"},
		"exit":      {runner.KindPythonVM, "sys.exit(3)"},
		"_exit":     {runner.KindPythonVM, "os._exit(4)"},
		"memory":    {runner.KindPythonVM, "out of memory"},
	} {
		_, err := e.Run(t.Context(), input)
		failure := runner.AsError(err)
		require.NotNil(t, failure, input)
		assert.Equal(t, "b", failure.Node, input)
		assert.Equal(t, want.kind, failure.Kind, input)
		assert.ErrorContains(t, err, want.text, input)
		if want.kind == runner.KindExecution {
			require.NotEmpty(t, failure.Traceback, input)
			assert.Equal(t, "fail", failure.Traceback[len(failure.Traceback)-1].Function)
		}
	}
	_, err := e.Run(t.Context(), "object")
	failure := runner.AsError(err)
	assert.Equal(t, "c", failure.Node, "the last node's value is encoded")
	assert.Equal(t, runner.KindMarshaling, failure.Kind)
	h := e.Health()
	assert.EqualValues(t, 7, h.Nodes[0].Calls)
	assert.Empty(t, h.Nodes[0].Failed)
	assert.Equal(t, map[runner.Kind]uint64{runner.KindExecution: 2, runner.KindPythonVM: 4}, h.Nodes[1].Failed)
	assert.Equal(t, map[runner.Kind]uint64{runner.KindMarshaling: 1}, h.Nodes[2].Failed)
	awaitDeaths(t, e.events, 4)
	for _, d := range of[runner.WorkerDied](e.events) {
		assert.Equal(t, "b", d.Node)
		assert.Equal(t, "b", runner.AsError(d.Err).Node)
	}
}

func TestAHangNamesTheFusedNode(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("echo timeout: 1m", "fail timeout: 0.2, "+noRetry, "echo timeout: none"))
	_, err := e.Run(t.Context(), "hang")
	failure := runner.AsError(err)
	require.NotNil(t, failure)
	assert.Equal(t, "b", failure.Node)
	assert.Equal(t, "timeout", failure.Limit)
	assert.ErrorContains(t, err, "no answer within 200ms")
	got, err := e.Run(t.Context(), "well")
	require.NoError(t, err)
	assert.Equal(t, "well", got)
}

func TestTheTimeoutOfEachFusedNodeIsItsOwn(t *testing.T) {
	t.Parallel()
	code := strings.Replace(fusedNodes, "@node\ndef echo", "@node\ndef slow(x):\n    time.sleep(0.3)\n    return x\n\n@node\ndef echo", 1)
	nodes := make([]string, 6)
	for i := range nodes {
		nodes[i] = "slow timeout: 1"
	}
	e := newEdited(t, fusedChain(nodes...), map[string]string{"nodes.py": code})
	_, err := e.Run(t.Context(), 1)
	require.NoError(t, err, "no node takes a second, and all of them take longer")
}

func TestTheFusedNodeThatFailsDecidesOnRetries(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/failures"
	flaky := fmt.Sprintf("Flaky params: {file: %q}, retry: {fixed: 0, max_attempts: 2}", file)
	e := startFused(t, fusedChain("echo "+noRetry, flaky, "echo "+noRetry))
	got, err := e.Run(t.Context(), 2)
	require.NoError(t, err)
	assert.EqualValues(t, 3, got, "the number of the attempt")
	retried := of[runner.CallRetried](e.events)
	require.Len(t, retried, 2)
	assert.Equal(t, "b", retried[1].Node)
	_, err = e.Run(t.Context(), 9)
	failure := runner.AsError(err)
	require.NotNil(t, failure)
	assert.Equal(t, [2]int{3, 3}, [2]int{failure.Attempt, failure.Attempts})
	h := e.Health()
	assert.EqualValues(t, 4, h.Nodes[1].Retries)
	assert.Zero(t, h.Nodes[0].Retries)
	assert.EqualValues(t, 2, h.Nodes[0].Calls)
}

func TestAFusedNodeThatRunsOnceIsNotRepeatedForAnother(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/failures"
	flaky := fmt.Sprintf("Flaky params: {file: %q}, retry: {fixed: 0}", file)
	e := startFused(t, fusedChain("echo idempotent: false", flaky, "echo"))
	_, err := e.Run(t.Context(), 1)
	require.ErrorContains(t, err, "failure 1")
	assert.Empty(t, of[runner.CallRetried](e.events))

	e = startFused(t, fusedChain("echo", strings.Replace(flaky, "failures", "others", 1), "echo idempotent: false"))
	got, err := e.Run(t.Context(), 1)
	require.NoError(t, err, "the last node has not run")
	assert.EqualValues(t, 2, got)
}

func TestTheBreakerOfAFusedNodeRefusesTheChain(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("echo", "fail "+noRetry+", breaker: {failures: 2, cool_down: 1h}", "echo"))
	for range 2 {
		_, err := e.Run(t.Context(), "raise")
		require.ErrorContains(t, err, "no good")
	}
	_, err := e.Run(t.Context(), "well")
	require.ErrorIs(t, err, retry.ErrOpen)
	assert.Equal(t, "b", runner.AsError(err).Node)
	h := e.Health()
	assert.EqualValues(t, 2, h.Nodes[0].Calls, "no node runs")
	assert.EqualValues(t, 3, h.Nodes[1].Calls)
	assert.Equal(t, retry.Closed, h.Nodes[0].Breaker)
	got, err := e.Node("a").Call(t.Context(), "well")
	require.NoError(t, err)
	assert.Equal(t, "well", got)
	e.Scheduler().Breaker("b").Reset()
	_, err = e.Run(t.Context(), "well")
	require.NoError(t, err)
}

func TestAnnotationsHoldBetweenFusedNodes(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("echo", "measure", "half"))
	got, err := e.Run(t.Context(), "four")
	require.NoError(t, err)
	assert.InDelta(t, 2.0, got, 0)
	_, err = e.Run(t.Context(), 4)
	failure := runner.AsError(err)
	require.NotNil(t, failure)
	assert.Equal(t, []any{"b", runner.KindMarshaling, "decode", "input"}, []any{failure.Node, failure.Kind, failure.Operation, failure.Path})
	handle, err := runner.BindNode[int, float64](t.Context(), e.Runner, "c")
	require.NoError(t, err)
	out, err := handle.Call(t.Context(), 5)
	require.NoError(t, err)
	assert.InDelta(t, 2.5, out, 0)
}

func TestResultsOfFusedNodesAreThoseOfPlainOnes(t *testing.T) {
	t.Parallel()
	fused := startFused(t, fusedChain("echo", "echo", "echo"))
	plain := startFused(t, strings.ReplaceAll(fusedChain("echo", "echo", "echo"), ", fuse: true", ""))
	for _, v := range []any{
		nil, true, int64(-5), uint64(1) << 63, 0.5, "höhe", []byte{0, 255}, []any{int64(1), []any{}}, map[string]any{"a": map[string]any{"b": nil}},
		time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), ipc.JSON(`{"a": 1}`), make([]byte, 1<<20), strings.Repeat("x", 1<<20),
		&ipc.Tensor{DType: ipc.Uint8, Shape: []int{2, 2}, Data: []byte{1, 2, 3, 4}},
		&ipc.Tensor{DType: ipc.Float32, Shape: []int{1 << 18}, Data: make([]byte, 1<<20)},
		&ipc.Audio{Samples: make([]float32, 480), Rate: 48000, Channels: 2},
		&ipc.Image{Pixels: make([]byte, 12), Format: "rgb8", Width: 2, Height: 2},
	} {
		want, err := plain.Run(t.Context(), v)
		require.NoError(t, err)
		got, err := fused.Run(t.Context(), v)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

func TestAStreamPassesThroughFusedNodes(t *testing.T) {
	t.Parallel()
	text := fusedChain("add", "add", "fail "+noRetry+", workers: 1", "add") + "  - {from: d, to: e.left}\n  - {from: d, to: e.right}\n"
	text = strings.Replace(text, "connections:", "  - {id: e, node_type: Sum}\nconnections:", 1)
	sum := func(_ context.Context, in runner.Input) (any, error) {
		return in.Ports["left"].(int64) + in.Ports["right"].(int64), nil
	}
	e := startFused(t, text, runner.WithNode("Sum", sum))
	var got []any
	for item, err := range e.Through(t.Context(), func(yield func(any, error) bool) {
		for i := range 50 {
			if !yield(i, nil) {
				return
			}
		}
	}) {
		require.NoError(t, err)
		got = append(got, item.Value)
	}
	require.Len(t, got, 50)
	for i, v := range got {
		assert.EqualValues(t, 2*(i+3), v)
	}
	assert.EqualValues(t, 50, e.Health().Nodes[3].Calls)
}

func TestADeathInAStreamNamesTheFusedNode(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("echo", "fail "+noRetry, "echo"))
	s, err := e.Stream(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, s.Send("well"))
	item, err := s.Recv()
	require.NoError(t, err)
	assert.Equal(t, runner.Item{Node: "c", Value: "well"}, item)
	require.NoError(t, s.Send("kill"))
	_, err = s.Recv()
	require.ErrorContains(t, err, "SIGKILL")
	assert.Equal(t, "b", runner.AsError(err).Node)
}

func TestFusedNodesAreReloadedTogether(t *testing.T) {
	t.Parallel()
	e := newEdited(t, fusedChain("a", "b", "c"),
		map[string]string{"nodes.py": says("a", "old") + "@node\ndef b(x):\n    return x + ' b'\n" + "@node\ndef c(x):\n    return x + ' c'\n"})
	e.gives("old b c")
	e.edit("nodes.py", says("a", "new")+"@node\ndef b(x):\n    return x + ' B'\n"+"@node\ndef c(x):\n    return x + ' c'\n")
	require.NoError(t, e.Reload(t.Context(), "c", "b"))
	e.gives("new B c")
	require.Len(t, of[runner.Reloaded](e.events), 1)
	e.edit("nodes.py", says("a", "new")+"@node\ndef b(x):\n    yield x\n"+"@node\ndef c(x):\n    return x\n")
	err := e.Reload(t.Context())
	require.ErrorContains(t, err, "such a node cannot be fused")
	assert.Equal(t, "b", runner.AsError(err).Node)
	e.gives("new B c")
}

func TestAStartThatFailsNamesTheFusedNode(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"missing":                  "missing",
		"add params: {unknown: 1}": "no parameter",
		"later":                    "is async",
		"many":                     "may yield any number of values",
		"Broken":                   "no model",
		"dies":                     "SIGKILL",
		"nothing":                  "takes no input",
	} {
		code := fusedNodes + `
@node
async def later(x):
    return x

@node
def many(x):
    yield x

@node(name="Broken")
class Broken:
    def setup(self):
        raise ValueError("no model")
    def process(self, x):
        return x

@node(name="dies")
class Dies:
    def setup(self):
        os.kill(os.getpid(), 9)
    def process(self, x):
        return x

@node
def nothing():
    return 1
`
		folder := t.TempDir()
		e := &edited{t: t, folder: folder, events: &recorder{}}
		e.edit("nodes.py", code)
		r, err := loadIn(t, folder, fusedChain("echo", kind, "echo"), runner.WithPolicy(retry.None()))
		require.NoError(t, err)
		err = r.Start(t.Context())
		require.ErrorContains(t, err, want, kind)
		assert.Equal(t, "b", runner.AsError(err).Node, kind)
		if kind == "later" || kind == "many" {
			_, err = r.Describe(t.Context())
			require.ErrorContains(t, err, want, kind)
			assert.ErrorContains(t, err, "test.yaml:8:5: connections[0].fuse: ", kind)
			assert.Equal(t, "b", runner.AsError(err).Node, kind)
		}
	}
}

func TestAForkServerAndIsolationRunFusedNodes(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"workers: {fork_server: true}", "isolation: strict"} {
		text := fusedChain("where "+how, "where "+how, "where "+how)
		e := newEdited(t, text, map[string]string{"nodes.py": fusedNodes})
		got, err := e.Run(t.Context(), []any{})
		require.NoError(t, err, how)
		assert.Equal(t, "c", got.([]any)[4])
		assert.Empty(t, e.Health().Nodes[0].Pool.ForkNote, how)
	}
}

func TestInterceptorsSurroundEachFusedNode(t *testing.T) {
	t.Parallel()
	var seen []string
	e := startFused(t, fusedChain("add", "add", "add"), runner.WithCallInterceptor(
		func(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
			v, err := call.Input()
			if err != nil {
				return runner.Outcome{}, err
			}
			seen = append(seen, fmt.Sprint(call.Node, v))
			return next(ctx, call)
		}))
	got, err := e.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.EqualValues(t, 4, got)
	assert.Equal(t, []string{"a1", "b2", "c3"}, seen)
	h := e.Health()
	assert.Len(t, h.Nodes[0].Pool.Workers, 1)
	assert.Nil(t, h.Nodes[1].Pool)
}

func TestAGoFunctionDividesAChain(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("where", "where", "Go", "where", "where"), runner.WithNode("Go",
		func(_ context.Context, in runner.Input) (any, error) {
			return append(in.Value.([]any), "Go", int64(0)), nil
		}))
	got, err := e.Run(t.Context(), []any{})
	require.NoError(t, err)
	v := got.([]any)
	assert.Equal(t, []any{"a", "b", "Go", "d", "e"}, []any{v[0], v[2], v[4], v[6], v[8]})
	assert.Equal(t, v[1], v[3])
	assert.Equal(t, v[7], v[9])
	assert.NotEqual(t, v[1], v[7])

	_, err = load(t, fusedChain("echo", "AudioLevelNode python: gophersnake.builtin"))
	require.ErrorContains(t, err, "is written in Go")
}

func TestEventsOfFusedNodes(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("echo", "fail "+noRetry, "echo"))
	_, err := e.Run(t.Context(), "well")
	require.NoError(t, err)
	_, err = e.Run(t.Context(), "raise")
	require.Error(t, err)
	var got []string
	for _, f := range of[runner.NodeFinished](e.events) {
		got = append(got, fmt.Sprint(f.Node, f.Err == nil))
	}
	assert.Equal(t, []string{"atrue", "btrue", "ctrue", "atrue", "bfalse"}, got)
	assert.Len(t, of[runner.NodeStarted](e.events), 5)
}

// What a worker writes about its running member is not believed beyond the members that there are.
func TestAForgedMemberDelaysAndBreaksNothing(t *testing.T) {
	t.Parallel()
	code := fusedNodes + `
import struct

@node
def forge(x):
    os.pwrite(4, struct.pack("<Qd", x["member"], float(x["since"])), 16)
    if x["end"] == "kill":
        os.kill(os.getpid(), 9)
    time.sleep(600)
`
	e := newEdited(t, fusedChain("echo timeout: 0.3, breaker: none, "+noRetry, "forge timeout: 0.3, breaker: none, "+noRetry, "echo timeout: 0.3"),
		map[string]string{"nodes.py": code})
	for _, input := range []map[string]any{
		{"member": uint64(1) << 63, "since": "nan", "end": "kill"},
		{"member": 4, "since": "1e300", "end": "kill"},
		{"member": 0, "since": "-1", "end": "kill"},
		{"member": 77, "since": "nan", "end": "hang"},
		{"member": 2, "since": "1e300", "end": "hang"},
		{"member": 3, "since": "inf", "end": "hang"},
	} {
		_, err := e.Run(t.Context(), input)
		failure := runner.AsError(err)
		require.NotNil(t, failure, input)
		assert.Equal(t, runner.KindPythonVM, failure.Kind, input)
		assert.Contains(t, []string{"a", "b", "c"}, failure.Node, input)
		if input["end"] == "hang" {
			assert.Equal(t, "timeout", failure.Limit, input)
		}
	}
}

func TestFusedNodesHaveOneSpan(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	e := startFused(t, fusedChain("echo", "fail "+noRetry, "echo"), runner.WithTracerProvider(provider))
	_, err := e.Run(t.Context(), "well")
	require.NoError(t, err)
	call := spanOf(t, spans.GetSpans(), "call a")
	assert.Equal(t, []string{"a", "b", "c"}, attributesOf(call.Attributes)["gophersnake.node.fused"])
	attempt := attributesOf(spanOf(t, spans.GetSpans(), "attempt a").Attributes)
	assert.Positive(t, attempt["gophersnake.python.time"])
	spans.Reset()
	_, err = e.Run(t.Context(), "raise")
	require.Error(t, err)
	failed := spanOf(t, spans.GetSpans(), "call a")
	assert.Contains(t, failed.Status.Description, `node "b"`)
}

// Calls at once share what an operation uses again, and each gets its own outcome.
func TestCallsOfAChainAtOnceDoNotMix(t *testing.T) {
	t.Parallel()
	e := startFused(t, fusedChain("echo", "fail breaker: none, "+noRetry, "echo"))
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for range 20 {
				input := fmt.Sprint("input ", i)
				if i%4 == 0 {
					input = "raise"
				}
				got, err := e.Run(t.Context(), input)
				if i%4 == 0 {
					assert.Equal(t, "b", runner.AsError(err).Node)
					continue
				}
				assert.NoError(t, err)
				assert.Equal(t, input, got)
			}
		})
	}
	callers.Wait()
	h := e.Health()
	assert.EqualValues(t, 320, h.Nodes[0].Calls)
	assert.EqualValues(t, 320, h.Nodes[1].Calls)
	assert.EqualValues(t, 240, h.Nodes[2].Calls)
}
