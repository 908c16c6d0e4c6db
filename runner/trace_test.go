package runner_test

import (
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/gophersnake/gophersnake/runner"
)

const tracedNodes = `
import logging, os, gophersnake
from gophersnake import node, Permanent
log = logging.getLogger("mine")

@node
def context(x):
    log.info("traced", extra={"word": x, "trace_id": "forged", "run": "forged"})
    return gophersnake.trace_context()

@node
def crash(x):
    if not os.path.exists("died"):
        open("died", "w").close()
        os._exit(3)
    return x

@node
def fail(x):
    raise ValueError("no")

@node
def count(n):
    for i in range(n):
        yield i

@node
def odd(i):
    if i == 200:
        raise Permanent("item 200")
    return i

@node(stateful=True)
class Contexts:
    def process(self, x): return gophersnake.trace_context()
    def finish(self): return gophersnake.trace_context()

@node(stateful=True)
class Sum:
    def begin(self):
        if os.path.exists("refuse"): raise Permanent("no session")
        self.total = 0
    def process(self, x):
        if x == 19 and not os.path.exists("died"):
            open("died", "w").close()
            os._exit(3)
        self.total += x
        return self.total
    def snapshot(self): return self.total
    def restore(self, total): self.total = total
`

// traced starts a pipeline of tracedNodes. The function returns the spans that have ended.
func traced(t *testing.T, text string, opts ...runner.Option) (*runner.Runner, func() tracetest.SpanStubs) {
	t.Helper()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(tracedNodes), 0o600))
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	r, err := loadIn(t, base, text, append(opts, runner.WithTracerProvider(provider))...)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	return r, spans.GetSpans
}

// spanOf returns the only span of a name.
func spanOf(t *testing.T, spans tracetest.SpanStubs, name string) tracetest.SpanStub {
	t.Helper()
	var found []tracetest.SpanStub
	for _, s := range spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	require.Len(t, found, 1, name)
	return found[0]
}

// attributesOf returns the attributes of a span or an event.
func attributesOf(all []attribute.KeyValue) map[string]any {
	found := make(map[string]any, len(all))
	for _, each := range all {
		found[string(each.Key)] = each.Value.AsInterface()
	}
	return found
}

func eventsOf(s tracetest.SpanStub) []string {
	var names []string
	for _, e := range s.Events {
		names = append(names, e.Name)
	}
	return names
}

// remote returns a context with the span of a caller.
func remote(ctx context.Context) (context.Context, trace.SpanContext) {
	state, _ := trace.ParseTraceState("vendor=1")
	sc := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true,
	})
	return trace.ContextWithRemoteSpanContext(ctx, sc), sc
}

func traceparent(sc trace.SpanContext) string {
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}

func TestARunIsATraceFromTheCallerToTheNode(t *testing.T) {
	t.Parallel()
	out := &logBuffer{}
	logger := hclog.New(&hclog.LoggerOptions{Output: out, Level: hclog.Info, JSONFormat: true})
	r, spans := traced(t, "metadata: {name: shop}\nnodes: [{id: ask, node_type: context}]\n", runner.WithLogger(logger))
	ctx, caller := remote(t.Context())
	v, err := r.Run(ctx, "word")
	require.NoError(t, err)

	all := spans()
	run, call, attempt := spanOf(t, all, "run shop"), spanOf(t, all, "call ask"), spanOf(t, all, "attempt ask")
	assert.Equal(t, caller.SpanID(), run.Parent.SpanID())
	assert.Equal(t, run.SpanContext.SpanID(), call.Parent.SpanID())
	assert.Equal(t, call.SpanContext.SpanID(), attempt.Parent.SpanID())
	assert.Equal(t, map[string]any{"traceparent": traceparent(attempt.SpanContext), "tracestate": "vendor=1"}, v)
	for _, s := range all {
		assert.Equal(t, caller.TraceID(), s.SpanContext.TraceID(), s.Name)
		assert.Equal(t, codes.Unset, s.Status.Code, s.Name)
		assert.Equal(t, "shop", attributesOf(s.Attributes)["gophersnake.pipeline"], s.Name)
	}
	got := attributesOf(call.Attributes)
	assert.Equal(t, "ask", got["gophersnake.node.id"])
	assert.Equal(t, "context", got["gophersnake.node.type"])
	assert.EqualValues(t, 5, got["gophersnake.input.size"])
	assert.Positive(t, got["gophersnake.result.size"])
	got = attributesOf(attempt.Attributes)
	pid := r.Health().Nodes[0].Pool.Workers[0].PID
	assert.EqualValues(t, pid, got["gophersnake.worker.pid"])
	assert.EqualValues(t, 1, got["gophersnake.attempt"])
	for _, key := range []string{"gophersnake.queue.time", "gophersnake.python.time", "gophersnake.transfer.time"} {
		require.Contains(t, got, key)
		assert.GreaterOrEqual(t, got[key], 0.0, key)
		assert.Less(t, got[key], attempt.EndTime.Sub(attempt.StartTime).Seconds(), key)
	}
	assert.Positive(t, got["gophersnake.python.time"])

	require.NoError(t, r.Close(t.Context()))
	record := out.records(t)["traced"]
	assert.Equal(t, caller.TraceID().String(), record["trace_id"])
	assert.Equal(t, attempt.SpanContext.SpanID().String(), record["span_id"])
	assert.Equal(t, attributesOf(run.Attributes)["gophersnake.run.id"], record["run"])
	assert.Equal(t, "ask", record["node"])
	assert.EqualValues(t, pid, record["worker"])
	assert.EqualValues(t, 1, record["call"])
	assert.Equal(t, "forged", record["extra.trace_id"])
	assert.Equal(t, "forged", record["extra.run"])
}

func TestACrashAndItsRetryAreInTheTrace(t *testing.T) {
	t.Parallel()
	r, spans := traced(t, "nodes: [{id: crash, node_type: crash, retry: {max_attempts: 1, base: 1ms}}]\n")
	pid := r.Health().Nodes[0].Pool.Workers[0].PID
	_, err := r.Node("crash").Call(t.Context(), 1)
	require.NoError(t, err)
	all := spans()
	call := spanOf(t, all, "call crash")
	assert.False(t, call.Parent.IsValid(), "a node that is called alone begins a trace")
	assert.Equal(t, codes.Unset, call.Status.Code)
	require.Equal(t, []string{"gophersnake.retry"}, eventsOf(call))
	assert.Equal(t, map[string]any{"gophersnake.attempt": int64(1), "gophersnake.retry.delay": 0.001}, attributesOf(call.Events[0].Attributes))

	attempts := slices.DeleteFunc(all, func(s tracetest.SpanStub) bool { return s.Name != "attempt crash" })
	require.Len(t, attempts, 2)
	first, second := attributesOf(attempts[0].Attributes), attributesOf(attempts[1].Attributes)
	assert.EqualValues(t, pid, first["gophersnake.worker.pid"])
	assert.Equal(t, "python_vm", first["error.type"])
	assert.Equal(t, codes.Error, attempts[0].Status.Code)
	require.Equal(t, []string{"gophersnake.worker.died"}, eventsOf(attempts[0]))
	assert.Contains(t, attributesOf(attempts[0].Events[0].Attributes)["gophersnake.worker.end"], "os._exit(3)")
	assert.NotContains(t, first, "gophersnake.python.time", "it has not answered")
	assert.EqualValues(t, 2, second["gophersnake.attempt"])
	assert.NotEqual(t, first["gophersnake.worker.pid"], second["gophersnake.worker.pid"])
	assert.Contains(t, second, "gophersnake.python.time")
}

func TestAFailureThatOpensTheBreakerIsInTheTrace(t *testing.T) {
	t.Parallel()
	r, spans := traced(t, "nodes: [{id: n, node_type: fail, breaker: {failures: 1}, retry: {max_attempts: 0}}]\n")
	_, err := r.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindExecution)
	call := spanOf(t, spans(), "call n")
	assert.Equal(t, codes.Error, call.Status.Code)
	assert.Equal(t, "execution", attributesOf(call.Attributes)["error.type"])
	require.Equal(t, []string{"gophersnake.breaker.changed"}, eventsOf(call))
	assert.Equal(t, map[string]any{"gophersnake.breaker.from": "closed", "gophersnake.breaker.to": "open"}, attributesOf(call.Events[0].Attributes))
}

func TestAStreamHasSpansOfItsFirstCallsAndAllFailures(t *testing.T) {
	t.Parallel()
	r, spans := traced(t, "metadata: {name: s}\nnodes: [{id: count, node_type: count}, {id: odd, node_type: odd}]\nconnections: [{from: count, to: odd}]\n")
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(300))
	s.CloseSend()
	var last error
	for _, err := range s.All() {
		last = err
	}
	require.ErrorContains(t, last, "item 200")
	all := spans()
	stream := spanOf(t, all, "stream s")
	assert.Equal(t, codes.Error, stream.Status.Code)
	got := attributesOf(stream.Attributes)
	assert.EqualValues(t, 1, got["gophersnake.stream.inputs"])
	assert.Positive(t, got["gophersnake.calls.without_span"])
	calls := 0
	for _, s := range all {
		if s.Name == "call odd" || s.Name == "call count" {
			calls++
			assert.Equal(t, stream.SpanContext.SpanID(), s.Parent.SpanID())
		}
	}
	assert.Equal(t, 128, calls)
	require.Contains(t, eventsOf(stream), "gophersnake.call.failed")
	i := slices.Index(eventsOf(stream), "gophersnake.call.failed")
	assert.Equal(t, "odd", attributesOf(stream.Events[i].Attributes)["gophersnake.node.id"])
}

func TestAStatefulNodeReadsTheTracesOfItsItemsAndOfItsEnd(t *testing.T) {
	t.Parallel()
	r, spans := traced(t, "nodes: [{id: n, node_type: Contexts}]\n")
	v, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	all := spans()
	var want []any
	for _, s := range all {
		if s.Name == "attempt n" {
			want = append(want, map[string]any{"traceparent": traceparent(s.SpanContext)})
		}
	}
	assert.Equal(t, want, v)
	assert.Equal(t, spanOf(t, all, "call n").Parent, spanOf(t, all, "finish n").Parent)
}

func TestTheSessionOfAStatefulNodeHasSpans(t *testing.T) {
	t.Parallel()
	r, spans := traced(t, "metadata: {name: s}\nnodes: [{id: n, node_type: Sum, retry: {base: 1ms}}]\n")
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, s.Send(i))
		_, err := s.Recv()
		require.NoError(t, err)
	}
	s.CloseSend()
	_, err = s.Recv()
	require.ErrorIs(t, err, io.EOF)

	all := spans()
	// Then the session is saved, to leave the quarantine, and restored at the end of the input.
	late := slices.IndexFunc(all, func(s tracetest.SpanStub) bool { return s.Name == "restore n" })
	require.Positive(t, late)
	names := make(map[trace.SpanID]tracetest.SpanStub, len(all))
	for _, s := range all {
		names[s.SpanContext.SpanID()] = s
		assert.Equal(t, "s", attributesOf(s.Attributes)["gophersnake.pipeline"], s.Name)
	}
	begin, snapshot, restore := spanOf(t, all, "begin n"), spanOf(t, all[:late], "snapshot n"), all[late]
	assert.Equal(t, "attempt n", names[begin.Parent.SpanID()].Name)
	assert.Equal(t, "stream s", names[snapshot.Parent.SpanID()].Name)
	assert.Positive(t, attributesOf(snapshot.Attributes)["gophersnake.result.size"])
	second := names[restore.Parent.SpanID()]
	assert.Equal(t, "attempt n", second.Name)
	assert.EqualValues(t, 2, attributesOf(second.Attributes)["gophersnake.attempt"])
	first, again := attributesOf(begin.Attributes), attributesOf(restore.Attributes)
	assert.EqualValues(t, 0, first["gophersnake.replayed.items"])
	assert.EqualValues(t, 3, again["gophersnake.replayed.items"], "16 to 18, after the snapshot")
	assert.NotEqual(t, first["gophersnake.worker.pid"], again["gophersnake.worker.pid"])
	assert.Contains(t, again, "gophersnake.queue.time")
	attempts := 0
	for _, s := range all {
		if s.Name == "attempt n" && s.Parent.SpanID() == snapshot.SpanContext.SpanID() {
			attempts++
			assert.Equal(t, first["gophersnake.worker.pid"], attributesOf(s.Attributes)["gophersnake.worker.pid"])
		}
	}
	assert.Equal(t, 1, attempts)
}

func TestASessionThatDoesNotBeginIsAFailedSpan(t *testing.T) {
	t.Parallel()
	r, spans := traced(t, "nodes: [{id: n, node_type: Sum}]\n")
	require.NoError(t, os.WriteFile(filepath.Join(r.Pipeline().Base, "refuse"), nil, 0o600))
	_, err := r.Run(t.Context(), 1)
	require.ErrorContains(t, err, "no session")
	begin := spanOf(t, spans(), "begin n")
	assert.Equal(t, codes.Error, begin.Status.Code)
	assert.Equal(t, "execution", attributesOf(begin.Attributes)["error.type"])
}

func TestAConsumerThatClosesAStreamIsNoFailure(t *testing.T) {
	t.Parallel()
	r, spans := traced(t, "metadata: {name: s}\nnodes: [{id: count, node_type: count}]\n")
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(1_000_000))
	_, err = s.Recv()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	assert.Equal(t, codes.Unset, spanOf(t, spans(), "stream s").Status.Code)
}

// With the provider that makes no spans, the trace of the caller still reaches the node.
func TestWithoutSpansANodeGetsTheContextOfTheCaller(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(tracedNodes), 0o600))
	text := "nodes: [{id: ask, node_type: context}]\n"
	r, err := loadIn(t, base, text, runner.WithTracerProvider(noop.NewTracerProvider()))
	require.NoError(t, err)
	ctx, caller := remote(t.Context())
	v, err := r.Run(ctx, 1)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"traceparent": traceparent(caller), "tracestate": "vendor=1"}, v)
	v, err = r.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.Nil(t, v)

	plain, err := loadIn(t, base, text)
	require.NoError(t, err)
	v, err = plain.Run(ctx, 1)
	require.NoError(t, err)
	assert.Nil(t, v, "without the option, nothing is sent")
}

func TestMeasurementsAreTheTimesOfCallsQueuesAndStarts(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	measured := map[runner.Quantity][]runner.Measurement{}
	withSpan := 0
	measure := func(ctx context.Context, m runner.Measurement) {
		mu.Lock()
		defer mu.Unlock()
		measured[m.Quantity] = append(measured[m.Quantity], m)
		if trace.SpanContextFromContext(ctx).IsValid() {
			withSpan++
		}
	}
	r := start(t, "nodes: [{id: echo, node_type: echo}]\n", runner.WithMeasurements(measure), runner.WithMeasurements(measure),
		runner.WithTracerProvider(sdktrace.NewTracerProvider()))
	_, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	_, err = r.Run(t.Context(), make(chan int))
	require.Error(t, err, "it has not reached the node")
	mu.Lock()
	defer mu.Unlock()
	for quantity, count := range map[runner.Quantity]int{runner.CallTime: 2, runner.QueueTime: 2, runner.StartTime: 2} {
		require.Len(t, measured[quantity], count, quantity)
		for _, m := range measured[quantity] {
			assert.Equal(t, "echo", m.Node)
			assert.GreaterOrEqual(t, m.Took, time.Duration(0))
			assert.NoError(t, m.Err)
		}
	}
	assert.Equal(t, 4, withSpan, "the calls and their queues, each for both functions")
}

// raceDetector is set if the tests run with the race detector, under which pools of memory lose
// some at random.
var raceDetector bool

// One call to a warm worker takes two allocations, whether a caller's span is in the context or
// not. Calls that take longer than 2 ms are watched, which a busy machine causes, so the least of
// several measurements counts.
func TestTracesCostNothingWithoutTheOption(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector changes the number of allocations")
	}
	r := start(t, "nodes: [{id: echo, node_type: echo}]\n")
	ctx, _ := remote(t.Context())
	for _, ctx := range []context.Context{t.Context(), ctx} {
		least := math.Inf(1)
		for try := 0; try < 50 && least > 2; try++ {
			least = min(least, testing.AllocsPerRun(100, func() {
				_, err := r.Run(ctx, 1)
				require.NoError(t, err)
			}))
		}
		assert.LessOrEqual(t, least, 2.0)
	}
}
