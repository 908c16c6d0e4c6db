package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/scripts/bench/distributed"
)

// light are the peers whose packages are small. The others, and the plot, are tested on
// request:
//
//	GOPHERSNAKE_BENCH_PEERS=ray,mosec,dora go test ./scripts/bench
const light = "gophersnake,gophersnake-shared,pipe,blocks,executor,grpc"

// TestMain is the program itself for the processes that it starts in a role.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == distributed.Role {
		main()
		return
	}
	os.Exit(m.Run())
}

// figures runs the whole program with few calls, and returns its report.
func figures(t *testing.T, args ...string) (r report, out string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "figures.json")
	var written, messages strings.Builder
	err := run(t.Context(), append(args, "--json", path), &written, &messages)
	require.NoError(t, err, messages.String())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &r))
	return r, written.String()
}

// TestRunMeasuresEveryPeer checks that the figures are consistent, not how good they are.
// The peers check the results of their calls themselves.
func TestRunMeasuresEveryPeer(t *testing.T) {
	peers := light
	if more := os.Getenv("GOPHERSNAKE_BENCH_PEERS"); more != "" {
		peers += "," + more
	}
	r, out := figures(t, "--rounds", "2", "--calls", "10", "--sections", "calls", "--peers", peers)
	require.Empty(t, r.Skipped)
	chosen, err := choosePeers(peers)
	require.NoError(t, err)
	for _, load := range payloads {
		for _, c := range chosen {
			row, ok := r.row(load.name, c.name)
			require.Equal(t, load.array || !c.arrays, ok, "%s %s", c.name, load.name)
			if !ok {
				continue
			}
			assert.Positive(t, row.P50)
			assert.GreaterOrEqual(t, row.P99, row.P50)
			assert.Positive(t, row.CallsPerSecond)
			assert.Positive(t, row.ToGophersnake)
			assert.Positive(t, row.ToPipe)
			assert.Contains(t, out, c.about)
		}
	}
	own, _ := r.row("small", gophersnakeName)
	assert.InDelta(t, 1, own.ToGophersnake, 0)
	pipe, _ := r.row("small", pipeName)
	assert.InDelta(t, 1, pipe.ToPipe, 0)
}

func TestRunMeasuresEverySection(t *testing.T) {
	r, out := figures(t, "--rounds", "2", "--calls", "10", "--sections", "roundtrip,handover,throughput,batch,threads")
	for section, names := range map[string][]string{
		roundtripName:  {roundtripReturned, "4 MiB, worked on, `Run`", "4 MiB, worked on, `RunShared`"},
		handoverName:   {"64 B", "1 MiB", "64 MiB"},
		throughputName: {"1 in flight", "8 in flight", "64 in flight"},
		batchName:      {"1 in flight", "64 in flight", "64 in flight, in batches of 32"},
		threadsName:    {"two processes", "one process, 8 threads", "one process"},
	} {
		for _, name := range names {
			f, ok := r.figure(section, name)
			require.True(t, ok, "%s %s", section, name)
			// Some are differences of two times, which so few calls can make negative.
			assert.NotZero(t, f.Value)
			assert.NotZero(t, f.Ratio)
			assert.Contains(t, out, name)
		}
	}
	assert.Empty(t, r.Rows)
}

// TestRunMeasuresHowCostsGrow has smaller sizes than a run with more calls.
func TestRunMeasuresHowCostsGrow(t *testing.T) {
	r, out := figures(t, "--rounds", "1", "--calls", "10", "--sections", scaleName)
	require.Len(t, r.Tables, 8)
	for _, one := range r.Tables {
		require.NotNil(t, one.Curve, one.Title)
		require.Len(t, one.Curve.At, len(one.Figures), one.Title)
		assert.Greater(t, len(one.Figures), 1, one.Title)
		assert.Contains(t, one.Title, fmt.Sprintf("%s^%.2f", one.Curve.X, one.Curve.Exponent))
		assert.Contains(t, out, one.Title)
		for i, f := range one.Figures {
			assert.Positive(t, f.Value, "%s %s", one.Title, f.Name)
			assert.Contains(t, f.Name, fmt.Sprint(one.Curve.At[i]))
		}
	}
}

func TestRunMeasuresServers(t *testing.T) {
	r, out := figures(t, "--rounds", "1", "--calls", "16", "--sections", "serve", "--servers", gophersnakeName)
	require.Len(t, r.Tables, 2)
	assert.Equal(t, "gophersnake serve, one worker", r.Tables[0].Rows[1][0])
	assert.Equal(t, "400", r.Tables[1].Rows[1][0], "all events have come")
	assert.Contains(t, out, "16 connections: p50 µs")
}

// TestRunMeasuresACluster has servers, machines and responders as processes, and Celery if there is
// a Redis server.
func TestRunMeasuresACluster(t *testing.T) {
	r, out := figures(t, "--rounds", "1", "--calls", "4", "--sections", "cluster", "--queues", "celery")
	titles := make([]string, len(r.Tables))
	for i, table := range r.Tables {
		titles[i] = table.Title
		for _, f := range table.Figures {
			assert.Positive(t, f.Value, f.Name)
			assert.Positive(t, f.Ratio, f.Name)
			assert.Contains(t, out, f.Name)
		}
	}
	require.Len(t, titles, 5)
	assert.Len(t, r.Tables[0].Figures, 4, titles[0])
	assert.Len(t, r.Tables[3].Figures, 3, titles[3])
	assert.Equal(t, 3, len(r.Tables[2].Figures)+len(r.Skipped), r.Skipped)
	for _, s := range r.Skipped {
		assert.Contains(t, s.Reason, "redis-server", "Celery is skipped for another reason")
	}
}

func TestRunRejectsInvalidArguments(t *testing.T) {
	for _, c := range []struct{ name, args, says string }{
		{"unknown section", "--sections call", `no section "call"; there are: calls, roundtrip, handover`},
		{"unknown peer", "--peers pipe,pype", `no peer "pype"; there are: gophersnake, gophersnake-shared, pipe`},
		{"unknown payload", "--payloads large", `no payload "large"; there are: small, 64KiB, 1MiB`},
		{"unknown server", "--servers flask", `no server "flask"; there are: floor, gophersnake, litserve`},
		{"unknown queue", "--queues rq", `no queue "rq"; there are: celery, ray`},
		{"unknown part", "--parts runs", `no part "runs"; there are: calls, values, jobs, growth`},
		{"unknown role", "role guest", "no role"},
		{"no rounds", "--rounds 0", "at least 1"},
		{"argument", "now", `unexpected argument "now"`},
		{"unknown flag", "--count 3", "not defined"},
		{"plot", "--plot figures.gif", `".gif"`},
		{"no interpreter", "--python /nowhere/python3", "/nowhere/python3"},
		{"drive", "drive gophersnake", "drive takes"},
		{"pair", "pair --rounds 3", "pair takes the folder"},
		{"pair without a checkout", "pair /nowhere", "build /nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, messages strings.Builder
			err := run(t.Context(), strings.Fields(c.args), &out, &messages)
			require.ErrorContains(t, err, c.says)
			assert.Empty(t, out.String())
		})
	}
}

func TestDriveMakesCalls(t *testing.T) {
	h := hostOf(t, "")
	require.NoError(t, run(t.Context(), []string{driveCommand, h.python.Path, pipeName, "3"}, io.Discard, io.Discard))
}

func TestPlotDrawsTheCallsAndTheCurves(t *testing.T) {
	if os.Getenv("GOPHERSNAKE_BENCH_PEERS") == "" {
		t.Skip("matplotlib is large: GOPHERSNAKE_BENCH_PEERS is not set")
	}
	svg, png := filepath.Join(t.TempDir(), "calls.svg"), filepath.Join(t.TempDir(), "calls.png")
	figures(t, "--rounds", "1", "--calls", "5", "--sections", "calls,scale", "--peers", "gophersnake,pipe", "--plot", svg, "--plot", png)
	drawn, err := os.ReadFile(svg)
	require.NoError(t, err)
	assert.Contains(t, string(drawn), "</svg>")
	assert.Contains(t, string(drawn), "callers in line", "a curve")
	assert.FileExists(t, png)
}

// BenchmarkRun is one call to a warm worker through the whole Runner.
func BenchmarkRun(b *testing.B) {
	h, err := newHost(b.Context(), "")
	require.NoError(b, err)
	defer func() { _ = h.close() }()
	r, err := h.pipeline(b.Context(), "call.yaml")
	require.NoError(b, err)
	defer func() { _ = r.Close(context.Background()) }()
	for _, load := range payloads {
		b.Run(load.name, func(b *testing.B) {
			value := load.value()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Run(b.Context(), value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
