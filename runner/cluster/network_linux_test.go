package cluster_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// host is a network namespace that a cable connects to that of the test.
type host struct {
	*clustertest.Host
	*clustertest.Cable
}

func newHost(t *testing.T) host {
	t.Helper()
	h := clustertest.NewHost(t, 1)
	return host{h, clustertest.Lay(t, 1, nil, h)}
}

func TestACallMovesWhenTheNetworkToItsMachineIsCut(t *testing.T) {
	if !clustertest.InOwnNetwork(t) {
		return
	}
	port, folder := clustertest.FreePorts(t, 1)[0], t.TempDir()
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Listen: "0.0.0.0", Port: port, StateDir: t.TempDir()})
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	there := newHost(t)
	machine(t, fmt.Sprintf("nats://%s:%d", there.Near, port), "there", pipelines, there.Exec()...)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	c := dial(t, connect(t, url), "hold", 1)
	done := goRun(t.Context(), c, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, url, "here", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	there.Cut()
	clustertest.AwaitBegun(t, folder, "x", 2)
	clustertest.Release(t, folder)
	r := await(t, done)
	require.NoError(t, r.err)
	assert.Equal(t, "here", machineOf(r))
	// The machine is known again when the network is whole.
	there.Join()
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	require.NoError(t, await(t, goRun(t.Context(), c, "y")).err)
}

func TestAStreamMovesWhenTheNetworkToItsMachineIsCut(t *testing.T) {
	if !clustertest.InOwnNetwork(t) {
		return
	}
	port := clustertest.FreePorts(t, 1)[0]
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Listen: "0.0.0.0", Port: port, StateDir: t.TempDir()})
	pipelines := map[string]string{"ledger": ledgerPipeline}
	there := newHost(t)
	machine(t, fmt.Sprintf("nats://%s:%d", there.Near, port), "there", pipelines, there.Exec()...)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	c := dial(t, connect(t, url), "ledger", 1, cluster.WithSilence(time.Second))
	s := openStream(t, c)
	require.NoError(t, s.Send(1))
	_, err := s.Recv()
	require.NoError(t, err)
	machine(t, url, "here", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	there.Cut()
	require.NoError(t, s.Send(2))
	s.CloseSend()
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{[]any{int64(2), int64(3)}, []any{"end", int64(3)}}, got)
	// The machine that was cut off gives the stream up.
	there.Join()
	testkit.Eventually(t, func() bool {
		all := c.Machines()
		return len(all) == 2 && all[0].Active == 0 && all[1].Active == 0
	})
}

// TestCallsGoOnWhileTheNetworkToAMachineIsCut cuts it until the machine is lost. By hand,
// GOPHERSNAKE_CUT=20s keeps it cut at least that long.
func TestCallsGoOnWhileTheNetworkToAMachineIsCut(t *testing.T) {
	if !clustertest.InOwnNetwork(t) {
		return
	}
	port, folder := clustertest.FreePorts(t, 1)[0], t.TempDir()
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Listen: "0.0.0.0", Port: port, StateDir: t.TempDir()})
	pipelines := map[string]string{"echo": clustertest.EchoPipeline, "hold": clustertest.HoldPipeline(folder, 1, ", idempotent: false")}
	there := newHost(t)
	machine(t, fmt.Sprintf("nats://%s:%d", there.Near, port), "there", pipelines, there.Exec()...)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	hold := dial(t, connect(t, url), "hold", 1)
	once := goRun(t.Context(), hold, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, url, "here", pipelines)
	echo := dial(t, connect(t, url), "echo", 2)
	h := hammer(t, echo) // no call may fail
	h.await(100)

	there.Cut()
	least := time.NewTimer(cutTime(t))
	r := await(t, once)
	require.ErrorIs(t, r.err, runner.KindTransport)
	assert.ErrorContains(t, r.err, "machine there was lost during the call: it does not answer; the call may have run")
	assert.Len(t, clustertest.Begun(t, folder, "x"), 1)
	testkit.Eventually(t, func() bool { return len(echo.Machines()) == 1 }, "the machine is lost")
	h.await(100)
	<-least.C
	there.Join()

	testkit.Eventually(t, func() bool { return len(echo.Machines()) == 2 && len(hold.Machines()) == 2 }, "the machine is known again")
	h.await(100)
	h.stop()
	clustertest.Release(t, folder)
	require.NoError(t, await(t, goRun(t.Context(), hold, "y")).err)
	assert.Len(t, clustertest.Begun(t, folder, "y"), 1)
}

// cutTime returns how long the network is cut at least.
func cutTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("GOPHERSNAKE_CUT")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}
