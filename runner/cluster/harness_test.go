package cluster_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestMain(m *testing.M) {
	clustertest.Main(m, map[string]func(clustertest.Settings) error{"machine": beMachine, "client": beClient})
}

// beMachine serves pipelines until its standard input ends. On the line "drain" it drains.
func beMachine(s clustertest.Settings) error {
	ctx := context.Background()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: s.URLs, StateDir: s.StateDir, Logger: logger})
	if err != nil {
		return err
	}
	runners := make(map[string]*runner.Runner)
	place := []cluster.MachineOption{cluster.WithName(s.Name), cluster.WithLabels(s.Labels)}
	for name, text := range s.Pipelines {
		executor := cluster.NewExecutor(conn, name, place...)
		defer executor.Close()
		if runners[name], err = clustertest.NewRunner(text, runner.WithExecutor(executor)); err != nil {
			return err
		}
	}
	for name, file := range s.Manifests {
		if runners[name], err = loadPlaced(conn, name, file, place...); err != nil {
			return err
		}
	}
	opts := slices.Concat(place, []cluster.MachineOption{cluster.WithVersion("1.2.3")})
	if s.Protocol != 0 {
		opts = append(opts, cluster.WithProtocol(s.Protocol))
	}
	m, err := cluster.Announce(ctx, conn, runners, opts...)
	if err != nil {
		return err
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
	return nil
}

// loadPlaced returns a runner for the manifest in a file, whose nodes may be on other machines. The
// process ends with its executor.
func loadPlaced(conn *cluster.Conn, name, file string, place ...cluster.MachineOption) (*runner.Runner, error) {
	p, err := runner.Load(file)
	if err != nil {
		return nil, err
	}
	return runner.New(p, runner.WithExecutor(cluster.NewExecutor(conn, name, place...)))
}

// beClient calls the node hold, and prints its result.
func beClient(s clustertest.Settings) error {
	ctx := context.Background()
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: s.URLs})
	if err != nil {
		return err
	}
	c, err := cluster.Dial(ctx, conn, "hold")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	v, err := c.Run(ctx, s.Folder)
	fmt.Println(v, err)
	return nil
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
		r, err := clustertest.NewRunner(text)
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
	r, err := clustertest.NewRunner(fmt.Sprintf("nodes: [{id: %s, node_type: go}]", id),
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
	t      *testing.T
	calls  atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	made []madeCall
}

// madeCall is when a call began and ended.
type madeCall struct{ began, ended time.Time }

func (m madeCall) took() time.Duration { return m.ended.Sub(m.began) }

func hammer(t *testing.T, c *cluster.Client) *hammered {
	h := &hammered{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = cancel
	for range 4 {
		h.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				call := madeCall{began: time.Now()}
				v, err := c.Run(t.Context(), i)
				if assert.NoError(t, err) {
					assert.EqualValues(t, i, v)
				}
				call.ended = time.Now()
				h.calls.Add(1)
				h.mu.Lock()
				h.made = append(h.made, call)
				h.mu.Unlock()
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
	h.t.Log(describeCalls(h.made))
}

// describeCalls says how long calls have taken.
func describeCalls(calls []madeCall) string {
	if len(calls) == 0 {
		return "no calls"
	}
	sorted := slices.SortedFunc(slices.Values(calls), func(a, b madeCall) int { return cmp.Compare(a.took(), b.took()) })
	at := func(percent int) time.Duration {
		return sorted[(len(sorted)-1)*percent/100].took().Round(time.Microsecond)
	}
	return fmt.Sprintf("%d calls: median %v, p99 %v, the slowest %v", len(sorted), at(50), at(99), at(100))
}
