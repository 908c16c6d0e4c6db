package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/builtin"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// NodeFunc is a node written in Go. It runs under the same retry policy and circuit
// breaker as a Python node. It must not change its inputs, because other nodes may
// have the same values.
//
// Its inputs and its result are converted as those of a Python node are: it gets an int64
// for any integer, a map[string]any for a struct, and so on; the package comment lists the
// types. A result that cannot be sent fails the call with an error of [KindMarshaling]. So a
// test can put a NodeFunc in the place of a Python node, and the rest of the program sees
// values of the same types. The timeout and the limits of the manifest do not apply to a
// NodeFunc: it should return when ctx ends.
type NodeFunc func(ctx context.Context, in Input) (any, error)

// Input is what a [NodeFunc] is called with.
type Input struct {
	// Value is the input of a node that has a single one.
	Value any
	// Ports are the inputs by port, if the connections name ports.
	Ports map[string]any
	// Params are the node's params in the manifest.
	Params map[string]any
}

// node is a node of a pipeline with its retry policy and circuit breaker. It calls a
// pool of Python workers, or a Go function. It implements [flow.Node].
type node struct {
	id     string
	config *manifest.Node
	inputs []manifest.Connection // to the node
	merges bool                  // it takes the values of all inputs one by one
	entry  *entry                // the scheduler's state of the node
	emit   func(Event)           // nil without WithEvents
	watch  *tracing.Node         // nil without WithTracerProvider and WithMeasurements
	calls  flow.Node             // the node itself, or inside its interceptors

	builtin  *builtin.Type  // nil unless the code of the node is gophersnake's own
	fn       NodeFunc       // nil for a Python node
	params   map[string]any // of a Go node, as a Python node gets them
	consumer *ipc.Domain    // the domain of the first Python node that takes the node's values; nil if none does
	arena    *ipc.Arena     // shared memory for the values that a Go node returns

	isRemote  bool       // it runs on another machine
	executor  Executor   // that calls it there
	scheduler *Scheduler // with its breakers, one for each machine
	policy    NodePolicy // these have its breaker
	machines  machines

	chain *chain // that it is fused into; nil for none
	place uint32 // in the chain, from 1; 0 without one

	python      string        // location of a Python node's code
	domain      ipc.Domain    // of the workers
	engine      engine.Engine // of a module or an executable; set by Start, the runner's lock guards it
	pool        *pool.Pool    // set by Start; the runner's lock guards it. A chain has one
	installed   python        // what the workers run; set by Start
	noInput     bool          // the Python code takes no input; set by Start
	replayBytes int64         // bounds the items that a session keeps to replay them
	// description is that of the code that workers run; a reload may change it.
	description atomic.Pointer[ipc.Description]
}

func newNode(p *manifest.Pipeline, config *manifest.Node, o *options, scheduler *Scheduler) (*node, error) {
	n := &node{id: config.ID, config: config, emit: o.events, executor: o.executor, scheduler: scheduler}
	for _, c := range p.Connections {
		if c.To == n.id {
			n.inputs = append(n.inputs, c)
		}
	}
	n.merges = len(n.inputs) > 1 && len(n.ports()) == 0
	if err := n.findCode(p, o); err != nil {
		return nil, err.WithNode(n.id)
	}
	policy, err := nodePolicy(config, o.nodePolicy())
	if err != nil {
		return nil, err
	}
	n.policy = policy
	if n.isRemote {
		policy.Breaker = nil // each machine has one
	}
	if err := scheduler.Configure(n.id, policy); err != nil {
		return nil, err
	}
	n.entry = scheduler.node(n.id)
	if n.fn != nil {
		if err := n.setParams(); err != nil {
			return nil, err
		}
	}
	if config.Isolation != nil {
		n.domain = ipc.NewDomain()
	}
	return n, nil
}

// DescribeBuiltins returns the signatures and descriptions of the built-in node types, in the
// order of their names. A manifest may name them without giving their code.
func DescribeBuiltins() []ipc.Description {
	var all []ipc.Description
	for _, t := range builtin.All() {
		if t.Refused == "" {
			all = append(all, t.Description())
		}
	}
	return all
}

// setParams sets the params of a Go node.
func (n *node) setParams() error {
	v, err := arrived("params", n.config.Params)
	if err != nil {
		return Wrap(err, KindManifest, "").WithNode(n.id)
	}
	n.params, _ = v.(map[string]any)
	return nil
}

// arrived returns a Go value as it arrives after it was sent.
func arrived(root string, v any) (any, error) {
	sent, err := flow.Plain(root, v)
	if err != nil {
		return nil, err
	}
	return sent.Decode(root)
}

// nodePolicy returns the default policy, changed by the retry and breaker fields of the
// node's manifest.
func nodePolicy(config *manifest.Node, policy NodePolicy) (NodePolicy, error) {
	policy.Idempotent = config.Idempotent
	if r := config.Retry; r != nil {
		switch r.Mode {
		case manifest.RetryNone:
			policy.Policy = retry.None()
		case manifest.RetryFixed:
			policy.Policy = retry.Fixed(r.MaxAttempts, r.Base)
		default:
			policy.Policy = retry.Exponential(r.MaxAttempts, r.Base, r.Multiplier, r.Max)
		}
		policy.Policy.Jitter, policy.Policy.Budget = r.Jitter, r.Budget
		for _, name := range r.On {
			kind, err := ParseKind(name)
			if err != nil {
				return policy, Wrap(err, KindManifest, "").WithNode(config.ID)
			}
			policy.On = append(policy.On, kind)
		}
		policy.Never = r.Never
	}
	if b := config.Breaker; b != nil {
		policy.Breaker = &retry.BreakerConfig{Failures: b.Failures, CoolDown: b.CoolDown, Probes: b.Probes}
		policy.Ignore = b.Ignore
		if b.Disabled {
			policy.Breaker = nil
		}
	}
	return policy, nil
}

func (n *node) isPython() bool { return n.kind() == "python" }

// ports returns the keyword arguments that the node's inputs are passed as.
func (n *node) ports() []string {
	var ports []string
	for _, c := range n.inputs {
		if c.Port != "" {
			ports = append(ports, c.Port)
		}
	}
	return ports
}

// Kind returns how the node takes the items of a stream.
func (n *node) Kind() flow.Kind {
	switch d := n.description.Load(); {
	case d == nil: // it is not Python
		return flow.Single
	case d.Stateful:
		return flow.Stateful
	case d.Many:
		return flow.Generator
	}
	return flow.Single
}

// Probing reports whether the node's circuit breaker is not closed.
func (n *node) Probing() bool { return n.entry.settings.Load().breaker.State() != retry.Closed }

// Call runs the node under its policy and breaker and returns its value.
func (n *node) Call(ctx context.Context, in flow.Inputs) (out flow.Value, err error) {
	started := n.noteStarted()
	ctx, c := n.begin(ctx, "call", &in)
	switch {
	case n.isPython():
		args := n.args(&in)
		var call struct { // one allocation for both
			payload ipc.Payload
			op      pool.Operation // alone as soon as a worker has ended during the call
		}
		call.op.Report, call.op.Member = c.Report(), n.place
		err = n.entry.execute(ctx, c, func(ctx context.Context, attempt int) (err error) {
			if call.payload, err = n.pool.Call(ctx, c.Args(args.WithAttempt(attempt)), &call.op); err != nil {
				call.op.Alone = call.op.Alone || pool.FateOf(err).EndedWorker()
				return n.fault(err)
			}
			return nil
		})
		out = flow.Value{Payload: call.payload, Encoded: err == nil}
	case n.isRemote:
		if out, err = n.callRemote(ctx, c, &in); err == nil && out.Left == nil {
			out, err = n.shared(ctx, out.Payload)
		}
	case n.fn != nil:
		out, err = n.callGo(ctx, c, &in)
	default:
		out, err = n.callEngine(ctx, c, &in)
	}
	if c != nil {
		c.End(out.Payload.Size(), err)
	}
	n.noteFinished(started, err)
	return out, err
}

// Generate runs a generator under its policy and breaker. An attempt after a failed
// one must yield the same values again; those that have been emitted are dropped.
func (n *node) Generate(ctx context.Context, in flow.Inputs, emit flow.Emit) error {
	started := n.noteStarted()
	ctx, c := n.begin(ctx, "call", &in)
	values := replay{emit: emit}
	if n.isRemote {
		err := n.generateRemote(ctx, c, &in, values.attempt())
		c.EndMany(values.emitted, err)
		n.noteFinished(started, err)
		return err
	}
	args := n.args(&in)
	op := pool.Operation{Report: c.Report()}
	err := n.entry.execute(ctx, c, func(ctx context.Context, attempt int) error {
		if err := n.pool.Items(ctx, c.Args(args.WithAttempt(attempt)), &op, values.attempt); err != nil {
			op.Alone = op.Alone || pool.FateOf(err).EndedWorker()
			return n.fault(err)
		}
		return nil
	})
	c.EndMany(values.emitted, err)
	n.noteFinished(started, err)
	return err
}

// begin starts what watches an operation of the node. The context is for the operation; the
// caller ends the call, which is nil if nothing watches.
func (n *node) begin(ctx context.Context, operation string, in *flow.Inputs) (context.Context, *tracing.Call) {
	if n.watch == nil {
		return ctx, nil
	}
	return n.watch.Begin(ctx, operation, in.Size())
}

// fault classifies an error of the node's pool. If a worker did not start, the hint says
// whether the files that it runs are damaged.
func (n *node) fault(err error) *Error {
	e := classify(err)
	if _, ok := errors.AsType[*worker.StartError](err); ok {
		if damage := n.installed.damage(); damage != "" {
			e = e.with(func(e *Error) {
				e.Hint = "the installation is damaged: " + damage + "; start the pipeline again, which repairs it"
			})
		}
	}
	return e
}

// noteStarted emits NodeStarted and returns the time. Without WithEvents it does
// nothing and returns the zero time.
func (n *node) noteStarted() time.Time {
	if n.emit == nil {
		return time.Time{}
	}
	now := time.Now()
	n.emit(NodeStarted{Node: n.id, Time: now})
	return now
}

// noteFinished emits NodeFinished, unless there is no WithEvents.
func (n *node) noteFinished(started time.Time, err error) {
	if n.emit != nil {
		n.emit(NodeFinished{Node: n.id, Time: time.Now(), Took: time.Since(started), Err: err})
	}
}

// args returns the arguments of a call of a Python node.
func (n *node) args(in *flow.Inputs) ipc.Args {
	switch {
	case n.noInput:
		return ipc.Args{}
	case len(n.inputs) == 0 || n.inputs[0].Port == "":
		return ipc.OneArg(in.First.Payload)
	}
	ports := make([]ipc.Port, len(n.inputs))
	for i, c := range n.inputs {
		ports[i] = ipc.Port{Name: c.Port, Value: in.At(i).Payload}
	}
	return ipc.Args{Ports: ports}
}

// callGo runs a Go node under its policy and breaker. Its value is encoded here, once for
// all nodes that take it.
func (n *node) callGo(ctx context.Context, c *tracing.Call, in *flow.Inputs) (out flow.Value, err error) {
	input, err := n.goInput(in)
	if err != nil {
		return flow.Value{}, classify(err).WithNode(n.id)
	}
	err = n.entry.execute(ctx, c, func(ctx context.Context, _ int) error {
		v, err := n.callFunc(ctx, input)
		if err != nil {
			return goError(ctx, err)
		}
		out, err = n.encodedResult(ctx, v)
		return err
	})
	return out, err
}

// encoded returns the inputs of a call whose input is a Go value: the value, or the values
// of all ports. The caller releases them.
func (n *node) encoded(ctx context.Context, input any) (in flow.Inputs, err error) {
	encode := func(root string, v any) (flow.Value, error) {
		if n.isPython() {
			return flow.Encode(ctx, n.arena, n.domain, root, v)
		}
		return flow.Plain(root, v)
	}
	switch {
	case n.noInput:
		return in, nil
	case len(n.inputs) < 2 || n.merges:
		in.First, err = encode("input", input)
		return in, err
	}
	ports, err := n.byPort(input)
	if err != nil {
		return in, err
	}
	for i, c := range n.inputs {
		v, err := encode("input."+c.Port, ports[c.Port])
		if err != nil {
			in.Release()
			return flow.Inputs{}, err
		}
		if i == 0 {
			in.First = v
		} else {
			in.Rest = append(in.Rest, v)
		}
	}
	return in, nil
}

// byPort returns the values of the ports, which are the members of a map or a struct.
func (n *node) byPort(input any) (map[string]any, error) {
	ports, ok := input.(map[string]any)
	if members, isObject := input.(ipc.Object); isObject {
		ports, ok = make(map[string]any, len(members)), true
		for _, m := range members {
			ports[m.Key] = m.Value // as it is, so that an object in it keeps its order
		}
	}
	if !ok {
		v, err := arrived("input", input)
		if err != nil {
			return nil, err
		}
		ports, ok = v.(map[string]any)
	}
	missing := func(port string) bool { _, ok := ports[port]; return !ok }
	if !ok || len(ports) != len(n.inputs) || slices.ContainsFunc(n.ports(), missing) {
		e := NewError(KindMarshaling, fmt.Sprintf("expected a map with the keys %s, one for each port of the node", strings.Join(n.ports(), ", ")))
		e.Path = "input"
		return nil, e
	}
	return ports, nil
}

// decoded returns the inputs of a call as [node.encoded] takes them.
func (n *node) decoded(in *flow.Inputs) (any, error) {
	if len(n.inputs) < 2 || n.merges {
		return in.First.Decode("input")
	}
	ports := make(map[string]any, len(n.inputs))
	for i, c := range n.inputs {
		v, err := in.At(i).Decode("input." + c.Port)
		if err != nil {
			return nil, err
		}
		ports[c.Port] = v
	}
	return ports, nil
}

// encodedResult encodes a value of the node, once for all nodes that take it.
func (n *node) encodedResult(ctx context.Context, v any) (out flow.Value, err error) {
	if n.consumer == nil {
		out, err = flow.Plain("result", v)
	} else {
		out, err = flow.Encode(ctx, n.arena, *n.consumer, "result", v)
	}
	if err != nil {
		return out, classify(err).WithNode(n.id).WithOperation("encode the result")
	}
	return out, nil
}

// shared returns a value from another machine, in shared memory if a Python node takes it.
func (n *node) shared(ctx context.Context, p ipc.Payload) (out flow.Value, err error) {
	if n.consumer != nil && len(p.Buffers) > 0 {
		if p, err = n.arena.Share(ctx, *n.consumer, p); err != nil {
			return out, classify(err).WithNode(n.id).WithOperation("read the result")
		}
	}
	return flow.Value{Payload: p, Encoded: true}, nil
}

// goInput decodes the inputs of a Go node.
func (n *node) goInput(in *flow.Inputs) (Input, error) {
	input := Input{Params: n.params}
	if len(n.inputs) == 0 || n.merges {
		var err error
		input.Value, err = in.First.Decode("input")
		return input, err
	}
	for i, c := range n.inputs {
		v, err := in.At(i).Decode("input")
		if err != nil {
			return input, err
		}
		if c.Port == "" {
			input.Value = v
			continue
		}
		if input.Ports == nil {
			input.Ports = make(map[string]any, len(n.inputs))
		}
		input.Ports[c.Port] = v
	}
	return input, nil
}

// callFunc calls the function of a Go node. A panic is an error of the node.
func (n *node) callFunc(ctx context.Context, in Input) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = NewError(KindExecution, fmt.Sprintf("the Go node panicked: %v", p)).WithMetadata("stack", string(debug.Stack()))
		}
	}()
	return n.fn(progress.Within(ctx, n.id), in)
}

// goError returns the error of a Go node with a kind. An error that has none is a
// failure of the node's code, as a Python exception is.
func goError(ctx context.Context, err error) *Error {
	if KindOf(err) != KindOther || ctx.Err() != nil {
		return AsError(err)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return AsError(err)
	}
	return Wrap(err, KindExecution, "")
}
