package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/container"
	"github.com/gophersnake/gophersnake/runner/internal/convert"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/schema"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Describe imports the code of the pipeline's Python nodes, without setting them up.
// It returns the signature, schemas and docstring of every node in the order of the manifest.
// Its error is that of code that cannot be imported, of params and ports that a signature
// does not take, and of connections whose annotations exclude each other; see [Error.Faults].
func (r *Runner) Describe(ctx context.Context) ([]ipc.Description, error) {
	answers := make(map[*node]described)
	if groups := r.describeGroups(); len(groups) > 0 {
		installed, err := r.install(ctx, r.pythonNodes())
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			if err := r.describeNodes(ctx, installed[g.nodes[0]], g, answers); err != nil {
				return nil, classify(err).WithNode(g.as.ID)
			}
		}
	}
	all := make([]ipc.Description, len(r.pipeline.Nodes))
	var faults []error
	for i := range r.pipeline.Nodes {
		n := r.nodes[r.pipeline.Nodes[i].ID]
		if !n.isPython() {
			if n.isRemote {
				d, err := n.describeRemote(ctx)
				all[i], faults = d, append(faults, err)
				continue
			}
			all[i] = ipc.Description{Name: n.config.Type, Kind: n.kind()}
			faults = append(faults, r.checkProgram(ctx, n))
			if n.builtin != nil {
				all[i] = n.builtin.Description()
			}
			continue
		}
		answer := answers[n]
		if answer.Description != nil {
			all[i] = *answer.Description
			faults = append(faults, n.checkInputs(all[i]))
		}
		for _, problem := range answer.Problems {
			faults = append(faults, remoteError(&problem).WithNode(n.id))
		}
		for _, problem := range answer.Fusion {
			faults = append(faults, r.fusionFault(n, &problem))
		}
	}
	for _, c := range r.connectionFindings(all) {
		if c.Verdict == schema.Never {
			hint := "change one of the two annotations; a node whose annotations are not what it gets is declared with @node(types=False)"
			faults = append(faults, NewError(KindManifest, c.text()).WithNode(c.to).WithHint(hint))
		}
	}
	return all, joinFaults(faults)
}

// OpenConnections returns a text for each connection of the pipeline whose annotations do not
// say whether the values fit: some values of the one type are of the other. Nodes without
// annotations, and those with Any, take and return anything; their connections are not listed.
// The descriptions are those that [Runner.Describe] returns. It is safe for concurrent use.
func (r *Runner) OpenConnections(all []ipc.Description) []string {
	var open []string
	for _, c := range r.connectionFindings(all) {
		if c.Verdict == schema.Open {
			open = append(open, c.text())
		}
	}
	return open
}

// connectionFinding is what the schemas at the two ends of a connection say.
type connectionFinding struct {
	schema.Finding
	from, to       string // the ids of the nodes
	returns, takes string // the annotations
	input          string // the name of the input
}

// text names both sides.
func (c *connectionFinding) text() string {
	verb := "never fits"
	if c.Verdict == schema.Open {
		verb = "may not fit"
	}
	text := fmt.Sprintf("%q returns %s, which %s the input %q of %q, %s: %s instead of %s",
		c.from, c.returns, verb, c.input, c.to, c.takes, c.Output, c.Input)
	if c.Path != "" {
		text += " at " + c.Path
	}
	return text
}

// connectionFindings compares the schemas at the ends of each connection. It returns those of
// which both say something, and that do not fit in all cases.
func (r *Runner) connectionFindings(all []ipc.Description) []connectionFinding {
	described := make(map[string]*ipc.Description, len(all))
	for i := range all {
		described[r.pipeline.Nodes[i].ID] = &all[i]
	}
	var findings []connectionFinding
	for _, c := range r.pipeline.Connections {
		from, to := described[c.From], described[c.To]
		if from == nil || to == nil {
			continue
		}
		i := slices.IndexFunc(to.Inputs, func(p ipc.Parameter) bool { return c.Port == "" || p.Name == c.Port })
		if i < 0 || schema.IsAny(from.Output) || schema.IsAny(to.Inputs[i].Schema) {
			continue
		}
		found := schema.Compare(from.Output, to.Inputs[i].Schema)
		if found.Verdict != schema.Fits {
			findings = append(findings, connectionFinding{
				Finding: found, from: c.From, to: c.To,
				returns: from.Returns, input: to.Inputs[i].Name, takes: to.Inputs[i].Annotation,
			})
		}
	}
	return findings
}

// DescribeFile returns the signatures and docstrings of all nodes in a Python file.
// The file is imported by the interpreter that the options and requirements of the
// pipeline p name; p needs no nodes. Its error is that of code that cannot be
// imported; see [Error.Faults].
func DescribeFile(ctx context.Context, file string, p *manifest.Pipeline, opts ...Option) ([]ipc.Description, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, classify(err)
	}
	file, err = filepath.Abs(file)
	if err != nil {
		return nil, classify(err)
	}
	r := &Runner{pipeline: p, options: o}
	py, err := r.preparePython(ctx, new(manifest.Node))
	if err != nil {
		return nil, err
	}
	found, err := r.describe(ctx, py, new(manifest.Node), describeRequest{Base: filepath.Dir(file), File: file})
	if err != nil {
		return nil, err
	}
	var all []ipc.Description
	var faults []error
	for _, d := range found {
		if d.Description != nil {
			all = append(all, *d.Description)
		}
		for _, problem := range d.Problems {
			faults = append(faults, remoteError(&problem))
		}
	}
	return all, joinFaults(faults)
}

// describeRequest is the input of the Python package's describe command, as JSON.
type describeRequest struct {
	Base  string         `json:"base"`
	Nodes []describeNode `json:"nodes,omitempty"`
	File  string         `json:"file,omitempty"`
	// Isolation is nil if the process is not isolated.
	Isolation *ipc.SetupIsolation `json:"isolation,omitempty"`
}

type describeNode struct {
	ID       string     `json:"id"`
	Python   string     `json:"python"`
	NodeType string     `json:"node_type"`
	Params   ipc.Object `json:"params"`
	Ports    []string   `json:"ports"`
	Threads  int        `json:"threads"`
	Fused    bool       `json:"fused"`
}

// described is the command's answer for one node.
type described struct {
	ID          string            `json:"id"`
	Description *ipc.Description  `json:"description"`
	Problems    []ipc.RemoteError `json:"problems"`
	// Fusion are the reasons why the node cannot be fused, if it is to be.
	Fusion []ipc.RemoteError `json:"fusion"`
}

// describeGroup is a group of nodes whose code one process imports.
type describeGroup struct {
	as    *manifest.Node // the process is started like a worker of this node
	nodes []*node
}

// describeGroups groups the Python nodes so that their code is imported as their
// workers import it: a node that is isolated or has an environment of its own is
// alone.
func (r *Runner) describeGroups() []describeGroup {
	var groups []describeGroup
	together := describeGroup{as: new(manifest.Node)}
	for i := range r.pipeline.Nodes {
		config := &r.pipeline.Nodes[i]
		switch n := r.nodes[config.ID]; {
		case !n.isPython():
		case config.Isolation == nil && len(config.PassEnv) == 0 && len(config.Env) == 0 && !hasOwnPython(config) && config.Container == nil:
			together.nodes = append(together.nodes, n)
		default:
			groups = append(groups, describeGroup{as: config, nodes: []*node{n}})
		}
	}
	if len(together.nodes) > 0 {
		groups = append(groups, together)
	}
	return groups
}

// describeNodes adds the answers for the nodes of a group.
func (r *Runner) describeNodes(ctx context.Context, py python, g describeGroup, answers map[*node]described) error {
	request := describeRequest{Base: r.pipeline.Base}
	for _, n := range g.nodes {
		request.Nodes = append(request.Nodes, describeNode{
			ID: n.id, Python: n.python, NodeType: n.config.Type, Params: n.config.OrderedParams(), Ports: n.ports(),
			Threads: n.config.Workers.Threads, Fused: n.chain != nil,
		})
	}
	found, err := r.describe(ctx, py, g.as, request)
	if err != nil {
		return err
	}
	if len(found) != len(g.nodes) {
		return NewError(KindTransport, fmt.Sprintf("asked for %d nodes, got %d", len(g.nodes), len(found)))
	}
	for i, n := range g.nodes {
		answers[n] = found[i]
	}
	return nil
}

// describe runs the describe command in an interpreter that is started like a worker
// of a node.
func (r *Runner) describe(ctx context.Context, py python, n *manifest.Node, request describeRequest) ([]described, error) {
	as := worker.Config{Env: workerEnv(n, r.options.passEnv)}
	r.isolate(&as, n, py)
	request.Isolation = as.Setup.Isolation
	input, err := json.Marshal(request)
	if err != nil {
		return nil, Wrap(err, KindSerialization, "the nodes' params")
	}
	args, env := []string{py.pkg, "describe"}, as.Env
	if inside := r.container(n, py); inside != nil {
		mounts := []container.Mount{{Host: py.pkg, Path: py.pkg}}
		args, env = inside.Command(container.Options{Dir: request.Base, Env: env, Stdin: true, Mounts: mounts}, args...)
	}
	cmd := exec.CommandContext(ctx, py.interpreter, args...)
	cmd.Dir, cmd.Env = request.Base, env
	cmd.Stdin = bytes.NewReader(input)
	stdout, stderr := boundedBuffer{most: maxDescriptions}, boundedBuffer{most: maxDescriptions}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := runAs(cmd, as.Isolation); err != nil {
		if ctx.Err() != nil {
			return nil, classify(context.Cause(ctx))
		}
		if e := isolationError(err); e != nil {
			return nil, e
		}
		e := Wrap(err, KindPythonVM, "the interpreter that looked at the nodes ended")
		e.StderrTail = strings.TrimSpace(stderr.buffer.String())
		return nil, e
	}
	var output struct {
		Nodes []described `json:"nodes"`
	}
	if err := json.Unmarshal(stdout.buffer.Bytes(), &output); err != nil {
		return nil, Wrap(err, KindSerialization, fmt.Sprintf("the nodes' description %.200q", stdout.buffer.String()))
	}
	for _, each := range output.Nodes {
		if each.Description == nil {
			continue
		}
		if err := each.Description.Check(); err != nil {
			return nil, Wrap(err, KindTransport, "")
		}
	}
	return output.Nodes, nil
}

// maxDescriptions bounds what the describe command may write to each of its outputs.
const maxDescriptions = 64 << 20

// boundedBuffer is a buffer that refuses more than a number of bytes. It does not embed the
// buffer, whose method ReadFrom has no bound.
type boundedBuffer struct {
	buffer bytes.Buffer
	most   int
}

// Write appends p, or fails if that would be more than the bound.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > b.most {
		return 0, fmt.Errorf("the output has more than %d bytes", b.most)
	}
	return b.buffer.Write(p)
}

// Handle calls a pipeline or a node with Go types that have been compared with the node's
// annotations. [Bind] and [BindNode] return one. It is safe for concurrent use.
type Handle[In, Out any] struct {
	call func(ctx context.Context, input any) (any, error)
	node string // empty for the pipeline
}

// Call is [Call] or [CallNode] with the types of the handle.
func (h *Handle[In, Out]) Call(ctx context.Context, input In) (Out, error) {
	v, err := h.call(ctx, input)
	out, err := typed[Out](v, err)
	if err != nil && h.node != "" {
		return out, AsError(err).WithNode(h.node)
	}
	return out, err
}

// StreamHandle opens streams with Go types that have been compared with the annotations of
// the nodes; see [BindStream]. It is safe for concurrent use.
type StreamHandle[In, Out any] struct{ runner *Runner }

// Open is [OpenStream] with the types of the handle.
func (h *StreamHandle[In, Out]) Open(ctx context.Context, opts ...StreamOption) (*TypedStream[In, Out], error) {
	return OpenStream[In, Out](ctx, h.runner, opts...)
}

// Bind returns a handle that takes inputs of type In through the pipeline, and returns
// results of type Out. It compares both types with the annotations of the nodes, so that a
// type that does not fit is an error now, and not in some later call:
//
//   - In must fit the input of each node that takes the pipeline's input. An In of which only
//     some values fit is accepted: a float64 for an int, or a pointer for what must not be
//     None.
//   - Everything that the annotation of the result allows must fit Out: int for
//     Optional[int] is an error, and *int is not. Exempt are the ranges of numbers, the sizes
//     of lists and arrays, and text that a type parses. If no field of a struct has a key
//     of the result, that is an error, too.
//   - What is not annotated, or annotated with Any, fits every type, and so does a Go
//     function; see [WithNode].
//
// The shape of the result is that of [Runner.Run]: a map by node id if there are several
// sinks, and lists if a node yields many values.
//
// Bind starts the runner if needed, as a call does, because the workers have the
// annotations. The comparison takes less than a millisecond. [Runner.Reload] does not
// compare again; after one, call Bind again, or rely on the errors of the calls.
//
// The error is of kind [KindMarshaling]. Its text names both sides, as in
// input.items[].price: In.Items[].Price is float64, but "total" takes text. If several do
// not fit, it joins the faults; see [Error.Faults].
func Bind[In, Out any](ctx context.Context, r *Runner) (*Handle[In, Out], error) {
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	ends := r.inputEnds(reflect.TypeFor[In]())
	if err := compareEnds(append(ends, r.resultEnd(reflect.TypeFor[Out]()))); err != nil {
		return nil, err
	}
	return &Handle[In, Out]{call: r.Run}, nil
}

// BindNode is [Bind] for the node with the given id alone, as [Runner.Node] calls it.
func BindNode[In, Out any](ctx context.Context, r *Runner, id string) (*Handle[In, Out], error) {
	n := r.nodes[id]
	if n == nil {
		return nil, r.unknownNode(id)
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	err := compareEnds([]boundEnd{
		{reflect.TypeFor[In](), convert.Sent, n.inputSchema(), n.id},
		{reflect.TypeFor[Out](), convert.Decoded, n.resultSchema(true), n.id},
	})
	if err != nil {
		return nil, err
	}
	return &Handle[In, Out]{call: r.Node(id).Call, node: id}, nil
}

// BindStream is [Bind] for streams through the pipeline. In and Out are the types of single
// items. If there are several sinks, the items of each must fit Out.
func BindStream[In, Out any](ctx context.Context, r *Runner) (*StreamHandle[In, Out], error) {
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	ends := r.inputEnds(reflect.TypeFor[In]())
	for _, id := range r.plan.Sinks() {
		ends = append(ends, boundEnd{reflect.TypeFor[Out](), convert.Decoded, r.nodes[id].resultSchema(false), id})
	}
	if err := compareEnds(ends); err != nil {
		return nil, err
	}
	return &StreamHandle[In, Out]{r}, nil
}

// boundEnd is a Go type at one end of a pipeline or a node.
type boundEnd struct {
	goType    reflect.Type
	direction convert.Direction
	schema    ipc.Schema // of the node
	node      string     // empty for the pipeline
}

// inputEnds returns the ends at which a type goes into the pipeline.
func (r *Runner) inputEnds(in reflect.Type) []boundEnd {
	var ends []boundEnd
	for _, n := range r.order {
		if len(n.inputs) == 0 {
			ends = append(ends, boundEnd{in, convert.Sent, n.inputSchema(), n.id})
		}
	}
	return ends
}

// resultEnd returns the end at which a type comes out of [Runner.Run].
func (r *Runner) resultEnd(out reflect.Type) boundEnd {
	sinks := r.plan.Sinks()
	results := make(map[string][]byte, len(sinks))
	for _, id := range sinks {
		results[id] = r.nodes[id].resultSchema(false)
		if r.gathers {
			results[id] = schema.List(results[id])
		}
	}
	if len(sinks) == 1 {
		return boundEnd{out, convert.Decoded, results[sinks[0]], sinks[0]}
	}
	return boundEnd{out, convert.Decoded, schema.Record(results), ""}
}

// inputSchema returns the schema of the input that [Node.Call] takes, empty for any. The
// runner has been started.
func (n *node) inputSchema() ipc.Schema {
	d := n.description.Load()
	if d == nil || len(d.Inputs) == 0 {
		return nil
	}
	if len(n.inputs) < 2 || n.merges {
		return d.Inputs[0].Schema
	}
	ports := make(map[string][]byte, len(d.Inputs))
	for _, p := range d.Inputs {
		ports[p.Name] = p.Schema
	}
	return schema.Record(ports)
}

// resultSchema returns the schema of a value of the node, or of what [Node.Call] returns.
func (n *node) resultSchema(ofCall bool) ipc.Schema {
	d := n.description.Load()
	switch {
	case d == nil:
		return nil
	case ofCall && n.Kind() != flow.Single:
		return schema.List(d.Output)
	}
	return d.Output
}

// compareEnds returns the faults of Go types that do not fit.
func compareEnds(ends []boundEnd) error {
	var faults []error
	for _, end := range ends {
		actor := "the pipeline"
		if end.node != "" {
			actor = strconv.Quote(end.node)
		}
		if err := convert.Compare(end.goType, end.direction, end.schema, actor); err != nil {
			faults = append(faults, classify(err).WithNode(end.node).WithOperation("bind"))
		}
	}
	return joinFaults(faults)
}
