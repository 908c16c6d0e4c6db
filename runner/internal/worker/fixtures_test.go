package worker

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
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

func testConfig(t testing.TB, nodeType string) Config {
	t.Helper()
	base, err := filepath.Abs("testdata")
	require.NoError(t, err)
	return Config{
		Python:  testkit.Python(t),
		Package: packageDir,
		Setup: ipc.Setup{
			Node: "node", Base: base, Python: "nodes.py", NodeType: nodeType,
			Limits: ipc.SetupLimits{Limits: ipc.DefaultLimits()}, LogLevel: "info",
		},
		Env:          os.Environ(),
		StartTimeout: long,
		Timeout:      long,
		Grace:        long,
		Logger:       hclog.NewNullLogger(),
	}
}

// evil returns the configuration of a worker that violates the protocol.
func evil(t *testing.T, way string, env ...string) Config {
	c := testConfig(t, "")
	c.Package = filepath.Join(c.Setup.Base, "evil")
	c.Env = append(c.Env, append(env, "EVIL="+way, "PACKAGE="+packageDir)...)
	return c
}

func start(t *testing.T, config Config) *Worker {
	t.Helper()
	w, err := Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(w.Kill)
	return w
}

func call(ctx context.Context, w *Worker, value any) (any, error) {
	payload, err := ipc.Encode("input", value)
	if err != nil {
		return nil, err
	}
	result, err := w.Call(ctx, Op{Kind: ipc.FrameCall}, ipc.OneArg(payload))
	if err != nil {
		return nil, err
	}
	return result.Decode("result", ipc.DefaultLimits())
}

// way returns the input that makes the node misbehave.
func way(name string, file ...string) map[string]any {
	how := map[string]any{"way": name}
	if len(file) > 0 {
		how["file"] = file[0]
	}
	return how
}

// killLater ends the process whose id a worker left in a file. It has escaped only on a
// system without reapers.
func killLater(t *testing.T, file string) {
	t.Cleanup(func() {
		err := syscall.Kill(testkit.AwaitPID(t, file), syscall.SIGKILL)
		if runtime.GOOS == "linux" {
			assert.ErrorIs(t, err, syscall.ESRCH)
		} else {
			assert.NoError(t, err)
		}
	})
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) contains(s string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.buf.String(), s)
}

func logTo(b *logBuffer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: b, Level: hclog.Info})
}
