// Package oip makes package serve speak the Open Inference Protocol, version 2, over REST, so that
// clients of KServe and Triton call pipelines as models. Package oip/oipgrpc does so over gRPC.
//
//	handler := serve.Handler(runners, serve.WithProtocol(oip.Protocol()))
//
// These resources are below /v2; NAME is the name of a pipeline:
//
//	GET  /v2                          the server and its extensions
//	GET  /v2/health/live, /v2/health/ready
//	GET  /v2/models/NAME              metadata, from the annotations of the nodes
//	GET  /v2/models/NAME/config       the same in the form of Triton
//	GET  /v2/models/NAME/ready
//	POST /v2/models/NAME/infer        run the pipeline
//	POST /v2/repository/index         all models
//
// Each model has the one version 1, which may be named: /v2/models/NAME/versions/1/infer. Tensors
// are JSON or binary. The guide docs/inference-protocol.md says how they become the input of a
// pipeline, and its result becomes tensors. An error is {"error": "…"}, with the status that the
// same error has at the other paths of package serve.
package oip

import (
	"encoding/json"
	"net/http"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/model"
)

const typeJSON = "application/json"

// service answers the requests of the protocol.
type service struct{ models model.Models }

// Protocol returns the protocol for [serve.WithProtocol].
func Protocol() serve.Protocol {
	s := new(service)
	get := func(fn func(*serve.Call) error) map[string]func(*serve.Call) error {
		return map[string]func(*serve.Call) error{http.MethodGet: fn}
	}
	post := func(fn func(*serve.Call) error) map[string]func(*serve.Call) error {
		return map[string]func(*serve.Call) error{http.MethodPost: fn}
	}
	routes := map[string]map[string]func(*serve.Call) error{
		"/v2":                  get(s.server),
		"/v2/{$}":              get(s.server),
		"/v2/health/live":      get(s.live),
		"/v2/health/ready":     get(s.ready),
		"/v2/repository/index": post(s.index),
		"/v2/systemsharedmemory/": {
			http.MethodGet: noSharedMemory, http.MethodPost: noSharedMemory,
		},
		"/v2/cudasharedmemory/": {
			http.MethodGet: noSharedMemory, http.MethodPost: noSharedMemory,
		},
	}
	for _, path := range []string{"/v2/models/{name}", "/v2/models/{name}/versions/{version}"} {
		routes[path] = get(s.metadata)
		routes[path+"/ready"] = get(s.modelReady)
		routes[path+"/config"] = get(s.config)
		routes[path+"/infer"] = post(s.infer)
	}
	return serve.Protocol{
		Prefix: "/v2", Routes: routes, Problem: problem,
		Probes:  []string{"/v2/health/live", "/v2/health/ready"},
		Headers: []string{headerLength},
	}
}

// problem returns the answer for a request that failed.
func problem(p *serve.Problem) *serve.Answer {
	text, err := document.Encode(ipc.Object{{Key: "error", Value: p.String()}}, "")
	if err != nil { // the text is not UTF-8
		text, _ = json.Marshal(map[string]string{"error": p.Title})
	}
	return &serve.Answer{Status: p.Status, ContentType: typeJSON, Body: append(text, '\n')}
}

func noSharedMemory(*serve.Call) error {
	return serve.Malformed("shared memory between client and server is not supported", "send the data in the request")
}

// send sends a document.
func send(c *serve.Call, status int, doc any) error {
	text, err := document.Encode(doc, "")
	if err == nil {
		c.Send(&serve.Answer{Status: status, ContentType: typeJSON, Body: append(text, '\n')})
	}
	return err
}

// statusOf returns the status of an answer that is about readiness.
func statusOf(isReady bool) int {
	if isReady {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func (s *service) server(c *serve.Call) error {
	return send(c, http.StatusOK, ipc.Object{
		{Key: "name", Value: model.Platform}, {Key: "version", Value: model.ServerVersion()}, {Key: "extensions", Value: model.Extensions},
	})
}

func (s *service) live(c *serve.Call) error {
	return send(c, http.StatusOK, ipc.Object{{Key: "live", Value: true}})
}

func (s *service) ready(c *serve.Call) error {
	isReady := c.IsReady()
	return send(c, statusOf(isReady), ipc.Object{{Key: "ready", Value: isReady}})
}

func (s *service) modelReady(c *serve.Call) error {
	p, err := c.Pipeline("")
	if err == nil {
		err = model.CheckVersion(p.Name(), c.Request().PathValue("version"))
	}
	if err != nil {
		return err
	}
	isReady, reason := p.IsReady()
	doc := ipc.Object{{Key: "name", Value: p.Name()}, {Key: "ready", Value: isReady}}
	if !isReady {
		doc = append(doc, ipc.Member{Key: "reason", Value: reason})
	}
	return send(c, statusOf(isReady), doc)
}

// modelOf returns the model that the path of a request names.
func (s *service) modelOf(c *serve.Call) (*model.Model, *serve.Pipeline, error) {
	p, err := c.Pipeline("")
	if err == nil {
		err = model.CheckVersion(p.Name(), c.Request().PathValue("version"))
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := s.models.Of(c.Context(), p)
	return m, p, err
}

func (s *service) metadata(c *serve.Call) error {
	m, _, err := s.modelOf(c)
	if err != nil {
		return err
	}
	return send(c, http.StatusOK, ipc.Object{
		{Key: "name", Value: m.Name}, {Key: "versions", Value: []string{model.Version}}, {Key: "platform", Value: model.Platform},
		{Key: "inputs", Value: described(m.Inputs)}, {Key: "outputs", Value: described(m.Outputs)},
	})
}

func described(specs []model.Spec) []any {
	all := make([]any, len(specs))
	for i, s := range specs {
		all[i] = ipc.Object{{Key: "name", Value: s.Name}, {Key: "datatype", Value: string(s.Type)}, {Key: "shape", Value: s.Shape}}
	}
	return all
}

func (s *service) config(c *serve.Call) error {
	m, _, err := s.modelOf(c)
	if err != nil {
		return err
	}
	inputs, outputs := configured(m.Inputs), configured(m.Outputs)
	for i := range m.Inputs {
		if m.Inputs[i].IsOptional {
			inputs[i] = append(inputs[i], ipc.Member{Key: "optional", Value: true})
		}
	}
	return send(c, http.StatusOK, ipc.Object{
		{Key: "name", Value: m.Name}, {Key: "platform", Value: model.Platform}, {Key: "backend", Value: model.Platform},
		{Key: "max_batch_size", Value: 0}, {Key: "input", Value: inputs}, {Key: "output", Value: outputs},
		{Key: "model_transaction_policy", Value: ipc.Object{{Key: "decoupled", Value: m.IsDecoupled}}},
	})
}

func configured(specs []model.Spec) []ipc.Object {
	all := make([]ipc.Object, len(specs))
	for i, s := range specs {
		all[i] = ipc.Object{{Key: "name", Value: s.Name}, {Key: "data_type", Value: s.ConfigType()}, {Key: "dims", Value: s.Shape}}
	}
	return all
}

func (s *service) index(c *serve.Call) error {
	return c.Process(func(c *serve.Call, body []byte) (*serve.Answer, error) {
		onlyReady := false
		if len(body) > 0 {
			doc, err := document.Parse(body)
			if err != nil {
				return nil, serve.Malformed(err.Error(), "")
			}
			fields, _ := doc.(ipc.Object)
			onlyReady, _ = get(fields, "ready").(bool)
		}
		all := []any{}
		for _, m := range model.Index(c.Pipelines(), onlyReady) {
			all = append(all, ipc.Object{
				{Key: "name", Value: m.Name}, {Key: "version", Value: model.Version}, {Key: "state", Value: m.State}, {Key: "reason", Value: m.Reason},
			})
		}
		text, err := document.Encode(all, "")
		return &serve.Answer{ContentType: typeJSON, Body: append(text, '\n')}, err
	})
}

// infer runs a pipeline.
func (s *service) infer(c *serve.Call) error {
	return c.Process(func(c *serve.Call, body []byte) (*serve.Answer, error) {
		r, err := parseRequest(body, c.Request().Header.Get(headerLength))
		if err != nil {
			return nil, err
		}
		if r.timeout > 0 {
			c.LimitTime(r.timeout)
		}
		m, p, err := s.modelOf(c)
		if err != nil {
			return nil, err
		}
		outputs, err := m.Infer(c, p, r.inputs, r.outputs)
		if err != nil {
			return nil, err
		}
		return r.response(m, outputs)
	})
}
