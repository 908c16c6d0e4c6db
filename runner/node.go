package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// NodeFunc is a node written in Go. It runs under the same retry policy and
// breaker as a Python node. The values that it is given are shared with other
// nodes where the pipeline fans out, so it must not change them.
type NodeFunc func(ctx context.Context, in Input) (any, error)

// Input is what a Go node is given.
type Input struct {
	// Value is the node's input, where it has a single one.
	Value any
	// Ports holds the inputs by port, where the connections name ports.
	Ports map[string]any
	// Params are the node's params in the manifest.
	Params map[string]any
}

// node is a node of a running pipeline: either a pool of Python workers or a Go
// function, behind its retry policy and breaker.
type node struct {
	id     string
	config *manifest.Node
	entry  *entry // the scheduler's state for this node
	emit   func(Event)

	fn NodeFunc // nil for a Python node

	python  string     // where a Python node's code is
	pool    *pool.Pool // set by Start under the runner's lock, as is:
	noInput bool       // the Python function takes no input
	// description is what the workers said of the code; each reload may change it.
	description atomic.Pointer[ipc.Description]
}

// describe takes in what a worker said of the node's code.
func (n *node) describe(d ipc.Description) {
	n.noInput = len(d.Inputs) == 0
	n.description.Store(&d)
}

func newNode(p *manifest.Pipeline, config *manifest.Node, o *options, scheduler *Scheduler) (*node, error) {
	n := &node{id: config.ID, config: config, emit: o.events, fn: o.nodes[config.Type], python: config.Python}
	if n.fn == nil && n.python == "" {
		n.python = p.Python
	}
	if n.fn == nil && n.python == "" {
		return nil, NewError(KindManifest, fmt.Sprintf("there is no node type %q", config.Type)).WithNode(n.id).
			WithHint("say where its Python code is (python: nodes.py), or give it a Go function with runner.WithNode")
	}
	policy, err := nodePolicy(config, o.nodePolicy())
	if err != nil {
		return nil, err
	}
	if err := scheduler.Configure(n.id, policy); err != nil {
		return nil, err
	}
	n.entry = scheduler.node(n.id)
	return n, nil
}

// nodePolicy is what the manifest says of a node's retries and breaker, over
// the defaults.
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
	}
	if b := config.Breaker; b != nil {
		policy.Breaker = &retry.BreakerConfig{Failures: b.Failures, CoolDown: b.CoolDown, Probes: b.Probes}
		if b.Disabled {
			policy.Breaker = nil
		}
	}
	return policy, nil
}

func (n *node) isPython() bool { return n.fn == nil }

// run runs the node once under its policy, taking its inputs from the steps
// before it, or the run's input where there are none.
func (n *node) run(ctx context.Context, s *step, from func(input) value, runInput value) (value, error) {
	started := n.started()
	out, err := n.attempt(ctx, s, from, runInput)
	n.finished(started, err)
	return out, err
}

func (n *node) started() time.Time {
	if n.emit == nil {
		return time.Time{}
	}
	now := time.Now()
	n.emit(NodeStarted{Node: n.id, Time: now})
	return now
}

func (n *node) finished(started time.Time, err error) {
	if n.emit != nil {
		n.emit(NodeFinished{Node: n.id, Time: time.Now(), Took: time.Since(started), Err: err})
	}
}

func (n *node) attempt(ctx context.Context, s *step, from func(input) value, runInput value) (value, error) {
	if n.isPython() {
		return n.callPython(ctx, n.args(s, from, runInput))
	}
	in, err := n.goInput(s, from, runInput)
	if err != nil {
		return value{}, err
	}
	return n.callGo(ctx, in, s)
}

func (n *node) args(s *step, from func(input) value, runInput value) ipc.Args {
	switch {
	case n.noInput:
		return ipc.Args{}
	case len(s.inputs) == 0:
		return ipc.OneArg(runInput.payload)
	case s.inputs[0].port == "":
		v := from(s.inputs[0])
		return ipc.OneArg(v.payload)
	}
	ports := make([]ipc.Port, len(s.inputs))
	for i, in := range s.inputs {
		ports[i] = ipc.Port{Name: in.port, Value: from(in).payload}
	}
	return ipc.Args{Ports: ports}
}

func (n *node) callPython(ctx context.Context, args ipc.Args) (value, error) {
	var out value
	err := n.entry.execute(ctx, func(ctx context.Context) error {
		payload, err := n.pool.Call(ctx, args)
		if err != nil {
			return classify(err).WithNode(n.id)
		}
		out = value{payload: payload, encoded: true}
		return nil
	})
	return out, err
}

func (n *node) goInput(s *step, from func(input) value, runInput value) (Input, error) {
	in := Input{Params: n.config.Params}
	if len(s.inputs) == 0 {
		in.Value = runInput.native
		return in, nil
	}
	for _, src := range s.inputs {
		v, err := from(src).decode("input")
		if err != nil {
			return in, err
		}
		if src.port == "" {
			in.Value = v
			continue
		}
		if in.Ports == nil {
			in.Ports = make(map[string]any, len(s.inputs))
		}
		in.Ports[src.port] = v
	}
	return in, nil
}

func (n *node) callGo(ctx context.Context, in Input, s *step) (value, error) {
	var out value
	err := n.entry.execute(ctx, func(ctx context.Context) error {
		v, err := n.callFunc(ctx, in)
		if err != nil {
			return goError(ctx, err).WithNode(n.id)
		}
		out = value{native: v}
		if s.encode != nil {
			payload, err := s.encode(ctx, "result", v)
			if err != nil {
				return err.WithNode(n.id).WithOperation("encode the result")
			}
			out.payload, out.encoded = payload, true
		}
		return nil
	})
	return out, err
}

// goError is the error of a Go node: what it does not say otherwise of is a
// failure of the node's code, as an exception is.
func goError(ctx context.Context, err error) *Error {
	if KindOf(err) != KindOther || ctx.Err() != nil {
		return AsError(err)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return AsError(err)
	}
	return Wrap(err, KindExecution, "")
}

// callFunc keeps a panic inside the node: it is the node's failure, not the
// host's.
func (n *node) callFunc(ctx context.Context, in Input) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = NewError(KindExecution, fmt.Sprintf("the Go node panicked: %v", p)).WithMetadata("stack", string(debug.Stack()))
		}
	}()
	return n.fn(ctx, in)
}
