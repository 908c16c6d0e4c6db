package cluster_test

import (
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
)

// TestThroughputAgainstBareNATS prints how many small echoes one client with 64 in flight
// makes through a cluster, against requests and replies of NATS alone in the same program. They
// take turns. It runs by hand: GOPHERSNAKE_THROUGHPUT=1, or the name of one way, for a profile.
func TestThroughputAgainstBareNATS(t *testing.T) {
	if os.Getenv("GOPHERSNAKE_THROUGHPUT") == "" {
		t.Skip("set GOPHERSNAKE_THROUGHPUT to measure")
	}
	url := localURL(t)
	// Each side has a connection of its own, over TCP.
	sub, err := connect(t, url).NATS().Subscribe("bare.echo", func(m *nats.Msg) { _ = m.Respond(m.Data) })
	require.NoError(t, err)
	require.NoError(t, sub.SetPendingLimits(-1, -1))
	bareConn := connect(t, url).NATS()
	inGo, err := clustertest.NewRunner("nodes: [{id: go, node_type: go}]", runner.WithNode("go", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }))
	require.NoError(t, err)
	defer inGo.Close(context.Background())
	inPython, err := clustertest.NewRunner(clustertest.EchoPipeline)
	require.NoError(t, err)
	defer inPython.Close(context.Background())
	inAsync, err := clustertest.NewRunner("nodes: [{id: echo, node_type: echo_async}]")
	require.NoError(t, err)
	defer inAsync.Close(context.Background())
	m, err := cluster.Announce(t.Context(), connect(t, url), map[string]*runner.Runner{"go": inGo, "python": inPython, "async": inAsync})
	require.NoError(t, err)
	defer m.Close()
	conn := connect(t, url)
	payload := []byte("hello, world")
	ways := []way{{name: "bare NATS", call: func() error { _, err := bareConn.Request("bare.echo", payload, time.Minute); return err }}}
	for _, name := range []string{"go", "python", "async"} {
		c := dial(t, conn, name, 1)
		ways = append(ways, way{name: name, call: func() error { _, err := c.Run(context.Background(), "hello, world"); return err }})
	}
	ways = append(ways, way{name: "python, local runner", call: func() error { _, err := inPython.Run(context.Background(), "hello, world"); return err }})
	only := os.Getenv("GOPHERSNAKE_THROUGHPUT")
	ways = slices.DeleteFunc(ways, func(w way) bool { return only != "1" && w.name != only })
	for range 5 {
		for i := range ways {
			ways[i].measure(t)
		}
	}
	bare := ways[0].calls / ways[0].seconds
	for _, w := range ways {
		t.Logf("%-22s %8.0f calls a second, %3.0f %% of bare NATS; %5.1f µs of CPU in this process for each", w.name, w.calls/w.seconds, 100*w.calls/w.seconds/bare, 1e6*w.cpu/w.calls)
	}
}

// way is one way to make a small call.
type way struct {
	name                string
	call                func() error
	calls, seconds, cpu float64
}

// measure makes calls with 64 in flight for some time.
func (w *way) measure(t *testing.T) {
	var n atomic.Int64
	var wg sync.WaitGroup
	started, cpu := time.Now(), cpuSeconds(t)
	for range 64 {
		wg.Go(func() {
			for time.Since(started) < 700*time.Millisecond {
				if err := w.call(); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	w.calls += float64(n.Load())
	w.seconds += time.Since(started).Seconds()
	w.cpu += cpuSeconds(t) - cpu
}

// cpuSeconds returns the processor time of this process.
func cpuSeconds(t *testing.T) float64 {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
