package runner

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/builtin"
	"github.com/gophersnake/gophersnake/runner/internal/command"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
	"github.com/gophersnake/gophersnake/runner/internal/wasm"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// programKind returns what a node is whose code is neither Python nor Go; "" for the others.
func (n *node) programKind() string {
	switch {
	case n.fn != nil, n.isRemote:
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
	switch {
	case n.isRemote:
		return "remote"
	case n.fn != nil:
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
	if host := n.config.Host; host != nil {
		if o.executor == nil {
			return NewError(KindManifest, fmt.Sprintf("the node runs on %s, and this runner is not connected to other machines", host)).
				WithHint("serve it with gophersnake serve --nats, or give the runner an executor (runner.WithExecutor); without host, the node runs here")
		}
		if n.isRemote = !o.executor.Here(*host); n.isRemote {
			return nil
		}
	}
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

// RunsHere reports whether the node with the given id runs on this machine. It may run on others
// if the manifest names a host and the runner has an [Executor].
func (r *Runner) RunsHere(id string) bool { n := r.nodes[id]; return n != nil && !n.isRemote }

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
		switch {
		case n.isRemote:
			starting.Go(func() { faults[i] = r.startRemote(ctx, n) })
		case n.programKind() != "":
			starting.Go(func() { faults[i] = r.startEngine(ctx, n) })
		}
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

// startRemote gets the description of a node on another machine.
func (r *Runner) startRemote(ctx context.Context, n *node) error {
	d, err := n.describeRemote(ctx)
	if err != nil {
		return err
	}
	isPython := d.Kind == "python" || d.Kind == ""
	n.noInput = isPython && len(d.Inputs) == 0
	n.description.Store(&d)
	if !isPython {
		return nil
	}
	if err := n.checkInputs(d); err != nil {
		return err
	}
	return nil
}

func (n *node) describeRemote(ctx context.Context) (ipc.Description, error) {
	d, err := n.executor.Describe(ctx, n.id, *n.config.Host)
	switch {
	case err != nil:
		return d, classify(err).WithNode(n.id).WithOperation("start").with(func(e *Error) { e.NotBegun = true })
	case d.Stateful:
		return d, NewError(KindManifest, "a node that keeps a state between the items of a stream cannot run on another machine").
			WithNode(n.id).WithHint("leave host out, or run the whole pipeline there")
	}
	return d, nil
}

// remoteOperation is a call of a node on other machines, with all of its attempts. Each machine
// has a circuit breaker, which counts the call once.
type remoteOperation struct {
	node   *node
	on     string // the machine of the current attempt
	failed []string
	asked  map[string]*machinePermit
}

// machinePermit is what an operation has of the breaker of one machine.
type machinePermit struct {
	settings *settings
	permit   retry.Permit
	err      error // of the last attempt there
	ran      bool  // an attempt was made there
}

// admit implements RemoteCall.Admit.
func (op *remoteOperation) admit(machine string) error {
	op.on = machine
	if op.asked[machine] != nil {
		return nil
	}
	e, err := op.node.machines.entry(op.node, machine)
	if err != nil {
		return err
	}
	s := e.settings.Load()
	permit, err := s.breaker.Allow()
	if err != nil {
		return e.refusal(s, err).WithMetadata("machine", machine)
	}
	op.asked[machine] = &machinePermit{settings: s, permit: permit}
	return nil
}

// attempt makes one attempt. The input is encoded, or is left on another machine.
func (op *remoteOperation) attempt(ctx context.Context, input flow.Value, leave bool) (out flow.Value, err error) {
	op.on = ""
	n := op.node
	call := &RemoteCall{Node: n.id, Host: *n.config.Host, Input: input.Payload, From: input.Left, Leave: leave, Avoid: op.failed, Admit: op.admit}
	out.Payload, err = n.executor.Call(ctx, call)
	out.Encoded, out.Left = err == nil, call.Left
	if m := op.asked[op.on]; m != nil {
		m.err, m.ran = err, true
		if err != nil && !slices.Contains(op.failed, op.on) {
			op.failed = append(op.failed, op.on)
		}
	}
	if err != nil {
		// The other machine has made one attempt; this one counts them.
		return flow.Value{}, classify(err).with(func(e *Error) { e.Attempt, e.Attempts = 0, 0 }).WithNode(n.id).WithOperation("call")
	}
	return out, nil
}

// settle tells the breakers of the machines how the call has ended there.
func (op *remoteOperation) settle(ctx context.Context) {
	for _, m := range op.asked {
		switch failure := AsError(m.err); {
		case m.ran && m.err == nil:
			m.permit.Success()
		case m.ran && ctx.Err() == nil && m.settings.counts(failure):
			m.settings.last.Store(failure)
			m.permit.Failure()
		}
		m.permit.Release()
	}
}

// leaves reports whether large results of the node may stay outside of this process until the next node
// takes them: if each of these is on another machine as well, and has no other input.
func (r *Runner) leaves(n *node) bool {
	if !n.isRemote || n.config.Output || len(r.options.callInterceptors) > 0 {
		return false
	}
	followed := false
	for _, next := range r.nodes {
		for _, c := range next.inputs {
			if c.From != n.id {
				continue
			}
			if !next.isRemote || len(next.inputs) > 1 || c.Port != "" {
				return false
			}
			followed = true
		}
	}
	return followed
}

// callRemote calls the node on another machine, under its policy.
func (n *node) callRemote(ctx context.Context, c *tracing.Call, in *flow.Inputs) (out flow.Value, err error) {
	var input flow.Value
	switch {
	case n.noInput:
		input.Payload, err = ipc.Encode("input", nil)
	case len(n.inputs) < 2 || n.merges:
		input = in.First
	default:
		ports := make([]ipc.Port, len(n.inputs))
		for i, c := range n.inputs {
			ports[i] = ipc.Port{Name: c.Port, Value: in.At(i).Payload}
		}
		input.Payload = ipc.JoinPorts(ports)
	}
	if err != nil {
		return out, classify(err).WithNode(n.id)
	}
	op := &remoteOperation{node: n, asked: make(map[string]*machinePermit)}
	defer op.settle(ctx)
	err = n.entry.execute(ctx, c, func(ctx context.Context, _ int) error {
		out, err = op.attempt(ctx, input, in.Leave)
		if err == nil && out.Left == nil { // a machine that takes what is left checks it
			if err = n.checkResult(out.Payload); err != nil {
				err = classify(err).WithNode(n.id).WithOperation("read the result")
			}
		}
		return err
	})
	out.Payload = out.Payload.Checked()
	return out, err
}

// generateRemote calls a generator on another machine, and emits its values when it has ended.
func (n *node) generateRemote(ctx context.Context, c *tracing.Call, in *flow.Inputs, emit flow.Emit) error {
	list, err := n.callRemote(ctx, c, in)
	if err != nil {
		return err
	}
	v, err := list.Decode("result")
	if err != nil {
		return classify(err).WithNode(n.id)
	}
	values, ok := v.([]any)
	if !ok {
		return NewError(KindTransport, fmt.Sprintf("a generator on another machine has returned a %T in place of a list", v)).WithNode(n.id)
	}
	for _, v := range values {
		out, err := n.encodedResult(ctx, v)
		if err != nil {
			return err
		}
		if err := emit(out.Payload); err != nil {
			return err
		}
	}
	return nil
}
