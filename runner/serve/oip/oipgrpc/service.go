package oipgrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/inference"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/model"
)

// ServerLive implements the interface of the service, as all methods below.
func (s *Server) ServerLive(context.Context, *inference.ServerLiveRequest) (*inference.ServerLiveResponse, error) {
	return &inference.ServerLiveResponse{Live: true}, nil
}

// ServerReady reports whether all models are ready.
func (s *Server) ServerReady(ctx context.Context, _ *inference.ServerReadyRequest) (*inference.ServerReadyResponse, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return &inference.ServerReadyResponse{Ready: c.IsReady()}, nil
}

// ModelReady reports whether a model is ready. One that does not exist is not, as in Triton.
func (s *Server) ModelReady(ctx context.Context, req *inference.ModelReadyRequest) (*inference.ModelReadyResponse, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range c.Pipelines() {
		if p.Name() == req.GetName() && model.CheckVersion(p.Name(), req.GetVersion()) == nil {
			isReady, _ := p.IsReady()
			return &inference.ModelReadyResponse{Ready: isReady}, nil
		}
	}
	return &inference.ModelReadyResponse{}, nil
}

// ServerMetadata returns the name of the server and its extensions.
func (s *Server) ServerMetadata(context.Context, *inference.ServerMetadataRequest) (*inference.ServerMetadataResponse, error) {
	return &inference.ServerMetadataResponse{Name: model.Platform, Version: model.ServerVersion(), Extensions: model.Extensions}, nil
}

// ModelMetadata describes the inputs and outputs of a model.
func (s *Server) ModelMetadata(ctx context.Context, req *inference.ModelMetadataRequest) (*inference.ModelMetadataResponse, error) {
	m, err := s.describe(ctx, req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	answer := &inference.ModelMetadataResponse{Name: m.Name, Versions: []string{model.Version}, Platform: model.Platform}
	for _, spec := range m.Inputs {
		answer.Inputs = append(answer.Inputs, described(spec))
	}
	for _, spec := range m.Outputs {
		answer.Outputs = append(answer.Outputs, described(spec))
	}
	return answer, nil
}

func described(s model.Spec) *inference.ModelMetadataResponse_TensorMetadata {
	return &inference.ModelMetadataResponse_TensorMetadata{Name: s.Name, Datatype: string(s.Type), Shape: wide(s.Shape)}
}

// ModelConfig describes a model in the form of Triton.
func (s *Server) ModelConfig(ctx context.Context, req *inference.ModelConfigRequest) (*inference.ModelConfigResponse, error) {
	m, err := s.describe(ctx, req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	config := &inference.ModelConfig{
		Name: m.Name, Platform: model.Platform, Backend: model.Platform,
		ModelTransactionPolicy: &inference.ModelTransactionPolicy{Decoupled: m.IsDecoupled},
	}
	for _, spec := range m.Inputs {
		config.Input = append(config.Input, &inference.ModelInput{
			Name: spec.Name, DataType: dataType(spec), Dims: wide(spec.Shape), Optional: spec.IsOptional,
		})
	}
	for _, spec := range m.Outputs {
		config.Output = append(config.Output, &inference.ModelOutput{Name: spec.Name, DataType: dataType(spec), Dims: wide(spec.Shape)})
	}
	return &inference.ModelConfigResponse{Config: config}, nil
}

func dataType(s model.Spec) inference.DataType {
	return inference.DataType(inference.DataType_value[s.ConfigType()])
}

// RepositoryIndex lists the models.
func (s *Server) RepositoryIndex(ctx context.Context, req *inference.RepositoryIndexRequest) (*inference.RepositoryIndexResponse, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	answer := &inference.RepositoryIndexResponse{}
	for _, m := range model.Index(c.Pipelines(), req.GetReady()) {
		answer.Models = append(answer.Models, &inference.RepositoryIndexResponse_ModelIndex{
			Name: m.Name, Version: model.Version, State: m.State, Reason: m.Reason,
		})
	}
	return answer, nil
}

// ModelInfer runs a pipeline.
func (s *Server) ModelInfer(ctx context.Context, req *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-request-id", c.ID()))
	var answer *inference.ModelInferResponse
	problem := c.Do(proto.Size(req), func() error {
		if c.Request().Header.Get("Idempotency-Key") != "" {
			return serve.Malformed("a call of gRPC cannot have an Idempotency-Key", "send the request over HTTP")
		}
		r, err := parseRequest(req)
		if err != nil {
			return err
		}
		m, p, err := s.modelOf(c, r, req)
		if err != nil {
			return err
		}
		outputs, err := m.Infer(c, p, r.inputs, r.outputs)
		if err != nil {
			return err
		}
		answer, err = r.response(m, outputs)
		return err
	})
	if problem != nil {
		return nil, statusOf(ctx, problem)
	}
	return answer, nil
}

// modelOf returns the model that a request names, and starts the time of the request.
func (s *Server) modelOf(c *serve.Call, r *request, req *inference.ModelInferRequest) (*model.Model, *serve.Pipeline, error) {
	if r.timeout > 0 {
		c.LimitTime(r.timeout)
	}
	return s.find(c, req.GetModelName(), req.GetModelVersion())
}

// find returns the model with a name and a version, which may be empty.
func (s *Server) find(c *serve.Call, name, version string) (*model.Model, *serve.Pipeline, error) {
	p, err := c.Pipeline(name)
	if err == nil {
		err = model.CheckVersion(name, version)
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := s.models.Of(c.Context(), p)
	return m, p, err
}

// describe returns a model for a call that only asks about it.
func (s *Server) describe(ctx context.Context, name, version string) (*model.Model, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	m, _, err := s.find(c, name, version)
	if err != nil {
		return nil, statusOf(ctx, c.Fail(err))
	}
	return m, nil
}
