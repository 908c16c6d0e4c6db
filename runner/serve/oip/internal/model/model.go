// Package model maps pipelines to models of the Open Inference Protocol: tensors to the input
// of a pipeline, its results to tensors, and the schemas of its nodes to metadata. The guide
// docs/inference-protocol.md states the mapping.
package model

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/tensor"
)

// ServerVersion returns the version of this module in the program.
func ServerVersion() string {
	const module = "github.com/gophersnake/gophersnake"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return ""
}

// Version is the only version of each model.
const Version = "1"

// Platform is the platform of each model.
const Platform = "gophersnake"

// Extensions are the extensions of the protocol that the server knows.
var Extensions = []string{"binary_tensor_data", "model_configuration", "model_repository"}

// Model is a pipeline as a model. It is safe for concurrent use.
type Model struct {
	Name            string
	Inputs, Outputs []Spec
	// IsDecoupled reports whether a request has any number of responses.
	IsDecoupled bool

	// parameter is the name of the input, empty if the pipeline takes none.
	parameter string
	input     schema
	// hasAllOutputs says that Outputs has all of them.
	hasAllOutputs bool
	// sinks are the nodes that outputs are named after, if there are several.
	sinks []string
}

// Spec describes an input or an output. A dimension that is not known is -1, and a datatype
// that is not known is empty.
type Spec struct {
	Name       string
	Type       tensor.Type
	Shape      []int
	IsOptional bool
}

// ConfigType returns the name of the datatype in the configuration of Triton.
func (s *Spec) ConfigType() string {
	switch s.Type {
	case "":
		return "TYPE_INVALID"
	case tensor.Bytes:
		return "TYPE_STRING"
	}
	return "TYPE_" + string(s.Type)
}

// Entry is a model in the index of the repository.
type Entry struct{ Name, State, Reason string }

// Index returns the models of pipelines, or those that are ready.
func Index(pipelines []*serve.Pipeline, onlyReady bool) []Entry {
	var all []Entry
	for _, p := range pipelines {
		e := Entry{Name: p.Name(), State: "READY"}
		isReady, reason := p.IsReady()
		if !isReady {
			e.State, e.Reason = "UNAVAILABLE", reason
		}
		if isReady || !onlyReady {
			all = append(all, e)
		}
	}
	return all
}

// Output is the name of the only output of a pipeline whose result is no map.
const Output = "output"

// Models keeps the models of pipelines. It is safe for concurrent use. The zero value is ready
// for use.
type Models struct {
	mu     sync.Mutex
	byName map[string]kept
}

type kept struct {
	// description is that of the first node. It is another one when the code was loaded again.
	description *ipc.Description
	model       *Model
}

// Of returns the model of a pipeline. It may import the code of the nodes in a process of its own.
func (m *Models) Of(ctx context.Context, p *serve.Pipeline) (*Model, error) {
	nodes, err := p.Describe(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx) // whatever it has interrupted
	}
	if err != nil {
		return nil, err
	}
	first := nodes[p.Runner().Pipeline().Order()[0]]
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.byName[p.Name()]; k.model != nil && k.description == first {
		return k.model, nil
	}
	if m.byName == nil {
		m.byName = make(map[string]kept)
	}
	made := newModel(p, nodes)
	m.byName[p.Name()] = kept{first, made}
	return made, nil
}

func newModel(p *serve.Pipeline, nodes map[string]*ipc.Description) *Model {
	m := &Model{Name: p.Name(), Inputs: []Spec{}, Outputs: []Spec{}}
	graph := p.Runner().Pipeline().Graph()
	for _, id := range graph.Order() {
		d := nodes[id]
		m.IsDecoupled = m.IsDecoupled || d.Many || d.Stateful || graph.Merges(id)
	}
	for _, id := range graph.Sources() {
		if m.takeInput(nodes[id]) {
			break
		}
	}
	sinks := graph.Sinks()
	if len(sinks) > 1 {
		m.sinks, m.hasAllOutputs = sinks, true
		for _, id := range sinks {
			m.Outputs = append(m.Outputs, parseSchema(nodes[id].Output).spec(id))
		}
		return m
	}
	output := parseSchema(nodes[sinks[0]].Output)
	m.Outputs = specs(Output, output)
	_, isObject := output.of("object", kindAny)
	m.hasAllOutputs = !isObject || len(output.properties()) > 0
	return m
}

// documentSchema is that of the input of a node that is no Python and exchanges JSON.
var documentSchema = parseSchema(ipc.Schema(`{"anyOf":[{"type":"number"},{"type":"array"},{"type":"string"},
	{"type":"object","additionalProperties":{"anyOf":[{"type":"number"},{"type":"array"},{"type":"string"}]}}]}`))

// takeInput makes the input of a node that of the model. It returns false if the node has none.
func (m *Model) takeInput(d *ipc.Description) bool {
	switch {
	case len(d.Inputs) > 0:
		m.parameter, m.input = d.Inputs[0].Name, parseSchema(d.Inputs[0].Schema)
		m.Inputs = specs(m.parameter, m.input)
	case d.Kind == "class", d.Kind == "function":
		return false // a node in Python without an input
	default: // it has no annotations
		m.parameter = "input"
		m.Inputs = specs(m.parameter, m.input)
		if d.Kind != "go" {
			m.input = documentSchema
		}
	}
	return true
}

// specs returns the tensors of the values of a schema: one for each member of an object, or one
// with the given name. An object whose members are not known has none.
func specs(name string, s schema) []Spec {
	all := []Spec{}
	properties := s.properties()
	for _, p := range properties {
		spec := s.at(p.Value).spec(p.Key)
		spec.IsOptional = !s.isRequired(p.Key)
		all = append(all, spec)
	}
	if _, isObject := s.of("object"); isObject {
		return all
	}
	return append(all, s.spec(name))
}

// CheckVersion returns an error if a request names a version that does not exist.
func CheckVersion(name, version string) error {
	if version != "" && version != Version {
		return serve.NotFound(fmt.Sprintf("the model %q has no version %q", name, version), "its version is "+Version)
	}
	return nil
}

// Infer runs the pipeline of the model for a call, when its turn has come. If the request names
// outputs, it returns these.
func (m *Model) Infer(c *serve.Call, p *serve.Pipeline, inputs []*tensor.Tensor, wanted []string) ([]*tensor.Tensor, error) {
	done, err := c.Turn()
	if err != nil {
		return nil, err
	}
	defer done()
	if err := m.CheckOutputs(wanted); err != nil {
		return nil, err
	}
	input, err := m.Input(inputs)
	if err != nil {
		return nil, err
	}
	result, err := p.Runner().Run(c.Context(), input)
	if err != nil {
		return nil, err
	}
	return m.Results(result, wanted)
}

// CheckOutputs returns an error if one of the outputs that a request names cannot exist.
func (m *Model) CheckOutputs(wanted []string) error {
	if !m.hasAllOutputs {
		return nil
	}
	names := make([]string, len(m.Outputs))
	for i := range m.Outputs {
		names[i] = m.Outputs[i].Name
	}
	return missing(wanted, names)
}

// missing returns an error if one of the outputs that a request names is not among the names.
func missing(wanted, names []string) error {
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	for _, name := range wanted {
		if !known[name] {
			return serve.Malformed(fmt.Sprintf("there is no output %q", name), "the outputs are "+strings.Join(names, ", "))
		}
	}
	return nil
}
