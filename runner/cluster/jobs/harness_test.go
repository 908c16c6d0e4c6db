package jobs_test

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
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// machineVariable makes the test program a machine, or a NATS server, in place of the tests; it
// has the settings.
const machineVariable = "GOPHERSNAKE_JOBS_MACHINE"

func TestMain(m *testing.M) {
	if text := os.Getenv(machineVariable); text != "" {
		var s settings
		err := json.Unmarshal([]byte(text), &s)
		switch {
		case err == nil && s.Routes != "":
			err = beServer(s)
		case err == nil:
			err = beMachine(s)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testkit.WithPackage(func(packageDir string) int {
		os.Setenv("PYTHONPATH", packageDir)
		return m.Run()
	}))
}

// settings are those of a machine in a process of its own.
type settings struct {
	Name      string
	URL       string            // several with commas between them
	Pipelines map[string]string // the nodes of each manifest
	AckWait   time.Duration
	Begins    int

	Port, ClusterPort int    // of a NATS server
	Routes            string // to the servers of its cluster; only a server has them
	StateDir          string
}

// beServer runs a NATS server of a cluster until it is killed.
func beServer(s settings) error {
	srv, err := server.NewServer(&server.Options{
		ServerName: s.Name, Host: "127.0.0.1", Port: s.Port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: s.StateDir, SyncAlways: true,
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: s.ClusterPort}, Routes: server.RoutesFromStr(s.Routes),
	})
	if err != nil {
		return err
	}
	srv.Start()
	if !srv.ReadyForConnections(testkit.Long) {
		return errors.New("the NATS server does not start")
	}
	fmt.Println("ready")
	srv.WaitForShutdown()
	return nil
}

// beMachine serves jobs until its standard input ends. Then it closes without waiting.
func beMachine(s settings) error {
	ctx := context.Background()
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: strings.Split(s.URL, ",")})
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := jobs.Open(ctx, conn, jobs.Config{AckWait: s.AckWait, Begins: s.Begins, Logger: logger})
	if err != nil {
		return err
	}
	runners := make(map[string]*runner.Runner)
	for name, text := range s.Pipelines {
		if runners[name], err = newRunner(text); err != nil {
			return err
		}
	}
	server, err := jobs.Start(ctx, store, runners, jobs.WithName(s.Name))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	server.Close()
	for _, r := range runners {
		err = errors.Join(err, r.Close(ctx))
	}
	conn.Close()
	return err
}

// process is a machine in a process of its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}
}

// machine starts a machine and waits until it takes jobs.
func machine(t *testing.T, s settings) *process {
	t.Helper()
	s.AckWait = cmp.Or(s.AckWait, quickAckWait)
	p, err := start(t, s)
	require.NoError(t, err)
	return p
}

// start starts a process with settings and waits until it is ready.
func start(t *testing.T, s settings) (*process, error) {
	doc, err := json.Marshal(s)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), machineVariable+"="+string(doc), "MACHINE="+s.Name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ready := make(chan bool, 1)
	go func() {
		scanner := bufio.NewScanner(out)
		ready <- scanner.Scan() && scanner.Text() == "ready"
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	select {
	case ok := <-ready:
		if ok {
			return p, nil
		}
	case <-time.After(testkit.Long):
	}
	return nil, fmt.Errorf("%s does not start", s.Name)
}

func (p *process) signal(s syscall.Signal) { _ = syscall.Kill(p.cmd.Process.Pid, s) }

// kill ends the machine as a crash does, and waits for its end.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// quickAckWait is how long machines may be silent in these tests.
const quickAckWait = time.Second

// newRunner returns a runner for a manifest with the nodes of the tests of package cluster.
func newRunner(text string, opts ...runner.Option) (*runner.Runner, error) {
	base, err := filepath.Abs("../testdata")
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
)

// holdPipeline has the node hold, which waits for a file, with a number of workers.
func holdPipeline(folder string, workers int, more string) string {
	return fmt.Sprintf("nodes: [{id: hold, node_type: hold, params: {folder: %q}, workers: %d%s}]", folder, workers, more)
}

// site is a NATS server in this process, and the jobs in it.
type site struct {
	*jobs.Store
	t    *testing.T
	conn *cluster.Conn
	url  string
}

func newSite(t *testing.T, config ...jobs.Config) *site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	conn, err := cluster.Connect(t.Context(), cluster.Config{StateDir: dir, SyncInterval: -1})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	s := &site{t: t, conn: conn}
	s.url, err = cluster.LocalURL(dir)
	require.NoError(t, err)
	c := jobs.Config{}
	if len(config) > 0 {
		c = config[0]
	}
	c.AckWait = cmp.Or(c.AckWait, quickAckWait)
	s.Store, err = jobs.Open(t.Context(), conn, c)
	require.NoError(t, err)
	return s
}

// serve takes jobs for one pipeline in this process.
func (s *site) serve(name, text string, opts ...runner.Option) *jobs.Server {
	s.t.Helper()
	r, err := newRunner(text, opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { assert.NoError(s.t, r.Close(context.Background())) })
	server, err := jobs.Start(s.t.Context(), s.Store, map[string]*runner.Runner{name: r})
	require.NoError(s.t, err)
	s.t.Cleanup(server.Close)
	return server
}

func (s *site) submit(pipeline string, input any, opts ...jobs.SubmitOption) jobs.Ref {
	s.t.Helper()
	ref, known, err := s.Submit(s.t.Context(), pipeline, input, opts...)
	require.NoError(s.t, err)
	assert.False(s.t, known)
	return ref
}

// await returns a job that has ended.
func (s *site) await(ref jobs.Ref) *jobs.Job {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testkit.Long)
	defer cancel()
	j, err := s.Wait(ctx, ref)
	if err != nil {
		now, reading := s.Get(s.t.Context(), ref)
		s.t.Logf("the job is %+v, %v", now, reading)
	}
	require.NoError(s.t, err)
	return j
}

// result returns the result of a job when it is done.
func (s *site) result(ref jobs.Ref) any {
	s.t.Helper()
	j := s.await(ref)
	require.Equal(s.t, jobs.Done, j.State, "%+v", j.Err)
	v, err := s.Result(s.t.Context(), ref)
	require.NoError(s.t, err)
	return v
}

// isEmpty reports whether the queue of a pipeline is empty.
func (s *site) isEmpty(pipeline string) func() bool {
	return func() bool {
		c, err := s.Count(s.t.Context(), pipeline)
		return err == nil && c.Waiting+c.Given == 0
	}
}

// acks collects the subjects of what machines say to the server about jobs, by its text.
func (s *site) acks(text string) <-chan string {
	s.t.Helper()
	conn, err := nats.Connect(s.url)
	require.NoError(s.t, err)
	s.t.Cleanup(conn.Close)
	subjects := make(chan string, 1000)
	_, err = conn.Subscribe("$JS.ACK.>", func(m *nats.Msg) {
		if strings.HasPrefix(string(m.Data), text) {
			subjects <- m.Subject
		}
	})
	require.NoError(s.t, err)
	require.NoError(s.t, conn.Flush())
	return subjects
}

// receive returns the next value of a channel.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(testkit.Long):
		require.FailNow(t, "nothing comes")
	}
	return v
}

// begun returns how many workers have begun the job with a name.
func begun(t *testing.T, folder, name string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "begun-"+name+"-*"))
	require.NoError(t, err)
	for _, file := range files {
		_, err := strconv.Atoi(file[strings.LastIndexByte(file, '-')+1:])
		require.NoError(t, err)
	}
	return len(files)
}

// awaitBegun waits until a number of workers have begun the job with a name.
func awaitBegun(t *testing.T, folder, name string, n int) {
	t.Helper()
	testkit.Eventually(t, func() bool { return begun(t, folder, name) == n }, name)
}

// release lets all calls of the node hold return.
func release(t *testing.T, folder string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "release"), nil, 0o600))
}

func machineOf(v any) string { return v.(map[string]any)["machine"].(string) }

// flaky returns a node that fails a number of times, and then returns how often it was called.
func flaky(failures int) runner.NodeFunc {
	calls := 0
	return func(context.Context, runner.Input) (any, error) {
		if calls++; calls <= failures {
			return nil, runner.NewError(runner.KindTransport, "flaky")
		}
		return calls, nil
	}
}

// reporting returns a node that reports its progress and waits.
func reporting(reported chan<- bool, proceed <-chan bool) runner.NodeFunc {
	return func(ctx context.Context, _ runner.Input) (any, error) {
		jobs.Report(ctx, jobs.Progress{Fraction: 0.5, Message: "half"})
		reported <- true
		<-proceed
		return "done", nil
	}
}
