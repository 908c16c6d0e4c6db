package runner_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// scraped returns a runner's metrics as Prometheus parses them.
func scraped(t *testing.T, r *runner.Runner) map[string]*dto.MetricFamily {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, runner.WriteMetrics(&text, r.Metrics()))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&text)
	require.NoError(t, err)
	return families
}

// figures returns the values of a metric by the values of its labels, in the order of
// the labels.
func figures(families map[string]*dto.MetricFamily, name string) map[string]float64 {
	found := make(map[string]float64)
	for _, m := range families[name].GetMetric() {
		labels := make(map[string]string)
		for _, l := range m.Label {
			labels[l.GetName()] = l.GetValue()
		}
		var values []string
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			values = append(values, labels[key])
		}
		found[strings.Join(values, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return found
}

func TestMetricsOfARunner(t *testing.T) {
	t.Parallel()
	r, err := load(t, supervised("Mortal", "limits: {queue: 5}", "workers: {min: 1, max: 3}", "retry: {fixed: 1ms, max_attempts: 1}"))
	require.NoError(t, err)
	m := scraped(t, r)
	assert.Equal(t, map[string]float64{"": 0}, figures(m, "gophersnake_up"))
	assert.InDelta(t, 1, figures(m, "gophersnake_state")["new"], 0)
	assert.NotContains(t, m, "gophersnake_workers", "there is no pool yet")

	require.NoError(t, r.Start(t.Context()))
	_, err = r.Run(t.Context(), "die")
	require.ErrorIs(t, err, runner.KindPythonVM)
	for range 3 {
		_, err = r.Run(t.Context(), "live")
		require.NoError(t, err)
	}
	require.NoError(t, r.Reload(t.Context()))
	awaitHealth(t, r, func(h runner.Health) bool { return len(h.Nodes[0].Pool.Workers) == 1 })
	m = scraped(t, r)
	assert.Equal(t, dto.MetricType_COUNTER, m["gophersnake_calls_total"].GetType())
	assert.Equal(t, dto.MetricType_GAUGE, m["gophersnake_workers"].GetType())
	assert.NotEmpty(t, m["gophersnake_calls_total"].GetHelp())
	for name, want := range map[string]map[string]float64{
		"gophersnake_up":                          {"": 1},
		"gophersnake_calls_total":                 {"Mortal": 4},
		"gophersnake_call_failures_total":         {"python_vm Mortal": 1},
		"gophersnake_call_retries_total":          {"Mortal": 1},
		"gophersnake_breaker_state":               {"Mortal closed": 1, "Mortal open": 0, "Mortal half-open": 0},
		"gophersnake_breaker_failures":            {"Mortal": 0},
		"gophersnake_worker_deaths_total":         {"exit Mortal": 2},
		"gophersnake_workers":                     {"Mortal idle": 1, "Mortal busy": 0, "Mortal spare": 0, "Mortal starting": 0, "Mortal retiring": 0, "Mortal quarantine": 0},
		"gophersnake_workers_min":                 {"Mortal": 1},
		"gophersnake_workers_max":                 {"Mortal": 3},
		"gophersnake_calls_waiting":               {"Mortal": 0},
		"gophersnake_worker_starts_total":         {"Mortal": 4},
		"gophersnake_generation":                  {"Mortal": 2},
		"gophersnake_limit_breaches_total":        {},
		"gophersnake_spares_promoted_total":       {"Mortal": 0},
		"gophersnake_calls_suspected_total":       {"Mortal": 0},
		"gophersnake_worker_start_failures_total": {"Mortal": 0},
	} {
		assert.Equal(t, want, figures(m, name), name)
	}
	assert.Len(t, figures(m, "gophersnake_worker_age_seconds"), 1)
	assert.InDelta(t, 1, figures(m, "gophersnake_node_state")["Mortal healthy"], 0)
	require.NoError(t, r.Close(t.Context()))
	assert.Equal(t, map[string]float64{"": 0}, figures(scraped(t, r), "gophersnake_up"))
}

func TestMetricsOfLimits(t *testing.T) {
	t.Parallel()
	r := start(t, supervised("large", "limits: {result: 1KiB, resident_soft: 16MiB}", "workers: {max_calls: 3}"))
	for _, size := range []int{5000, 1, 1, 1} {
		_, _ = r.Run(t.Context(), size)
	}
	h := awaitHealth(t, r, func(h runner.Health) bool {
		return h.Nodes[0].Pool.Breaches["max_calls"] > 0 || h.Nodes[0].Pool.Breaches["resident_soft"] > 0
	})
	m := scraped(t, r)
	assert.InDelta(t, 1, figures(m, "gophersnake_limit_breaches_total")["result large"], 0)
	retired := 0.0
	for _, n := range figures(m, "gophersnake_workers_retired_total") {
		retired += n
	}
	assert.Positive(t, retired, "%v", h)
}

func TestMetricsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left")
	one := []runner.Metric{{Name: "a", Kind: runner.MetricGauge}}
	assert.ErrorIs(t, runner.WriteMetrics(failingWriter{full}, one), full)
	assert.ErrorContains(t, runner.WriteMetrics(&bytes.Buffer{}, []runner.Metric{{Name: "a", Kind: "heap"}}), `the metric a is of the unknown kind "heap"`)
	var text bytes.Buffer
	require.NoError(t, runner.WriteMetrics(&text, []runner.Metric{
		{Name: "a", Help: "Two\nlines.", Kind: runner.MetricCounter, Labels: map[string]string{"path": "a\\b\"c\nd", "b": "x"}, Value: 1.5},
	}))
	assert.Equal(t, "# HELP a Two\\nlines.\n# TYPE a counter\na{b=\"x\",path=\"a\\\\b\\\"c\\nd\"} 1.5\n", text.String())
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
