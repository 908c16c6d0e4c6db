package runner_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
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

func TestNoWorkerOutlivesAKilledSupervisor(t *testing.T) {
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
	testkit.Eventually(t, func() bool { return len(testkit.Descendants(t, supervisor.Process.Pid)) >= 5 }, "the workers, and the children of one")
	family := testkit.Descendants(t, supervisor.Process.Pid)

	require.NoError(t, supervisor.Process.Signal(syscall.SIGKILL))
	killed := time.Now()
	assert.Eventually(t, func() bool {
		for _, pid := range family {
			if testkit.Alive(pid) {
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
	files := 0
	for _, pattern := range []string{"gophersnake*", "plugin-dir*"} {
		found, err := filepath.Glob(filepath.Join(os.TempDir(), pattern))
		require.NoError(t, err)
		files += len(found)
	}
	return count{
		descriptors: testkit.Descriptors(t, os.Getpid()),
		goroutines:  runtime.NumGoroutine(),
		processes:   len(testkit.Descendants(t, os.Getpid())),
		files:       files,
	}
}

// ownTMPDIR gives the test a folder for temporary files in which other packages' tests create
// none. Its path is short, so that those of sockets fit.
func ownTMPDIR(t *testing.T) {
	t.Helper()
	folder, err := os.MkdirTemp("", "own")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(folder)) })
	t.Setenv("TMPDIR", folder)
}

func TestNothingIsLeftBehind(t *testing.T) {
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

func TestStreamsLeaveNothingBehind(t *testing.T) {
	ownTMPDIR(t)
	begun := make(chan any, 100)
	marker := filepath.Join(t.TempDir(), "m")
	r := start(t, `
nodes:
  - {id: echo, node_type: echo}
  - {id: misbehave, node_type: misbehave, retry: {fixed: 1ms, max_attempts: 2}, breaker: none}
  - {id: maybe, node_type: maybe, retry: none}
connections: [{from: echo, to: misbehave}, {from: misbehave, to: maybe}]
`, goNode("maybe", func(ctx context.Context, v any) (any, error) {
		begun <- v
		if v == "fine" {
			return v, nil
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	fine := map[string]any{"way": "", "marker": "/dev/null", "times": 0}
	endings := []func(s *runner.Stream){
		func(s *runner.Stream) { // to the end
			feed(t, s, slices.Repeat([]any{fine}, 20)...)
			_, err := values(s)
			assert.NoError(t, err)
		},
		func(s *runner.Stream) { // closed during a call
			assert.NoError(t, s.Send(fine))
			<-begun
			assert.NoError(t, s.Close())
		},
		func(s *runner.Stream) { // a worker dies
			_ = os.Remove(marker)
			feed(t, s, map[string]any{"way": "kill_kill", "marker": marker}, fine)
			_, err := values(s)
			assert.NoError(t, err)
		},
		func(s *runner.Stream) { // a node fails
			feed(t, s, fine, map[string]any{"way": "raise_value_error"}, fine)
			_, err := values(s)
			assert.ErrorIs(t, err, runner.KindExecution)
		},
		func(*runner.Stream) {}, // without items
	}
	all := func() {
		for _, ending := range endings {
			s, err := r.Stream(t.Context())
			require.NoError(t, err)
			ending(s)
			require.NoError(t, s.Close())
		}
		for len(begun) > 0 {
			<-begun
		}
	}
	all()
	before := holding(t)
	for range 5 {
		all()
	}
	assertHolding(t, before)
}
