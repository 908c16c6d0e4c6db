package oip_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/inference"
	"github.com/gophersnake/gophersnake/runner/serve/oip/oipgrpc"
)

// dial returns a connection to a server.
func dial(t testing.TB, address string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func client(t testing.TB, s *service, opts ...grpc.DialOption) inference.GRPCInferenceServiceClient {
	t.Helper()
	return inference.NewGRPCInferenceServiceClient(dial(t, s.address, opts...))
}

// serveNode serves a node, whose runner is started, as the model m.
func serveNode(t testing.TB, r *runner.Runner, opts ...serve.Option) *service {
	t.Helper()
	require.NoError(t, r.Start(t.Context()))
	return serving(t, map[string]*runner.Runner{"m": r}, opts...)
}

// inputOf returns a request for the model m with one input.
func inputOf(name, datatype string, data []byte, shape ...int64) *inference.ModelInferRequest {
	return &inference.ModelInferRequest{
		ModelName:        "m",
		Inputs:           []*inference.ModelInferRequest_InferInputTensor{{Name: name, Datatype: datatype, Shape: shape}},
		RawInputContents: [][]byte{data},
	}
}

// text returns a request with a text.
func text(name, value string) *inference.ModelInferRequest {
	return inputOf(name, "BYTES", append(binary.LittleEndian.AppendUint32(nil, uint32(len(value))), value...), 1)
}

func number(name string, n int64) *inference.ModelInferRequest {
	return inputOf(name, "INT64", binary.LittleEndian.AppendUint64(nil, uint64(n)), 1)
}

func authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer 0123456789abcdef")
}

func TestEachErrorHasItsCode(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "fail", "timeout: 300ms")
	s := serveNode(t, r, serve.WithTokens(serve.Token{Secret: "0123456789abcdef"}), serve.WithMaxBody(1000))
	c := client(t, s)
	ask := func(ctx context.Context, req *inference.ModelInferRequest) error {
		_, err := c.ModelInfer(ctx, req)
		return err
	}
	ctx := authorized(t.Context())
	named := func(name, version string) *inference.ModelInferRequest {
		req := text("how", "x")
		req.ModelName, req.ModelVersion = name, version
		return req
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	for _, row := range []struct {
		name   string
		err    error
		code   codes.Code
		reason string
		says   string
	}{
		{"no token", ask(t.Context(), text("how", "x")), codes.Unauthenticated, "UNAUTHORIZED", "no valid token"},
		{"another host", func() error {
			_, err := client(t, s, grpc.WithAuthority("evil.example")).ModelInfer(ctx, text("how", "x"))
			return err
		}(), codes.PermissionDenied, "FORBIDDEN", "evil.example"},
		{"another model", ask(ctx, named("q", "")), codes.NotFound, "NOT_FOUND", `no pipeline "q"`},
		{"another version", ask(ctx, named("m", "2")), codes.NotFound, "NOT_FOUND", `no version "2"`},
		{"a wrong shape", ask(ctx, inputOf("how", "FP32", []byte("1234"), 2)), codes.InvalidArgument, "MALFORMED", "takes 2 elements"},
		{"fewer raw inputs", ask(ctx, &inference.ModelInferRequest{ModelName: "m", RawInputContents: [][]byte{nil}}), codes.InvalidArgument, "MALFORMED", "0 inputs"},
		{"a negative shape", ask(ctx, inputOf("how", "FP32", nil, -1)), codes.InvalidArgument, "MALFORMED", "negative"},
		{"another type", ask(ctx, number("how", 1)), codes.InvalidArgument, "INVALID_VALUE", "the value is not one that the node takes"},
		{"a Permanent", ask(ctx, text("how", "permanent")), codes.InvalidArgument, "REJECTED", "this input is wrong"},
		{"an exception", ask(ctx, text("how", "raise")), codes.Internal, "EXECUTION", "cannot open '…/weights.bin'"},
		{"a timeout", ask(ctx, text("how", "hang")), codes.DeadlineExceeded, "DEADLINE", "within 300ms"},
		{"a timeout of the metadata", ask(metadata.AppendToOutgoingContext(ctx, "x-request-timeout", "50ms"), text("how", "hang")), codes.DeadlineExceeded, "DEADLINE", "the time that the request allows"},
		{"an idempotency key", ask(metadata.AppendToOutgoingContext(ctx, "idempotency-key", "k"), text("how", "x")), codes.InvalidArgument, "MALFORMED", "Idempotency-Key"},
		{"a deadline", ask(short, text("how", "hang")), codes.DeadlineExceeded, "", ""},
		{"too large", ask(ctx, text("how", strings.Repeat("x", 2000))), codes.ResourceExhausted, "", "larger than max"},
	} {
		t.Run(row.name, func(t *testing.T) {
			of := status.Convert(row.err)
			assert.Equal(t, row.code, of.Code(), of.Message())
			assert.Contains(t, of.Message(), row.says)
			if row.reason != "" {
				require.NotEmpty(t, of.Details())
				info, ok := of.Details()[0].(*errdetails.ErrorInfo)
				require.True(t, ok)
				assert.Equal(t, row.reason, info.GetReason())
				assert.NotEmpty(t, info.GetMetadata()["request_id"])
			}
		})
	}
	var header metadata.MD
	_, err := c.ModelInfer(metadata.AppendToOutgoingContext(ctx, "x-request-id", "abc-1"), text("how", "x"), grpc.Header(&header))
	require.NoError(t, err)
	assert.Equal(t, []string{"abc-1"}, header.Get("x-request-id"))
	// The server refuses a call before it reads a message, which the client does not send here.
	for _, method := range []string{inference.GRPCInferenceService_ModelInfer_FullMethodName, inference.GRPCInferenceService_ModelStreamInfer_FullMethodName, "/another/Method"} {
		stream, err := dial(t, s.address).NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, method)
		require.NoError(t, err)
		assert.Equal(t, codes.Unauthenticated, status.Code(stream.RecvMsg(&inference.ModelInferResponse{})), method)
	}
	live, err := c.ServerLive(t.Context(), &inference.ServerLiveRequest{})
	require.NoError(t, err, "a probe needs no token")
	assert.True(t, live.GetLive())
	_, err = c.ModelMetadata(t.Context(), &inference.ModelMetadataRequest{Name: "m"})
	assert.Equal(t, codes.Unauthenticated, status.Code(err))
	require.NoError(t, r.Drain(t.Context()))
	of := status.Convert(ask(ctx, text("how", "x")))
	assert.Equal(t, codes.Unavailable, of.Code())
	assert.Len(t, of.Details(), 2, "the second says when to try again")
}

func TestContentsThatAreTypedAreTensors(t *testing.T) {
	t.Parallel()
	c := client(t, serveNode(t, newRunner(t, "kinds")))
	contents := map[string]*inference.InferTensorContents{
		"BOOL": {BoolContents: []bool{true, false}}, "INT16": {IntContents: []int32{-1, 2}}, "INT64": {Int64Contents: []int64{1, 2}},
		"UINT8": {UintContents: []uint32{1, 2}}, "UINT64": {Uint64Contents: []uint64{1, 2}}, "FP32": {Fp32Contents: []float32{1, 2}},
		"FP64": {Fp64Contents: []float64{1, 2}}, "BYTES": {BytesContents: [][]byte{[]byte("a"), {0xff}}},
	}
	wants := map[string]string{
		"BOOL": "bool[2]", "INT16": "int16[2]", "INT64": "int64[2]", "UINT8": "uint8[2]", "UINT64": "uint64[2]", "FP32": "float32[2]",
		"FP64": "float64[2]", "BYTES": `list ['a', b'\xff']`,
	}
	for datatype, content := range contents {
		req := inputOf("value", datatype, nil, 2)
		req.RawInputContents, req.Inputs[0].Contents = nil, content
		answer, err := c.ModelInfer(t.Context(), req)
		require.NoError(t, err, datatype)
		assert.Equal(t, wants[datatype], string(answer.GetRawOutputContents()[0][4:]))
		req.Inputs[0].Shape = []int64{3}
		_, err = c.ModelInfer(t.Context(), req)
		assert.Equal(t, codes.InvalidArgument, status.Code(err), datatype)
	}
	req := inputOf("value", "UINT8", nil, 1)
	req.RawInputContents, req.Inputs[0].Contents = nil, &inference.InferTensorContents{UintContents: []uint32{256}}
	_, err := c.ModelInfer(t.Context(), req)
	assert.ErrorContains(t, err, "out of the range")
	req = inputOf("value", "FP16", nil, 1)
	req.RawInputContents = nil
	_, err = c.ModelInfer(t.Context(), req)
	assert.ErrorContains(t, err, "there are 0 elements of FP16")
}

func TestARequestOfManyEmptyMessagesIsRefused(t *testing.T) {
	t.Parallel()
	c := client(t, serveNode(t, newRunner(t, "echo")))
	req := number("value", 1)
	for range 20_000 {
		req.Outputs = append(req.Outputs, &inference.ModelInferRequest_InferRequestedOutputTensor{})
	}
	_, err := c.ModelInfer(t.Context(), req)
	assert.ErrorContains(t, err, "more than 10000 inputs, outputs and parameters")
}

func TestMessagesOfGRPCCountAgainstTheMemoryOfAllRequests(t *testing.T) {
	t.Parallel()
	c := client(t, serveNode(t, newRunner(t, "shout"), serve.WithMemory(1000)))
	for range 3 { // what was held is let go
		_, err := c.ModelInfer(t.Context(), text("text", "small"))
		require.NoError(t, err)
		_, err = c.ModelInfer(t.Context(), text("text", strings.Repeat("x", 1000)))
		assert.Equal(t, codes.Unavailable, status.Code(err))
		assert.ErrorContains(t, err, "--max-memory")
	}
}

func TestAClientOfGRPCThatLeavesCancelsItsRun(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]string{"a call": "wait", "a stream": "wait", "a stream of many values": "ticks"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			c := client(t, serveNode(t, newRunner(t, node, "params: {folder: '"+folder+"'}")))
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			ended := make(chan error, 1)
			if name == "a call" {
				go func() {
					_, err := c.ModelInfer(ctx, number("value", 1))
					ended <- err
				}()
			} else {
				stream, err := c.ModelStreamInfer(ctx)
				require.NoError(t, err)
				require.NoError(t, stream.Send(number("value", 1)))
				go func() {
					for {
						if _, err := stream.Recv(); err != nil {
							ended <- err
							return
						}
					}
				}()
			}
			appears(t, folder, "began", patience)
			leave()
			assert.Equal(t, codes.Canceled, status.Code(<-ended))
			appears(t, folder, "canceled", time.Second)
		})
	}
}

func TestAStreamWhoseClientTakesNothingEnds(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	c := client(t, serveNode(t, newRunner(t, "flood", "params: {folder: '"+folder+"'}"), serve.WithStallTimeout(200*time.Millisecond)),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	stream, err := c.ModelStreamInfer(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(number("value", 1)))
	appears(t, folder, "canceled", patience)
}

func TestCallsOfGRPCFinishWhenTheServerStops(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	r := newRunner(t, "wait", "params: {folder: '"+folder+"'}", "workers: 2")
	s := serveNode(t, r)
	c := client(t, s)
	idle, err := c.ModelStreamInfer(t.Context())
	require.NoError(t, err)
	require.NoError(t, idle.Send(&inference.ModelInferRequest{ModelName: "nothing"}))
	refused, err := idle.Recv()
	require.NoError(t, err)
	assert.Contains(t, refused.GetErrorMessage(), "no pipeline")
	answered := make(chan error, 2)
	go func() {
		_, err := c.ModelInfer(t.Context(), number("value", 1))
		answered <- err
	}()
	stream, err := c.ModelStreamInfer(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(number("value", 2)))
	go func() {
		_, err := stream.Recv()
		answered <- err
	}()
	appears(t, folder, "began", patience)
	require.Eventually(t, func() bool { // both are under way
		return r.Health().Nodes[0].Pool.Busy == 2
	}, patience, time.Millisecond)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.stop()
	}()
	_, err = idle.Recv()
	assert.ErrorContains(t, err, "EOF", "a stream without requests ends")
	_, err = c.ModelInfer(t.Context(), number("value", 3))
	assert.Equal(t, codes.Unavailable, status.Code(err), err)
	health, err := c.ServerReady(t.Context(), &inference.ServerReadyRequest{})
	require.NoError(t, err)
	assert.False(t, health.GetReady())
	note(t, folder, "go")
	require.NoError(t, <-answered)
	require.NoError(t, <-answered)
	<-stopped
}

func TestTheHealthServiceSaysWhichModelsAreReady(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "echo")
	s := serveNode(t, r, serve.WithTokens(serve.Token{Secret: "0123456789abcdef"}))
	c := healthpb.NewHealthClient(dial(t, s.address))
	of := func(name string) string {
		answer, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			return status.Code(err).String()
		}
		return answer.GetStatus().String()
	}
	assert.Equal(t, "SERVING SERVING SERVING NotFound", fmt.Sprint(of(""), " ", of("inference.GRPCInferenceService"), " ", of("m"), " ", of("q")))
	watch, err := c.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: "m"})
	require.NoError(t, err)
	answer, err := watch.Recv()
	require.NoError(t, err)
	assert.Equal(t, healthpb.HealthCheckResponse_SERVING, answer.GetStatus())
	require.NoError(t, r.Drain(t.Context()))
	answer, err = watch.Recv()
	require.NoError(t, err)
	assert.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, answer.GetStatus())
	assert.Equal(t, "NOT_SERVING", of("m"))
}

func TestGRPCHasTheCertificateOfHTTP(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	pair := web.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	folder := t.TempDir()
	config := serve.Config{
		Address: "127.0.0.1:0", DrainTimeout: patience,
		CertFile: filepath.Join(folder, "cert.pem"), KeyFile: filepath.Join(folder, "key.pem"),
	}
	require.NoError(t, os.WriteFile(config.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(config.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	s := servingWith(t, config, map[string]*runner.Runner{"m": newRunner(t, "echo")})
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	secured := credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	conn, err := grpc.NewClient("passthrough:///"+s.address, grpc.WithTransportCredentials(secured))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	live, err := inference.NewGRPCInferenceServiceClient(conn).ServerLive(t.Context(), &inference.ServerLiveRequest{})
	require.NoError(t, err)
	assert.True(t, live.GetLive())
	_, err = client(t, s).ServerLive(t.Context(), &inference.ServerLiveRequest{})
	assert.Equal(t, codes.Unavailable, status.Code(err), "without TLS there is no answer")
}

func TestGRPCListensToOtherMachinesOnlyWithAToken(t *testing.T) {
	t.Parallel()
	runners := map[string]*runner.Runner{"m": newRunner(t, "echo")}
	server, err := serve.Listen(runners, serve.Config{Address: "127.0.0.1:0"})
	require.NoError(t, err)
	_, err = oipgrpc.Listen(server, oipgrpc.Config{Address: "0.0.0.0:0"})
	assert.ErrorContains(t, err, "0.0.0.0:0 is not a loopback address")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, server.Run(ctx))
}

func TestEachStatusHasACode(t *testing.T) {
	t.Parallel()
	for _, s := range []int{400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504} {
		assert.NotEqual(t, codes.Unknown, oipgrpc.Code(s), http.StatusText(s))
	}
	assert.Equal(t, codes.Unknown, oipgrpc.Code(http.StatusTeapot))
}
