// Package oipgrpc serves the Open Inference Protocol, version 2, over gRPC, at a listener of its
// own beside the [serve.Server] for HTTP:
//
//	server, err := serve.Listen(runners, config)
//	…
//	rpc, err := oipgrpc.Listen(server, oipgrpc.Config{Address: "127.0.0.1:8001"})
//	…
//	go server.Run(ctx)
//	err = rpc.Run(ctx)
//
// It answers for the same pipelines, as package oip does over REST, under the same tokens, limits
// and checks. The tokens are in the metadata "authorization", and "x-request-id" and
// "x-request-timeout" mean the same as in HTTP. Deadlines and cancellation of calls reach the
// runs. docs/serve-errors.md lists the code of each error.
//
// The names of the messages are those of the protocol. A program can contain the code that
// protoc generates for them only once, in this package or in another one.
package oipgrpc

import (
	"context"
	"log"
	"math"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // which clients may use
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/inference"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/model"
)

// Config is what [Listen] needs.
type Config struct {
	// Address is HOST:PORT. If HOST is not a loopback address, the server for HTTP must have
	// tokens, or be Insecure.
	Address string
	// Reflection lets clients ask which methods there are.
	Reflection bool
	// ErrorLog gets the stacks of panics. The default is that of package log.
	ErrorLog *log.Logger
}

// Server is a server for gRPC.
type Server struct {
	inference.UnimplementedGRPCInferenceServiceServer

	core     *serve.Server
	listener net.Listener
	grpc     *grpc.Server
	errorLog *log.Logger
	models   model.Models
	anyHost  bool // whether calls may name any host
}

// The limits of a [Server], beside those of the server for HTTP.
const (
	// mostStreams is the largest number of calls under way in one connection.
	mostStreams      = 1000
	mostHeaders      = 64 << 10
	handshakeTimeout = 10 * time.Second
	// A connection is checked when nothing arrives for some time, and is closed when it does
	// not answer.
	pingInterval, pingTimeout = 30 * time.Second, 10 * time.Second
	// shortestPing is how often a client may check its connection.
	shortestPing = 5 * time.Second
	// closeTimeout is how long the server waits for calls that were canceled.
	closeTimeout = 5 * time.Second
)

// Listen opens a server for gRPC with the pipelines of a server for HTTP. It uses its
// certificate. The error is of kind io if the address cannot be used, and of kind other if
// other machines could use the server without a token.
func Listen(core *serve.Server, c Config) (*Server, error) {
	listener, security, err := core.Listen(c.Address)
	if err != nil {
		return nil, err
	}
	s := &Server{core: core, listener: listener, errorLog: c.ErrorLog}
	if s.errorLog == nil {
		s.errorLog = log.Default()
	}
	s.anyHost = !listener.Addr().(*net.TCPAddr).IP.IsLoopback()
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(int(min(core.MaxBody(), math.MaxInt32))),
		grpc.MaxConcurrentStreams(mostStreams), grpc.MaxHeaderListSize(mostHeaders), grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: shortestPing, PermitWithoutStream: true}),
		grpc.InTapHandle(s.admit), grpc.ForceServerCodecV2(newCodec()), grpc.UnaryInterceptor(s.recoverUnary), grpc.StreamInterceptor(s.recoverStream),
	}
	if security != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(security)))
	}
	s.grpc = grpc.NewServer(opts...)
	inference.RegisterGRPCInferenceServiceServer(s.grpc, s)
	healthpb.RegisterHealthServer(s.grpc, &healthServer{server: s})
	if c.Reflection {
		reflection.Register(s.grpc)
	}
	return s, nil
}

// Address returns the address that the server listens at, with its port.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Run answers calls until the context ends and the server for HTTP, which must run in the same
// context, has drained: calls under way finish, and further ones are refused. It returns nil
// then, and otherwise the error that ended the server. It must be called once.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.grpc.Serve(s.listener) }()
	select {
	case err := <-failed:
		return runner.Wrap(err, runner.KindIO, "serve gRPC")
	case <-ctx.Done():
	}
	select {
	case <-s.core.Stopped():
	case err := <-failed:
		return runner.Wrap(err, runner.KindIO, "serve gRPC")
	}
	closing := time.AfterFunc(closeTimeout, s.grpc.Stop)
	defer closing.Stop()
	s.grpc.GracefulStop()
	if err := <-failed; err != nil {
		return runner.Wrap(err, runner.KindIO, "serve gRPC")
	}
	return nil
}

// probes are the methods that need no token.
var probes = map[string]bool{
	inference.GRPCInferenceService_ServerLive_FullMethodName:  true,
	inference.GRPCInferenceService_ServerReady_FullMethodName: true,
	healthpb.Health_Check_FullMethodName:                      true,
	healthpb.Health_Watch_FullMethodName:                      true,
}

// admit checks a call before its messages are read, so that a client without a token cannot
// make the server keep them.
func (s *Server) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	_, err := s.openMethod(ctx, info.FullMethodName, info.Header)
	return ctx, err
}

// open returns the call of the serving core for a call of gRPC, or the status of the refusal.
func (s *Server) open(ctx context.Context) (*serve.Call, error) {
	method, _ := grpc.Method(ctx)
	md, _ := metadata.FromIncomingContext(ctx)
	return s.openMethod(ctx, method, md)
}

func (s *Server) openMethod(ctx context.Context, method string, md metadata.MD) (*serve.Call, error) {
	from := serve.Origin{Method: method, Header: headerOf(md), AnyHost: s.anyHost, IsProbe: probes[method]}
	if host := md[":authority"]; len(host) > 0 {
		from.Host = host[0]
	}
	c, problem := s.core.Open(ctx, from)
	if problem != nil {
		return nil, statusOf(ctx, problem)
	}
	return c, nil
}

func (s *Server) recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	ctx, end := s.observe(ctx, info.FullMethod)
	defer func() { end(err) }()
	defer s.recovered(info.FullMethod, &err)
	return next(ctx, req)
}

func (s *Server) recoverStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	ctx, end := s.observe(stream.Context(), info.FullMethod)
	defer func() { end(err) }()
	defer s.recovered(info.FullMethod, &err)
	return next(service, &observedStream{stream, ctx})
}

// observedStream is a stream in the context of its span.
type observedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns that context.
func (s *observedStream) Context() context.Context { return s.ctx }

// faults are the codes that say that the server is at fault.
var faults = []codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss}

// observe begins the observation of a call, unless it is a probe. The caller calls end with its error.
func (s *Server) observe(ctx context.Context, method string) (context.Context, func(err error)) {
	if probes[method] {
		return ctx, func(error) {}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	ctx, end := s.core.Observe(ctx, method, headerOf(md))
	return ctx, func(err error) {
		code := status.Code(err)
		end(code.String(), slices.Contains(faults, code))
	}
}

// headerOf returns metadata as headers of HTTP.
func headerOf(md metadata.MD) http.Header {
	header := make(http.Header, len(md))
	for name, values := range md {
		if !strings.HasPrefix(name, ":") {
			header[http.CanonicalHeaderKey(name)] = values
		}
	}
	return header
}

// recovered turns a panic into an error of its call, as package net/http does.
func (s *Server) recovered(method string, err *error) {
	if v := recover(); v != nil {
		s.errorLog.Printf("grpc: panic in %s: %v\n%s", method, v, debug.Stack())
		*err = status.Error(codes.Internal, "the request failed")
	}
}
