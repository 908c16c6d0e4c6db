package runner

import (
	"fmt"
	"io"
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// MetricKind says what a metric's value is.
type MetricKind string

// The kinds of metrics.
const (
	// MetricCounter values only grow, from 0 when the runner is made.
	MetricCounter MetricKind = "counter"
	// MetricGauge values are as things stand.
	MetricGauge MetricKind = "gauge"
)

// Metric is one figure, as monitoring systems take it.
type Metric struct {
	Name string
	Help string
	Kind MetricKind
	// Labels tell figures of the same name apart.
	Labels map[string]string
	Value  float64
}

// WriteMetrics writes metrics in the text format of Prometheus. Those of the same
// name must follow each other.
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

// newFamily is all the metrics of one name.
func newFamily(metrics []Metric) (*dto.MetricFamily, error) {
	first := metrics[0]
	family := &dto.MetricFamily{Name: &first.Name, Help: &first.Help}
	switch first.Kind {
	case MetricCounter:
		family.Type = dto.MetricType_COUNTER.Enum()
	case MetricGauge:
		family.Type = dto.MetricType_GAUGE.Enum()
	default:
		return nil, fmt.Errorf("the metric %s is a %q; there are counter and gauge", first.Name, first.Kind)
	}
	for _, m := range metrics {
		one := &dto.Metric{}
		for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
			one.Label = append(one.Label, &dto.LabelPair{Name: &name, Value: new(m.Labels[name])})
		}
		if first.Kind == MetricCounter {
			one.Counter = &dto.Counter{Value: &m.Value}
		} else {
			one.Gauge = &dto.Gauge{Value: &m.Value}
		}
		family.Metric = append(family.Metric, one)
	}
	return family, nil
}
