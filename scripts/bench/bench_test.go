package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRunMeasuresEveryPeer runs the whole program with few calls. It asks how
// the figures hang together, not how good they are. That each peer returns what
// it was sent is checked where it is measured.
func TestRunMeasuresEveryPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures.json")
	var out, messages strings.Builder
	err := run(t.Context(), []string{"--rounds", "2", "--calls", "20", "--json", path}, &out, &messages)
	require.NoError(t, err, messages.String())

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(text, &r))
	require.Len(t, r.Rows, len(contenders)*len(payloads))
	for _, load := range payloads {
		for _, c := range contenders {
			row, ok := r.find(c.name, load.name)
			require.True(t, ok, "%s %s", c.name, load.name)
			assert.Positive(t, row.P50)
			assert.GreaterOrEqual(t, row.P99, row.P50)
			assert.Positive(t, row.CallsPerSecond)
			assert.Positive(t, row.ToGophersnake)
			assert.Positive(t, row.ToPipe)
			assert.Contains(t, out.String(), c.about)
		}
	}
	own, _ := r.find(gophersnakeName, "small")
	assert.InDelta(t, 1, own.ToGophersnake, 0)
	pipe, _ := r.find(pipeName, "small")
	assert.InDelta(t, 1, pipe.ToPipe, 0)
}

func TestRunSaysWhatCannotBeRun(t *testing.T) {
	for _, c := range []struct{ name, args, says string }{
		{"unknown peer", "--peers pipe,pype", `no peer "pype"; there are: gophersnake, pipe, executor, grpc`},
		{"unknown payload", "--payloads large", `no payload "large"; there are: small, 64KiB, 1MiB`},
		{"no rounds", "--rounds 0", "at least 1"},
		{"argument", "now", `unexpected argument "now"`},
		{"unknown flag", "--count 3", "not defined"},
		{"no interpreter", "--python /nowhere/python3", "/nowhere/python3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, messages strings.Builder
			err := run(t.Context(), strings.Fields(c.args), &out, &messages)
			require.ErrorContains(t, err, c.says)
			assert.Empty(t, out.String())
		})
	}
}

// hostOf returns a host whose one program is the given Python code.
func hostOf(t *testing.T, code string) *host {
	h, err := newHost(t.Context(), "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.close()) })
	require.NoError(t, os.WriteFile(filepath.Join(h.programs, "broken.py"), []byte(code), 0o600))
	return h
}

func TestABrokenProgramIsExplained(t *testing.T) {
	for _, c := range []struct{ name, code, says string }{
		{"cannot start", "import nothing_of_the_kind", "nothing_of_the_kind"},
		{"raises", "import rounds\ndef echo(v): raise OSError('the pipe burst')\nrounds.serve(echo)", "the pipe burst"},
		{"wrong echo", "import rounds\nrounds.serve(lambda v: 7)", "the echo of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := startProgram(t.Context(), hostOf(t, c.code), "broken.py")
			require.NoError(t, err)
			defer func() { _ = p.close() }()
			_, err = p.measure(t.Context(), payloads[0], 0, 1)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestABrokenPluginIsExplained(t *testing.T) {
	h := hostOf(t, "import nothing_of_the_kind")
	env, err := h.environment(t.Context(), nil)
	require.NoError(t, err)
	_, err = startPlugin(env, filepath.Join(h.programs, "broken.py"))
	require.ErrorContains(t, err, "nothing_of_the_kind")
}

func TestAPeerThatCannotBeSetUp(t *testing.T) {
	missing := contender{name: "ray", setUp: func(_ context.Context, _ *host) (peer, error) {
		return nil, errors.New("no such wheel")
	}}
	h := hostOf(t, "")
	s := settings{peers: []contender{contenders[1], missing}}
	var messages strings.Builder

	peers, err := setUp(t.Context(), h, s, &messages)
	require.ErrorContains(t, err, "peer ray cannot be set up: no such wheel")
	require.NoError(t, closeAll(peers))

	s.skipMissing = true
	peers, err = setUp(t.Context(), h, s, &messages)
	require.NoError(t, err)
	require.Len(t, peers, 1)
	require.NoError(t, closeAll(peers))
	assert.Contains(t, messages.String(), "skipping ray: it cannot be set up: no such wheel")

	s.peers = []contender{missing}
	_, err = setUp(t.Context(), h, s, &messages)
	require.ErrorContains(t, err, "no peer could be set up")
}

// TestCancellationEndsAProgram has a program's children end with it.
func TestCancellationEndsAProgram(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	h, err := newHost(ctx, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, h.close()) }()
	p, err := startProgram(ctx, h, "executor.py")
	require.NoError(t, err)
	_, err = p.measure(ctx, payloads[0], 0, 1) // its worker is up
	require.NoError(t, err)

	interrupted := errors.New("interrupted")
	cancel(interrupted)
	_, err = p.measure(ctx, payloads[0], 0, 1<<40)
	require.ErrorIs(t, err, interrupted)
	require.Error(t, p.close())
	// Its children are init's now, which reaps them when it comes to it.
	group := p.command.Process.Pid
	require.Eventually(t, func() bool { return !groupLives(t, group) }, 10*time.Second, time.Millisecond)
}

// groupLives reports whether a process group has a member that is no zombie.
func groupLives(t *testing.T, group int) bool {
	t.Helper()
	if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
		return false
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		stat, _ := os.ReadFile(path) // it may have ended meanwhile
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after) // state, parent, group, …
		if len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			return true
		}
	}
	return false
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	of := func(rounds ...[]time.Duration) series { return series{rounds: rounds} }
	// The machine was ten times slower in the second round, for both alike.
	a := of([]time.Duration{30, 30, 90}, []time.Duration{300, 310, 900}, []time.Duration{40, 30, 30})
	b := of([]time.Duration{10, 11, 10}, []time.Duration{100, 100, 100}, []time.Duration{15, 15, 15})
	assert.InDelta(t, 3.0, a.ratio(b), 1e-9)
	assert.Equal(t, 40*time.Nanosecond, a.percentile(0.5))
	assert.Equal(t, 900*time.Nanosecond, a.percentile(0.99))
	assert.InDelta(t, 9.0/376e-9, b.rate(), 1)
}

func TestCheckNamesWhatIsNotAsExpected(t *testing.T) {
	figures := func(ours, grpc float64) *report {
		return &report{Rows: []row{
			{Peer: gophersnakeName, Payload: "small", ToPipe: ours, ToGophersnake: 1},
			{Peer: grpcName, Payload: "small", ToGophersnake: grpc, ToPipe: grpc * ours},
		}}
	}
	require.NoError(t, figures(1.5, 6).check())
	require.EqualError(t, figures(1.6, 6).check(), "gophersnake takes 1.60 times as long as pipe; expected at most 1.5")
	require.EqualError(t, figures(1.2, 5.9).check(), "grpc takes 5.90 times as long as gophersnake; expected at least 6")
	require.ErrorContains(t, (&report{}).check(), "they were not measured")
}

func TestSaveLeavesNothingHalfWritten(t *testing.T) {
	folder := t.TempDir()
	require.Error(t, (&report{}).save(filepath.Join(folder, "missing", "figures.json")))
	require.NoError(t, os.Mkdir(filepath.Join(folder, "figures.json"), 0o700))
	require.Error(t, (&report{}).save(filepath.Join(folder, "figures.json")))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// BenchmarkRun is one call to a warm worker through the whole Runner.
func BenchmarkRun(b *testing.B) {
	h, err := newHost(b.Context(), "")
	require.NoError(b, err)
	defer func() { _ = h.close() }()
	p, err := setUpGophersnake(b.Context(), h)
	require.NoError(b, err)
	defer func() { _ = p.close() }()
	run := p.(runnerPeer).runner.Run
	for _, load := range payloads {
		b.Run(load.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := run(b.Context(), load.value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
