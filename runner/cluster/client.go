package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// DialOption configures a [Client].
type DialOption func(*dialOptions)

type dialOptions struct {
	schema  string
	wait    time.Duration
	silence time.Duration
}

// WithSchema makes the client use only machines whose pipeline has this schema digest, as
// [MachineInfo] has it: machines with other nodes, inputs or results are left alone.
func WithSchema(digest string) DialOption { return func(o *dialOptions) { o.schema = digest } }

// WithWait sets how long [Dial] and calls wait for a machine if there is none, for instance
// while the only one is started again. The default is 2 s.
func WithWait(d time.Duration) DialOption { return func(o *dialOptions) { o.wait = d } }

// WithSilence sets after which time a machine that does not answer counts as lost, although NATS
// still knows it: because the network is cut, or the machine gets no processor time. The default
// is 3 s. A machine whose process has ended is noticed earlier.
func WithSilence(d time.Duration) DialOption { return func(o *dialOptions) { o.silence = d } }

// Client calls a pipeline on the machines that serve it. Its methods are safe for concurrent
// use.
type Client struct {
	dialOptions
	conn     *Conn
	pipeline string
	inbox    string
	subs     []*nats.Subscription
	closed   chan struct{}
	watching sync.WaitGroup
	outbox   *outbox
	once     sync.Once

	mu       sync.Mutex
	machines map[string]*peer
	calls    map[string]*attempt // by the last token of their reply subjects
	waiting  int                 // those of them that may be in the queue of a machine
	lastCall uint64
	// lastGroup is the number of the last group of calls that was sent.
	lastGroup uint64
	counts    clientCounts
	// changed is closed, and replaced, when a machine is new or can take calls again.
	changed chan struct{}
	// refused are the machines that the client cannot use, by their ids, and others the names
	// of the pipelines that machines serve; both are for errors.
	refused map[string]refusedMachine
	others  map[string]bool
	// ended is the error of all further calls, once the client or its connection is closed.
	ended error
	// offline is when the connection was lost, zero while there is one.
	offline time.Time
	looked  pulse
}

// refusedMachine is a machine that a client cannot use.
type refusedMachine struct {
	announcement
	heard time.Time
}

// The tokens of a client's inbox that do not belong to a call.
const (
	pingToken      = "ping"
	helloToken     = "hello"
	alivePrefix    = "alive-"
	inventoryToken = "inventory"
	answersToken   = "answers"
	groupPrefix    = "group-"
)

// Dial returns a client of a pipeline. It blocks until a machine has answered that serves the
// pipeline. If none does within the wait (see [WithWait]) the error is of kind manifest if
// machines serve other pipelines, and of kind transport if there is none, or none that this
// program can use. The caller closes the client.
func Dial(ctx context.Context, conn *Conn, pipeline string, opts ...DialOption) (*Client, error) {
	c := &Client{
		dialOptions: dialOptions{wait: 2 * time.Second, silence: 3 * time.Second}, conn: conn, pipeline: pipeline, inbox: conn.nc.NewInbox(),
		closed: make(chan struct{}), changed: make(chan struct{}),
		machines: make(map[string]*peer), calls: make(map[string]*attempt),
		refused: make(map[string]refusedMachine), others: make(map[string]bool),
	}
	for _, opt := range opts {
		opt(&c.dialOptions)
	}
	c.outbox = newOutbox(conn.nc, frameCalls)
	c.outbox.address, c.outbox.failed = c.address, c.unsent
	c.watching.Go(func() { c.outbox.run(c.closed) })
	if err := c.subscribe(); err != nil {
		c.Close()
		return nil, runner.Wrap(err, runner.KindIO, "dial "+pipeline)
	}
	c.watching.Go(c.watch)
	if err := c.awaitMachine(ctx, func() bool { return len(c.machines) > 0 }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// subscribe listens to the announcements and to answers, and asks for the first announcements.
func (c *Client) subscribe() error {
	before := c.conn.nc.LastError()
	for subject, handler := range map[string]nats.MsgHandler{
		beatSubject(c.pipeline): c.announced,
		c.inbox + ".*":          c.received,
	} {
		sub, err := c.conn.nc.Subscribe(subject, handler)
		if err != nil {
			return err
		}
		c.subs = append(c.subs, sub)
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return err
		}
	}
	if err := c.sayHello(); err != nil {
		return err
	}
	return c.conn.permitted(before)
}

func (c *Client) sayHello() error {
	doc, err := json.Marshal(hello{Protocol: newestProtocol, Oldest: oldestProtocol, Pipeline: c.pipeline})
	if err != nil {
		return err
	}
	return c.conn.nc.PublishRequest(subjectHello, c.inbox+"."+helloToken, doc)
}

// awaitMachine waits until a condition, which it calls with the lock held, is true.
func (c *Client) awaitMachine(ctx context.Context, condition func() bool) error {
	var timeout <-chan time.Time
	for {
		c.mu.Lock()
		isTrue, changed := condition(), c.changed
		c.mu.Unlock()
		if isTrue {
			return nil
		}
		if timeout == nil {
			timer := time.NewTimer(c.wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return contextError(ctx)
		case <-c.closed:
			return errClientClosed()
		case <-timeout:
			return c.noMachine()
		}
	}
}

// noMachine says why no machine can be called.
func (c *Client) noMachine() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, a := range c.refused {
		if time.Since(a.heard) < c.silence {
			return c.incompatible(a.announcement)
		}
		delete(c.refused, id) // it has ended
	}
	if !c.offline.IsZero() {
		return notBegun(runner.KindTransport, "there is no connection to NATS")
	}
	if len(c.machines) == 0 && len(c.others) > 0 && !c.others[c.pipeline] {
		return notBegun(runner.KindManifest, fmt.Sprintf("no machine serves a pipeline %q", c.pipeline)).
			WithHint("the machines serve " + strings.Join(slices.Sorted(maps.Keys(c.others)), ", "))
	}
	return notBegun(runner.KindTransport, fmt.Sprintf("no machine serves the pipeline %q", c.pipeline)).
		WithHint("start one, connected to the same NATS servers and account; nats micro ls lists them")
}

// incompatible says why a machine cannot be called.
func (c *Client) incompatible(a announcement) error {
	if !speaksOurs(a) {
		e := notBegun(runner.KindTransport, fmt.Sprintf("machine %s speaks %s of the protocol, and this program %s",
			a.Name, versions(a.Oldest, a.Protocol), versions(oldestProtocol, newestProtocol)))
		if a.Protocol < oldestProtocol {
			return e.WithHint(fmt.Sprintf("update gophersnake on the machine (it is version %s)", a.Version))
		}
		return e.WithHint(fmt.Sprintf("update this program (the machine has gophersnake %s)", a.Version))
	}
	return notBegun(runner.KindManifest, fmt.Sprintf("machine %s serves the pipeline %q with the schema %s, and this client needs %s",
		a.Name, c.pipeline, a.Schema, c.schema)).WithHint("its nodes, inputs or results are other ones; update the older side")
}

// notBegun returns the error of a call that no machine has begun.
func notBegun(kind runner.Kind, message string) *runner.Error {
	e := runner.NewError(kind, message)
	e.NotBegun, e.BreakerExempt = true, true
	return e
}

func contextError(ctx context.Context) error {
	return runner.Wrap(ctx.Err(), runner.KindOther, "")
}

// errClosed is wrapped by the errors of a client that was closed.
var errClosed = errors.New("the client is closed")

func errClientClosed() *runner.Error { return runner.Wrap(errClosed, runner.KindOther, "") }

func speaksOurs(a announcement) bool {
	return a.Oldest <= newestProtocol && a.Protocol >= oldestProtocol
}

// Run takes one input through the pipeline on one of the machines, as [runner.Runner.Run] does
// here. The error is a [*runner.Error], with the fields that it has on the machine, and the
// name of the machine in its metadata. If ctx ends, Run returns at once, and the machine
// cancels the run.
//
// If the machine dies during the run, the run moves to another one if all nodes of the pipeline
// are idempotent. Otherwise the error is of kind transport and says that the call may have run.
func (c *Client) Run(ctx context.Context, input any) (any, error) { return c.call(ctx, "", input) }

// Call is [Client.Run] with types, as [runner.Call] is for a local runner.
func Call[In, Out any](ctx context.Context, c *Client, input In) (out Out, _ error) {
	v, err := c.Run(ctx, input)
	if err != nil {
		return out, err
	}
	return runner.As[Out](v)
}

// Node is one node of a pipeline; see [Client.Node].
type Node struct {
	client *Client
	id     string
}

// Node returns the node with the given id, to call it alone. If the pipeline has no such node,
// the calls of the result fail.
func (c *Client) Node(id string) *Node { return &Node{c, id} }

// Call calls the node, as [runner.Node.Call] does on a local runner. It fails as [Client.Run]
// does.
func (n *Node) Call(ctx context.Context, input any) (any, error) {
	return n.client.call(ctx, n.id, input)
}

// MachineInfo is what a client knows of a machine.
type MachineInfo struct {
	ID, Name, Version string
	Labels            map[string]string
	// Schema is the digest of the pipeline's nodes, inputs and results.
	Schema string
	// Slots is how many runs the machine takes at once, Active how many it has taken, and
	// Waiting how many are in its queue, at its last announcement or answer.
	Slots, Active, Waiting int
}

// Machines returns the machines that the client can call, by their names.
func (c *Client) Machines() []MachineInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []MachineInfo
	for _, p := range c.machines {
		if p.leaving {
			continue
		}
		info := MachineInfo{ID: p.id, Name: p.name, Version: p.version, Labels: p.labels, Schema: p.schema}
		if run := p.targets[""]; run != nil {
			info.Slots, info.Active, info.Waiting = run.Slots, run.Active, run.Waiting
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b MachineInfo) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return all
}

// Close makes the client forget the machines. Calls under way fail, and their machines cancel
// them. It may be called several times.
func (c *Client) Close() {
	c.once.Do(func() {
		close(c.closed)
		c.watching.Wait()
		for _, sub := range c.subs {
			_ = sub.Unsubscribe()
		}
	})
}

// Executor runs nodes of a pipeline on other machines, for [runner.WithExecutor]. Its methods are
// safe for concurrent use.
type Executor struct {
	conn     *Conn
	pipeline string
	place    machineOptions

	mu     sync.Mutex
	client *Client // nil until it is needed
	closed bool
}

// NewExecutor returns an executor for the nodes of a pipeline, which the other machines serve
// under the given name. Nodes whose host is this machine run here; [WithName] and [WithLabels]
// say what this machine is, and other options have no effect. It does not connect to machines
// before the runner starts. The caller closes it after the runner.
//
// The machines may serve the same manifest: each runs the nodes whose host it is, and those
// without a host.
func NewExecutor(conn *Conn, pipeline string, opts ...MachineOption) *Executor {
	e := &Executor{conn: conn, pipeline: pipeline, place: machineOptions{name: hostname(), slots: make(map[string]int)}}
	for _, opt := range opts {
		opt(&e.place)
	}
	return e
}

// Here implements [runner.Executor].
func (e *Executor) Here(host manifest.Host) bool { return host.Matches(e.place.name, e.place.labels) }

// Describe implements [runner.Executor]. It waits for a machine for some time.
func (e *Executor) Describe(ctx context.Context, node string, host manifest.Host) (ipc.Description, error) {
	c, err := e.connect(ctx)
	if err != nil {
		return ipc.Description{}, err
	}
	var found *ipc.Description
	asked := false
	err = c.awaitMachine(ctx, func() bool {
		for _, p := range c.machines {
			t := p.targets[node]
			if t == nil || p.leaving || !host.Matches(p.name, p.labels) {
				continue
			}
			if found = t.described; found != nil {
				return true
			}
			if !asked { // its announcement came before its answer to a hello
				asked = true
				_ = c.sayHello()
			}
		}
		return false
	})
	if err != nil {
		if ctx.Err() == nil {
			err = notBegun(runner.KindTransport, fmt.Sprintf("no machine serves the node: it runs on %s", host)).
				WithHint(fmt.Sprintf("start one that serves the pipeline %s, connected to the same NATS servers", e.pipeline))
		}
		return ipc.Description{}, err
	}
	return *found, nil
}

// Call implements [runner.Executor].
func (e *Executor) Call(ctx context.Context, call *runner.RemoteCall) (ipc.Payload, error) {
	c, err := e.connect(ctx)
	if err != nil {
		return ipc.Payload{}, err
	}
	p := &pending{client: c, node: call.Node, payload: call.Input, remote: call, since: time.Now(), header: outgoing(ctx), progress: progress.Of(ctx)}
	return p.make(ctx)
}

// leftValue is a result that stays in the value store until the nodes that take it have run. If this
// process dies before, the value ends by its age.
type leftValue struct {
	values *wire.Values
	name   string
}

// left returns the value that is the input of a remote call, nil if the input is encoded.
func (call *pending) left() *leftValue {
	if call.remote == nil || call.remote.From == nil {
		return nil
	}
	left, _ := call.remote.From.(*leftValue)
	return left
}

// read returns the value.
func (v *leftValue) read(ctx context.Context) (ipc.Payload, error) {
	content, err := v.values.Get(ctx, v.name)
	if err != nil {
		return ipc.Payload{}, err
	}
	p, err := wire.ReadPayload(content)
	if err != nil {
		return ipc.Payload{}, runner.Wrap(err, runner.KindTransport, "read a value that another machine has left")
	}
	return p, nil
}

// Release implements [runner.RemoteValue].
func (v *leftValue) Release() { v.values.Drop(v.name) }

// frame returns the frame of the call for a machine. A value that is too large for a message goes to
// the value store first, and stored is its name then, unless it is there already.
func (call *pending) frame(ctx context.Context, a *attempt, head callHead) (data []byte, stored string, err error) {
	if left := call.left(); left != nil {
		if a.lends {
			head.flags |= flagClaimed | flagLent
			return append(appendCall(nil, frameCall, head), left.name...), "", nil
		}
		if call.payload, err = left.read(ctx); err != nil { // for a machine of an older version
			return nil, "", err
		}
	}
	limit := call.client.conn.nc.MaxPayload() - int64(headerSize(call.header))
	if int64(call.payload.Size()+wire.PayloadRoom+16*len(call.payload.Buffers)) <= limit {
		data = appendCall(make([]byte, 0, call.payload.Size()+wire.PayloadRoom), frameCall, head)
		return wire.AppendPayload(data, call.payload), "", nil
	}
	content := wire.AppendPayload(make([]byte, 0, call.payload.Size()+wire.PayloadRoom), call.payload)
	if stored, err = call.client.conn.values.Put(ctx, content); err != nil {
		return nil, "", err
	}
	head.flags |= flagClaimed
	return append(appendCall(nil, frameCall, head), stored...), stored, nil
}

// connect returns the client.
func (e *Executor) connect(ctx context.Context) (*Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClientClosed()
	}
	if e.client != nil {
		return e.client, nil
	}
	c, err := Dial(ctx, e.conn, e.pipeline)
	if err == nil {
		e.client = c
	}
	return c, err
}

// Close ends the calls under way. It may be called several times.
func (e *Executor) Close() {
	e.mu.Lock()
	c := e.client
	e.client, e.closed = nil, true
	e.mu.Unlock()
	if c != nil {
		c.Close()
	}
}
