package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/pyworker"
)

// packageDir is the worker's Python package, unpacked once for all tests.
var packageDir string

// TestMain lets the test binary also run as a separate supervisor, in its own cgroup.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "worker-test-")
	if err == nil {
		packageDir, err = pyworker.Extract(dir)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	code := 0
	if os.Getenv("GOPHERSNAKE_TEST_MEMORY_EATER") != "" {
		eatMemory()
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// long is longer than any test takes that passes.
const long = time.Minute

func testConfig(t *testing.T, nodeType string) Config {
	t.Helper()
	python, err := exec.LookPath("python3")
	require.NoError(t, err, "the tests need a Python with msgpack in PATH")
	return nodeConfig(python, nodeType)
}

func nodeConfig(python, nodeType string) Config {
	base, _ := filepath.Abs("testdata")
	return Config{
		Python:  python,
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

// eventually waits for a condition that a process brings about.
func eventually(t *testing.T, what func() bool, words ...any) {
	t.Helper()
	require.Eventually(t, what, long, time.Millisecond, words...)
}

func exists(path string) func() bool {
	return func() bool { content, err := os.ReadFile(path); return err == nil && len(content) > 0 }
}

// killLater ends the process whose id a worker left in a file.
func killLater(t *testing.T, file string) {
	t.Cleanup(func() {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		pid, err := strconv.Atoi(string(content))
		require.NoError(t, err)
		assert.NoError(t, syscall.Kill(pid, syscall.SIGKILL), "it had escaped")
	})
}

// gone reports whether no process has this id.
func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

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
