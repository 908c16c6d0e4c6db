package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// chain is a list of Python nodes that one worker runs, one after the other; see
// [manifest.Connection]. In a plan it is one step, and a [flow.Node] of kind [flow.Single]. What it
// embeds is its first member, the lead, which has the workers, and which stands for the chain if no
// member is to blame.
//
// An operation of the chain is one of each member that runs, under its breaker. An attempt runs all
// members from the first. If it fails, the policy of the member that has failed decides whether
// there is another, and after which delay: all attempts of the operation count, whichever member
// they failed in. An attempt is not repeated if a member that has run may not run twice.
type chain struct {
	*node
	members []*node
	watch   *tracing.Node // nil without WithTracerProvider and WithMeasurements
	free    sync.Pool     // of *chainCall
}

// fuse makes chains of the nodes that the connections fuse. A Go function in the place of a
// Python node divides a chain, so that tests can replace any node.
func (r *Runner) fuse() error {
	var faults []error
	for _, ids := range r.pipeline.Graph().Chains() {
		var members []*node
		for _, id := range ids {
			n := r.nodes[id]
			if n.isPython() {
				members = append(members, n)
				continue
			}
			if n.builtin != nil {
				faults = append(faults, NewError(KindManifest, fmt.Sprintf("%s is written in Go, and only Python nodes are fused", n.config.Type)).
					WithNode(id).WithHint("remove fuse: true from the connections of the node"))
			}
			r.addChain(members)
			members = nil
		}
		r.addChain(members)
	}
	return joinFaults(faults)
}

// addChain makes a chain of nodes, if there are at least two of them.
func (r *Runner) addChain(members []*node) {
	if len(members) < 2 {
		return
	}
	c := &chain{node: members[0], members: members}
	c.free.New = func() any { return newChainCall(c) }
	for i, n := range members {
		n.chain, n.place = c, uint32(i+1)
		n.domain = c.domain
	}
}

// chainStep returns the step of a chain in the plan. With interceptors of calls there is none: each
// member then is a step, and is called alone in the workers of the chain.
func (r *Runner) chainStep(c *chain) flow.Step {
	c.watch = tracing.NewChain(r.tracer, r.options.measures(c.id), c.ids())
	return flow.Step{
		ID: c.last().id, First: c.id, Node: c, Encoded: true, Domain: c.domain,
		Merges: c.merges, Output: c.last().config.Output, Inputs: r.inputsOf(c.node),
	}
}

// inputsOf returns the ids of the nodes that a node takes its inputs from. It notes at each of them
// the domain that its values go to.
func (r *Runner) inputsOf(n *node) []string {
	var ids []string
	for _, c := range n.inputs {
		ids = append(ids, c.From)
		if from := r.nodes[c.From]; n.isPython() && from.consumer == nil {
			from.consumer = &n.domain
		}
	}
	return ids
}

func (c *chain) ids() []string {
	ids := make([]string, len(c.members))
	for i, n := range c.members {
		ids[i] = n.id
	}
	return ids
}

// leads reports whether a node has its own workers: it is not in a chain, or it is the first one.
func (n *node) leads() bool { return n.place <= 1 }

// last returns the member whose value is that of the chain.
func (c *chain) last() *node { return c.members[len(c.members)-1] }

// Kind implements [flow.Node].
func (c *chain) Kind() flow.Kind { return flow.Single }

// Probing implements [flow.Node].
func (c *chain) Probing() bool { return slices.ContainsFunc(c.members, (*node).Probing) }

// mayRepeat reports whether a call of the node's workers may run twice.
func (n *node) mayRepeat() bool {
	if n.chain == nil {
		return n.entry.settings.Load().idempotent
	}
	return !slices.ContainsFunc(n.chain.members, func(m *node) bool { return !m.entry.settings.Load().idempotent })
}

// resultDomain returns the domain of the first Python node that takes the values of the node's
// workers; nil if none does.
func (n *node) resultDomain() *ipc.Domain {
	if n.chain == nil {
		return n.consumer
	}
	return n.chain.last().consumer
}

// configure completes the configuration of a worker, which is that of the lead.
func (c *chain) configure(r *Runner, config *worker.Config) {
	config.StartTimeout, config.Timeout = 0, 0
	isBounded := true
	for _, n := range c.members {
		logger := r.options.logger.Named(n.id).With("node", n.id)
		config.Members = append(config.Members, worker.Member{Timeout: n.config.Timeout, Logger: logger})
		config.Setup.Members = append(config.Setup.Members, ipc.SetupMember{
			Node: n.id, Python: n.python, NodeType: n.config.Type, Params: n.config.OrderedParams(), Ports: n.ports(),
			Timeout: n.config.Timeout.Seconds(),
		})
		config.StartTimeout += n.config.SetupTimeout
		config.Timeout += n.config.Timeout
		isBounded = isBounded && n.config.Timeout > 0
		config.Setup.Idempotent = config.Setup.Idempotent && n.config.Idempotent
	}
	if !isBounded {
		config.Timeout = 0
	}
}

// describedAs sets what a worker says of the node, or of all members of its chain. It returns an
// error if that does not fit the connections.
func (n *node) describedAs(d ipc.Description) error {
	if n.chain == nil {
		n.describe(&d)
		return n.checkInputs(d)
	}
	if err := n.chain.checkMembers(d); err != nil {
		return err
	}
	var faults []error
	for i, m := range n.chain.members {
		m.describe(&d.Members[i])
		faults = append(faults, m.checkInputs(d.Members[i]))
	}
	return joinFaults(faults)
}

// describe sets what a worker says of the node. Calls under way read noInput, so a reload, which
// does not change it (see checkReload), must not write it.
func (n *node) describe(d *ipc.Description) {
	if takesNone := len(d.Inputs) == 0; takesNone != n.noInput {
		n.noInput = takesNone
	}
	n.description.Store(d)
}

// checkMembers returns an error unless a worker has described as many members as there are.
func (c *chain) checkMembers(d ipc.Description) error {
	if len(d.Members) == len(c.members) {
		return nil
	}
	return NewError(KindTransport, fmt.Sprintf("the worker described %d nodes in place of %d", len(d.Members), len(c.members))).WithNode(c.id)
}

// memberOf returns the member that an error of the workers is about: the node itself without a
// chain. What a worker says of it counts only if there is such a member.
func (n *node) memberOf(err error) *node {
	if n.chain == nil {
		return n
	}
	return n.chain.members[n.chain.blamed(err)]
}

// memberAt returns the member with an index that a worker has stated, the first if there is none
// with it; the node itself without a chain.
func (n *node) memberAt(index int) *node {
	if n.chain == nil || index <= 0 || index >= len(n.chain.members) {
		return n
	}
	return n.chain.members[index]
}

// blamed returns the index of the member that an error of the workers is about.
func (c *chain) blamed(err error) int {
	last, index := len(c.members)-1, 0
	if _, ok := errors.AsType[*worker.UnbegunError](err); ok {
		return 0
	}
	if suspect, ok := errors.AsType[*worker.SuspectError](err); ok && suspect.Over {
		return last
	}
	exit, isExit := errors.AsType[*worker.Exit](err)
	remote, isRemote := errors.AsType[*ipc.RemoteError](err)
	if canceled, ok := errors.AsType[*worker.CanceledError](err); ok {
		exit, isExit = canceled.Exit, canceled.Exit != nil
		remote, isRemote = canceled.Remote, canceled.Remote != nil
	} else if broken, ok := errors.AsType[*worker.BrokenError](err); ok {
		exit, isExit = broken.Exit, broken.Exit != nil
	} else if start, ok := errors.AsType[*worker.StartError](err); ok && !isRemote {
		exit, isExit = start.Exit, start.Exit != nil
	}
	value, isValue := errors.AsType[*ipc.ValueError](err)
	limit, isLimit := errors.AsType[*worker.LimitError](err)
	switch {
	case isRemote:
		index = remote.Member
	case isExit:
		index = exit.Member
	case isLimit && limit.Breach.Limit == worker.LimitResult, isValue && !strings.HasPrefix(value.Path, "input"):
		index = last
	}
	if index < 0 || index > last {
		return 0
	}
	return index
}

// chainCall is one operation of a chain. Most operations use one again.
type chainCall struct {
	chain   *chain
	members []memberCall
	options []retry.Option
	once    bool          // there is one attempt
	failed  int           // the index of the member in which the last attempt failed
	watched *tracing.Call // nil if nothing watches
	op      pool.Operation
	payload ipc.Payload
	args    ipc.Args
}

// memberCall is the part of an operation that belongs to one member.
type memberCall struct {
	settings *settings
	permit   retry.Permit
}

func newChainCall(c *chain) *chainCall {
	call := &chainCall{chain: c, members: make([]memberCall, len(c.members))}
	call.options = []retry.Option{
		retry.If(call.shouldRetry), retry.PolicyOf(call.policyOf), retry.OnRetry(call.noteRetry), retry.MapError(call.explain),
	}
	return call
}

// Call implements [flow.Node].
func (c *chain) Call(ctx context.Context, in flow.Inputs) (out flow.Value, err error) {
	started := c.noteStarted()
	call := c.free.Get().(*chainCall)
	ctx, call.watched = c.begin(ctx, &in)
	call.op = pool.Operation{Report: call.watched.Report()}
	call.args, call.once = c.args(&in), ctx.Value(onceKey{}) != nil
	ran, err := call.run(ctx)
	out = flow.Value{Payload: call.payload, Encoded: err == nil}
	if call.watched != nil {
		call.watched.End(out.Payload.Size(), err)
	}
	c.noteMembers(started, ran, err)
	call.payload, call.args, call.op, call.watched = ipc.Payload{}, ipc.Args{}, pool.Operation{}, nil
	c.free.Put(call)
	return out, err
}

// begin is [node.begin] for the chain.
func (c *chain) begin(ctx context.Context, in *flow.Inputs) (context.Context, *tracing.Call) {
	if c.watch == nil {
		return ctx, nil
	}
	return c.watch.Begin(ctx, "call", in.Size())
}

// noteMembers emits the events of the members that have run, so many of them. If the operation has
// failed, it failed in the last of these. Each has the time of the whole chain.
func (c *chain) noteMembers(started time.Time, ran int, err error) {
	if c.emit == nil {
		return
	}
	if ran == 0 { // refused by a breaker
		c.noteFinished(started, err)
		return
	}
	for i, n := range c.members[:ran] {
		if i > 0 {
			n.emit(NodeStarted{Node: n.id, Time: started})
		}
		if i == ran-1 {
			n.noteFinished(started, err)
		} else {
			n.noteFinished(started, nil)
		}
	}
}

// run makes the operation, and returns how many members have run.
func (call *chainCall) run(ctx context.Context) (int, error) {
	defer call.release()
	if err := call.admit(ctx); err != nil {
		return 0, err
	}
	err := retry.Do(ctx, retry.Policy{Budget: call.budget()}, call.try, call.options...)
	if err == nil {
		for i := range call.members {
			call.succeed(i)
		}
		return len(call.members), nil
	}
	for i := range call.failed {
		call.succeed(i)
	}
	n, m := call.chain.members[call.failed], &call.members[call.failed]
	n.entry.counts.calls.Add(1)
	failure, blamed := n.entry.failure(err)
	if m.settings.counts(blamed) {
		m.settings.last.Store(blamed)
		m.settings.settle(&m.permit, call.watched, false)
	}
	if blamed == nil {
		return call.failed + 1, n.entry.counts.cancel(failure)
	}
	return call.failed + 1, n.entry.counts.fail(failure)
}

// admit asks the breakers of all members, so that none runs if one refuses.
func (call *chainCall) admit(ctx context.Context) error {
	call.failed = 0
	for i, n := range call.chain.members {
		m := &call.members[i]
		m.settings = n.entry.settings.Load()
		var err error
		if m.permit, err = m.settings.breaker.Allow(); err == nil {
			continue
		}
		if m.settings, m.permit, err = n.entry.awaitBreaker(ctx, m.settings, err); err != nil {
			n.entry.counts.calls.Add(1)
			return n.entry.counts.fail(n.entry.refusal(m.settings, err))
		}
	}
	return nil
}

// succeed counts the success of a member.
func (call *chainCall) succeed(i int) {
	m := &call.members[i]
	call.chain.members[i].entry.counts.calls.Add(1)
	m.settings.settle(&m.permit, call.watched, true)
}

// release gives the permits back whose members have not run, also if an interceptor or an
// observer of events panics.
func (call *chainCall) release() {
	for i := range call.members {
		call.members[i].permit.Release()
		call.members[i] = memberCall{}
	}
}

// budget returns the longest budget of the members' policies, 0 if none has one.
func (call *chainCall) budget() time.Duration {
	most := time.Duration(0)
	for i := range call.members {
		most = max(most, call.members[i].settings.policy.Budget)
	}
	return most
}

// try makes one attempt.
func (call *chainCall) try(ctx context.Context, attempt int) error {
	return call.watched.Attempt(ctx, attempt, func(ctx context.Context, attempt int) (err error) {
		c := call.chain
		call.payload, err = c.pool.Call(ctx, call.watched.Args(call.args.WithAttempt(attempt)), &call.op)
		if err == nil {
			return nil
		}
		call.op.Alone = call.op.Alone || pool.FateOf(err).EndedWorker()
		call.failed = c.blamed(err)
		return c.fault(err)
	})
}

// explain returns the error of an attempt, with the member that it is about.
func (call *chainCall) explain(attempt int, err error) error {
	n := call.chain.members[call.failed]
	failure := AsError(err).WithNode(n.id).WithAttempt(attempt, call.members[call.failed].settings.policy.Attempts())
	n.entry.reportBreach(failure)
	return failure
}

// shouldRetry reports whether the member that has failed is retried, and the members that have
// run may run again.
func (call *chainCall) shouldRetry(err error) bool {
	failure := AsError(err)
	if !call.members[call.failed].settings.retries(failure) {
		return false
	}
	isOnce := func(m memberCall) bool { return !m.settings.idempotent }
	return failure.NotBegun || !slices.ContainsFunc(call.members[:call.failed+1], isOnce)
}

func (call *chainCall) policyOf(error) retry.Policy {
	if call.once {
		return retry.None()
	}
	return call.members[call.failed].settings.policy
}

// noteRetry counts and reports a retry, as one of the member that has failed.
func (call *chainCall) noteRetry(attempt int, delay time.Duration, err error) {
	call.chain.members[call.failed].entry.noteRetry(attempt, delay, err)
	if call.watched != nil {
		call.watched.NoteRetry(attempt, delay)
	}
}

// checkPlace returns an error if the code of a member needs another installation of Python than
// the first one has.
func (n *node) checkPlace(installed map[*node]python) error {
	if n.chain == nil || installed[n] == installed[n.chain.node] {
		return nil
	}
	return NewError(KindManifest, fmt.Sprintf("it needs another Python environment than %q, with which it is fused", n.chain.id)).
		WithNode(n.id).WithHint("remove fuse: true from the connections of the node")
}

// fusionFault returns the error of a node that cannot be fused, with the position of a connection
// that fuses it.
func (r *Runner) fusionFault(n *node, problem *ipc.RemoteError) *Error {
	e := remoteError(problem).WithNode(n.id)
	i := slices.IndexFunc(r.pipeline.Connections, func(c manifest.Connection) bool { return c.Fuse && (c.From == n.id || c.To == n.id) })
	if i < 0 {
		return e
	}
	at := manifest.Problem{
		File: r.pipeline.File, Line: r.pipeline.Connections[i].Position.Line, Column: r.pipeline.Connections[i].Position.Column,
		Path: fmt.Sprintf("connections[%d].fuse", i), Message: e.Message,
	}
	return e.with(func(e *Error) { e.Message = at.String() })
}
