package runner

import (
	"maps"
	"slices"
	"strconv"

	"github.com/gophersnake/gophersnake/retry"
)

// Metrics returns the figures of the runner, its nodes and their workers, for
// [WriteMetrics] or another monitoring system.
func (r *Runner) Metrics() []Metric {
	h := r.Health()
	var s sheet
	s.gauge("gophersnake_up", "Whether the pipeline serves calls.", truth(h.OK()))
	for _, state := range healthStates {
		s.gauge("gophersnake_state", "1 for the state that the pipeline is in.", truth(h.State == state), "state", string(state))
	}
	for i := range h.Nodes {
		s.node(&h.Nodes[i])
	}
	return s.inOrder()
}

// healthStates are all states, the better ones first.
var healthStates = slices.SortedFunc(maps.Keys(healthRank), func(a, b HealthState) int { return healthRank[a] - healthRank[b] })

// sheet gathers metrics.
type sheet struct {
	names   []string // in the order in which they came up
	metrics map[string][]Metric
}

func (s *sheet) gauge(name, help string, value float64, labels ...string) {
	s.add(Metric{Name: name, Help: help, Kind: MetricGauge, Value: value}, labels)
}

func (s *sheet) counter(name, help string, value uint64, labels ...string) {
	s.add(Metric{Name: name, Help: help, Kind: MetricCounter, Value: float64(value)}, labels)
}

// add adds a metric; the labels are names and values, in turn.
func (s *sheet) add(m Metric, labels []string) {
	if s.metrics == nil {
		s.metrics = make(map[string][]Metric)
	}
	m.Labels = make(map[string]string, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		m.Labels[labels[i]] = labels[i+1]
	}
	if _, ok := s.metrics[m.Name]; !ok {
		s.names = append(s.names, m.Name)
	}
	s.metrics[m.Name] = append(s.metrics[m.Name], m)
}

// inOrder has those of a name follow each other.
func (s *sheet) inOrder() (all []Metric) {
	for _, name := range s.names {
		all = append(all, s.metrics[name]...)
	}
	return all
}

func (s *sheet) node(n *NodeHealth) {
	id := n.Node
	for _, state := range healthStates {
		s.gauge("gophersnake_node_state", "1 for the state that the node is in.", truth(n.State == state), "node", id, "state", string(state))
	}
	s.counter("gophersnake_calls_total", "Operations of the node: calls, and what a stream does with its state.", n.Calls, "node", id)
	for kind := range kindNames {
		if count, ok := n.Failed[Kind(kind)]; ok {
			s.counter("gophersnake_call_failures_total", "Operations that failed, their retries included, by the kind of error.",
				count, "node", id, "kind", Kind(kind).String())
		}
	}
	s.counter("gophersnake_call_retries_total", "Attempts that failed and were tried again.", n.Retries, "node", id)
	for _, state := range []retry.State{retry.Closed, retry.Open, retry.HalfOpen} {
		s.gauge("gophersnake_breaker_state", "1 for the state that the node's circuit breaker is in.",
			truth(n.Breaker == state), "node", id, "state", state.String())
	}
	s.gauge("gophersnake_breaker_failures", "Operations that failed in a row.", float64(n.Failures), "node", id)
	if n.Pool != nil {
		s.pool(id, n.Pool)
	}
}

func (s *sheet) pool(id string, p *PoolHealth) {
	for _, role := range []struct {
		name  string
		count int
	}{{"idle", p.Idle}, {"busy", p.Busy}, {"spare", p.Spares}, {"starting", p.Starting}, {"retiring", p.retiring()}} {
		s.gauge("gophersnake_workers", "Workers by what they do.", float64(role.count), "node", id, "role", role.name)
	}
	s.gauge("gophersnake_workers_min", "Workers that are kept ready.", float64(p.Min), "node", id)
	s.gauge("gophersnake_workers_max", "Workers that there may be.", float64(p.Max), "node", id)
	s.gauge("gophersnake_calls_waiting", "Calls in line for a worker.", float64(p.Waiting), "node", id)
	s.counter("gophersnake_worker_starts_total", "Workers that became ready.", p.Started, "node", id)
	s.counter("gophersnake_worker_start_failures_total", "Workers that could not be started.", p.StartFailures, "node", id)
	s.counters("gophersnake_worker_deaths_total", "Workers that ended without having been told to, by cause.", p.Deaths, "cause", id)
	s.counters("gophersnake_workers_retired_total", "Workers that were replaced or ended, by limit.", p.Retired, "limit", id)
	s.counters("gophersnake_calls_refused_total", "Calls that were turned away, by limit.", p.Refused, "limit", id)
	s.counters("gophersnake_limit_breaches_total", "Supervision limits that were passed.", p.Breaches, "limit", id)
	s.counter("gophersnake_spares_promoted_total", "Spares that took the place of another worker.", p.Promoted, "node", id)
	s.gauge("gophersnake_generation", "1, and one more for each reload.", float64(p.Generation), "node", id)
	for _, w := range p.Workers {
		labels := []string{"node", id, "pid", strconv.Itoa(w.PID), "role", w.Role}
		s.gauge("gophersnake_worker_resident_bytes", "Memory in use.", float64(w.Resident), labels...)
		s.add(Metric{
			Name: "gophersnake_worker_cpu_seconds_total", Help: "Processor time.", Kind: MetricCounter, Value: seconds(w.CPU),
		}, labels)
		s.gauge("gophersnake_worker_open_files", "Open descriptors.", float64(w.OpenFiles), labels...)
		s.gauge("gophersnake_worker_age_seconds", "Time since it became ready.", seconds(w.Age), labels...)
	}
}

// counters adds what is counted by name.
func (s *sheet) counters(name, help string, by map[string]uint64, label, id string) {
	for _, value := range slices.Sorted(maps.Keys(by)) {
		s.counter(name, help, by[value], "node", id, label, value)
	}
}

func (p *PoolHealth) retiring() (n int) {
	for _, w := range p.Workers {
		if w.Role == "retiring" {
			n++
		}
	}
	return n
}

func seconds(s Seconds) float64 { return float64(s) / 1e9 }

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
