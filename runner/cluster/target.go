package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// target is what clients call on a machine: the run of a pipeline, or one of its nodes.
type target struct {
	*gate
	machine    *Machine
	pipeline   *servedPipeline
	node       string // empty for the run
	idempotent bool
	refusals   refusals

	mu    sync.Mutex
	calls map[string]*served // those that are not answered, by their reply subjects
}

// served is a call that a machine has taken or queued.
type served struct {
	reply  string
	since  time.Time // when the caller made it, on this machine's clock
	frame  cursor    // behind the head of the call
	flags  byte
	header map[string][]string
	caller *caller
	target *target
	stream *servedStream // nil for a call
	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   func() // ends the context and its timer
}

func (m *Machine) newTarget(p *servedPipeline, node string, idempotent bool) *target {
	return &target{
		gate: newGate(0, m.changed), machine: m, pipeline: p, node: node, idempotent: idempotent, calls: make(map[string]*served),
	}
}

var (
	errCallerLeft = errors.New("the caller has left")
	errCallerDied = errors.New("the caller does not answer any more")
)

// handle processes a request. NATS calls it for one request after the other, in the order in
// which a client has sent them, so it starts calls without waiting for them.
func (t *target) handle(req micro.Request) {
	c := cursor{rest: req.Data()}
	kind, flags, err := c.head()
	if err != nil {
		if req.Reply() != "" {
			t.answerError(req.Reply(), runner.Wrap(err, runner.KindTransport, "read the call"))
		}
		return
	}
	switch kind {
	case frameCall, frameOpen:
		t.begin(req.Reply(), req.Headers(), kind, flags, c)
	case frameCalls:
		t.beginGroup(req.Reply(), &c)
	case frameItem, frameFlow:
		t.mu.Lock()
		call := t.calls[req.Reply()]
		t.mu.Unlock()
		if call != nil && call.stream != nil {
			call.stream.handle(kind, flags, &c)
		}
	case frameCancel, frameWithdraw:
		t.end(string(c.rest), kind)
	case frameInventory:
		t.inventory(req, &c)
	}
}

// begin registers a call and starts, queues or refuses it.
func (t *target) begin(reply string, header micro.Headers, kind frameKind, flags byte, c cursor) {
	timeout, waited := c.duration(), c.duration()
	if c.failed || reply == "" {
		return
	}
	call := &served{target: t, reply: reply, since: time.Now().Add(-waited), frame: c, flags: flags, header: header}
	if kind == frameOpen {
		call.stream = newServedStream(call)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	call.ctx, call.cancel, call.stop = ctx, cancel, func() { cancel(nil) }
	if flags&flagDeadline != 0 {
		timed, stop := context.WithTimeout(ctx, timeout)
		call.ctx, call.stop = timed, func() { stop(); cancel(nil) }
	}
	call.caller = t.machine.callers.add(call)
	t.mu.Lock()
	t.calls[reply] = call
	t.mu.Unlock()
	start, why := t.enter(call, flags&flagMayWait != 0)
	switch {
	case start:
		t.machine.crew.run(call)
	case why != 0:
		t.refuse(call, why)
	}
}

// beginGroup begins the calls of a group. Their reply subjects are in the inbox of that of the group.
func (t *target) beginGroup(reply string, c *cursor) {
	inbox := inboxPrefix(reply)
	for name, frame, ok := c.member(); ok; name, frame, ok = c.member() {
		inner := cursor{rest: frame}
		if kind, flags, err := inner.head(); err == nil && kind == frameCall {
			t.begin(inbox+"."+string(name), nil, kind, flags, inner)
		}
	}
}

// end cancels a call, or takes it out of the queue.
func (t *target) end(reply string, kind frameKind) {
	t.mu.Lock()
	call := t.calls[reply]
	t.mu.Unlock()
	switch {
	case call == nil: // it was answered
	case kind == frameWithdraw:
		if t.remove(call) {
			t.refuse(call, refusedWithdrawn)
		}
	default:
		t.abandon(call, errCallerLeft)
	}
}

// abandon ends a call that its caller no longer waits for.
func (t *target) abandon(call *served, cause error) {
	call.cancel(cause)
	if t.remove(call) {
		t.forget(call)
	}
}

// abort cancels all calls.
func (t *target) abort(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, call := range t.calls {
		call.cancel(cause)
	}
}

// run runs a call that has a slot, and then the queued calls that take the slot over.
func (t *target) run(call *served) {
	for call != nil {
		started := time.Now()
		err := t.serve(call)
		next := t.gate.leave(time.Since(started), err != nil)
		call = nil
		if len(next) > 0 {
			call = next[0]
			t.start(next[1:])
		}
	}
}

func (t *target) start(calls []*served) {
	for _, call := range calls {
		t.machine.crew.run(call)
	}
}

// A crew is the goroutines that run calls. Some of them wait for the next call, because a new
// goroutine would have to grow its stack in each call.
type crew struct {
	work  chan *served // taken by one that waits
	ended <-chan struct{}
	idle  atomic.Int32
}

// mostIdle bounds the goroutines that wait.
const mostIdle = 64

// run makes a goroutine run a call.
func (c *crew) run(call *served) {
	select {
	case c.work <- call:
	default:
		go c.loop(call)
	}
}

func (c *crew) loop(call *served) {
	for {
		call.target.run(call)
		if c.idle.Add(1) > mostIdle {
			c.idle.Add(-1)
			return
		}
		select {
		case call = <-c.work:
			c.idle.Add(-1)
		case <-c.ended:
			return
		}
	}
}

// adjust sets the slots, and starts queued calls if there are more slots now.
func (t *target) adjust(slots int, ready bool) { t.start(t.gate.adjust(slots, ready)) }

// leave refuses all further calls, and those in the queue.
func (t *target) leave() {
	queued, _ := t.drain()
	for _, call := range queued {
		t.refuse(call, refusedLeaving)
	}
}

// serve runs a call and answers it.
func (t *target) serve(call *served) error {
	if call.stream != nil {
		return t.stream(call)
	}
	v, release, err := t.execute(call)
	if err == nil {
		err = t.answer(call, v)
	}
	release()
	if err != nil {
		t.fail(call, err)
	}
	return err
}

// execute returns the result of a call. The caller releases it.
func (t *target) execute(call *served) (v any, release func(), err error) {
	release = func() {}
	input, err := t.input(call)
	if err != nil {
		return nil, release, err
	}
	ctx, stop := t.reporting(call)
	defer stop() // before the answer
	if call.flags&flagOnce != 0 {
		ctx = runner.WithoutRetry(ctx)
	}
	r := t.pipeline.runner
	if t.node != "" {
		v, err = r.Node(t.node).Call(ctx, input)
		return v, release, err
	}
	shared, err := r.RunShared(ctx, input)
	if err != nil {
		return nil, release, err
	}
	return shared.Value, shared.Release, nil
}

// input decodes the value of a call.
func (t *target) input(call *served) (any, error) {
	frame := call.frame
	call.frame = cursor{}
	if call.flags&flagClaimed != 0 {
		read := t.machine.conn.values.Take
		if call.flags&flagLent != 0 {
			read = t.machine.conn.values.Get
		}
		content, err := read(call.ctx, string(frame.rest))
		if err != nil {
			return nil, err
		}
		frame = cursor{rest: content}
	}
	p, err := frame.payload()
	if err != nil {
		return nil, runner.Wrap(err, runner.KindTransport, "read the call")
	}
	return p.Ordered().Decode("input", ipc.DefaultLimits())
}

// answer sends the result of a call.
func (t *target) answer(call *served, v any) error {
	p, err := ipc.Encode("result", v)
	if err != nil {
		return err
	}
	msg := appendAnswer(make([]byte, 0, p.Size()+wire.PayloadRoom), frameResult, 0, t.load())
	return t.send(call, frameResult, wire.AppendPayload(msg, p), len(msg))
}

// fail sends the error of a call, or refuses it if no node can have begun it and another machine
// may take it.
func (t *target) fail(call *served, err error) {
	switch {
	case errors.Is(err, runner.ErrDraining), t.idempotent && errors.Is(err, runner.ErrClosed):
		t.refuse(call, refusedLeaving)
		return
	case t.node != "" && errors.Is(err, retry.ErrOpen) && call.flags&flagMayWait == 0:
		t.refuse(call, refusedUnready)
		return
	}
	if cause := context.Cause(call.ctx); errors.Is(cause, errMachineLeaves) {
		err = runner.Wrap(err, runner.KindTransport, "the machine was stopped during the call")
	}
	head := appendAnswer(nil, frameFailure, 0, t.load())
	msg, encodeErr := appendDocument(head, wire.NewFailure(t.located(err)))
	if encodeErr != nil || t.send(call, frameFailure, msg, len(head)) != nil {
		// The error is too large for a message, and cannot be stored.
		e := runner.AsError(err)
		t.answerError(call.reply, runner.NewError(e.Kind, e.Error()))
		t.forget(call)
	}
}

// located adds the machine to an error.
func (t *target) located(err error) *runner.Error {
	return runner.AsError(err).WithMetadata("machine", t.machine.name)
}

// send answers a call with a frame whose content begins behind the head, by the value store if
// it is too large for a message. The answer is sent before the call is forgotten, so that an
// inventory does not overtake it.
func (t *target) send(call *served, kind frameKind, msg []byte, head int) error {
	if len(msg) > int(t.machine.conn.nc.MaxPayload()) {
		name, err := t.machine.conn.values.Put(call.ctx, msg[head:])
		if err != nil {
			return err
		}
		msg = append(appendAnswer(nil, kind, flagClaimed, t.load()), name...)
	}
	t.reply(call, msg)
	t.forget(call)
	return nil
}

// refuse answers that the call has not begun.
func (t *target) refuse(call *served, why refusal) {
	t.refusals[why].Add(1)
	t.reply(call, append(appendAnswer(nil, frameRefusal, 0, t.load()), byte(why)))
	t.forget(call)
}

// answerError answers a call that is not registered, or whose error cannot be sent whole.
func (t *target) answerError(reply string, err error) {
	if doc, err := appendDocument(appendAnswer(nil, frameFailure, 0, t.load()), wire.NewFailure(t.located(err))); err == nil {
		t.publish(reply, doc)
	}
}

// publish sends a message of its own.
func (t *target) publish(reply string, data []byte) {
	t.machine.outbox.add(mail{subject: reply, data: data})
}

// reply sends the answer to a call, in a group if the client reads these.
func (t *target) reply(call *served, data []byte) {
	m := mail{subject: call.reply, data: data}
	if call.flags&flagGroups != 0 && call.stream == nil {
		m.receiver, m.name = call.caller.prefix, lastToken(call.reply)
	}
	t.machine.outbox.add(m)
}

func (t *target) forget(call *served) {
	t.mu.Lock()
	delete(t.calls, call.reply)
	t.mu.Unlock()
	call.caller.remove(call)
	call.stop()
}

// inventory answers which of the calls in a list the machine does not have.
func (t *target) inventory(req micro.Request, c *cursor) {
	var unknown []string
	t.mu.Lock()
	for reply := range strings.FieldsSeq(string(c.rest)) {
		if t.calls[reply] == nil {
			unknown = append(unknown, reply)
		}
	}
	t.mu.Unlock()
	t.machine.callers.heard(req.Reply())
	t.publish(req.Reply(), append(appendAnswer(nil, frameUnknown, 0, t.load()), strings.Join(unknown, " ")...))
}
