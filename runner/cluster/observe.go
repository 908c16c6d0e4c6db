package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/runner"
)

// MachineStatus is what a machine says about itself.
type MachineStatus struct {
	ID, Name, Version string
	Labels            map[string]string
	// Oldest and Newest are the versions of the protocol that it speaks. Usable says whether
	// this program speaks one of them.
	Oldest, Newest int
	Usable         bool
	// Leaving says that it drains.
	Leaving bool
	// Time is the machine's clock when it answered, zero if it did not say. Asked and Heard are
	// this program's before the question and after the answer.
	Time, Asked, Heard time.Time
	Pipelines          []MachinePipeline // by their names
}

// MachinePipeline is a pipeline of a machine.
type MachinePipeline struct {
	Name, Schema string
	Ready        bool
	// Slots is how many runs the machine takes at once, Active how many it has taken, and
	// Waiting how many are in its queue.
	Slots, Active, Waiting int
}

// The times in which machines answer: Machines waits at most for longestRoll, and no longer than
// quietRoll after the last answer.
const (
	longestRoll = time.Second
	quietRoll   = 150 * time.Millisecond
)

// Machines asks all machines of the cluster for what they are. It blocks until they have
// answered, for at most about a second, or until the context ends. They are sorted by name. The
// error is that of the context or of the connection.
func Machines(ctx context.Context, conn *Conn) ([]MachineStatus, error) {
	before := conn.nc.LastError()
	sub, err := conn.nc.SubscribeSync(conn.nc.NewInbox())
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "ask the machines")
	}
	defer func() { _ = sub.Unsubscribe() }()
	doc, err := json.Marshal(hello{Protocol: newestProtocol, Oldest: oldestProtocol, All: true})
	if err != nil {
		return nil, runner.Wrap(err, runner.KindOther, "ask the machines")
	}
	asked := time.Now()
	if err := conn.nc.PublishRequest(subjectHello, sub.Subject, doc); err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "ask the machines")
	}
	if err := conn.permitted(before); err != nil {
		return nil, err
	}
	all := make(map[string]*MachineStatus)
	for wait := longestRoll; time.Since(asked) < longestRoll; wait = quietRoll {
		msg, err := nextMessage(ctx, sub, wait)
		if ctx.Err() != nil {
			return nil, contextError(ctx)
		}
		if err != nil || isNoResponders(msg) {
			break
		}
		var a announcement
		if json.Unmarshal(msg.Data, &a) == nil && a.Machine != "" {
			addAnnouncement(all, &a, asked)
		}
	}
	machines := make([]MachineStatus, 0, len(all))
	for _, m := range all {
		slices.SortFunc(m.Pipelines, func(a, b MachinePipeline) int { return cmp.Compare(a.Name, b.Name) })
		machines = append(machines, *m)
	}
	slices.SortFunc(machines, func(a, b MachineStatus) int { return cmp.Compare(a.Name+a.ID, b.Name+b.ID) })
	return machines, nil
}

func nextMessage(ctx context.Context, sub *nats.Subscription, wait time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// addAnnouncement adds what a machine says of one pipeline.
func addAnnouncement(all map[string]*MachineStatus, a *announcement, asked time.Time) {
	m := all[a.Machine]
	if m == nil {
		m = &MachineStatus{
			ID: a.Machine, Name: a.Name, Version: a.Version, Labels: a.Labels, Oldest: a.Oldest, Newest: a.Protocol,
			Usable: speaksOurs(*a), Leaving: a.Leaving, Asked: asked, Heard: time.Now(),
		}
		if a.Time != nil {
			m.Time = *a.Time
		}
		for _, name := range a.Pipelines { // an older machine says no more of the others
			m.Pipelines = append(m.Pipelines, MachinePipeline{Name: name})
		}
		all[a.Machine] = m
	}
	at := slices.IndexFunc(m.Pipelines, func(p MachinePipeline) bool { return p.Name == a.Pipeline })
	if at < 0 {
		return
	}
	for _, t := range a.Targets {
		if t.Node == "" {
			m.Pipelines[at] = MachinePipeline{a.Pipeline, a.Schema, t.Ready, t.Slots, t.Active, t.Waiting}
		}
	}
}

// Roster keeps the machines of a cluster for something that shows them, such as a status page.
// It asks them only when it is asked itself. It is safe for concurrent use.
type Roster struct {
	conn   *Conn
	ctx    context.Context
	cancel context.CancelFunc
	asking sync.WaitGroup

	mu     sync.Mutex
	isBusy bool // the machines are being asked
	at     time.Time
	last   []MachineStatus
}

// The age at which the machines are asked again, and that at which nothing old is shown.
const (
	rollAge    = time.Second
	longestAge = 10 * time.Second
)

// NewRoster returns a roster of the machines that a connection reaches. The caller closes it.
func NewRoster(conn *Conn) *Roster {
	ctx, cancel := context.WithCancel(context.Background())
	return &Roster{conn: conn, ctx: ctx, cancel: cancel}
}

// Machines returns the machines, sorted by name, as they were a second ago. Only if it was not
// called for some time it blocks as the function [Machines] does. If they cannot be asked, it
// returns none.
func (r *Roster) Machines(ctx context.Context) []MachineStatus {
	r.mu.Lock()
	age := time.Since(r.at)
	if age > longestAge {
		r.last = nil
	}
	last, isDue := r.last, age > rollAge && !r.isBusy && r.ctx.Err() == nil
	if isDue {
		r.isBusy = true
		r.asking.Add(1)
	}
	r.mu.Unlock()
	switch {
	case !isDue:
		return last
	case age > longestAge:
		return r.ask(ctx)
	}
	go r.ask(r.ctx)
	return last
}

// ask asks the machines and returns them.
func (r *Roster) ask(ctx context.Context) []MachineStatus {
	defer r.asking.Done()
	all, err := Machines(ctx, r.conn)
	if err != nil {
		r.conn.logger.Debug("cannot ask the machines", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isBusy = false
	if err == nil {
		r.last, r.at = all, time.Now()
	}
	return r.last
}

// Close ends what the roster does. It may be called several times.
func (r *Roster) Close() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.asking.Wait()
}

// refusals counts the calls that a target has refused, by the reason.
type refusals [refusedUnready + 1]atomic.Uint64

// refusalLabels are the reasons as labels of metrics.
var refusalLabels = map[refusal]string{
	refusedBusy: "busy", refusedFull: "full", refusedLeaving: "leaving", refusedWithdrawn: "withdrawn", refusedUnready: "unready",
}

// Metrics returns the metrics of the machine: the capacity that it announces, the calls that it
// has and had, and those that it has refused. Metrics of the same name follow each other. It may
// be called at any time.
func (m *Machine) Metrics() []runner.Metric {
	connected := 0.0
	if m.conn.nc.IsConnected() {
		connected = 1
	}
	all := []runner.Metric{{Name: "gophersnake_cluster_connected", Help: "Whether there is a connection to NATS.", Kind: runner.MetricGauge, Value: connected}}
	for _, metric := range []struct {
		name, help string
		kind       runner.MetricKind
		value      func(load, targetStats) float64
	}{
		{"slots", "The calls that the machine takes at once, as it announces them.", runner.MetricGauge, func(l load, _ targetStats) float64 { return float64(l.Slots) }},
		{"active_calls", "The calls that run.", runner.MetricGauge, func(l load, _ targetStats) float64 { return float64(l.Active) }},
		{"waiting_calls", "The calls that wait for a slot.", runner.MetricGauge, func(l load, _ targetStats) float64 { return float64(l.Waiting) }},
		{"calls_total", "The calls that have ended.", runner.MetricCounter, func(_ load, s targetStats) float64 { return float64(s.Finished) }},
		{"failed_calls_total", "The calls that have failed.", runner.MetricCounter, func(_ load, s targetStats) float64 { return float64(s.Failed) }},
	} {
		m.eachTarget(func(t *target, labels map[string]string) {
			l, _, stats := t.state()
			all = append(all, runner.Metric{Name: "gophersnake_cluster_" + metric.name, Help: metric.help, Kind: metric.kind, Labels: labels, Value: metric.value(l, stats)})
		})
	}
	m.eachTarget(func(t *target, labels map[string]string) {
		for why := refusedBusy; why <= refusedUnready; why++ {
			labels := maps.Clone(labels)
			labels["reason"] = refusalLabels[why]
			all = append(all, runner.Metric{Name: "gophersnake_cluster_refusals_total", Help: "The calls that the machine has refused.",
				Kind: runner.MetricCounter, Labels: labels, Value: float64(t.refusals[why].Load())})
		}
	})
	return all
}

// eachTarget calls a function with each target and its labels.
func (m *Machine) eachTarget(fn func(*target, map[string]string)) {
	for _, name := range m.names {
		for _, t := range m.served[name].targets {
			fn(t, map[string]string{"pipeline": name, "machine": m.name, "node": t.node})
		}
	}
}

// clientCounts are the counters of a client. The client's lock guards them.
type clientCounts struct {
	sent    map[string]uint64 // by the names of machines
	refused map[string]uint64
	lost    map[string]uint64
	moved   uint64
}

// Metrics returns the metrics of the client: the calls that it has sent to each machine, those
// that a machine has refused or was lost with, and those that were made again elsewhere. Metrics
// of the same name follow each other. It may be called at any time.
func (c *Client) Metrics() []runner.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []runner.Metric
	for _, metric := range []struct {
		name, help string
		counts     map[string]uint64
	}{
		{"sent", "The calls that were sent to a machine.", c.counts.sent},
		{"refused", "The calls that a machine has refused.", c.counts.refused},
		{"lost", "The calls whose machine was lost.", c.counts.lost},
	} {
		for _, machine := range slices.Sorted(maps.Keys(metric.counts)) {
			all = append(all, runner.Metric{Name: "gophersnake_cluster_client_" + metric.name + "_total", Help: metric.help, Kind: runner.MetricCounter,
				Labels: map[string]string{"pipeline": c.pipeline, "machine": machine}, Value: float64(metric.counts[machine])})
		}
	}
	return append(all, runner.Metric{Name: "gophersnake_cluster_client_moved_total", Help: "The calls that moved because their machine was lost.",
		Kind: runner.MetricCounter, Labels: map[string]string{"pipeline": c.pipeline}, Value: float64(c.counts.moved)})
}

// counted changes the counters.
func (c *Client) counted(change func(*clientCounts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.counts)
}

// count adds one to a counter.
func count(counts *map[string]uint64, machine string) {
	if *counts == nil {
		*counts = make(map[string]uint64)
	}
	(*counts)[machine]++
}

// protocols describes the versions that a machine speaks.
func (m *MachineStatus) protocols() string {
	if m.Oldest == m.Newest {
		return strconv.Itoa(m.Newest)
	}
	return strconv.Itoa(m.Oldest) + " to " + strconv.Itoa(m.Newest)
}
