package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
		{"raises", "import rounds\ndef call(v): raise OSError('the pipe burst')\nrounds.serve(call)", "the pipe burst"},
		{"wrong result", "import rounds\nrounds.serve(lambda v: 7)", "the result is 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := startProgram(t.Context(), hostOf(t, c.code), "broken.py", "numpy")
			require.NoError(t, err)
			defer func() { _ = p.close() }()
			_, err = p.measure(t.Context(), payloads[0], 0, 1)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestABrokenPluginIsExplained(t *testing.T) {
	h := hostOf(t, "import nothing_of_the_kind")
	env, err := h.environment(t.Context(), "numpy")
	require.NoError(t, err)
	_, err = startPlugin(env, filepath.Join(h.programs, "broken.py"))
	require.ErrorContains(t, err, "nothing_of_the_kind")
}

// benchOf returns a benchmark of the given peers, with one call.
func benchOf(t *testing.T, messages *strings.Builder, peers ...peerSpec) *bench {
	return &bench{
		settings: settings{rounds: 1, calls: 1, peers: peers, payloads: payloads[:1]},
		host:     hostOf(t, "import rounds\nrounds.serve(lambda v: 7)"),
		report:   &report{Sections: []string{callsName}},
		messages: messages,
	}
}

func TestAPeerThatCannotBeSetUpIsSkippedInTheReport(t *testing.T) {
	failing := func(name string) peerSpec {
		return peerSpec{name: name, setUp: func(context.Context, *host) (peer, error) {
			return nil, errors.New("no such wheel\nat all")
		}}
	}
	pipe := allPeers[2]
	require.Equal(t, pipeName, pipe.name)
	var messages, out strings.Builder

	b := benchOf(t, &messages, pipe, failing("ray"))
	require.NoError(t, measureCalls(t.Context(), b))
	require.Len(t, b.report.Rows, 1)
	require.NoError(t, b.report.markdown(&out))
	assert.Contains(t, out.String(), "- skipped: ray: no such wheel … at all")

	b = benchOf(t, &messages, failing("ray"))
	require.ErrorContains(t, measureCalls(t.Context(), b), "no peer could be set up")
	b = benchOf(t, &messages, failing(gophersnakeName))
	require.ErrorContains(t, measureCalls(t.Context(), b), "gophersnake cannot be set up")
}

func TestAPeerThatFailsIsSkippedInTheReport(t *testing.T) {
	var messages strings.Builder
	broken := peerSpec{name: "broken", setUp: pythonProgram("broken.py", "numpy")}
	b := benchOf(t, &messages, allPeers[2], broken)
	require.NoError(t, measureCalls(t.Context(), b))
	require.Len(t, b.report.Rows, 1)
	require.Len(t, b.report.Skipped, 1)
	assert.Equal(t, "broken with small", b.report.Skipped[0].What)
	assert.Contains(t, b.report.Skipped[0].Reason, "the result is 7")
}

func TestASectionThatFailsDoesNotCostTheOthers(t *testing.T) {
	broken := errors.New("the server said no")
	measured := false
	b := &bench{settings: settings{sections: []section{
		{name: "first", measure: func(context.Context, *bench) error { return broken }},
		{name: "second", measure: func(context.Context, *bench) error { measured = true; return nil }},
	}}}
	err := b.measure(t.Context())
	require.ErrorIs(t, err, broken)
	assert.ErrorContains(t, err, "section first")
	assert.True(t, measured)
}

// TestCancellationEndsAPeer checks that the descendants of a peer end with it.
func TestCancellationEndsAPeer(t *testing.T) {
	wanted, err := choosePeers(
		strings.TrimSuffix("blocks,executor,"+os.Getenv("GOPHERSNAKE_BENCH_PEERS"), ","))
	require.NoError(t, err)
	for _, c := range wanted {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			h, err := newHost(ctx, "")
			require.NoError(t, err)
			defer func() { require.NoError(t, h.close()) }()
			set, err := c.setUp(ctx, h)
			require.NoError(t, err)
			p := set.(*program)
			require.Greater(t, len(inSession(p.pid())), 1, "it has a worker")

			interrupted := errors.New("interrupted")
			cancel(interrupted)
			_, err = p.measure(ctx, payloads[0], 0, 1<<40)
			require.ErrorIs(t, err, interrupted)
			_ = p.close()
			assert.Empty(t, p.alive())
		})
	}
}

// TestAProcessEndsWithADaemon starts one that has a child in a session of its own, whose
// parent has ended.
func TestAProcessEndsWithADaemon(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	p, err := startProcess(t.Context(), func(*exec.Cmd) error { return nil },
		"sh", "-c", `(setsid sh -c 'echo $$ > "$0"; exec sleep 3600' "$0" &); sleep 3600`, started)
	require.NoError(t, err)
	var daemon int
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(started)
		daemon, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	}, time.Minute, time.Millisecond)
	require.NotContains(t, inSession(p.pid()), daemon)
	require.Contains(t, p.alive(), daemon)
	p.kill()
	assert.Empty(t, p.alive())
}
