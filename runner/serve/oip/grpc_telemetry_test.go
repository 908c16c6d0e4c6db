package oip_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/inference"
	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// A call has been observed before its answer is sent.
func TestCallsOfGRPCAreSpansOfTheirClientsTracesAndAreMeasured(t *testing.T) {
	t.Parallel()
	spans, measures := tracetest.NewInMemoryExporter(), metrics.New()
	s := serveNode(t, newRunner(t, "fail"), serve.WithMetrics(measures),
		serve.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))))
	c := client(t, s)
	const traceID, method = "0af7651916cd43dd8448eb211c80319c", "inference.GRPCInferenceService/"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	_, err := c.ServerLive(ctx, &inference.ServerLiveRequest{})
	require.NoError(t, err)
	_, err = c.ModelInfer(ctx, text("how", "raise"))
	require.Error(t, err)
	_, err = c.ModelMetadata(ctx, &inference.ModelMetadataRequest{Name: "other"})
	require.Error(t, err)
	found := spans.GetSpans()
	require.Len(t, found, 2, "a probe has none")
	for i, expected := range []struct {
		name, code string
		status     otelcodes.Code
	}{{method + "ModelInfer", "Internal", otelcodes.Error}, {method + "ModelMetadata", "NotFound", otelcodes.Unset}} {
		span := found[i]
		assert.Equal(t, expected.name, span.Name)
		assert.Equal(t, traceID, span.SpanContext.TraceID().String())
		assert.Equal(t, "b7ad6b7169203331", span.Parent.SpanID().String())
		assert.Contains(t, span.Attributes, attribute.String("rpc.response.status_code", expected.code))
		assert.Equal(t, expected.status, span.Status.Code)
	}
	answer := httptest.NewRecorder()
	measures.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	assert.Contains(t, answer.Body.String(), `gophersnake_grpc_request_duration_seconds_count{code="Internal",method="`+method+`ModelInfer"} 1`)
	assert.NotContains(t, answer.Body.String(), "ServerLive")
}
