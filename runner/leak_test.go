package runner_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// TestMain lets the test binary serve as a supervisor of its own, to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("GOPHERSNAKE_TEST_SUPERVISOR") != "" {
		superviseUnderLoad()
	}
	os.Exit(m.Run())
}

// superviseUnderLoad runs a pipeline from several goroutines until it is
// killed, telling the process ids of its workers and of their children.
func superviseUnderLoad() {
	base, _ := filepath.Abs("testdata")
	p, err := manifest.Parse("load.yaml", []byte(`
version: v1
python: nodes.py
nodes:
  - {id: echo, node_type: echo}
  - {id: family, node_type: family}
  - {id: stuck, node_type: misbehave, timeout: none}
connections:
  - {from: echo, to: family}
  - {from: family, to: stuck}
`), base)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r, err := runner.New(p, runner.WithEvents(func(e runner.Event) {
		if e, ok := e.(runner.WorkerStarted); ok {
			fmt.Println(e.PID)
		}
	}))
	if err == nil {
		err = r.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for range 4 {
		go func() {
			for {
				_, _ = r.Run(context.Background(), map[string]any{"way": "hang_in_c"})
			}
		}()
	}
	select {}
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// descendants returns the process ids of all live processes that descend from
// this one, zombies included.
func descendants(t *testing.T, of int) []int {
	parents := map[int]int{}
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(after); len(fields) > 1 {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	var found []int
	for pid := range parents {
		for p := parents[pid]; p != 0; p = parents[p] {
			if p == of {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

func TestNoWorkerOutlivesAKilledSupervisor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	supervisor := exec.Command(self)
	supervisor.Env = append(os.Environ(), "GOPHERSNAKE_TEST_SUPERVISOR=1")
	supervisor.Stderr = os.Stderr
	out, err := supervisor.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, supervisor.Start())
	defer func() { _ = supervisor.Process.Kill(); _ = supervisor.Wait() }()

	lines := bufio.NewScanner(out)
	workers := 0
	for lines.Scan() {
		if _, err := strconv.Atoi(lines.Text()); err == nil {
			workers++
		}
		if workers == 3 {
			break
		}
	}
	require.Equal(t, 3, workers)
	require.Eventually(t, func() bool { return len(descendants(t, supervisor.Process.Pid)) >= 5 },
		10*time.Second, time.Millisecond, "the workers, and the children of one")
	family := descendants(t, supervisor.Process.Pid)

	require.NoError(t, supervisor.Process.Signal(syscall.SIGKILL))
	killed := time.Now()
	assert.Eventually(t, func() bool {
		for _, pid := range family {
			if alive(pid) {
				return false
			}
		}
		return true
	}, 10*time.Second, time.Millisecond, "workers are left: %v", family)
	t.Logf("%d processes ended within %v of their supervisor", len(family), time.Since(killed))
}

// count is what a process holds.
type count struct{ descriptors, goroutines, processes, files int }

func holding(t *testing.T) count {
	t.Helper()
	runtime.GC()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	files := 0
	for _, pattern := range []string{"gophersnake*", "plugin-dir*"} {
		found, err := filepath.Glob(filepath.Join(os.TempDir(), pattern))
		require.NoError(t, err)
		files += len(found)
	}
	return count{len(entries), runtime.NumGoroutine(), len(descendants(t, os.Getpid())), files}
}

func TestNothingIsLeftBehind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	t.Setenv("TMPDIR", t.TempDir())
	once := func() {
		r, err := load(t, "nodes: [{id: e, node_type: echo}, {id: m, node_type: misbehave, retry: {fixed: 1ms, max_attempts: 1}}]\nconnections: [{from: e, to: m}]")
		require.NoError(t, err)
		for i := range 10 {
			switch i {
			case 3:
				_, err = r.Run(t.Context(), map[string]any{"way": "raise_value_error"})
				assert.ErrorIs(t, err, runner.KindExecution)
			case 7:
				_, err = r.Run(t.Context(), map[string]any{"way": "exit_now", "marker": filepath.Join(t.TempDir(), "m")})
				assert.NoError(t, err)
			default:
				_, err = r.Run(t.Context(), map[string]any{"way": "", "marker": "/dev/null", "times": 0})
				assert.NoError(t, err)
			}
		}
		require.NoError(t, r.Close(t.Context()))
	}
	once()
	before := holding(t)
	for range 9 {
		once()
	}
	assertHolding(t, before)

	r := start(t, single("echo"))
	for range 10 {
		_, err := r.Run(t.Context(), "v")
		require.NoError(t, err)
	}
	before = holding(t)
	for range 1000 {
		_, err := r.Run(t.Context(), "v")
		require.NoError(t, err)
	}
	assertHolding(t, before)
}

// settling is longer than the time for which unused shared memory is kept.
const settling = 40 * time.Second

// assertHolding waits until the process holds no more than before: a goroutine of
// go-plugin may still be ending.
func assertHolding(t *testing.T, before count) {
	t.Helper()
	var now count
	for deadline := time.Now().Add(settling); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		now = holding(t)
		if now.goroutines <= before.goroutines && now.descriptors <= before.descriptors &&
			now.processes <= before.processes && now.files <= before.files {
			return
		}
	}
	t.Errorf("before: %+v, now: %+v", before, now)
}
