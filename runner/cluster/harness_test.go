package cluster_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// roleVariable makes the test program a NATS server, a machine or a client in place of the
// tests. The rest of its settings are JSON in settingsVariable.
const (
	roleVariable     = "GOPHERSNAKE_CLUSTER_ROLE"
	settingsVariable = "GOPHERSNAKE_CLUSTER_SETTINGS"
)

func TestMain(m *testing.M) {
	var s settings
	_ = json.Unmarshal([]byte(os.Getenv(settingsVariable)), &s)
	switch os.Getenv(roleVariable) {
	case "server":
		os.Exit(beServer(s))
	case "machine":
		os.Exit(beMachine(s))
	case "client":
		os.Exit(beClient(s))
	}
	os.Exit(testkit.WithPackage(func(packageDir string) int {
		os.Setenv("PYTHONPATH", packageDir)
		return m.Run()
	}))
}

// settings are those of a process that the tests start.
type settings struct {
	Name      string            // of the machine
	URLs      []string          // of the NATS servers
	Pipelines map[string]string // the nodes of each manifest
	Protocol  int               // of a machine; 0 for that of this program
	Labels    map[string]string

	Port, ClusterPort int    // of a server
	Routes            string // to the other servers
	StateDir          string
	Listen            string

	Folder string // for the node hold, of a client
}

// process is a process of this test program in another role.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	done  chan struct{}
}

// start starts a process and waits until it says that it is ready.
func start(t *testing.T, role string, s settings, wrap ...string) *process {
	t.Helper()
	doc, err := json.Marshal(s)
	require.NoError(t, err)
	args := slices.Concat(wrap, []string{os.Args[0]})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, settingsVariable+"="+string(doc), "MACHINE="+s.Name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &process{t: t, cmd: cmd, lines: make(chan string, 100), done: make(chan struct{})}
	p.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	require.Equal(t, "ready", p.line())
	return p
}

// line returns the next line of the process's output.
func (p *process) line() string {
	p.t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-p.done:
		require.FailNow(p.t, "the process has ended")
	case <-time.After(testkit.Long):
		require.FailNow(p.t, "the process says nothing")
	}
	return ""
}

// say sends a command to the process.
func (p *process) say(command string) {
	_, err := io.WriteString(p.stdin, command+"\n")
	require.NoError(p.t, err)
}

func (p *process) signal(s syscall.Signal) { _ = syscall.Kill(p.cmd.Process.Pid, s) }

// kill ends the process as a crash does, and waits for its end.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// beServer runs a NATS server until it is killed.
func beServer(s settings) int {
	srv, err := server.NewServer(&server.Options{
		ServerName: s.Name, Host: cmp.Or(s.Listen, "127.0.0.1"), Port: s.Port, NoSigs: true, NoLog: true,
		JetStream: s.StateDir != "", StoreDir: s.StateDir,
		Cluster: s.cluster(), Routes: server.RoutesFromStr(s.Routes),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	srv.Start()
	if !srv.ReadyForConnections(testkit.Long) {
		return 1
	}
	fmt.Println("ready")
	srv.WaitForShutdown()
	return 0
}

// cluster returns the settings of a server in a cluster, if it is in one.
func (s settings) cluster() server.ClusterOpts {
	if s.ClusterPort == 0 {
		return server.ClusterOpts{}
	}
	return server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: s.ClusterPort}
}

// beMachine serves pipelines until its standard input ends. On the line "drain" it drains.
func beMachine(s settings) int {
	ctx := context.Background()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: s.URLs, StateDir: s.StateDir, Logger: logger})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	runners := make(map[string]*runner.Runner)
	place := []cluster.MachineOption{cluster.WithName(s.Name), cluster.WithLabels(s.Labels)}
	for name, text := range s.Pipelines {
		executor := cluster.NewExecutor(conn, name, place...)
		defer executor.Close()
		if runners[name], err = newRunner(text, runner.WithExecutor(executor)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	opts := slices.Concat(place, []cluster.MachineOption{cluster.WithVersion("1.2.3")})
	if s.Protocol != 0 {
		opts = append(opts, cluster.WithProtocol(s.Protocol))
	}
	m, err := cluster.Announce(ctx, conn, runners, opts...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "drain" {
			if err := m.Drain(ctx); err != nil {
				fmt.Println(err)
			}
			fmt.Println("drained")
		}
	}
	m.Close()
	for _, r := range runners {
		_ = r.Close(ctx)
	}
	conn.Close()
	return 0
}

// beClient calls the node hold, and prints its result.
func beClient(s settings) int {
	ctx := context.Background()
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: s.URLs})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := cluster.Dial(ctx, conn, "hold")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	v, err := c.Run(ctx, s.Folder)
	fmt.Println(v, err)
	return 0
}

// newRunner returns a runner for a manifest with the nodes in testdata.
func newRunner(text string, opts ...runner.Option) (*runner.Runner, error) {
	base, err := filepath.Abs("testdata")
	if err != nil {
		return nil, err
	}
	p, err := manifest.Parse("test.yaml", []byte("version: v1\npython: nodes.py\n"+text), base)
	if err != nil {
		return nil, err
	}
	for i := range p.Nodes {
		p.Nodes[i].Workers.Spare = 0
	}
	return runner.New(p, append(opts, runner.WithSystemPython(), runner.WithPassEnv("MACHINE"))...)
}

// The pipelines of the tests.
const (
	echoPipeline = "nodes: [{id: echo, node_type: echo}]"
	failPipeline = "nodes: [{id: fail, node_type: fail}]"
	diePipeline  = "nodes: [{id: die, node_type: die, retry: {fixed: 1ms, max_attempts: 1}}]"
)

// holdPipeline has the node hold, with a number of workers.
func holdPipeline(folder string, workers int, more string) string {
	return fmt.Sprintf("nodes: [{id: hold, node_type: hold, params: {folder: %q}, workers: %d%s}]", folder, workers, more)
}

// localConn connects to a server in this process.
func localConn(t *testing.T, opts ...func(*cluster.Config)) *cluster.Conn {
	t.Helper()
	c := cluster.Config{StateDir: filepath.Join(t.TempDir(), "state")}
	for _, opt := range opts {
		opt(&c)
	}
	conn, err := cluster.Connect(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// localURL starts a server in this process, and returns its URL.
func localURL(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	localConn(t, func(c *cluster.Config) { c.StateDir = dir })
	url, err := cluster.LocalURL(dir)
	require.NoError(t, err)
	return url
}

// connect connects to servers.
func connect(t *testing.T, urls ...string) *cluster.Conn {
	t.Helper()
	conn, err := cluster.Connect(t.Context(), cluster.Config{URLs: urls})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// dial returns a client once it knows a number of machines.
func dial(t *testing.T, conn *cluster.Conn, pipeline string, machines int, opts ...cluster.DialOption) *cluster.Client {
	t.Helper()
	c, err := cluster.Dial(t.Context(), conn, pipeline, opts...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == machines }, "machines")
	return c
}

// announce serves pipelines by a machine in this process.
func announce(t *testing.T, conn *cluster.Conn, pipelines map[string]string, opts ...cluster.MachineOption) *cluster.Machine {
	t.Helper()
	runners := make(map[string]*runner.Runner)
	for name, text := range pipelines {
		r, err := newRunner(text)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
		runners[name] = r
	}
	m, err := cluster.Announce(t.Context(), conn, runners, opts...)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// announceGo serves pipelines of one node each, a Go function that returns its input. The map has
// the ids of the nodes.
func announceGo(t *testing.T, conn *cluster.Conn, pipelines map[string]string, opts ...cluster.MachineOption) *cluster.Machine {
	t.Helper()
	runners := make(map[string]*runner.Runner)
	for name, id := range pipelines {
		runners[name] = goEcho(t, id)
	}
	m, err := cluster.Announce(t.Context(), conn, runners, opts...)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// goEcho returns a runner whose node is a Go function that returns its input.
func goEcho(t *testing.T, id string) *runner.Runner {
	t.Helper()
	r, err := newRunner(fmt.Sprintf("nodes: [{id: %s, node_type: go}]", id),
		runner.WithNode("go", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

// result is what a call returned.
type result struct {
	value any
	err   error
}

// goRun makes a run in another goroutine.
func goRun(ctx context.Context, c *cluster.Client, input any) <-chan result {
	done := make(chan result, 1)
	go func() {
		v, err := c.Run(ctx, input)
		done <- result{v, err}
	}()
	return done
}

// await returns the result of goRun.
func await(t *testing.T, done <-chan result) result {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(testkit.Long):
		require.FailNow(t, "the call does not return")
	}
	return result{}
}

// begun returns the process ids of the workers that have begun the call with a name.
func begun(t *testing.T, folder, name string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "begun-"+name+"-*"))
	require.NoError(t, err)
	for _, file := range files {
		pid, err := strconv.Atoi(file[strings.LastIndexByte(file, '-')+1:])
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// awaitBegun waits until a number of workers have begun the call with a name.
func awaitBegun(t *testing.T, folder, name string, n int) []int {
	t.Helper()
	testkit.Eventually(t, func() bool { return len(begun(t, folder, name)) == n }, name)
	return begun(t, folder, name)
}

// release lets all calls of the node hold return.
func release(t *testing.T, folder string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "release"), nil, 0o600))
}

// storedValues returns the names of the values in the object store.
func storedValues(t *testing.T, conn *cluster.Conn) (names []string) {
	t.Helper()
	js, err := jetstream.New(conn.NATS())
	require.NoError(t, err)
	store, err := js.ObjectStore(t.Context(), "gophersnake-values")
	require.NoError(t, err)
	all, err := store.List(t.Context())
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	require.NoError(t, err)
	for _, info := range all {
		names = append(names, info.Name)
	}
	return names
}

// storedMessages returns the number of messages that the object store consists of.
func storedMessages(t *testing.T, conn *cluster.Conn) uint64 {
	t.Helper()
	js, err := jetstream.New(conn.NATS())
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "OBJ_gophersnake-values")
	require.NoError(t, err)
	return stream.CachedInfo().State.Msgs
}

// hammered are calls of an echo that several goroutines make without a pause. Each must
// succeed.
type hammered struct {
	t       *testing.T
	calls   atomic.Int64
	slowest atomic.Int64
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

func hammer(t *testing.T, c *cluster.Client) *hammered {
	h := &hammered{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = cancel
	for range 4 {
		h.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				started := time.Now()
				v, err := c.Run(t.Context(), i)
				if assert.NoError(t, err) {
					assert.EqualValues(t, i, v)
				}
				h.calls.Add(1)
				h.slowest.Store(max(h.slowest.Load(), int64(time.Since(started))))
			}
		})
	}
	t.Cleanup(h.stop)
	return h
}

// await waits until a number of further calls have succeeded.
func (h *hammered) await(n int64) {
	seen := h.calls.Load()
	testkit.Eventually(h.t, func() bool { return h.calls.Load() > seen+n })
}

func (h *hammered) stop() {
	h.cancel()
	h.wg.Wait()
	h.t.Logf("%d calls, the slowest took %v", h.calls.Load(), time.Duration(h.slowest.Load()))
}
