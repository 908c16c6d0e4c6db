package jobs_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// measured returns the metrics of a server that has one pipeline, by their names without the prefix.
func measured(server *jobs.Server) map[string]float64 {
	values := make(map[string]float64)
	for _, m := range server.Metrics() {
		values[m.Name[len("gophersnake_jobs_"):]] = m.Value
	}
	return values
}

func TestTheMetricsHaveTheQueueAndWhatTheMachineHasDone(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	server := s.serve("hold", clustertest.HoldPipeline(folder, 1, ""))
	got := func() map[string]float64 { return measured(server) }
	assert.Equal(t, map[string]float64{
		"waiting": 0, "given": 0, "lag_seconds": 0, "begins_total": 0, "redeliveries_total": 0, "dead_letters_total": 0,
		"webhooks_delivered_total": 0, "webhook_failures_total": 0, "webhooks_given_up_total": 0,
	}, got())
	first := s.submit("hold", "first")
	clustertest.AwaitBegun(t, folder, "first", 1)
	before := time.Now()
	low := s.submit("hold", "low", jobs.WithPriority(jobs.Low))
	s.submit("hold", "high", jobs.WithPriority(jobs.High))
	testkit.Eventually(t, func() bool { return got()["waiting"] == 2 && got()["given"] == 1 })
	// The lag is that of the oldest job of all priorities.
	lag := got()["lag_seconds"]
	assert.Positive(t, lag)
	assert.LessOrEqual(t, lag, time.Since(before).Seconds())
	testkit.Eventually(t, func() bool { return got()["lag_seconds"] > 1 })
	clustertest.Release(t, folder)
	s.result(first)
	s.result(low)
	testkit.Eventually(t, func() bool { m := got(); return m["waiting"]+m["given"] == 0 && m["begins_total"] == 3 })
	assert.Zero(t, got()["lag_seconds"])
}

func TestTheMetricsCountJobsThatAreBegunAgain(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	a := machine(t, clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}})
	ref := s.submit("hold", "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	server := s.serve("hold", clustertest.HoldPipeline(folder, 1, ""))
	a.Kill()
	clustertest.AwaitBegun(t, folder, "x", 2)
	assert.EqualValues(t, 1, measured(server)["redeliveries_total"])
	assert.EqualValues(t, 1, measured(server)["begins_total"])
	clustertest.Release(t, folder)
	s.result(ref)
}

func TestTheMetricsCountEachDeadLetterOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.serve("fail", clustertest.FailPipeline)
	ref := s.submit("fail", 1)
	for n := 1; n <= 2; n++ {
		require.Equal(t, jobs.Failed, s.await(ref).State)
		testkit.Eventually(t, func() bool { return measured(server)["dead_letters_total"] == float64(n) })
		testkit.Eventually(t, s.isEmpty("fail"))
		assert.EqualValues(t, n, measured(server)["dead_letters_total"])
		if n == 1 {
			require.NoError(t, s.Retry(t.Context(), ref))
			testkit.Eventually(t, func() bool { return measured(server)["begins_total"] == 2 })
		}
	}
}

func TestWithoutTheNATSServerTheMetricsOfTheQueueAreMissing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.serve("echo", clustertest.EchoPipeline)
	s.result(s.submit("echo", 1))
	server.Close()
	s.conn.Close()
	testkit.Eventually(t, func() bool { _, ok := measured(server)["waiting"]; return !ok })
	assert.EqualValues(t, 1, measured(server)["begins_total"])
}

func TestTheAlertsOfJobsNameMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	labels := make(map[string]map[string]string)
	for _, m := range s.serve("echo", clustertest.EchoPipeline).Metrics() {
		labels[m.Name] = m.Labels
		assert.NotEmpty(t, m.Help)
		assert.Equal(t, m.Kind == runner.MetricCounter, len(m.Labels) == 2, "%s has the machine if it counts", m.Name)
	}
	require.Len(t, labels, 9)
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	text, err := os.ReadFile("../../docs/monitoring/jobs-alerts.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &rules))
	require.NotEmpty(t, rules.Groups)
	for _, rule := range rules.Groups[0].Rules {
		parsed, err := metricsql.Parse(rule.Expr)
		require.NoError(t, err, rule.Alert)
		metricsql.VisitAll(parsed, func(part metricsql.Expr) {
			switch part := part.(type) {
			case *metricsql.MetricExpr:
				assert.Contains(t, labels, part.LabelFilterss[0][0].Value, rule.Alert)
			case *metricsql.AggrFuncExpr:
				assert.Equal(t, []string{"pipeline"}, part.Modifier.Args, rule.Alert)
			}
		})
	}
}

func TestTheDashboardOfJobsShowsMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	labels := make(map[string][]string)
	for _, m := range s.serve("echo", clustertest.EchoPipeline).Metrics() {
		labels[m.Name] = slices.Sorted(maps.Keys(m.Labels))
	}
	text, err := os.ReadFile("../../docs/monitoring/jobs-dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	shown := make(map[string]bool)
	for _, panel := range dashboard.Panels {
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			parsed, err := metricsql.Parse(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			require.NoError(t, err, panel.Title)
			var by []string
			var name string
			metricsql.VisitAll(parsed, func(part metricsql.Expr) {
				switch part := part.(type) {
				case *metricsql.MetricExpr:
					name = part.LabelFilterss[0][0].Value
					shown[name] = true
				case *metricsql.AggrFuncExpr:
					by = part.Modifier.Args
				}
			})
			require.NotEmpty(t, by, panel.Title)
			for _, label := range by {
				assert.Contains(t, labels[name], label, "%s: %s", panel.Title, name)
			}
			for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				assert.Contains(t, by, label[1], panel.Title)
			}
		}
	}
	assert.Equal(t, slices.Sorted(maps.Keys(labels)), slices.Sorted(maps.Keys(shown)), "all metrics are shown")
}
