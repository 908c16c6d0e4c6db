package jobs_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// remoteSpan returns the span of a submitter, and a context with it.
func remoteSpan(t *testing.T, id byte) (context.Context, trace.SpanContext) {
	state, err := trace.ParseTraceState("vendor=1")
	require.NoError(t, err)
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{id, 1}, SpanID: trace.SpanID{id, 2}, TraceFlags: trace.FlagsSampled, TraceState: state,
	})
	return trace.ContextWithSpanContext(t.Context(), span), span
}

// parents are the spans of which the runs of a pipeline are children.
func parents(spans *tracetest.InMemoryExporter, pipeline string) (all []trace.SpanContext) {
	for _, s := range spans.GetSpans() {
		if s.Name == "run "+pipeline {
			all = append(all, s.Parent.WithRemote(false))
		}
	}
	return all
}

func TestTheRunOfAJobIsInTheTraceOfItsSubmitter(t *testing.T) {
	t.Parallel()
	s, spans := newSite(t), tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	s.serve("echo", clustertest.EchoPipeline, runner.WithTracerProvider(provider))
	ctx, span := remoteSpan(t, 1)
	ref, _, err := s.Submit(ctx, "echo", 1)
	require.NoError(t, err)
	s.result(ref)
	assert.Equal(t, []trace.SpanContext{span}, parents(spans, "test"))
	spans.Reset()
	s.result(s.submit("echo", 1))
	assert.Equal(t, []trace.SpanContext{{}}, parents(spans, "test"), "a job without a trace has one of its own")
}

func TestAJobThatIsRetriedIsInTheTraceOfTheRetryOrElseOfItsSubmitter(t *testing.T) {
	t.Parallel()
	s, spans := newSite(t), tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	s.serve("fail", clustertest.FailPipeline, runner.WithTracerProvider(provider))
	first, submitter := remoteSpan(t, 1)
	third, retrier := remoteSpan(t, 2)
	ref, _, err := s.Submit(first, "fail", 1)
	require.NoError(t, err)
	want := []trace.SpanContext{submitter}
	for _, again := range []struct {
		ctx  context.Context
		span trace.SpanContext
	}{{t.Context(), submitter}, {third, retrier}} {
		require.Equal(t, jobs.Failed, s.await(ref).State)
		require.NoError(t, s.Retry(again.ctx, ref))
		want = append(want, again.span)
		testkit.Eventually(t, func() bool { return len(parents(spans, "test")) == len(want) })
		assert.Equal(t, want, parents(spans, "test"))
	}
}
