package serve

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/serve/internal/monitor"
)

// Monitor keeps what GET /v1/status shows of pipelines beside their health: for each node, the
// calls of the last minute and the last records of the log. It takes at most about 160 KiB for a
// node, and costs a call a few atomic operations. It is safe for concurrent use.
type Monitor struct {
	mu        sync.Mutex
	pipelines map[string]*monitor.Pipeline
	changed   chan struct{} // closed by the next change
}

// NewMonitor returns a monitor, for [Monitor.Options] and [WithMonitor].
func NewMonitor() *Monitor {
	return &Monitor{pipelines: make(map[string]*monitor.Pipeline), changed: make(chan struct{})}
}

// Options returns the options of a runner that the monitor watches, under the name that its
// pipeline has in the handler. They replace [runner.WithLogger]: the monitor passes the records
// on to logger, and keeps those from info level up. So workers send it records of that level
// even if the level of logger is higher.
func (m *Monitor) Options(pipeline string, logger hclog.Logger) []runner.Option {
	p := monitor.New(m.change)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pipelines[pipeline] = p
	return []runner.Option{runner.WithLogger(p.Logger(logger)), runner.WithEvents(p.Event)}
}

// change wakes those that watch.
func (m *Monitor) change() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// changes returns a channel that the next change closes. A nil monitor has no changes.
func (m *Monitor) changes() <-chan struct{} {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// pipeline returns what is kept of a pipeline, or nil.
func (m *Monitor) pipeline(name string) *monitor.Pipeline {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pipelines[name]
}

// rights are what a client may see and do.
type rights struct {
	// Admin allows it to reload pipelines and to restart nodes.
	Admin bool `json:"admin"`
	// Logs shows it the log of nodes.
	Logs bool `json:"logs"`
	// Details shows it tracebacks, what workers wrote to their standard error, and paths of
	// the host.
	Details bool `json:"details"`
	// Session says that it has logged in, and can log out.
	Session bool `json:"session"`
}

// isLocal reports whether only clients of this machine can use the handler, and need no token.
func (h *handler) isLocal() bool {
	isOther := func(host string) bool { return host != "localhost" }
	return !h.needsToken() && len(h.hosts) > 0 && !slices.ContainsFunc(h.hosts, isOther)
}

// rights returns those of the client. The log may have what other clients have sent, so that
// a token needs the right to administer the service.
func (x *exchange) rights() rights {
	isLocal := x.h.isLocal()
	admin := isLocal && x.h.admin || x.token != nil && x.token.Admin
	details := admin || x.h.debug
	isSession := x.token != nil && authorization(x.req.Header) == ""
	return rights{Admin: admin, Logs: details || isLocal, Details: details, Session: isSession}
}

// statusDocument is the answer of GET /v1/status, and each event of its stream.
type statusDocument struct {
	Time      time.Time        `json:"time"`
	Ready     bool             `json:"ready"`
	Draining  bool             `json:"draining,omitempty"`
	May       rights           `json:"may"`
	Pipelines []pipelineStatus `json:"pipelines"`
	Machines  []Machine        `json:"machines,omitempty"`
}

// Machine is a machine of a cluster for GET /v1/status; see [WithMachines].
type Machine struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Protocol int               `json:"protocol"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Leaving says that it drains, and Usable that this program can call it.
	Leaving   bool              `json:"leaving,omitempty"`
	Usable    bool              `json:"usable"`
	Pipelines []MachinePipeline `json:"pipelines"`
}

// MachinePipeline is a pipeline of a [Machine].
type MachinePipeline struct {
	Name    string `json:"name"`
	Schema  string `json:"schema"`
	Ready   bool   `json:"ready"`
	Slots   int    `json:"slots"`  // runs that the machine takes at once
	Active  int    `json:"active"` // runs that it has taken
	Waiting int    `json:"waiting"`
}

// WithMachines shows the machines of a cluster in GET /v1/status. The handler calls fn at most a
// few times a second, only while someone looks, and waits for it; cluster.Roster has such a function.
func WithMachines(fn func(context.Context) []Machine) Option {
	return func(o *options) { o.machines = fn }
}

type pipelineStatus struct {
	Name        string                `json:"name"`
	Description string                `json:"description,omitempty"`
	Ready       bool                  `json:"ready"`
	State       string                `json:"state"`
	Reason      string                `json:"reason,omitempty"`
	Sources     []string              `json:"sources"`
	Sinks       []string              `json:"sinks"`
	Connections []describedConnection `json:"connections"`
	Nodes       []nodeStatus          `json:"nodes"`
	LastLog     uint64                `json:"last_log,omitempty"`
}

type nodeStatus struct {
	nodeHealth
	Type string `json:"type"`
	Kind string `json:"kind"`
	// Breaker failures, and the numbers of calls since the start.
	Failures int                    `json:"consecutive_failures"`
	Calls    uint64                 `json:"calls"`
	Failed   map[runner.Kind]uint64 `json:"failed,omitempty"`
	Retries  uint64                 `json:"retries"`
	Canceled uint64                 `json:"canceled"`
	Error    *failureStatus         `json:"last_error,omitempty"`
	// Of a node with workers.
	Pool  *poolStatus    `json:"pool,omitempty"`
	Death *failureStatus `json:"last_death,omitempty"`
	// Of a node that a monitor watches.
	Recent  *recentStatus `json:"recent,omitempty"`
	LastLog uint64        `json:"last_log,omitempty"` // the number of the last record
}

type poolStatus struct {
	Min           int               `json:"min"`
	Max           int               `json:"max"`
	Generation    int               `json:"generation"`
	Started       uint64            `json:"started"`
	StartFailures uint64            `json:"start_failures"`
	Deaths        map[string]uint64 `json:"deaths,omitempty"`
	SpareNote     string            `json:"spare_note,omitempty"`
	NextStart     time.Time         `json:"next_start,omitzero"`
	Workers       []workerStatus    `json:"workers"`
}

type workerStatus struct {
	PID      int            `json:"pid"`
	Role     string         `json:"role"`
	Load     int            `json:"load"`
	Calls    uint64         `json:"calls"`
	Age      runner.Seconds `json:"age"`
	Resident int64          `json:"resident,omitempty"`
	CPU      runner.Seconds `json:"cpu"`
}

// failureStatus is an error that happened at a time.
type failureStatus struct {
	Time   time.Time `json:"time,omitzero"`
	Kind   string    `json:"kind"`
	Text   string    `json:"text"`
	Report string    `json:"report,omitempty"` // everything that is known
}

// recentStatus are the calls of the last minute. Times are in seconds.
type recentStatus struct {
	Calls  int     `json:"calls"`
	Failed int     `json:"failed"`
	Rate   float64 `json:"rate"` // of the last 10 s
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	// Each point of History is the figures of Span seconds, the last point those that have
	// just ended.
	Span    float64 `json:"span"`
	History history `json:"history"`
}

type history struct {
	Rate   []float64 `json:"rate"`
	Failed []int     `json:"failed"`
	P50    []float64 `json:"p50"`
	P99    []float64 `json:"p99"`
}

// longestReport bounds the report of an error in the status.
const longestReport = 16 << 10

// statusFeed keeps the last status, so that many watchers cost no more than a few.
type statusFeed struct {
	mu       sync.Mutex
	last     map[rights]statusText
	watching int            // streams of all clients
	watchers map[string]int // streams, by the ids of their clients
}

// join counts a stream of a client, unless there would be too many.
func (f *statusFeed) join(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.watching >= mostWatchers:
		return fault(watchersFull, fmt.Sprintf("there are %d streams of it", f.watching))
	case f.watchers[id] >= mostOfClient:
		return fault(watchersFull, fmt.Sprintf("the client has %d streams of it", mostOfClient))
	}
	if f.watchers == nil {
		f.watchers = make(map[string]int)
	}
	f.watching++
	f.watchers[id]++
	return nil
}

func (f *statusFeed) leave(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watching--
	if f.watchers[id]--; f.watchers[id] == 0 {
		delete(f.watchers, id)
	}
}

type statusText struct {
	at      time.Time
	changed <-chan struct{} // closed by the next change
	text    []byte
}

// The limits of the status: how long it is kept, how often a stream sends it, how soon after a
// change, and how many streams there are, in all and for one client.
const (
	statusAge      = 200 * time.Millisecond
	statusInterval = time.Second
	mostWatchers   = 100
	mostOfClient   = 20
)

// statusText returns the status as JSON, for a client with certain rights. Its counts may be as
// old as statusAge, but it has all changes that the monitor knows.
func (h *handler) statusText(may rights) ([]byte, error) {
	h.feed.mu.Lock()
	defer h.feed.mu.Unlock()
	now, changed := time.Now(), h.monitor.changes()
	isDraining := h.drained.Err() != nil
	if last := h.feed.last[may]; now.Sub(last.at) < statusAge && last.changed == changed && !isDraining {
		return last.text, nil
	}
	doc := statusDocument{Time: now, Ready: !isDraining, Draining: isDraining, May: may, Pipelines: []pipelineStatus{}}
	if h.machines != nil {
		doc.Machines = h.machines(h.drained)
	}
	for _, name := range h.names {
		p := h.statusOf(h.pipelines[name], may, now)
		doc.Ready = doc.Ready && p.Ready
		doc.Pipelines = append(doc.Pipelines, p)
	}
	text, err := document.Encode(doc, "")
	if err != nil {
		return nil, err
	}
	if h.feed.last == nil {
		h.feed.last = make(map[rights]statusText)
	}
	h.feed.last[may] = statusText{now, changed, text}
	return text, nil
}

// statusOf returns the status of a pipeline.
func (h *handler) statusOf(p *pipeline, may rights, now time.Time) pipelineStatus {
	of, kept := p.runner.Health(), h.monitor.pipeline(p.name)
	health := h.healthOf(of, true)
	graph := p.runner.Pipeline()
	s := pipelineStatus{
		Name: p.name, Description: about(graph), Ready: health.Ready, State: health.State, Reason: health.Reason,
		Sources: graph.Graph().Sources(), Sinks: p.sinks, Connections: []describedConnection{}, Nodes: []nodeStatus{},
	}
	for _, c := range graph.Connections {
		s.Connections = append(s.Connections, describedConnection{c.From, c.To, c.Port})
	}
	for i := range of.Nodes {
		n := h.nodeStatusOf(&of.Nodes[i], may)
		n.nodeHealth, n.Type = health.Nodes[i], graph.Node(n.Node).Type
		n.Kind = kindOf(graph.Node(n.Node), &of.Nodes[i])
		if kept != nil {
			n.Recent, n.LastLog = recentOf(&kept.Node(n.Node).Calls, now), kept.Node(n.Node).Logs.Last()
		}
		s.Nodes = append(s.Nodes, n)
	}
	if kept != nil {
		s.LastLog = kept.Node("").Logs.Last()
	}
	return s
}

// nodeStatusOf returns what the health of a node says.
func (h *handler) nodeStatusOf(of *runner.NodeHealth, may rights) nodeStatus {
	s := nodeStatus{
		nodeHealth: nodeHealth{Node: of.Node}, Failures: of.Failures, Calls: of.Calls, Failed: of.Failed, Retries: of.Retries,
		Canceled: of.Canceled, Error: h.failureOf(of.LastError, time.Time{}, may),
	}
	p := of.Pool
	if p == nil {
		return s
	}
	s.Pool = &poolStatus{
		Min: p.Min, Max: p.Max, Generation: p.Generation, Started: p.Started, StartFailures: p.StartFailures,
		Deaths: p.Deaths, SpareNote: h.withoutPaths(p.SpareNote), NextStart: p.NextStart, Workers: []workerStatus{},
	}
	for _, w := range p.Workers {
		s.Pool.Workers = append(s.Pool.Workers, workerStatus{w.PID, w.Role, w.Load, w.Calls, w.Age, w.Resident, w.CPU})
	}
	if d := p.LastDeath; d != nil {
		s.Death = h.failureOf(d.Err, d.Time, may)
	}
	return s
}

// failureOf returns an error for the status, nil if there is none.
func (h *handler) failureOf(err *runner.Error, at time.Time, may rights) *failureStatus {
	if err == nil {
		return nil
	}
	f := &failureStatus{Time: at, Kind: err.Kind.String(), Text: err.Error()}
	if !may.Details {
		f.Text = h.withoutPaths(f.Text)
		return f
	}
	if f.Report = fmt.Sprintf("%+v", err); len(f.Report) > longestReport {
		f.Report = f.Report[:longestReport] + "…"
	}
	return f
}

// kindOf returns what a node is made of.
func kindOf(n *manifest.Node, h *runner.NodeHealth) string {
	switch {
	case n.Wasm != nil:
		return "wasm"
	case n.Command != nil:
		return "command"
	case h.Pool != nil || h.FusedWith != "" || h.State == runner.StateNew:
		return "python"
	}
	return "go"
}

// recentOf returns the calls of the last minute.
func recentOf(calls *monitor.Calls, now time.Time) *recentStatus {
	all, points := calls.Recent(now)
	span := monitor.Span.Seconds()
	r := &recentStatus{Calls: all.Calls, Failed: all.Failed, P50: all.P50.Seconds(), P99: all.P99.Seconds(), Span: span}
	for _, p := range points {
		r.History.Rate = append(r.History.Rate, float64(p.Calls)/span)
		r.History.Failed = append(r.History.Failed, p.Failed)
		r.History.P50 = append(r.History.P50, p.P50.Seconds())
		r.History.P99 = append(r.History.P99, p.P99.Seconds())
	}
	const last = 5
	for _, rate := range r.History.Rate[len(points)-last:] {
		r.Rate += rate / last
	}
	return r
}

// status answers with the status once, or as a stream.
func (x *exchange) status() error {
	if x.accept.stream() != "" && x.req.Method != http.MethodHead {
		return x.process(x.streamStatus)
	}
	text, err := x.h.statusText(x.rights())
	if err != nil {
		return err
	}
	x.send(&answer{status: http.StatusOK, contentType: typeJSON, body: append(slices.Clone(text), '\n')})
	return nil
}

// streamStatus sends the status each second and soon after a change, until the client leaves, its
// token or session ends, or the handler drains. A client that takes it more slowly gets it less often.
func (x *exchange) streamStatus(context.CancelCauseFunc) error {
	id := x.client().id
	if err := x.h.feed.join(id); err != nil {
		return err
	}
	defer x.h.feed.leave(id)
	out := newStreamWriter(x, x.accept.stream())
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for {
		changed, isLast := x.h.monitor.changes(), x.h.drained.Err() != nil
		if err := x.authenticateAgain(); err != nil {
			return out.end(err)
		}
		text, err := x.h.statusText(x.rights())
		if err != nil {
			return out.end(err)
		}
		if err := out.begin(); err != nil {
			return nil // the client has left
		}
		out.count++
		if err := out.put("status", text); err != nil || isLast {
			return nil
		}
		select {
		case <-x.ctx.Done():
		case <-x.h.drained.Done():
		case <-ticker.C:
		case <-changed:
			x.pause(statusAge) // one status for changes that come together
		}
		if x.ctx.Err() != nil {
			return out.end(context.Cause(x.ctx))
		}
	}
}

// pause waits for a time, at most until the context ends or the handler drains.
func (x *exchange) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.ctx.Done():
	case <-x.h.drained.Done():
	}
}

// logs answers with the last records of the log of a node or, without one, of those that belong
// to no node. The parameter after is the number of the last record that the client has.
func (x *exchange) logs() error {
	may := x.rights()
	if !may.Logs {
		return fault(forbidden, "the token does not show the log").withHint("it takes a token with the attribute admin, or --debug")
	}
	var after uint64
	if texts := x.req.URL.Query()["after"]; len(texts) > 0 {
		var err error
		if after, err = strconv.ParseUint(texts[0], 10, 64); err != nil || len(texts) > 1 {
			return fault(malformed, fmt.Sprintf("after takes the number of one record, not %.40q", texts))
		}
	}
	records := []monitor.Record{}
	if kept := x.h.monitor.pipeline(x.pipeline.name); kept != nil {
		records = append(records, kept.Node(x.node).Logs.After(after)...)
	}
	if !may.Details {
		for i := range records {
			records[i].Text = x.h.withoutPaths(records[i].Text)
		}
	}
	return x.sendJSON(http.StatusOK, map[string]any{"records": records})
}
