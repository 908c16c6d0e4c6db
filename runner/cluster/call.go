package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
)

// attempt is a call that a client sends to one machine. The client's lock guards the fields from
// mayWait on.
type attempt struct {
	name   string // the last token of its reply subject
	peer   *peer
	target *peerTarget
	node   string
	sent   time.Time
	answer chan answer // gets one answer

	progress *progress.Sink // what the nodes report; nil without runner.WithProgress

	machine    string // its name
	idempotent bool   // the call may be made again if it may have run
	lends      bool   // the machine takes values that stay in the value store
	stream     *Stream
	synced     time.Time // of a stream: when the machine was last told what was sent
	resumes    string    // of a stream: how it continues elsewhere
	sinks      []string  // of a stream
	alone      bool      // the client had no other call
	groups     bool      // the machine reads groups of calls

	number atomic.Uint64 // of its message, 0 before that is sent

	mayWait bool   // the machine may have queued it
	asked   bool   // it was asked for back
	group   uint64 // that it was sent in, 0 for none
}

// answer is how an attempt ended. One field is set.
type answer struct {
	over *arrival // the last frame of a stream
	data []byte   // a frame
	none bool     // NATS says that nothing listens to the machine's subject
	lost string   // the machine is gone, and why
	err  error    // the client itself ended it
}

// pending is a call with the machines that it has tried.
type pending struct {
	client  *Client
	node    string
	payload ipc.Payload
	since   time.Time
	header  nats.Header
	tried   map[string]refusal // by the machines' ids
	moves   int                // from machines that may have begun it
	stream  *Stream            // nil for a call
	// progress takes what the nodes report; nil without runner.WithProgress.
	progress *progress.Sink
	remote   *runner.RemoteCall // nil unless a runner makes the call for one of its nodes
	open     error              // of the breaker that has refused a machine
}

// mostMoves is how often a call moves because its machine was lost. A call that ends the
// machines that run it must not end all of them.
const mostMoves = 3

// call calls a target: the run if node is empty.
func (c *Client) call(ctx context.Context, node string, input any) (any, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	p, err := ipc.Encode("input", input)
	if err != nil {
		return nil, wire.EncodeError(err)
	}
	call := &pending{client: c, node: node, payload: p, since: time.Now(), header: outgoing(ctx), progress: progress.Of(ctx)}
	p, err = call.make(ctx)
	if err != nil {
		return nil, err
	}
	v, err := p.Decode("result", ipc.DefaultLimits())
	if err != nil {
		return nil, wire.EncodeError(err)
	}
	return v, nil
}

// make makes the call, on one machine after the other until one has run it.
func (call *pending) make(ctx context.Context) (ipc.Payload, error) {
	if err := checkHeader(call.header); err != nil {
		return ipc.Payload{}, err
	}
	for {
		a, err := call.next(ctx)
		if err != nil {
			return ipc.Payload{}, err
		}
		if call.isRefused(a) {
			continue
		}
		out := call.attempt(ctx, a)
		if !out.again {
			return out.value, out.err
		}
	}
}

// isRefused reports whether the circuit breaker that a remote call has for the machine refuses
// an attempt. It ends the attempt then.
func (call *pending) isRefused(a *attempt) bool {
	if call.remote == nil {
		return false
	}
	err := call.remote.Admit(a.machine)
	if err == nil {
		return false
	}
	call.open = err
	call.client.settle(a, answer{err: err})
	call.refused(a, refusedBreaker)
	return true
}

// next chooses a machine and registers the attempt. It waits if no machine can be called.
func (call *pending) next(ctx context.Context) (*attempt, error) {
	c := call.client
	var a *attempt
	var unknown error
	err := c.awaitMachine(ctx, func() bool {
		a, unknown = call.chooseLocked()
		return a != nil || unknown != nil
	})
	if err == nil {
		err = unknown
	}
	if err != nil && call.remote != nil && ctx.Err() == nil && len(call.tried) == 0 {
		return nil, notBegun(runner.KindTransport, "no machine serves the node: it runs on "+call.remote.Host.String()).WithNode(call.node)
	}
	if err != nil && len(call.tried) > 0 && err != call.open { //nolint:errorlint // it is the same
		return nil, call.refusedByAll(err)
	}
	return a, err
}

// chooseLocked returns an attempt with the machine that has the most free slots, or else with
// the one that has the fewest calls for each slot, and nil if there is none. Machines on which a
// remote call has failed come last.
func (call *pending) chooseLocked() (*attempt, error) {
	if call.remote != nil && len(call.remote.Avoid) > 0 {
		a, err := call.chooseAmongLocked(func(p *peer) bool {
			return call.remote.Host.Matches(p.name, p.labels) && !slices.Contains(call.remote.Avoid, p.name)
		})
		if a != nil {
			return a, err
		}
	}
	return call.chooseAmongLocked(func(p *peer) bool {
		return call.remote == nil || call.remote.Host.Matches(p.name, p.labels)
	})
}

// chooseAmongLocked is chooseLocked for the machines that fit.
func (call *pending) chooseAmongLocked(fits func(*peer) bool) (*attempt, error) {
	c := call.client
	if c.ended != nil {
		return nil, c.ended
	}
	var best, shortest *peer
	isKnown, isFull, isOpen := len(c.machines) == 0 || call.remote != nil, false, false
	for _, p := range c.machines {
		t := p.targets[call.node]
		isKnown = isKnown || t != nil
		if t != nil && call.stream != nil && !t.streams {
			continue // a machine of an older version
		}
		if !fits(p) {
			continue
		}
		why := call.tried[p.id]
		isOpen = isOpen || why == refusedBreaker
		isFull = isFull || why == refusedFull
		if t == nil || p.leaving || why == refusedFull || why == refusedLeaving || why == refusedBreaker {
			continue
		}
		if why == 0 && t.ready && t.free() > 0 && (best == nil || t.free() > best.targets[call.node].free()) {
			best = p
		}
		if shortest == nil || t.isBetterQueue(shortest.targets[call.node]) {
			shortest = p
		}
	}
	switch {
	case !isKnown:
		return nil, c.unknownNodeLocked(call.node)
	case best != nil:
		return call.registerLocked(best, false), nil
	case shortest != nil:
		return call.registerLocked(shortest, true), nil
	case isOpen:
		return nil, call.open
	case isFull:
		return nil, errFull
	}
	return nil, nil
}

// errFull ends the search for a machine if all queues are full.
var errFull = errors.New("all queues are full")

// isBetterQueue reports whether a call should rather wait here than at another target.
func (t *peerTarget) isBetterQueue(other *peerTarget) bool {
	if t.ready != other.ready {
		return t.ready
	}
	return t.crowd() < other.crowd()
}

func (c *Client) unknownNodeLocked(node string) error {
	ids := make(map[string]bool)
	for _, p := range c.machines {
		for id := range p.targets {
			ids[id] = id != ""
		}
	}
	delete(ids, "")
	return runner.NewError(runner.KindManifest, fmt.Sprintf("the pipeline %s has no node %q", c.pipeline, node)).
		WithHint("its nodes are " + strings.Join(slices.Sorted(maps.Keys(ids)), ", "))
}

func (call *pending) registerLocked(p *peer, mayWait bool) *attempt {
	c := call.client
	c.lastCall++
	a := &attempt{
		name: strconv.FormatUint(c.lastCall, 36), peer: p, target: p.targets[call.node], node: call.node,
		sent: time.Now(), answer: make(chan answer, 1), machine: p.name, idempotent: p.targets[call.node].idempotent, mayWait: mayWait, lends: p.targets[call.node].lends,
		progress: call.progress, stream: call.stream, synced: time.Now(), resumes: p.targets[call.node].resumes, sinks: p.targets[call.node].sinks,
	}
	c.calls[a.name] = a
	a.alone, a.groups = len(c.calls) == 1, a.target.groups
	count(&c.counts.sent, p.name)
	a.target.own++
	if mayWait {
		c.waiting++
	}
	return a
}

// settleLocked ends an attempt with an answer.
func (c *Client) settleLocked(a *attempt, how answer) {
	if c.removeLocked(a) {
		a.answer <- how
	}
}

// removeLocked forgets an attempt, and reports whether it was not forgotten before: then its
// caller waits for an answer.
func (c *Client) removeLocked(a *attempt) bool {
	if c.calls[a.name] != a {
		return false
	}
	delete(c.calls, a.name)
	a.target.own--
	if a.mayWait {
		c.waiting--
	}
	return true
}

// outcome is how a call ended on one machine. If again is set, it is made on another one.
type outcome struct {
	value ipc.Payload
	err   error
	again bool
}

// attempt makes a call on one machine.
func (call *pending) attempt(ctx context.Context, a *attempt) (out outcome) {
	c := call.client
	stored, err := call.send(ctx, a)
	if stored != "" {
		defer func() {
			if out.err != nil || out.again {
				c.conn.values.Drop(stored) // the machine may not have taken it
			}
		}()
	}
	if err != nil {
		c.settle(a, answer{err: err})
		return outcome{err: err}
	}
	select {
	case how := <-a.answer:
		return call.conclude(ctx, a, how)
	case <-ctx.Done():
	}
	c.settle(a, answer{err: ctx.Err()})
	c.tell(a, frameCancel)
	return outcome{err: runner.Wrap(ctx.Err(), runner.KindOther, "").WithMetadata("machine", a.machine)}
}

func (c *Client) settle(a *attempt, how answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleLocked(a, how)
}

// send sends the call to the machine. A value that is too large for a message goes to the value
// store first; then send returns its name.
func (call *pending) send(ctx context.Context, a *attempt) (stored string, err error) {
	c := call.client
	head := callHead{waited: time.Since(call.since), flags: flagGroups}
	if call.remote != nil {
		head.flags |= flagOnce
	}
	if a.mayWait {
		head.flags |= flagMayWait
	}
	if call.progress != nil {
		head.flags |= flagProgress
	}
	if deadline, ok := ctx.Deadline(); ok {
		head.flags |= flagDeadline
		head.timeout = time.Until(deadline)
	}
	data, stored, err := call.frame(ctx, a, head)
	if err != nil {
		return "", err
	}
	m := mail{subject: a.target.subject, reply: c.inbox + "." + a.name, data: data, numbered: &a.number}
	if a.alone || len(call.header) > 0 {
		err = c.outbox.sendNow(&nats.Msg{Subject: m.subject, Reply: m.reply, Data: data, Header: call.header}, m.numbered)
	} else {
		if a.groups {
			m.receiver, m.name = a.target.subject, a.name
		}
		c.outbox.add(m)
	}
	return stored, unsent(err)
}

// unsent returns the error of a call that was not sent because of err, and nil for nil.
func unsent(err error) error {
	if err == nil {
		return nil
	}
	e := runner.Wrap(err, runner.KindTransport, "send the call")
	e.NotBegun = true
	return e
}

// conclude decides what the end of an attempt means.
func (call *pending) conclude(ctx context.Context, a *attempt, how answer) outcome {
	switch {
	case how.err != nil:
		return outcome{err: how.err}
	case how.lost != "":
		return call.lost(a, how.lost)
	case how.none: // the machine has ended, and did not get the call
		call.client.avoid(a.peer)
		return outcome{again: true}
	}
	cur := cursor{rest: how.data}
	kind, flags, err := cur.head()
	if err != nil {
		return outcome{err: runner.Wrap(err, runner.KindTransport, "read the answer").WithMetadata("machine", a.machine)}
	}
	cur.load()
	if flags&flagClaimed != 0 && !cur.failed {
		if kind == frameResult && call.remote != nil && call.remote.Leave {
			call.remote.Left = &leftValue{call.client.conn.values, string(cur.rest)}
			return outcome{}
		}
		content, err := call.client.conn.values.Take(ctx, string(cur.rest))
		if err != nil {
			return outcome{err: err}
		}
		cur = cursor{rest: content}
	}
	return call.read(a, kind, &cur)
}

// read decodes the content of an answer.
func (call *pending) read(a *attempt, kind frameKind, cur *cursor) outcome {
	var err error
	switch kind {
	case frameResult:
		var p ipc.Payload
		if p, err = cur.payload(); err != nil {
			break
		}
		return outcome{value: p}
	case frameFailure:
		var f wire.Failure
		if err = cur.document(&f); err == nil {
			return outcome{err: f.Err()}
		}
	case frameRefusal:
		call.refused(a, refusal(cur.byte()))
		return outcome{again: true}
	default:
		err = errFrame
	}
	return outcome{err: runner.Wrap(err, runner.KindTransport, "read the answer").WithMetadata("machine", a.machine)}
}

// refused notes that a machine did not take the call.
func (call *pending) refused(a *attempt, why refusal) {
	if call.tried == nil {
		call.tried = make(map[string]refusal)
	}
	call.client.counted(func(n *clientCounts) { count(&n.refused, a.machine) })
	if why == refusedWithdrawn {
		clear(call.tried) // some machine is free
		return
	}
	call.tried[a.peer.id] = why
}

// refusedByAll is the error of a call if each machine has refused it.
func (call *pending) refusedByAll(err error) error {
	c := call.client
	c.mu.Lock()
	defer c.mu.Unlock()
	var reasons []string
	for id, why := range call.tried {
		if p := c.machines[id]; p != nil {
			reasons = append(reasons, p.name+": "+why.String())
		}
	}
	if len(reasons) == 0 {
		return err
	}
	slices.Sort(reasons)
	e := notBegun(runner.KindOther, "no machine takes the call: "+strings.Join(reasons, "; "))
	e.Verdict = runner.VerdictTransient
	return e.WithHint("start more machines, or call again later")
}

// avoid makes the client leave a machine alone that has not got a call, because nothing listens any
// more, and asks whether it has ended.
func (c *Client) avoid(p *peer) {
	c.mu.Lock()
	isFirst := c.machines[p.id] == p && !p.leaving
	p.leaving = p.leaving || isFirst
	c.mu.Unlock()
	if isFirst {
		c.outbox.add(c.pingOf(p))
	}
}

// lost decides about a call whose machine is gone: it may have begun.
func (call *pending) lost(a *attempt, why string) outcome {
	call.moves++
	isMoving := call.remote == nil && a.idempotent && call.moves <= mostMoves
	call.client.counted(func(n *clientCounts) {
		count(&n.lost, a.machine)
		if isMoving {
			n.moved++
		}
	})
	if isMoving {
		return outcome{again: true}
	}
	e := runner.NewError(runner.KindTransport, fmt.Sprintf("machine %s was lost during the call: %s", a.machine, why)).
		WithNode(call.node).WithMetadata("machine", a.machine)
	if call.remote != nil { // the runner decides
		return outcome{err: e}
	}
	e = e.WithMetadata("may_have_run", "true")
	e.Verdict = runner.VerdictPermanent
	if a.idempotent {
		return outcome{err: e.WithHint(fmt.Sprintf("%d machines were lost while they ran the call; perhaps it ends them", call.moves))}
	}
	e.Message += "; the call may have run"
	return outcome{err: e.WithHint("it is not made again, because a node is not idempotent; find out whether it has had its effect")}
}
