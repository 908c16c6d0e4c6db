package serve

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
	"github.com/gophersnake/gophersnake/runner/serve/internal/fair"
)

// addressTable has a client for each address that sends requests without a token. It is safe
// for concurrent use.
type addressTable struct {
	limits limits
	counts clientCounts // of all addresses

	mu     sync.Mutex
	known  map[netip.Prefix]*list.Element // of order
	recent *list.List                     // of *addressEntry, the last used first
}

type addressEntry struct {
	prefix netip.Prefix
	client client
}

// mostAddresses bounds an addressTable. The address that was used least recently is forgotten.
const mostAddresses = 10_000

func newAddressTable(l limits) *addressTable {
	return &addressTable{limits: l, known: make(map[netip.Prefix]*list.Element), recent: list.New()}
}

// client returns the client of a remote address. In IPv6, the addresses of one network of 64
// bits, which a single client can have, are one client.
func (t *addressTable) client(remote string) *client {
	host, _, _ := net.SplitHostPort(remote)
	addr, _ := netip.ParseAddr(host) // others than TCP have no address, and are one client
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.known[prefix]; e != nil {
		t.recent.MoveToFront(e)
		return &e.Value.(*addressEntry).client
	}
	if len(t.known) == mostAddresses {
		delete(t.known, t.recent.Remove(t.recent.Back()).(*addressEntry).prefix)
	}
	e := &addressEntry{prefix, client{Token: Token{Weight: 1}, id: prefix.String(), limiter: t.limits.limiter(), counts: &t.counts}}
	t.known[prefix] = t.recent.PushFront(e)
	return &e.client
}

// client returns the client of a request: that of its token or, without tokens, of its address.
func (x *exchange) client() *client {
	if x.token != nil {
		return x.token
	}
	return x.h.addresses.client(x.req.RemoteAddr)
}

// limitRate refuses a request beyond the rate of its client. It applies to each call.
func (x *exchange) limitRate() error {
	if x.token == nil && x.h.rate.perSecond <= 0 {
		x.h.addresses.counts.calls.Add(1)
		return nil
	}
	c := x.client()
	c.counts.calls.Add(1)
	limiter := c.limiter
	if limiter == nil {
		return nil
	}
	r := limiter.Reserve()
	wait := r.Delay()
	if wait == 0 {
		return nil
	}
	r.Cancel()
	c.counts.limited.Add(1)
	e := fault(rateLimited, fmt.Sprintf("there may be %.3g requests in a second, and %d at once", float64(limiter.Limit()), limiter.Burst()))
	e.wait = max(wait, time.Millisecond)
	return e
}

// isCall reports whether a request asks for work, and not for information.
func isCall(req *http.Request) bool {
	return req.Method == http.MethodPost || req.Header.Get("Upgrade") != "" // of a WebSocket
}

// limitQueue makes the queue of a pipeline. Its bounds are those of the handler and of the nodes.
func (p *pipeline) limitQueue(length int) {
	for i := range p.runner.Pipeline().Nodes {
		limits := &p.runner.Pipeline().Nodes[i].Limits
		if limits.Queue > 0 {
			length = min(length, limits.Queue)
		}
		if wait := limits.QueueWait; wait > 0 && (p.wait == 0 || wait < p.wait) {
			p.wait = wait
		}
	}
	p.turns = fair.NewQueue(length, p.runner.Capacity)
}

// takeTurn waits until the pipeline can begin the work for the request. The requests of all
// clients wait in one queue, in which each client has its share. If there is no error, the
// caller calls x.pipeline.turns.Release when the work has ended. Without a queue, it takes a lock.
func (x *exchange) takeTurn(ctx context.Context) error {
	turns := x.pipeline.turns
	if turns.TryAcquire() {
		x.h.metrics.Turn(x.ctx, x.pipeline.name, 0)
		return nil
	}
	began := time.Now()
	defer func() { x.h.metrics.Turn(x.ctx, x.pipeline.name, time.Since(began)) }()
	c := x.client()
	if wait := x.pipeline.wait; wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, wait, errQueueWait)
		defer cancel()
	}
	err := turns.Acquire(ctx, fair.Flow{ID: c.id, Weight: c.Weight, Class: x.priority.class()})
	switch {
	case errors.Is(err, fair.ErrFull):
		return fault(queueFull, "there is no room for the request in the queue of the pipeline "+x.pipeline.name)
	case errors.Is(err, errQueueWait):
		return fault(queueFull, err.Error())
	}
	return err
}

// passTurn waits as takeTurn does, but takes no place: it is for the items of a stream of inputs,
// whose work ends when the client takes the results.
func (x *exchange) passTurn(ctx context.Context) error {
	err := x.takeTurn(ctx)
	if err == nil {
		x.pipeline.turns.Release()
	}
	return err
}

var errQueueWait = errors.New("the request has waited for a worker as long as the limit queue_wait of a node allows")

// readPriority returns the priority of the request: that of its client, or a lower one that the
// header X-Priority asks for.
func (x *exchange) readPriority() (Priority, error) {
	own := PriorityNormal
	if x.token != nil {
		own = x.token.Priority
	}
	text := x.req.Header.Get("X-Priority")
	if text == "" {
		return own, nil
	}
	wanted, ok := priorityNames[text]
	if !ok {
		return 0, fault(malformed, fmt.Sprintf("X-Priority is high, normal or low, not %q", text))
	}
	return min(own, wanted), nil
}

func (p Priority) class() fair.Class {
	switch p {
	case PriorityHigh:
		return fair.High
	case PriorityLow:
		return fair.Low
	}
	return fair.Normal
}

// memory counts the bytes that all requests hold. It is safe for concurrent use.
type memory struct {
	limit int64
	used  atomic.Int64
}

// take counts bytes as held, unless there would be too many.
func (m *memory) take(bytes int64) bool {
	if m.used.Add(bytes) > m.limit {
		m.used.Add(-bytes)
		return false
	}
	return true
}

func (m *memory) give(bytes int64) { m.used.Add(-bytes) }

// hold counts bytes as held by the exchange until it calls letGo.
func (x *exchange) hold(bytes int) error {
	if !x.h.held.take(int64(bytes)) {
		return x.h.memoryFull()
	}
	x.held += int64(bytes)
	return nil
}

func (x *exchange) letGo() {
	x.h.held.give(x.held)
	x.held = 0
}

func (h *handler) memoryFull() *requestError {
	return fault(noMemory, fmt.Sprintf("they hold nearly %d bytes", h.held.limit)).
		withHint("the operator of the service sets the limit: gophersnake serve --max-memory")
}

// defaultMemory returns the default of [WithMemory].
func defaultMemory() int64 {
	limit := int64(DefaultMemory)
	if available, ok := cgroup.MemoryLimit(); ok {
		limit = min(limit, available/4)
	}
	return limit
}

// ownMetrics returns the metrics of the handler.
func (h *handler) ownMetrics() []runner.Metric {
	clients := []*client{{counts: &h.addresses.counts}}
	if h.needsToken() {
		clients = h.tokens.Load().clients
	}
	h.mu.Lock()
	active := len(h.work)
	h.mu.Unlock()
	var all []runner.Metric
	add := func(name, help string, kind runner.MetricKind, value float64, labels ...string) {
		m := runner.Metric{Name: "gophersnake_serve_" + name, Help: help, Kind: kind, Value: value, Labels: make(map[string]string)}
		for i := 0; i < len(labels); i += 2 {
			m.Labels[labels[i]] = labels[i+1]
		}
		all = append(all, m)
	}
	calls, limited := make(map[string]uint64), make(map[string]uint64) // tokens may share a name
	for _, c := range clients {
		calls[c.Name] += c.counts.calls.Load()
		limited[c.Name] += c.counts.limited.Load()
	}
	for name := range calls {
		add("calls_total", "Requests for work, by token.", runner.MetricCounter, float64(calls[name]), "token", name)
		add("rate_limited_total", "Requests beyond the rate of their client.", runner.MetricCounter, float64(limited[name]), "token", name)
	}
	for _, figure := range []struct {
		name, help string
		kind       runner.MetricKind
		of         func(fair.Counts) float64
	}{
		{"running_requests", "Requests whose work is under way.", runner.MetricGauge, func(c fair.Counts) float64 { return float64(c.Used) }},
		{"waiting_requests", "Requests that wait for a busy pipeline.", runner.MetricGauge, func(c fair.Counts) float64 { return float64(c.Waiting) }},
		{"waited_total", "Requests that had to wait for a busy pipeline.", runner.MetricCounter, func(c fair.Counts) float64 { return float64(c.Waited) }},
		{"queue_full_total", "Requests that the queue of a pipeline had no room for.", runner.MetricCounter, func(c fair.Counts) float64 { return float64(c.Refused) }},
	} {
		for _, name := range h.names {
			add(figure.name, figure.help, figure.kind, figure.of(h.pipelines[name].turns.Counts()), "pipeline", name)
		}
	}
	add("active_requests", "Calls and streams that have not been answered.", runner.MetricGauge, float64(active))
	add("held_bytes", "The size of the bodies and answers that requests hold.", runner.MetricGauge, float64(h.held.used.Load()))
	add("idempotency_keys", "Idempotency keys that are kept.", runner.MetricGauge, float64(h.answers.size()))
	add("goroutines", "Goroutines of the process.", runner.MetricGauge, float64(runtime.NumGoroutine()))
	return all
}
