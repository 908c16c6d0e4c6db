// Package tracing makes the spans of a runner's work, and measures the calls of its nodes:
//
//	run or stream                [Tracer.Begin]
//	  call of a node             [Node.Begin]
//	    attempt                  [Call.Attempt]
//	  snapshot of a session      [Node.BeginStage], with attempts as well
//	  begin, restore of one      [Node.BeginStage], in the attempt or call that needs the session
//
// The spans of a run or a stream are bounded: after [MostSpans] calls of nodes, further ones
// have none of their own, and are events of the run or stream if they fail.
//
// A nil *[Work], *[Node] or *[Call] does nothing, and costs nothing but a comparison. With the
// provider of package noop, a call without a span in its context costs as much.
package tracing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
)

// MostSpans is how many calls of nodes have spans of their own in one run or stream.
const MostSpans = 128

// scope is the name of the instrumentation.
const scope = "github.com/gophersnake/gophersnake/runner"

// Tracer makes the spans of one runner.
type Tracer struct {
	tracer   trace.Tracer
	isSilent bool // it makes no spans, and passes on those of its callers
	pipeline string
	kindOf   func(error) string
}

// New returns a tracer for a pipeline. kindOf returns the kind of an error.
func New(provider trace.TracerProvider, pipeline string, kindOf func(error) string) *Tracer {
	_, isSilent := provider.(noop.TracerProvider)
	return &Tracer{provider.Tracer(scope), isSilent, pipeline, kindOf}
}

// concerns reports whether there is something to trace in a context. A nil tracer has nothing.
func (t *Tracer) concerns(ctx context.Context) bool {
	return t != nil && (!t.isSilent || trace.SpanContextFromContext(ctx).IsValid())
}

// Work is a run or a stream that is traced.
type Work struct {
	tracer *Tracer
	span   trace.Span
	run    string       // its id
	calls  atomic.Int64 // of nodes
}

type workKey struct{}

// Begin starts the span of a run or a stream. The caller ends the work, which is nil if there is
// nothing to trace.
func (t *Tracer) Begin(ctx context.Context, what string) (context.Context, *Work) {
	if !t.concerns(ctx) {
		return ctx, nil
	}
	w := &Work{tracer: t, run: fmt.Sprintf("%016x", rand.Uint64())}
	ctx, w.span = t.tracer.Start(ctx, what+" "+t.pipeline, trace.WithAttributes(
		attribute.String("gophersnake.pipeline", t.pipeline),
		attribute.String("gophersnake.run.id", w.run),
	))
	return context.WithValue(ctx, workKey{}, w), w
}

// End ends the span of a run or a stream, which failed if err is not nil.
func (w *Work) End(err error) {
	if w == nil {
		return
	}
	if untraced := w.calls.Load() - MostSpans; untraced > 0 {
		w.span.SetAttributes(attribute.Int64("gophersnake.calls.without_span", untraced))
	}
	w.tracer.end(w.span, err)
}

// SetInputs notes how many items a stream has been sent.
func (w *Work) SetInputs(items int64) {
	w.span.SetAttributes(attribute.Int64("gophersnake.stream.inputs", items))
}

// end ends a span with the status that belongs to err.
func (t *Tracer) end(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetAttributes(attribute.String("error.type", t.kindOf(err)))
		span.SetStatus(codes.Error, textOf(err))
	}
	span.End()
}

// mostText bounds what a span has of an error, which may come from a node, in bytes.
const mostText = 1 << 10

// textOf returns the beginning of the text of an error.
func textOf(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), mostText)], "")
}

// Measure takes what was measured of a node's calls.
type Measure struct {
	// Took is called with the time of each operation, with its retries, and its error.
	Took func(ctx context.Context, took time.Duration, err error)
	// Queued is called with the time that each attempt waited for a worker.
	Queued func(ctx context.Context, queued time.Duration)
}

// Node watches the calls of one node.
type Node struct {
	tracer     *Tracer // nil without traces
	measure    *Measure
	id         string
	attributes trace.SpanStartEventOption
}

// NewNode returns what watches a node. Tracer or measure may be nil; if both are, so is the
// result.
func NewNode(t *Tracer, m *Measure, id, nodeType string) *Node {
	if t == nil && m == nil {
		return nil
	}
	n := &Node{tracer: t, measure: m, id: id}
	if t != nil {
		n.attributes = trace.WithAttributes(
			attribute.String("gophersnake.pipeline", t.pipeline),
			attribute.String("gophersnake.node.id", id), attribute.String("gophersnake.node.type", nodeType))
	}
	return n
}

// NewChain is [NewNode] for nodes that one worker runs, one after the other: they have one span
// together, under the id of the first, which lists them.
func NewChain(t *Tracer, m *Measure, ids []string) *Node {
	if t == nil && m == nil {
		return nil
	}
	n := &Node{tracer: t, measure: m, id: ids[0]}
	if t != nil {
		n.attributes = trace.WithAttributes(attribute.String("gophersnake.pipeline", t.pipeline),
			attribute.String("gophersnake.node.id", ids[0]), attribute.StringSlice("gophersnake.node.fused", ids))
	}
	return n
}

// Call is an operation of a node, with its attempts. It belongs to one goroutine.
type Call struct {
	node    *Node
	measure *Measure // nil if it is not measured
	ctx     context.Context
	started time.Time  // unless it is not measured
	work    *Work      // nil if the node is called alone
	span    trace.Span // of the call; nil without traces, and if it has none of its own
	run     string

	attempt trace.Span // of the attempt under way, or nil
	trace   *ipc.Trace // that it sends; nil for none
	report  pool.Report
}

// Begin starts the span of an operation, such as "call", whose inputs have the given size in
// bytes. The context that it returns is for the operation.
func (n *Node) Begin(ctx context.Context, operation string, size int64) (context.Context, *Call) {
	if n == nil {
		return ctx, nil
	}
	c := &Call{node: n, measure: n.measure, ctx: ctx, started: time.Now()}
	if n.tracer.concerns(ctx) {
		c.start(operation, attribute.Int64("gophersnake.input.size", size))
	}
	return c.ctx, c
}

// BeginStage starts the span of an operation on the session of a stream that takes no item: its
// begin, restore or snapshot. It is not measured, and nil if there is nothing to trace.
func (n *Node) BeginStage(ctx context.Context, stage string) (context.Context, *Call) {
	if n == nil || !n.tracer.concerns(ctx) {
		return ctx, nil
	}
	c := &Call{node: n, ctx: ctx}
	c.start(stage)
	return c.ctx, c
}

// start starts the span of the operation, unless the run has enough of them.
func (c *Call) start(operation string, more ...attribute.KeyValue) {
	if c.work, _ = c.ctx.Value(workKey{}).(*Work); c.work != nil {
		c.run = c.work.run
		if c.work.calls.Add(1) > MostSpans {
			return
		}
	} else {
		c.run = fmt.Sprintf("%016x", rand.Uint64())
	}
	c.ctx, c.span = c.node.tracer.tracer.Start(c.ctx, operation+" "+c.node.id, c.node.attributes, trace.WithAttributes(
		append(more, attribute.String("gophersnake.run.id", c.run))...))
}

// End ends the operation, whose result has the given size in bytes.
func (c *Call) End(size int, err error) {
	if c != nil {
		c.end(attribute.Int("gophersnake.result.size", size), err)
	}
}

// EndMany ends an operation that has yielded the given number of values.
func (c *Call) EndMany(values int, err error) {
	if c != nil {
		c.end(attribute.Int("gophersnake.result.values", values), err)
	}
}

// EndOpen ends the begin or restore of a session, which the report of the call has measured. After a
// restore, the given number of items was processed again.
func (c *Call) EndOpen(replayed int, err error) {
	if c == nil {
		return
	}
	if c.span != nil {
		c.describe(c.span)
	}
	c.end(attribute.Int("gophersnake.replayed.items", replayed), err)
}

func (c *Call) end(result attribute.KeyValue, err error) {
	if m := c.measure; m != nil {
		m.Took(c.ctx, time.Since(c.started), err)
	}
	switch {
	case c.span != nil:
		if err == nil {
			c.span.SetAttributes(result)
		}
		c.node.tracer.end(c.span, err)
	case c.work != nil && err != nil:
		c.work.span.AddEvent("gophersnake.call.failed", trace.WithAttributes(
			attribute.String("gophersnake.node.id", c.node.id),
			attribute.String("error.type", c.node.tracer.kindOf(err)), attribute.String("error.message", textOf(err))))
	}
}

// Attempt makes an attempt of the operation, in a span of its own.
func (c *Call) Attempt(ctx context.Context, number int, op func(ctx context.Context, attempt int) error) error {
	if c == nil {
		return op(ctx, number)
	}
	ctx = c.beginAttempt(ctx, number)
	err := op(ctx, number)
	c.endAttempt(err)
	return err
}

func (c *Call) beginAttempt(ctx context.Context, number int) context.Context {
	c.report, c.trace, c.attempt = pool.Report{}, nil, nil
	if !c.node.tracer.concerns(ctx) {
		return ctx
	}
	if c.span != nil {
		ctx, c.attempt = c.node.tracer.tracer.Start(ctx, "attempt "+c.node.id, c.node.attributes,
			trace.WithAttributes(attribute.Int("gophersnake.attempt", number)))
	}
	// A log record of the worker may still be read with the trace of an earlier attempt, so
	// each attempt has its own.
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		c.trace = &ipc.Trace{
			TraceID: sc.TraceID(), SpanID: sc.SpanID(), Flags: byte(sc.TraceFlags()), State: sc.TraceState().String(), Run: c.run,
		}
	}
	return ctx
}

func (c *Call) endAttempt(err error) {
	r := &c.report
	if m := c.measure; m != nil && r.PID != 0 {
		m.Queued(c.ctx, r.Queued)
	}
	if c.attempt == nil {
		return
	}
	if r.PID != 0 && c.attempt.IsRecording() && c.trace != nil && c.trace.Worked > 0 {
		python := min(c.trace.Worked, r.Served) // it is the word of the worker
		c.attempt.SetAttributes(seconds("gophersnake.python.time", python), seconds("gophersnake.transfer.time", r.Served-python))
	}
	c.describe(c.attempt)
	c.node.tracer.end(c.attempt, err)
}

// describe adds the report to the span of what it is about.
func (c *Call) describe(span trace.Span) {
	r := &c.report
	if r.PID != 0 && span.IsRecording() {
		span.SetAttributes(attribute.Int("gophersnake.worker.pid", r.PID), seconds("gophersnake.queue.time", r.Queued))
		for _, end := range r.Moves {
			noteDeath(span, end, true)
		}
	}
	if pool.FateOf(r.Err).EndedWorker() {
		noteDeath(span, r.Err, false)
	}
}

// noteDeath adds the end of a worker to a span.
func noteDeath(span trace.Span, end error, moved bool) {
	span.AddEvent("gophersnake.worker.died", trace.WithAttributes(
		attribute.String("gophersnake.worker.end", textOf(end)), attribute.Bool("gophersnake.call.moved", moved)))
}

// HasSpan reports whether the operation has a span of its own.
func (c *Call) HasSpan() bool { return c != nil && c.span != nil }

// NoteRetry adds a retry to the span of the operation, if it has one: the number of the attempt
// that failed, and the delay to come.
func (c *Call) NoteRetry(attempt int, delay time.Duration) {
	if c.span == nil {
		return
	}
	c.span.AddEvent("gophersnake.retry", trace.WithAttributes(
		attribute.Int("gophersnake.attempt", attempt), seconds("gophersnake.retry.delay", delay)))
}

// NoteBreaker adds a change of the circuit breaker to the span of the operation, which has one,
// unless from and to are the same.
func (c *Call) NoteBreaker(from, to retry.State) {
	if from == to {
		return
	}
	c.span.AddEvent("gophersnake.breaker.changed", trace.WithAttributes(
		attribute.Stringer("gophersnake.breaker.from", from), attribute.Stringer("gophersnake.breaker.to", to)))
}

// Args adds the trace of the attempt under way to the arguments of a call.
func (c *Call) Args(args ipc.Args) ipc.Args {
	if c == nil {
		return args
	}
	return args.WithTrace(c.trace)
}

// Report returns the report of the attempt under way, for the pool; nil if c is nil.
func (c *Call) Report() *pool.Report {
	if c == nil {
		return nil
	}
	return &c.report
}

func seconds(key string, d time.Duration) attribute.KeyValue {
	return attribute.Float64(key, d.Seconds())
}
