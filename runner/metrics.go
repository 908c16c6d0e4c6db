package runner

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/gophersnake/gophersnake/retry"
)

// MetricKind is the type of a metric in the sense of Prometheus.
type MetricKind string

const (
	// MetricCounter is the kind of a value that only grows. It starts at 0 when the
	// runner is created.
	MetricCounter MetricKind = "counter"
	// MetricGauge is the kind of a value that may grow and shrink.
	MetricGauge MetricKind = "gauge"
)

// Metric is one sample for a monitoring system.
type Metric struct {
	Name string
	Help string
	Kind MetricKind
	// Labels distinguish the metrics of the same name.
	Labels map[string]string
	Value  float64
}

// Metrics returns the metrics of the runner, its nodes and their workers. Metrics of
// the same name follow each other. Pass them to [WriteMetrics], or export them to
// another monitoring system. It may be called at any time, and does not delay calls.
func (r *Runner) Metrics() []Metric {
	h := r.Health()
	var m metricList
	m.gauge("gophersnake_up", "Whether the pipeline serves calls.", oneIf(h.OK()))
	for _, state := range healthStates {
		m.gauge("gophersnake_state", "1 for the current state of the pipeline.", oneIf(h.State == state), "state", string(state))
	}
	for i := range h.Nodes {
		m.node(&h.Nodes[i])
	}
	return m.grouped()
}

// healthStates are all states, best first.
var healthStates = slices.SortedFunc(maps.Keys(healthRank), func(a, b HealthState) int { return healthRank[a] - healthRank[b] })

// WriteMetrics writes metrics in the text format of Prometheus. Metrics of the same
// name must follow each other. An error is of kind [KindIO].
func WriteMetrics(w io.Writer, metrics []Metric) error {
	for len(metrics) > 0 {
		n := 1
		for n < len(metrics) && metrics[n].Name == metrics[0].Name {
			n++
		}
		family, err := newFamily(metrics[:n])
		if err == nil {
			_, err = expfmt.MetricFamilyToText(w, family)
		}
		if err != nil {
			return Wrap(err, KindIO, "write the metrics")
		}
		metrics = metrics[n:]
	}
	return nil
}

// newFamily returns the Prometheus form of metrics that have the same name.
func newFamily(metrics []Metric) (*dto.MetricFamily, error) {
	first := metrics[0]
	family := &dto.MetricFamily{Name: &first.Name, Help: &first.Help}
	switch first.Kind {
	case MetricCounter:
		family.Type = dto.MetricType_COUNTER.Enum()
	case MetricGauge:
		family.Type = dto.MetricType_GAUGE.Enum()
	default:
		return nil, fmt.Errorf("the metric %s is of the unknown kind %q; the kinds are counter and gauge", first.Name, first.Kind)
	}
	for _, m := range metrics {
		sample := &dto.Metric{}
		for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
			sample.Label = append(sample.Label, &dto.LabelPair{Name: &name, Value: new(m.Labels[name])})
		}
		if first.Kind == MetricCounter {
			sample.Counter = &dto.Counter{Value: &m.Value}
		} else {
			sample.Gauge = &dto.Gauge{Value: &m.Value}
		}
		family.Metric = append(family.Metric, sample)
	}
	return family, nil
}

// metricList collects metrics.
type metricList struct {
	names  []string // in the order in which they were first added
	byName map[string][]Metric
}

// gauge adds a gauge; labels are alternating names and values.
func (l *metricList) gauge(name, help string, value float64, labels ...string) {
	l.add(Metric{Name: name, Help: help, Kind: MetricGauge, Value: value}, labels)
}

func (l *metricList) counter(name, help string, value uint64, labels ...string) {
	l.add(Metric{Name: name, Help: help, Kind: MetricCounter, Value: float64(value)}, labels)
}

// counters adds a counter for each value of a label.
func (l *metricList) counters(name, help string, by map[string]uint64, label, id string) {
	for _, value := range slices.Sorted(maps.Keys(by)) {
		l.counter(name, help, by[value], "node", id, label, value)
	}
}

func (l *metricList) add(m Metric, labels []string) {
	if l.byName == nil {
		l.byName = make(map[string][]Metric)
	}
	m.Labels = make(map[string]string, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		m.Labels[labels[i]] = labels[i+1]
	}
	if _, ok := l.byName[m.Name]; !ok {
		l.names = append(l.names, m.Name)
	}
	l.byName[m.Name] = append(l.byName[m.Name], m)
}

// grouped returns the metrics, grouped by name.
func (l *metricList) grouped() (all []Metric) {
	for _, name := range l.names {
		all = append(all, l.byName[name]...)
	}
	return all
}

func (l *metricList) node(n *NodeHealth) {
	id := n.Node
	for _, state := range healthStates {
		l.gauge("gophersnake_node_state", "1 for the current state of the node.", oneIf(n.State == state), "node", id, "state", string(state))
	}
	l.counter("gophersnake_calls_total", "Operations of the node: calls, and state operations of streams.", n.Calls, "node", id)
	for kind := range kindNames {
		if count, ok := n.Failed[Kind(kind)]; ok {
			l.counter("gophersnake_call_failures_total", "Operations that failed, by the kind of error.",
				count, "node", id, "kind", Kind(kind).String())
		}
	}
	l.counter("gophersnake_calls_canceled_total", "Operations whose caller left.", n.Canceled, "node", id)
	l.counter("gophersnake_call_retries_total", "Attempts that failed and were retried.", n.Retries, "node", id)
	for _, state := range []retry.State{retry.Closed, retry.Open, retry.HalfOpen} {
		l.gauge("gophersnake_breaker_state", "1 for the current state of the node's circuit breaker.",
			oneIf(n.Breaker == state), "node", id, "state", state.String())
	}
	l.gauge("gophersnake_breaker_failures", "Consecutive operations that failed.", float64(n.Failures), "node", id)
	if n.Pool != nil {
		l.pool(id, n.Pool)
	}
}

func (l *metricList) pool(id string, p *PoolHealth) {
	retiring, quarantined := 0, 0
	for _, w := range p.Workers {
		switch w.Role {
		case "retiring":
			retiring++
		case "quarantine":
			quarantined++
		}
	}
	for _, role := range []struct {
		name  string
		count int
	}{{"idle", p.Idle}, {"busy", p.Busy}, {"spare", p.Spares}, {"starting", p.Starting}, {"retiring", retiring}, {"quarantine", quarantined}} {
		l.gauge("gophersnake_workers", "Workers by role.", float64(role.count), "node", id, "role", role.name)
	}
	l.gauge("gophersnake_workers_min", "Least number of workers.", float64(p.Min), "node", id)
	l.gauge("gophersnake_workers_max", "Greatest number of workers.", float64(p.Max), "node", id)
	l.gauge("gophersnake_calls_waiting", "Calls that wait for a worker.", float64(p.Waiting), "node", id)
	l.counter("gophersnake_worker_starts_total", "Workers that became ready.", p.Started, "node", id)
	l.counter("gophersnake_worker_start_failures_total", "Workers that could not be started.", p.StartFailures, "node", id)
	l.counters("gophersnake_worker_deaths_total", "Workers that ended without having been asked to, by cause.", p.Deaths, "cause", id)
	l.counters("gophersnake_workers_retired_total", "Workers that were retired, by limit.", p.Retired, "limit", id)
	l.counters("gophersnake_calls_refused_total", "Calls that were refused, by limit.", p.Refused, "limit", id)
	l.counters("gophersnake_limit_breaches_total", "Limits that were exceeded.", p.Breaches, "limit", id)
	l.counter("gophersnake_spares_promoted_total", "Spares that replaced another worker.", p.Promoted, "node", id)
	l.counter("gophersnake_calls_suspected_total", "Calls that were made again alone.", p.Suspects, "node", id)
	l.gauge("gophersnake_generation", "1, plus 1 for each reload.", float64(p.Generation), "node", id)
	for _, w := range p.Workers {
		labels := []string{"node", id, "pid", strconv.Itoa(w.PID), "role", w.Role}
		l.gauge("gophersnake_worker_resident_bytes", "Resident memory.", float64(w.Resident), labels...)
		l.add(Metric{
			Name: "gophersnake_worker_cpu_seconds_total", Help: "Processor time.", Kind: MetricCounter, Value: seconds(w.CPU),
		}, labels)
		l.gauge("gophersnake_worker_open_files", "Open file descriptors.", float64(w.OpenFiles), labels...)
		l.gauge("gophersnake_worker_age_seconds", "Time since the worker became ready.", seconds(w.Age), labels...)
	}
}

func seconds(s Seconds) float64 { return float64(s) / 1e9 }

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}
