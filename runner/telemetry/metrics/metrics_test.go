package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.yaml.in/yaml/v3"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

const nodes = `
import os, time
from gophersnake import node

@node
def work(x):
    if x == "crash":
        os._exit(3)
    if x == "raise":
        raise ValueError(x)
    if x == "large":
        return "x" * 5000
    if x == "slow":
        time.sleep(0.2)
    return x
`

// served is a server of one pipeline, "shop", whose metrics have all that can happen to a node.
type served struct {
	runner         *runner.Runner
	calls, scrapes *httptest.Server // both have the same handler
}

func serveShop(t *testing.T) *served {
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(nodes), 0o600))
	p, err := manifest.Parse("test.yaml", []byte("version: v1\npython: nodes.py\nnodes: [{id: work, node_type: work, "+
		"retry: {base: 1ms, max_attempts: 1}, breaker: {failures: 100}, limits: {queue: 1, result: 4096}, workers: {spare: 0}}]\n"), base)
	require.NoError(t, err)
	m := metrics.New()
	provider := sdktrace.NewTracerProvider()
	r, err := runner.New(p, m.Option("shop"), runner.WithTracerProvider(provider))
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	handler := serve.Handler(map[string]*runner.Runner{"shop": r}, serve.WithMetrics(m), serve.WithTracerProvider(provider))
	s := &served{r, httptest.NewServer(handler), httptest.NewServer(handler)}
	t.Cleanup(s.calls.Close)
	t.Cleanup(s.scrapes.Close)
	return s
}

// use makes calls that succeed, fail, crash and are refused.
func (s *served) use(t *testing.T) {
	for _, input := range []string{"fine", "raise", "crash", "large"} {
		s.call(t, input)
	}
	refused := func() bool {
		var ofRequests, ofCalls atomic.Bool
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				if s.call(t, "slow") == http.StatusTooManyRequests { // by the queue of the handler
					ofRequests.Store(true)
				}
			})
		}
		calls.Wait()
		for range 8 {
			calls.Go(func() {
				_, err := s.runner.Run(t.Context(), "slow")
				if e := runner.AsError(err); e != nil && e.Limit == "queue" { // by that of the node
					ofCalls.Store(true)
				}
			})
		}
		calls.Wait()
		return ofRequests.Load() && ofCalls.Load()
	}
	require.Eventually(t, refused, time.Minute, time.Millisecond)
	for _, path := range []string{"/nothing", "/v1/pipelines/other", "/readyz", "/a/b/c"} {
		answer, err := http.Get(s.calls.URL + path)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
	}
}

func (s *served) call(t *testing.T, input string) (status int) {
	answer, err := http.Post(s.calls.URL+"/v1/pipelines/shop", "text/plain", strings.NewReader(input))
	if assert.NoError(t, err) {
		status = answer.StatusCode
		assert.NoError(t, answer.Body.Close())
	}
	return status
}

// scrape returns the metrics in a format. A request counts when its handler has returned, which
// may be after its answer, so scrape ends the calls first.
func (s *served) scrape(t *testing.T, accept string) (string, http.Header) {
	s.calls.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.scrapes.URL+"/metrics", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", accept)
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	return string(text), answer.Header
}

const asProtobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

// families returns the metrics by their names.
func (s *served) families(t *testing.T) map[string]*dto.MetricFamily {
	text, header := s.scrape(t, asProtobuf)
	decoder := expfmt.NewDecoder(strings.NewReader(text), expfmt.ResponseFormat(header))
	found := map[string]*dto.MetricFamily{}
	for {
		family := &dto.MetricFamily{}
		err := decoder.Decode(family)
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		found[family.GetName()] = family
	}
}

func TestHistogramsAreClassicAndNativeWithTracesAsExemplars(t *testing.T) {
	s := serveShop(t)
	s.call(t, "fine")
	families := s.families(t)
	for name, labels := range map[string][]string{
		"gophersnake_call_duration_seconds":         {"node", "work", "outcome", "ok", "pipeline", "shop"},
		"gophersnake_queue_duration_seconds":        {"node", "work", "pipeline", "shop"},
		"gophersnake_worker_start_duration_seconds": {"node", "work", "pipeline", "shop"},
		"gophersnake_http_request_duration_seconds": {"route", "/v1/pipelines/{name}", "status", "2xx"},
	} {
		family := families[name]
		require.NotNil(t, family, name)
		require.Len(t, family.GetMetric(), 1, name)
		var got []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			got = append(got, l.GetName(), l.GetValue())
		}
		assert.Equal(t, labels, got)
		h := family.GetMetric()[0].GetHistogram()
		assert.EqualValues(t, 1, h.GetSampleCount(), name)
		assert.NotEmpty(t, h.GetBucket(), "%s is classic", name)
		assert.NotEmpty(t, h.GetPositiveSpan(), "%s is native", name)
	}
	text, header := s.scrape(t, "application/openmetrics-text; version=1.0.0")
	assert.Contains(t, header.Get("Content-Type"), "application/openmetrics-text")
	for _, name := range []string{"gophersnake_call_duration_seconds", "gophersnake_queue_duration_seconds", "gophersnake_http_request_duration_seconds"} {
		assert.Regexp(t, `(?m)^`+name+`_bucket\{.*\} 1 # \{.*trace_id="[0-9a-f]{32}".*\}`, text)
	}
	text, header = s.scrape(t, "")
	assert.Contains(t, header.Get("Content-Type"), "text/plain")
	assert.Contains(t, text, `gophersnake_up{pipeline="shop"} 1`)
}

// The route of a request is a pattern, so that clients cannot make series.
func TestPathsOfClientsMakeNoSeries(t *testing.T) {
	s := serveShop(t)
	s.use(t)
	routes := map[string]bool{}
	for _, m := range s.families(t)["gophersnake_http_request_duration_seconds"].GetMetric() {
		routes[labelsOf(m)["route"]] = true
	}
	assert.Equal(t, []string{"/", "/readyz", "/v1/pipelines/{name}"}, slices.Sorted(maps.Keys(routes)))
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

func TestNamesFollowTheConventionsOfPrometheus(t *testing.T) {
	s := serveShop(t)
	s.use(t)
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(s.families(t)))).Lint()
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func TestASourceReplacesTheOneOfTheSameName(t *testing.T) {
	m := metrics.New()
	for value := range 2 {
		m.AddSource("own", func() []runner.Metric {
			return []runner.Metric{{Name: "tokens", Kind: runner.MetricGauge, Labels: map[string]string{"token": "a"}, Value: float64(value)}}
		})
	}
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	assert.Equal(t, "# HELP tokens \n# TYPE tokens gauge\ntokens{token=\"a\"} 1\n", answer.Body.String())
}

// expression is a query of the dashboard or of the alert rules.
type expression struct {
	where, text string
	shows       []string // the labels that its legend or its texts name
}

// grafana stands for the variables of Grafana in queries.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$pipeline", ".*", "$node", ".*")

func dashboard(t *testing.T) (all []expression) {
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	read(t, "dashboard.json", func(data []byte) error { return json.Unmarshal(data, &d) })
	legend := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			e := expression{where: "panel " + p.Title, text: grafana.Replace(target.Expr)}
			for _, match := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				e.shows = append(e.shows, match[1])
			}
			all = append(all, e)
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if match := values.FindStringSubmatch(v.Definition); match != nil {
			all = append(all, expression{"variable " + v.Name, grafana.Replace(match[1]), match[2:]})
		}
	}
	return all
}

func alerts(t *testing.T) (all []expression) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	read(t, "alerts.yaml", func(data []byte) error { return yaml.Unmarshal(data, &rules) })
	label := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			e := expression{where: "alert " + rule.Alert, text: rule.Expr}
			for _, text := range rule.Annotations {
				for _, match := range label.FindAllStringSubmatch(text, -1) {
					e.shows = append(e.shows, match[1])
				}
			}
			all = append(all, e)
		}
	}
	return all
}

func read(t *testing.T, name string, parse func([]byte) error) {
	data, err := os.ReadFile(filepath.Join("../../docs/monitoring", name))
	require.NoError(t, err)
	require.NoError(t, parse(data))
}

// series are the samples of a scrape: the labels of each, by the names of the samples.
type series map[string][]map[string]string

func seriesOf(families map[string]*dto.MetricFamily) series {
	all := series{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := labelsOf(m)
			h := m.GetHistogram()
			if h == nil {
				all[name] = append(all[name], labels)
				continue
			}
			all[name+"_count"] = append(all[name+"_count"], labels)
			all[name+"_sum"] = append(all[name+"_sum"], labels)
			bucket := maps.Clone(labels)
			bucket["le"] = "+Inf"
			all[name+"_bucket"] = append(all[name+"_bucket"], bucket)
		}
	}
	return all
}

// selected returns the series that a selector finds.
func (all series) selected(t *testing.T, m *metricsql.MetricExpr) (found []map[string]string) {
	for _, filters := range m.LabelFilterss {
		require.Equal(t, "__name__", filters[0].Label)
		for _, labels := range all[filters[0].Value] {
			if !slices.ContainsFunc(filters[1:], func(f metricsql.LabelFilter) bool { return !matches(t, f, labels) }) {
				found = append(found, labels)
			}
		}
	}
	return found
}

func matches(t *testing.T, f metricsql.LabelFilter, labels map[string]string) bool {
	value, ok := labels[f.Label]
	if !ok {
		return false // a filter of a label that there is not is a mistake
	}
	equal := value == f.Value
	if f.IsRegexp {
		var err error
		equal, err = regexp.MatchString("^(?:"+f.Value+")$", value)
		require.NoError(t, err)
	}
	return equal != f.IsNegative
}

// Each metric, label and value that the dashboard and the alert rules name is in a scrape of a
// server to which all of it has happened.
func TestTheDashboardAndTheAlertsNameWhatThereIs(t *testing.T) {
	s := serveShop(t)
	s.use(t)
	all := seriesOf(s.families(t))
	expressions := slices.Concat(dashboard(t), alerts(t))
	require.Greater(t, len(expressions), 30)
	for _, e := range expressions {
		parsed, err := metricsql.Parse(e.text)
		require.NoError(t, err, e.where)
		visible := map[string]bool{} // labels of the result, at most
		metricsql.VisitAll(parsed, func(part metricsql.Expr) {
			if m, ok := part.(*metricsql.MetricExpr); ok {
				found := all.selected(t, m)
				assert.NotEmpty(t, found, "%s: nothing is selected by %s", e.where, m.AppendString(nil))
				for _, labels := range found {
					for name := range labels {
						visible[name] = true
					}
				}
			}
		})
		metricsql.VisitAll(parsed, func(part metricsql.Expr) {
			aggregate, ok := part.(*metricsql.AggrFuncExpr)
			if !ok {
				return
			}
			for _, name := range aggregate.Modifier.Args {
				assert.True(t, visible[name], "%s: there is no label %s", e.where, name)
			}
			for name := range visible {
				if !slices.Contains(aggregate.Modifier.Args, name) {
					delete(visible, name)
				}
			}
		})
		for _, name := range e.shows {
			assert.True(t, visible[name], "%s: the result has no label %s", e.where, name)
		}
	}
}
