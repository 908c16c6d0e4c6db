package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/builtin"
	"github.com/gophersnake/gophersnake/runner/internal/command"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
	"github.com/gophersnake/gophersnake/runner/internal/wasm"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// programKind returns what a node is whose code is neither Python nor Go; "" for the others.
func (n *node) programKind() string {
	switch {
	case n.fn != nil:
		return ""
	case n.config.Wasm != nil:
		return "wasm"
	case n.config.Command != nil:
		return "command"
	}
	return ""
}

// kind returns in what the node's code is written, as descriptions name it.
func (n *node) kind() string {
	if n.fn != nil {
		return "go"
	}
	if kind := n.programKind(); kind != "" {
		return kind
	}
	return "python"
}

// findCode sets what the node runs: a Go function of [WithNode], a program, Python code, or a
// built-in node type, in this order.
func (n *node) findCode(p *manifest.Pipeline, o *options) *Error {
	n.fn = o.nodes[n.config.Type]
	if !n.isPython() {
		return nil
	}
	if n.python = cmp.Or(n.config.Python, p.Python); n.python != "" && n.python != builtin.Module {
		return nil
	}
	t, ok := builtin.Lookup(n.config.Type)
	switch {
	case !ok:
		hint := "say where its Python code is (python: nodes.py), or give it a Go function with runner.WithNode"
		if near := builtin.Nearest(n.config.Type); near != "" {
			hint = fmt.Sprintf("did you mean %s? Otherwise %s", near, hint)
		}
		return NewError(KindManifest, fmt.Sprintf("there is no node type %q", n.config.Type)).WithHint(hint)
	case t.Refused != "":
		return NewError(KindManifest, fmt.Sprintf("gophersnake has no node type %q: %s", n.config.Type, t.Refused)).WithHint(t.Instead)
	}
	return n.setBuiltin(t)
}

// setBuiltin makes the node one of a built-in type.
func (n *node) setBuiltin(t *builtin.Type) *Error {
	values, err := t.Arrange(n.config.Params)
	if err != nil {
		return classify(err)
	}
	config := *n.config // that of the manifest stays as it is
	config.Params = values
	n.builtin, n.config, n.python = t, &config, t.Python
	if t.New == nil {
		return nil
	}
	if ports := n.ports(); len(ports) > 1 {
		return NewError(KindManifest, fmt.Sprintf("%s takes one input, not %s", t.Name, strings.Join(ports, ", ")))
	}
	call := t.New(t.Complete(values))
	n.fn = func(_ context.Context, in Input) (any, error) {
		for _, v := range in.Ports {
			in.Value = v
		}
		v, err := call(in.Value)
		if err != nil {
			return nil, classify(err)
		}
		return v, nil
	}
	return nil
}

// newEngine returns the engine of a node that is a module or an executable. It starts nothing.
func (r *Runner) newEngine(n *node) engine.Engine {
	if n.config.Wasm != nil {
		return r.newModule(n)
	}
	return r.newCommand(n)
}

// newModule returns the engine of a module of WebAssembly. Compiled code is kept in the cache
// folder, if there is one.
func (r *Runner) newModule(n *node) engine.Engine {
	config := r.moduleConfig(n)
	if cache, err := pyenv.CacheDir(r.options.cacheDir); err == nil {
		config.CacheDir = filepath.Join(cache, "wasm")
	}
	return wasm.New(config)
}

// checkProgram returns an error if a node is a module or an executable that cannot be used.
func (r *Runner) checkProgram(ctx context.Context, n *node) error {
	var err error
	switch n.programKind() {
	case "wasm":
		err = wasm.New(r.moduleConfig(n)).Check(ctx)
	case "command":
		err = r.newCommand(n).Check()
	}
	if err != nil {
		return classify(err).WithNode(n.id).WithOperation("check")
	}
	return nil
}

func (r *Runner) moduleConfig(n *node) wasm.Config {
	w, l, path := n.config.Workers, n.config.Limits, n.config.Wasm.Module
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.pipeline.Base, path)
	}
	return wasm.Config{
		Path:   path,
		JSON:   n.config.Wasm.Format == "json",
		Memory: l.Memory, Result: l.Result, Queue: l.Queue, QueueWait: l.QueueWait,
		Min: w.Min, Max: w.Max, IdleTimeout: w.IdleTimeout,
		Logger: r.options.logger.Named(n.id).With("node", n.id),
	}
}

// newCommand returns the engine of an executable.
func (r *Runner) newCommand(n *node) *command.Node {
	c, w, l := n.config.Command, n.config.Workers, n.config.Limits
	return command.New(command.Config{
		Args: c.Args, Dir: r.pipeline.Base, Env: workerEnv(n.config, r.options.passEnv),
		Protocol: command.Protocol(c.Protocol), Output: command.Output(c.Output),
		Min: w.Min, Max: w.Max, MaxCalls: uint64(w.MaxCalls), MaxAge: w.MaxAge, IdleTimeout: w.IdleTimeout,
		Queue: l.Queue, QueueWait: l.QueueWait, Grace: cancelGrace,
		Limits: command.Limits{
			Memory: l.Memory, Resident: l.Resident, Threads: l.Threads, CPUTime: l.CPUTime, OpenFiles: l.OpenFiles, Result: l.Result,
		},
		Python: r.reaperPython(n), Logger: r.options.logger.Named(n.id).With("node", n.id),
	})
}

// reaperPython returns the interpreter that runs the reapers of executables: any will do, and
// it needs no packages. It is empty if none is known.
func (r *Runner) reaperPython(n *node) string {
	for _, name := range []string{r.options.python, r.interpreter(n.config), "python3"} {
		if path, err := exec.LookPath(name); err == nil && filepath.IsAbs(path) {
			return path
		}
	}
	return ""
}

// startEngines starts the engines of all nodes that have one, concurrently. If some fail, it
// returns all their errors and closes the others.
func (r *Runner) startEngines(ctx context.Context) error {
	faults := make([]error, len(r.order))
	var starting sync.WaitGroup
	for i, n := range r.order {
		if n.programKind() == "" {
			continue
		}
		starting.Go(func() { faults[i] = r.startEngine(ctx, n) })
	}
	starting.Wait()
	if err := joinFaults(faults); err != nil {
		r.closeEngines(ctx)
		return err
	}
	return nil
}

func (r *Runner) startEngine(ctx context.Context, n *node) error {
	e := r.newEngine(n)
	r.mu.Lock()
	closed := r.closed
	if !closed { // otherwise Close has not seen the engine
		n.engine = e
	}
	r.mu.Unlock()
	if closed {
		return errClosed()
	}
	limit := n.config.SetupTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &engine.Error{
		Fault: n.hangFault(), Reason: fmt.Sprintf("not ready within %s", limit), Hint: "raise setup_timeout, or see why it takes so long",
	})
	defer cancel()
	if err := e.Start(ctx); err != nil {
		e := classify(endOf(ctx, err)).WithNode(n.id).WithOperation("start")
		return e.with(func(e *Error) { e.NotBegun = true })
	}
	return nil
}

// hangFault returns what it is if the node's code does not come to an end in time.
func (n *node) hangFault() engine.Fault {
	if n.config.Wasm != nil {
		return engine.Wasm
	}
	return engine.Transport
}

// endOf returns the cause of the end of ctx if err is that ctx has ended.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil && isContextEnd(err) {
		return context.Cause(ctx)
	}
	return err
}

// closeEngines closes the engines of all nodes concurrently.
func (r *Runner) closeEngines(ctx context.Context) {
	var closing sync.WaitGroup
	r.mu.RLock()
	for _, n := range r.nodes {
		if e := n.engine; e != nil {
			closing.Go(func() { e.Close(ctx) })
		}
	}
	r.mu.RUnlock()
	closing.Wait()
}

// callEngine runs a module or an executable under the node's policy and breaker.
func (n *node) callEngine(ctx context.Context, c *tracing.Call, in *flow.Inputs) (flow.Value, error) {
	input, err := n.inline(in)
	if err != nil {
		return flow.Value{}, classify(err).WithNode(n.id)
	}
	var out flow.Value
	var turn engine.Turn
	err = n.entry.execute(ctx, c, func(ctx context.Context, _ int) error {
		body, err := n.callOnce(ctx, &turn, input)
		if err != nil {
			return classify(err).WithNode(n.id).WithOperation("call")
		}
		payload := ipc.Payload{Body: body}
		if err := n.checkResult(payload); err != nil {
			return classify(err).WithNode(n.id).WithOperation("read the result")
		}
		out = flow.Value{Payload: payload.Checked(), Encoded: true}
		return nil
	})
	return out, err
}

// callOnce calls the engine within the node's timeout.
func (n *node) callOnce(ctx context.Context, turn *engine.Turn, input []byte) ([]byte, error) {
	limit := n.config.Timeout
	return n.engine.CallWithin(ctx, engine.Within{Limit: limit, Cause: &engineDeadline{fault: n.hangFault(), limit: limit}, Turn: turn}, input)
}

// checkResult checks a value that an engine has returned.
func (n *node) checkResult(p ipc.Payload) error {
	if limit := n.config.Limits.Result; limit > 0 && int64(len(p.Body)) > limit {
		return &ipc.ValueError{
			Path:   "result",
			Reason: fmt.Sprintf("its size of %d bytes exceeds limits.result, %d", len(p.Body), limit),
		}
	}
	return p.Check("result", ipc.DefaultLimits())
}

// inline returns the input of a call as one value without buffers: the value itself, or a
// map of the ports.
func (n *node) inline(in *flow.Inputs) ([]byte, error) {
	if len(n.inputs) == 0 || n.inputs[0].Port == "" {
		return in.First.Payload.Inline("input", ipc.DefaultLimits())
	}
	ports := make([]ipc.Port, len(n.inputs))
	for i, c := range n.inputs {
		ports[i] = ipc.Port{Name: c.Port, Value: in.At(i).Payload}
	}
	return ipc.JoinPorts(ports).Inline("input", ipc.DefaultLimits())
}

// engineDeadline is the cause of the end of a call that exceeded the node's timeout.
type engineDeadline struct {
	fault engine.Fault
	limit time.Duration
}

func (d *engineDeadline) Error() string { return "no answer within " + d.limit.String() }

// classify returns the error of a call that exceeded its deadline: it was interrupted.
func (d *engineDeadline) classify() *Error {
	e := NewError(faultKinds[d.fault], d.Error()+"; the call was interrupted")
	return e.withBreach(worker.Breach{Limit: worker.LimitCall, Bound: d.limit.String()}).WithOperation("call")
}

// faultKinds maps what went wrong in an engine.
var faultKinds = map[engine.Fault]Kind{
	engine.Wasm:       KindWasm,
	engine.Execution:  KindExecution,
	engine.Transport:  KindTransport,
	engine.Marshaling: KindMarshaling,
	engine.System:     KindIO,
	engine.Manifest:   KindManifest,
	engine.Busy:       KindOther,
}

// engineError classifies an error of an engine.
func engineError(err *engine.Error) *Error {
	if deadline, ok := errors.AsType[*engineDeadline](err.Cause); ok {
		return deadline.classify().with(func(e *Error) { e.Hint = err.Hint; e.fillFrom(err) })
	}
	e := Wrap(err.Cause, faultKinds[err.Fault], err.Reason)
	e.Hint, e.Path, e.ExitCode = err.Hint, err.Path, err.ExitCode
	e.Limit, e.NotBegun = err.Limit, err.NotBegun
	if err.Fault == engine.Busy {
		e.NotBegun, e.BreakerExempt = true, true
		if err.Limit == string(worker.LimitQueue) {
			e.Verdict = VerdictTransient
		}
	}
	setIfZero(&e.Hint, limitHints[worker.Limit(err.Limit)])
	e.fillFrom(err)
	return e
}

// fillFrom sets what is known of the process or the module.
func (e *Error) fillFrom(err *engine.Error) {
	e.PID, e.Signal, e.StderrTail, e.Traceback = err.PID, err.Signal, err.Stderr, err.Stack
}
