package oipgrpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/gophersnake/gophersnake/runner/serve"
)

// healthServer is the health service of gRPC. A service of it is a model, and the service with an
// empty name is all of them. Calls need no token.
type healthServer struct {
	healthpb.UnimplementedHealthServer

	server *Server
}

// watchInterval is how often Watch looks.
const watchInterval = time.Second

// Check reports whether a model is ready.
func (h *healthServer) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	c, err := h.server.open(ctx)
	if err != nil {
		return nil, err
	}
	serving := h.statusOf(c, req.GetService())
	if serving == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Error(codes.NotFound, "there is no such service")
	}
	return &healthpb.HealthCheckResponse{Status: serving}, nil
}

// Watch reports whether a model is ready, and each change, until the server stops.
func (h *healthServer) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	c, err := h.server.open(stream.Context())
	if err != nil {
		return err
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	last := healthpb.HealthCheckResponse_UNKNOWN
	for {
		if now := h.statusOf(c, req.GetService()); now != last {
			last = now
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-h.server.core.Stopped():
			return status.Error(codes.Unavailable, "the server stops")
		}
	}
}

func (h *healthServer) statusOf(c *serve.Call, name string) healthpb.HealthCheckResponse_ServingStatus {
	isReady, isKnown := c.IsReady(), name == "" || name == "inference.GRPCInferenceService"
	if !isKnown {
		for _, p := range c.Pipelines() {
			if p.Name() == name {
				isKnown = true
				isReady, _ = p.IsReady()
			}
		}
	}
	switch {
	case !isKnown:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	case isReady:
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}
