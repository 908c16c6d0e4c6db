package pool

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/worker"
)

var packageDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pool-test-")
	if err == nil {
		packageDir, err = pyworker.Extract(dir)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// long is more than any test takes.
const long = time.Minute

// fixture is a pool of real workers and what there is to know of it.
type fixture struct {
	*Pool
	t            *testing.T
	broken, held string // files that make starts fail, or wait

	mu      sync.Mutex
	started []*worker.Worker
	ended   []*worker.Exit
}

func newPool(t *testing.T, least, most int) *fixture {
	t.Helper()
	return newPoolOf(t, "work", least, most)
}

func newPoolOf(t *testing.T, nodeType string, least, most int) *fixture {
	t.Helper()
	python, err := exec.LookPath("python3")
	require.NoError(t, err, "the tests need a Python with msgpack in PATH")
	base, err := filepath.Abs("testdata")
	require.NoError(t, err)
	dir := t.TempDir()
	f := &fixture{t: t, broken: filepath.Join(dir, "broken"), held: filepath.Join(dir, "held")}
	f.Pool = New(Config{
		Min: least, Max: most,
		Worker: worker.Config{
			Python:  python,
			Package: packageDir,
			Setup: ipc.Setup{
				Node: "node", Base: base, Python: "nodes.py", NodeType: nodeType,
				Limits: ipc.SetupLimits{Limits: ipc.DefaultLimits()}, LogLevel: "info",
				Window: ipc.DefaultWindow(), Begun: true, Idempotent: true,
			},
			Env:          append(os.Environ(), "BROKEN="+f.broken, "HELD="+f.held),
			StartTimeout: long,
			Timeout:      long,
			Grace:        long,
			Logger:       hclog.NewNullLogger(),
		},
		Started: func(w *worker.Worker, took time.Duration) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.started = append(f.started, w)
		},
		Ended: func(exit *worker.Exit) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ended = append(f.ended, exit)
		},
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Close(ctx)
	})
	return f
}

// put makes a file that something waits on.
func put(t *testing.T, path string) string {
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
	result, err := f.Call(ctx, ipc.One(payload))
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

// waitFor waits until the pool's figures are so; the time bounds a failure only.
func (f *fixture) waitFor(want Stats) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.Stats() == want }, long, time.Millisecond, "%+v", want)
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

// kill kills the worker that was started last, and waits until that is known.
func (f *fixture) kill() {
	f.t.Helper()
	f.mu.Lock()
	last := f.started[len(f.started)-1]
	f.mu.Unlock()
	require.NoError(f.t, syscall.Kill(last.PID(), syscall.SIGKILL))
	require.Eventually(f.t, func() bool { return !last.Alive() }, long, time.Millisecond)
}

// hold takes the time of delayed refills into the test's hand: each says how
// long it would wait, and waits until it is let go.
func (f *fixture) hold() <-chan refill {
	refills := make(chan refill, 10)
	f.after = func(delay time.Duration) <-chan time.Time {
		r := refill{delay, make(chan time.Time, 1)}
		refills <- r
		return r.wake
	}
	return refills
}

type refill struct {
	delay time.Duration
	wake  chan time.Time
}

func (r refill) letGo() { r.wake <- time.Time{} }
