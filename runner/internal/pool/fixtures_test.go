package pool

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// packageDir is the worker's Python package, unpacked once for all tests.
var packageDir string

func TestMain(m *testing.M) {
	os.Exit(testkit.WithPackage(func(dir string) int {
		packageDir = dir
		return m.Run()
	}))
}

const long = testkit.Long

// fixture is a pool of real workers and a record of its events.
type fixture struct {
	*Pool
	t            testing.TB
	broken, held string // files that make starts fail or block while they exist

	mu      sync.Mutex
	started []*worker.Worker
	ended   []*worker.Exit
	events  []Event
}

func newPool(t testing.TB, least, most int) *fixture {
	t.Helper()
	return newPoolOf(t, "work", least, most)
}

func newPoolOf(t testing.TB, nodeType string, least, most int) *fixture {
	t.Helper()
	return newPoolWith(t, nodeType, Config{Min: least, Max: most})
}

// newPoolWith makes a pool of a node from testdata. Of config.Worker, only Limits and
// Timeout count.
func newPoolWith(t testing.TB, nodeType string, config Config) *fixture {
	t.Helper()
	base, err := filepath.Abs("testdata")
	require.NoError(t, err)
	dir := t.TempDir()
	f := &fixture{t: t, broken: filepath.Join(dir, "broken"), held: filepath.Join(dir, "held")}
	config.Worker = worker.Config{
		Python:  testkit.Python(t),
		Package: packageDir,
		Setup: ipc.Setup{
			Node: "node", Base: base, Python: "nodes.py", NodeType: nodeType,
			Limits: ipc.SetupLimits{Limits: ipc.DefaultLimits()}, LogLevel: "info",
			Window: ipc.DefaultWindow(), Begun: true, Idempotent: true,
		},
		Env:          append(os.Environ(), "BROKEN="+f.broken, "HELD="+f.held),
		StartTimeout: long,
		Timeout:      cmp.Or(config.Worker.Timeout, long),
		Grace:        long,
		Limits:       config.Worker.Limits,
		Logger:       hclog.NewNullLogger(),
	}
	config.Observe = f.observe
	if config.MayRepeat == nil {
		config.MayRepeat = func() bool { return true }
	}
	f.Pool = New(config)
	f.Pool.available = func() int64 { return 0 }
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Close(ctx)
	})
	return f
}

func (f *fixture) observe(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
	switch e := e.(type) {
	case WorkerStarted:
		f.started = append(f.started, e.Worker)
	case WorkerEnded:
		f.ended = append(f.ended, e.Exit)
	}
}

// put makes an empty file.
func put(t testing.TB, path string) string {
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path
}

func newGate(t *testing.T) string { return put(t, filepath.Join(t.TempDir(), "gate")) }

func remove(t *testing.T, path string) { assert.NoError(t, os.Remove(path)) }

func (f *fixture) call(ctx context.Context, value any) (any, error) {
	payload, err := ipc.Encode("input", value)
	if err != nil {
		return nil, err
	}
	result, err := f.Call(ctx, ipc.OneArg(payload), &Operation{})
	if err != nil {
		return nil, err
	}
	return result.Decode("result", ipc.DefaultLimits())
}

// calling makes a call in the background.
func (f *fixture) calling(value any) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		got, err := f.call(context.Background(), value)
		done <- answer{got, err}
	}()
	return done
}

type answer struct {
	value any
	err   error
}

// Stats are the counts of a pool at one moment, without its spares.
type Stats struct{ Idle, Busy, Starting, Waiting int }

// Stats returns the counts. A retiring worker counts as busy until it has ended.
func (f *fixture) Stats() Stats {
	h := f.Health()
	s := Stats{Idle: h.Idle, Busy: h.Busy, Starting: h.Starting, Waiting: h.Waiting}
	for _, w := range h.Workers {
		if w.Role == RoleRetiring {
			s.Busy++
		}
	}
	return s
}

// waitFor waits until the pool's counts are want.
func (f *fixture) waitFor(want Stats) {
	f.t.Helper()
	f.until(func(Health) bool { return f.Stats() == want }, "%+v", want)
}

// until waits until the pool's health meets a condition.
func (f *fixture) until(holds func(Health) bool, text ...any) {
	f.t.Helper()
	testkit.Eventually(f.t, func() bool { return holds(f.Health()) }, text...)
}

func (f *fixture) starts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.started)
}

func (f *fixture) deaths() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ended)
}

// kill kills the worker that was started last, and waits until it is not alive. If that
// one has ended already, it waits for the next one: its event follows its start.
func (f *fixture) kill() {
	f.t.Helper()
	var last *worker.Worker
	testkit.Eventually(f.t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		last = f.started[len(f.started)-1]
		return last.Alive()
	})
	require.NoError(f.t, syscall.Kill(last.PID(), syscall.SIGKILL))
	testkit.Eventually(f.t, func() bool { return !last.Alive() })
}
