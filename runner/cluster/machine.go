package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/capacity"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// MachineOption configures a [Machine].
type MachineOption func(*machineOptions)

type machineOptions struct {
	name     string
	labels   map[string]string
	version  string
	slots    map[string]int
	grace    time.Duration
	protocol [2]int // oldest and newest
	lends    bool   // see targetState.Lends
}

// WithName names the machine in errors and statistics. The default is the name of the host.
func WithName(name string) MachineOption { return func(o *machineOptions) { o.name = name } }

// WithLabels adds labels to what the machine announces, for instance gpu: "h200".
func WithLabels(labels map[string]string) MachineOption {
	return func(o *machineOptions) { o.labels = labels }
}

// WithVersion sets the version of the services, in the form of semantic versioning. The default
// is the version of the program's main module.
func WithVersion(version string) MachineOption {
	return func(o *machineOptions) { o.version = version }
}

// WithSlots sets how many runs of a pipeline the machine takes at once. The default is as many
// as are sure to find a free worker of each node: the number of calls that the workers of one
// node take at once, for the node with the fewest.
func WithSlots(pipeline string, n int) MachineOption {
	return func(o *machineOptions) { o.slots[pipeline] = n }
}

// WithDrainTimeout limits how long [Serve] waits for calls under way when it ends. The default
// is 30 s.
func WithDrainTimeout(d time.Duration) MachineOption {
	return func(o *machineOptions) { o.grace = d }
}

// Machine serves the pipelines of this process to clients. Its methods are safe for concurrent
// use.
type Machine struct {
	machineOptions
	id      string
	conn    *Conn
	logger  *slog.Logger
	served  map[string]*servedPipeline
	names   []string // of the pipelines, sorted
	callers *callers
	crew    crew
	outbox  *outbox

	subs    []*nats.Subscription
	wake    chan struct{} // a gate has a free slot after it had none
	ended   chan struct{} // closed when the machine has left
	beating sync.WaitGroup
	leaving chan struct{} // closed when the machine drains
	drain   sync.Once
	close   sync.Once
}

// servedPipeline is one pipeline of a machine.
type servedPipeline struct {
	name       string
	runner     *runner.Runner
	idempotent bool
	service    micro.Service
	targets    []*target // the run, and then the nodes in the order of the manifest
	code       atomic.Pointer[code]
	reading    atomic.Bool // the nodes are being described again
}

var errMachineLeaves = errors.New("the machine has ended before the call")

// Announce starts the runners that are not started, announces their pipelines, by their names
// in the map, and their nodes, and serves calls of them until [Machine.Close]. It blocks while
// workers start. Its error is that of a runner, or of the connection.
func Announce(ctx context.Context, conn *Conn, runners map[string]*runner.Runner, opts ...MachineOption) (*Machine, error) {
	m := &Machine{
		machineOptions: machineOptions{
			name: hostname(), version: programVersion(), slots: make(map[string]int), grace: 30 * time.Second,
			protocol: [2]int{oldestProtocol, newestProtocol}, lends: true,
		},
		id: nuid.Next(), conn: conn, logger: conn.logger, names: slices.Sorted(maps.Keys(runners)),
		served: make(map[string]*servedPipeline), wake: make(chan struct{}, 1), ended: make(chan struct{}), leaving: make(chan struct{}),
	}
	for _, opt := range opts {
		opt(&m.machineOptions)
	}
	m.callers = newCallers(m)
	m.outbox = newOutbox(conn.nc, frameAnswers)
	m.outbox.address, m.outbox.failed = answersAddress, m.unsent
	m.crew = crew{work: make(chan *served), ended: m.ended}
	for _, name := range m.names {
		all, err := capacity.Describe(ctx, runners[name])
		if err != nil {
			return nil, err
		}
		m.served[name] = m.newPipeline(name, runners[name], all)
	}
	if err := m.subscribe(); err != nil {
		m.unsubscribe()
		return nil, runner.Wrap(err, runner.KindIO, "announce the pipelines")
	}
	m.beating.Go(func() { m.outbox.run(m.ended) })
	m.beating.Go(m.beat)
	m.beating.Go(m.callers.watch)
	return m, nil
}

// Serve announces pipelines as [Announce] does, and serves them until the context ends. Then
// the machine drains, as [Machine.Drain] says, and Serve returns nil when no call is under way,
// or the drain timeout has passed. It returns an error if it cannot announce them, or if the
// connection is closed.
func Serve(ctx context.Context, conn *Conn, runners map[string]*runner.Runner, opts ...MachineOption) error {
	m, err := Announce(ctx, conn, runners, opts...)
	if err != nil {
		return err
	}
	defer m.Close()
	select {
	case <-ctx.Done():
	case <-conn.closed:
		return runner.NewError(runner.KindIO, "the connection to NATS was closed")
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.grace)
	defer cancel()
	_ = m.Drain(grace) // the calls that are left get an error from Close
	return nil
}

func (m *Machine) newPipeline(name string, r *runner.Runner, all []ipc.Description) *servedPipeline {
	p := &servedPipeline{name: name, runner: r, idempotent: true}
	p.code.Store(newCode(r, generationOf(r.Health()), all))
	for i := range r.Pipeline().Nodes {
		n := &r.Pipeline().Nodes[i]
		p.idempotent = p.idempotent && n.Idempotent
		if r.RunsHere(n.ID) {
			p.targets = append(p.targets, m.newTarget(p, n.ID, n.Idempotent))
		}
	}
	p.targets = slices.Insert(p.targets, 0, m.newTarget(p, "", p.idempotent))
	m.measure(p)
	return p
}

// measure sets the slots of the targets from the state of the workers.
func (m *Machine) measure(p *servedPipeline) {
	health, code := p.runner.Health(), p.code.Load()
	if generationOf(health) != code.generation && p.reading.CompareAndSwap(false, true) {
		m.beating.Go(func() { m.readAgain(p, generationOf(health)) })
	}
	byID := make(map[string]*runner.NodeHealth, len(health.Nodes))
	for i := range health.Nodes {
		byID[health.Nodes[i].Node] = &health.Nodes[i]
	}
	var slots []int
	targets := p.targets[1:]
	for i := range p.runner.Pipeline().Nodes {
		n := &p.runner.Pipeline().Nodes[i]
		h := byID[n.ID]
		if h == nil || !p.runner.RunsHere(n.ID) {
			continue
		}
		slots = append(slots, capacity.OfNode(n, code.nodes[i], h.Pool))
		targets[0].adjust(slots[len(slots)-1], h.Ready())
		targets = targets[1:]
	}
	p.targets[0].adjust(cmp.Or(m.slots[p.name], capacity.OfRun(slots)), health.Ready())
}

// subscribe makes the machine known to NATS. The services come last: a client that sees the
// announcement can call.
func (m *Machine) subscribe() error {
	before := m.conn.nc.LastError()
	for _, name := range m.names {
		if err := m.addService(m.served[name]); err != nil {
			return fmt.Errorf("pipeline %s: %w", name, err)
		}
	}
	for subject, handler := range map[string]nats.MsgHandler{
		aliveSubject(m.id):     m.pong,
		subjectHello:           m.hello,
		m.callers.inbox + ".*": m.callers.answered,
	} {
		sub, err := m.conn.nc.Subscribe(subject, handler)
		if err != nil {
			return err
		}
		m.subs = append(m.subs, sub)
	}
	for _, name := range m.names {
		m.publish(m.served[name])
	}
	return m.conn.permitted(before)
}

// addService announces a pipeline and its nodes as a NATS micro service.
func (m *Machine) addService(p *servedPipeline) error {
	metadata := map[string]string{
		"pipeline": p.name, "schema": p.code.Load().schema, "machine": m.name, "machine_id": m.id,
		"protocol": strconv.Itoa(m.protocol[1]), "oldest_protocol": strconv.Itoa(m.protocol[0]),
	}
	for key, value := range m.labels {
		metadata["label."+key] = value
	}
	service, err := micro.AddService(m.conn.nc, micro.Config{
		Name: serviceName(p.name), Version: m.version, Metadata: metadata,
		Description:        "a pipeline of gophersnake",
		QueueGroupDisabled: true, // each subject belongs to one machine
		StatsHandler:       p.stats,
		ErrorHandler:       func(_ micro.Service, err *micro.NATSError) { m.logger.Warn("NATS reports", "error", err) },
	})
	if err != nil {
		return err
	}
	p.service = service
	group := service.AddGroup(callGroup(p.name, m.id))
	for _, t := range p.targets {
		metadata := map[string]string{"idempotent": strconv.FormatBool(t.idempotent)}
		name := "run"
		if t.node != "" {
			name, metadata["node"] = t.node, t.node
		}
		err := group.AddEndpoint(name, micro.HandlerFunc(t.handle), micro.WithEndpointSubject(targetName(t.node)),
			micro.WithEndpointMetadata(metadata), micro.WithEndpointPendingLimits(-1, -1))
		if err != nil {
			return err
		}
	}
	return nil
}

// description returns the description of a node.
func (p *servedPipeline) description(id string) *ipc.Description {
	all := p.runner.Pipeline().Nodes
	i := slices.IndexFunc(all, func(n manifest.Node) bool { return n.ID == id })
	return &p.code.Load().nodes[i]
}

// stats returns the statistics of an endpoint for "nats micro stats". Those that NATS counts
// itself do not include the time of calls, which run after their handler has returned.
func (p *servedPipeline) stats(endpoint *micro.Endpoint) any {
	for _, t := range p.targets {
		if t.node == endpoint.Metadata["node"] {
			_, _, stats := t.state()
			stats.Schema = p.code.Load().schema
			return stats
		}
	}
	return nil
}

// beatInterval is how often a machine announces its pipelines, and shortestBeat the least time
// between two announcements if its load changes.
const (
	beatInterval = 500 * time.Millisecond
	shortestBeat = 10 * time.Millisecond
)

// beat announces the pipelines until the machine has left.
func (m *Machine) beat() {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		for _, name := range m.names {
			m.publish(m.served[name])
		}
		select {
		case <-m.ended:
			return
		case <-ticker.C:
			for _, name := range m.names {
				m.measure(m.served[name])
			}
			continue
		case <-m.wake:
		}
		pause.Reset(shortestBeat)
		select {
		case <-m.ended:
			return
		case <-pause.C:
		}
	}
}

// changed makes the machine announce its load soon. It does not block.
func (m *Machine) changed() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Machine) announcement(p *servedPipeline) announcement {
	a := announcement{
		Protocol: m.protocol[1], Oldest: m.protocol[0], Machine: m.id, Name: m.name, Version: m.version, Labels: m.labels,
		Leaving: m.isLeaving(), Groups: true,
	}
	if p == nil {
		return a
	}
	code := p.code.Load()
	a.Pipeline, a.Schema = p.name, code.schema
	for _, t := range p.targets {
		l, ready, _ := t.state()
		state := targetState{Node: t.node, Idempotent: t.idempotent, Ready: ready, load: l}
		state.Lends = t.node != "" && m.lends
		if t.node == "" {
			state.Resumes, state.Sinks = code.resumes, code.sinks
		}
		a.Targets = append(a.Targets, state)
	}
	return a
}

func (m *Machine) publish(p *servedPipeline) {
	doc, err := json.Marshal(m.announcement(p))
	if err == nil {
		err = m.conn.nc.Publish(beatSubject(p.name), doc)
	}
	if err != nil && !m.conn.nc.IsClosed() {
		m.logger.Warn("cannot announce a pipeline", "pipeline", p.name, "error", err)
	}
}

// hello answers a client that asks for the machine.
func (m *Machine) hello(msg *nats.Msg) {
	var h hello
	if json.Unmarshal(msg.Data, &h) != nil {
		return
	}
	names := []string{h.Pipeline}
	if h.All && len(m.names) > 0 {
		names = m.names
	}
	now := time.Now()
	for _, name := range names {
		p := m.served[name]
		a := m.announcement(p)
		a.Pipelines, a.Time = m.names, &now
		for i := range a.Targets {
			if id := a.Targets[i].Node; id != "" && !h.All {
				a.Targets[i].Description = p.description(id)
			}
		}
		if doc, err := json.Marshal(a); err == nil {
			_ = msg.Respond(doc)
		}
	}
}

// answersAddress returns the subject of a group of answers to a client.
func answersAddress(inbox string, _ []mail) (subject, reply string) {
	return inbox + "." + answersToken, ""
}

// unsent notes that answers cannot be sent.
func (m *Machine) unsent(_ []mail, err error) {
	if !errors.Is(err, nats.ErrConnectionClosed) {
		m.logger.Warn("cannot answer a call", "error", err)
	}
}

func (m *Machine) pong(msg *nats.Msg) {
	_ = msg.Respond(appendHead(nil, framePong, 0))
}

func (m *Machine) isLeaving() bool {
	select {
	case <-m.leaving:
		return true
	default:
		return false
	}
}

// Drain makes the machine leave: it takes no further calls, gives those in its queue back to
// their clients, which call other machines, and waits for the calls that run. Then it goes on
// refusing calls for 0.5 s, since some clients may not have heard that it leaves: a call that came
// after the end would be lost. If the context ends first, Drain returns its error. The runners stay
// open.
func (m *Machine) Drain(ctx context.Context) error {
	if err := m.awaitIdle(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(beatInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// awaitIdle makes the machine leave, and waits for the calls that run.
func (m *Machine) awaitIdle(ctx context.Context) error {
	m.drain.Do(func() {
		close(m.leaving)
		for _, name := range m.names {
			for _, t := range m.served[name].targets {
				t.leave()
			}
			m.publish(m.served[name])
		}
	})
	for _, name := range m.names {
		for _, t := range m.served[name].targets {
			select {
			case <-t.idle:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// Close drains the machine without waiting: calls that run are canceled and fail, with an
// error that says so. When it returns, no call is under way. It may be called several times.
func (m *Machine) Close() {
	m.close.Do(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = m.awaitIdle(ended)
		for _, name := range m.names {
			for _, t := range m.served[name].targets {
				t.abort(errMachineLeaves)
			}
		}
		_ = m.awaitIdle(context.Background())
		close(m.ended)
		m.beating.Wait()
		m.unsubscribe()
	})
}

func (m *Machine) unsubscribe() {
	for _, p := range m.served {
		if p.service != nil {
			_ = p.service.Stop()
		}
	}
	for _, sub := range m.subs {
		_ = sub.Unsubscribe()
	}
	if m.conn.nc.IsConnected() {
		_ = m.conn.nc.FlushTimeout(closeTimeout)
	}
}
