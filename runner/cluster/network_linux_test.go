package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// insideVariable says that a test runs in a network namespace of its own.
const insideVariable = "GOPHERSNAKE_CLUSTER_NETWORK"

// inOwnNetwork runs the test again in network and mount namespaces of its own, and reports
// whether this is that run. It skips the test if the user may not create them.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		command(t, "ip", "link", "set", "lo", "up")
		return true
	}
	for _, program := range []string{"ip", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("the test needs the program " + program)
		}
	}
	if out, err := exec.Command("unshare", "--net", "--mount", "ip", "link", "add", "gs0", "type", "veth").CombinedOutput(); err != nil {
		t.Skipf("network namespaces cannot be created: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", "--net", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	return false
}

// namespace is a network namespace that a cable connects to that of the test.
type namespace struct {
	t             *testing.T
	name, cable   string
	host, address string
}

// newNamespace makes the namespace with a number.
func newNamespace(t *testing.T, number int) *namespace {
	t.Helper()
	n := &namespace{
		t: t, name: fmt.Sprintf("gophersnake-%d-%d", os.Getpid(), number), cable: fmt.Sprintf("gs%d", number),
		host: fmt.Sprintf("10.213.%d.1", number), address: fmt.Sprintf("10.213.%d.2", number),
	}
	command(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { command(t, "ip", "netns", "del", n.name) })
	command(t, "ip", "link", "add", n.cable, "type", "veth", "peer", "name", "eth0", "netns", n.name)
	command(t, "ip", "addr", "add", n.host+"/30", "dev", n.cable)
	command(t, "ip", append(strings.Fields("netns exec "+n.name+" ip addr add"), n.address+"/30", "dev", "eth0")...)
	command(t, "ip", strings.Fields("netns exec "+n.name+" ip link set lo up")...)
	command(t, "ip", strings.Fields("netns exec "+n.name+" ip link set eth0 up")...)
	n.join()
	return n
}

// cut and join take the cable out and put it back.
func (n *namespace) cut()  { command(n.t, "ip", "link", "set", n.cable, "down") }
func (n *namespace) join() { command(n.t, "ip", "link", "set", n.cable, "up") }

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}

func TestACallMovesWhenTheNetworkToItsMachineIsCut(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	port, folder := clustertest.FreePorts(t, 1)[0], t.TempDir()
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Listen: "0.0.0.0", Port: port, StateDir: t.TempDir()})
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	there := newNamespace(t, 1)
	machine(t, fmt.Sprintf("nats://%s:%d", there.host, port), "there", pipelines, "ip", "netns", "exec", there.name)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	c := dial(t, connect(t, url), "hold", 1)
	done := goRun(t.Context(), c, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, url, "here", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	there.cut()
	clustertest.AwaitBegun(t, folder, "x", 2)
	clustertest.Release(t, folder)
	r := await(t, done)
	require.NoError(t, r.err)
	assert.Equal(t, "here", machineOf(r))
	// The machine is known again when the network is whole.
	there.join()
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	require.NoError(t, await(t, goRun(t.Context(), c, "y")).err)
}

func TestAStreamMovesWhenTheNetworkToItsMachineIsCut(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	port := clustertest.FreePorts(t, 1)[0]
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Listen: "0.0.0.0", Port: port, StateDir: t.TempDir()})
	pipelines := map[string]string{"ledger": ledgerPipeline}
	there := newNamespace(t, 1)
	machine(t, fmt.Sprintf("nats://%s:%d", there.host, port), "there", pipelines, "ip", "netns", "exec", there.name)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	c := dial(t, connect(t, url), "ledger", 1, cluster.WithSilence(time.Second))
	s := openStream(t, c)
	require.NoError(t, s.Send(1))
	_, err := s.Recv()
	require.NoError(t, err)
	machine(t, url, "here", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	there.cut()
	require.NoError(t, s.Send(2))
	s.CloseSend()
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{[]any{int64(2), int64(3)}, []any{"end", int64(3)}}, got)
	// The machine that was cut off gives the stream up.
	there.join()
	testkit.Eventually(t, func() bool {
		all := c.Machines()
		return len(all) == 2 && all[0].Active == 0 && all[1].Active == 0
	})
}

// TestCallsGoOnWhileTheNetworkToAMachineIsCut cuts it until the machine is lost. By hand,
// GOPHERSNAKE_CUT=20s keeps it cut at least that long.
func TestCallsGoOnWhileTheNetworkToAMachineIsCut(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	port, folder := clustertest.FreePorts(t, 1)[0], t.TempDir()
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Listen: "0.0.0.0", Port: port, StateDir: t.TempDir()})
	pipelines := map[string]string{"echo": clustertest.EchoPipeline, "hold": clustertest.HoldPipeline(folder, 1, ", idempotent: false")}
	there := newNamespace(t, 1)
	machine(t, fmt.Sprintf("nats://%s:%d", there.host, port), "there", pipelines, "ip", "netns", "exec", there.name)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	hold := dial(t, connect(t, url), "hold", 1)
	once := goRun(t.Context(), hold, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, url, "here", pipelines)
	echo := dial(t, connect(t, url), "echo", 2)
	h := hammer(t, echo) // no call may fail
	h.await(100)

	there.cut()
	least := time.NewTimer(cutTime(t))
	r := await(t, once)
	require.ErrorIs(t, r.err, runner.KindTransport)
	assert.ErrorContains(t, r.err, "machine there was lost during the call: it does not answer; the call may have run")
	assert.Len(t, clustertest.Begun(t, folder, "x"), 1)
	testkit.Eventually(t, func() bool { return len(echo.Machines()) == 1 }, "the machine is lost")
	h.await(100)
	<-least.C
	there.join()

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
