package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// machine starts a machine as a process.
func machine(t *testing.T, url, name string, pipelines map[string]string, wrap ...string) *clustertest.Process {
	t.Helper()
	return clustertest.Start(t, "machine", clustertest.Settings{Name: name, URLs: []string{url}, Pipelines: pipelines}, wrap...)
}

// machineOf returns the process of a machine that a result of the node hold names.
func machineOf(r result) string { return clustertest.MachineOf(r.value) }

func TestCallsGoToAFreeMachineAndWaitingOnesMoveToIt(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	machine(t, url, "a", pipelines)
	c := dial(t, connect(t, url), "hold", 1)
	// The machine has one worker: the first call has it, and the others wait.
	first := goRun(t.Context(), c, "1")
	clustertest.AwaitBegun(t, folder, "1", 1)
	second, third := goRun(t.Context(), c, "2"), goRun(t.Context(), c, "3")
	testkit.Eventually(t, func() bool { return c.Machines()[0].Waiting == 2 }, "the calls wait")
	// A machine that comes takes one of them, although neither has ended.
	machine(t, url, "b", pipelines)
	testkit.Eventually(t, func() bool { return len(clustertest.Begun(t, folder, "2"))+len(clustertest.Begun(t, folder, "3")) == 1 }, "a call moves")
	machine(t, url, "c", pipelines)
	clustertest.AwaitBegun(t, folder, "2", 1)
	clustertest.AwaitBegun(t, folder, "3", 1)
	clustertest.Release(t, folder)
	var names []string
	for _, done := range []<-chan result{first, second, third} {
		r := await(t, done)
		require.NoError(t, r.err)
		names = append(names, machineOf(r))
	}
	slices.Sort(names)
	assert.Equal(t, []string{"a", "b", "c"}, names)
	assert.Len(t, clustertest.Begun(t, folder, "1"), 1)
	assert.Len(t, clustertest.Begun(t, folder, "2"), 1)
	assert.Len(t, clustertest.Begun(t, folder, "3"), 1)
}

func TestNoMachineTakesACallWhileAnotherHasAFreeWorker(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		machine(t, url, name, map[string]string{"hold": clustertest.HoldPipeline(folder, 2, "")})
	}
	// Two clients that do not know of each other's calls.
	clients := []*cluster.Client{dial(t, connect(t, url), "hold", 3), dial(t, connect(t, url), "hold", 3)}
	var calls []<-chan result
	for i := range 6 {
		calls = append(calls, goRun(t.Context(), clients[i%2], fmt.Sprint(i)))
	}
	for i := range 6 {
		clustertest.AwaitBegun(t, folder, fmt.Sprint(i), 1)
	}
	clustertest.Release(t, folder)
	counts := make(map[string]int)
	for _, done := range calls {
		r := await(t, done)
		require.NoError(t, r.err)
		counts[machineOf(r)]++
	}
	assert.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, counts)
}

func TestAnIdempotentCallMovesWhenItsMachineIsKilled(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	a := machine(t, url, "a", pipelines)
	c := dial(t, connect(t, url), "hold", 1)
	done := goRun(t.Context(), c, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, url, "b", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	a.Kill()
	clustertest.AwaitBegun(t, folder, "x", 2)
	clustertest.Release(t, folder)
	r := await(t, done)
	require.NoError(t, r.err)
	assert.Equal(t, "b", machineOf(r))
}

func TestACallThatIsNotIdempotentFailsWhenItsMachineIsKilled(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, ", idempotent: false")}
	a := machine(t, url, "a", pipelines)
	c := dial(t, connect(t, url), "hold", 1)
	done := goRun(t.Context(), c, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, url, "b", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	a.Kill()
	r := await(t, done)
	require.ErrorIs(t, r.err, runner.KindTransport)
	assert.ErrorContains(t, r.err, "machine a was lost during the call: it has ended; the call may have run")
	assert.False(t, runner.IsRetryable(r.err))
	assert.Len(t, clustertest.Begun(t, folder, "x"), 1)
	clustertest.Release(t, folder)
	r = await(t, goRun(t.Context(), c, "y")) // the other machine serves
	require.NoError(t, r.err)
	assert.Equal(t, "b", machineOf(r))
}

func TestAMachineThatStopsAnsweringIsLost(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	a := machine(t, url, "a", pipelines)
	c := dial(t, connect(t, url), "hold", 1)
	done := goRun(t.Context(), c, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, url, "b", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	a.Signal(syscall.SIGSTOP)
	clustertest.AwaitBegun(t, folder, "x", 2)
	clustertest.Release(t, folder)
	r := await(t, done)
	require.NoError(t, r.err)
	assert.Equal(t, "b", machineOf(r))
	// It comes back, and is known again.
	a.Signal(syscall.SIGCONT)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
}

func TestTheCallsOfAKilledCallerAreCanceled(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	m := machine(t, url, "a", map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")})
	input := filepath.Base(folder)
	caller := clustertest.Start(t, "client", clustertest.Settings{URLs: []string{url}, Folder: input})
	clustertest.AwaitBegun(t, folder, input, 1)
	caller.Kill()
	m.Say("drain") // it waits for the calls that run; nothing releases this one
	require.Equal(t, "drained", m.Line())
}

func TestADrainLosesNoCall(t *testing.T) {
	url, folder := localURL(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, ", idempotent: false")}
	a := machine(t, url, "a", pipelines)
	c := dial(t, connect(t, url), "hold", 1, cluster.WithWait(testkit.Long))
	running := goRun(t.Context(), c, "running")
	clustertest.AwaitBegun(t, folder, "running", 1)
	queued := goRun(t.Context(), c, "queued")
	testkit.Eventually(t, func() bool { return c.Machines()[0].Waiting == 1 })
	a.Say("drain")
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 0 }, "the machine leaves at once")
	machine(t, url, "b", pipelines)
	clustertest.AwaitBegun(t, folder, "queued", 1)
	clustertest.Release(t, folder)
	r := await(t, running)
	require.NoError(t, r.err)
	assert.Equal(t, "a", machineOf(r))
	r = await(t, queued)
	require.NoError(t, r.err)
	assert.Equal(t, "b", machineOf(r))
	assert.Equal(t, "drained", a.Line())
}

func TestMachinesOfAnotherVersionAreRefusedAndLeftAlone(t *testing.T) {
	url := localURL(t)
	clustertest.Start(t, "machine", clustertest.Settings{Name: "new", URLs: []string{url}, Pipelines: map[string]string{"echo": clustertest.EchoPipeline}, Protocol: 7})
	conn := connect(t, url)
	_, err := cluster.Dial(t.Context(), conn, "echo")
	require.ErrorIs(t, err, runner.KindTransport)
	assert.ErrorContains(t, err, "machine new speaks version 7 of the protocol, and this program version 1")
	assert.Equal(t, "update this program (the machine has gophersnake 1.2.3)", runner.AsError(err).Hint)
	// During an update, the machines of the version that it speaks serve.
	machine(t, url, "ours", map[string]string{"echo": clustertest.EchoPipeline})
	c := dial(t, conn, "echo", 1)
	assert.Equal(t, "ours", c.Machines()[0].Name)
	_, err = c.Run(t.Context(), 1)
	require.NoError(t, err)
}

func TestDuringAnUpdateMachinesOfAllVersionsThatFitServe(t *testing.T) {
	conn := localConn(t)
	pipelines := map[string]string{"echo": "go"}
	older := announceGo(t, conn, pipelines, cluster.WithName("older"), cluster.WithProtocols(0, 1))
	newer := announceGo(t, conn, pipelines, cluster.WithName("newer"), cluster.WithProtocols(1, 2))
	announceGo(t, conn, pipelines, cluster.WithName("too new"), cluster.WithProtocols(2, 3), cluster.WithVersion("9.0.0"))
	c := dial(t, conn, "echo", 2, cluster.WithWait(time.Second))
	for _, leaving := range []*cluster.Machine{older, newer} {
		_, err := c.Run(t.Context(), 1)
		require.NoError(t, err)
		require.NoError(t, leaving.Drain(t.Context()))
		leaving.Close()
	}
	_, err := c.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindTransport)
	assert.ErrorContains(t, err, "machine too new speaks versions 2 to 3 of the protocol, and this program version 1")
	assert.True(t, runner.AsError(err).NotBegun)

	old := localConn(t)
	announceGo(t, old, pipelines, cluster.WithName("old"), cluster.WithProtocols(0, 0), cluster.WithVersion("0.1.0"))
	_, err = cluster.Dial(t.Context(), old, "echo", cluster.WithWait(100*time.Millisecond))
	require.ErrorIs(t, err, runner.KindTransport)
	assert.Equal(t, "update gophersnake on the machine (it is version 0.1.0)", runner.AsError(err).Hint)
}

func TestDuringAnUpdateAClientOfOneSchemaUsesOnlyItsMachines(t *testing.T) {
	conn := localConn(t)
	old := announceGo(t, conn, map[string]string{"p": "go"}, cluster.WithName("old"))
	schema := dial(t, conn, "p", 1).Machines()[0].Schema
	announceGo(t, conn, map[string]string{"p": "other"}, cluster.WithName("new"))
	c := dial(t, conn, "p", 1, cluster.WithSchema(schema), cluster.WithWait(time.Second))
	dial(t, conn, "p", 2) // a client that does not say uses both
	assert.Equal(t, "old", c.Machines()[0].Name)
	_, err := c.Run(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, old.Drain(t.Context()))
	old.Close()
	_, err = c.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, "machine new serves the pipeline \"p\" with the schema")
}

func TestMachinesAreListedWithWhatTheyServe(t *testing.T) {
	conn := localConn(t)
	all, err := cluster.Machines(t.Context(), conn)
	require.NoError(t, err)
	assert.Empty(t, all)
	announceGo(t, conn, map[string]string{"a": "go", "b": "go"}, cluster.WithName("m1"), cluster.WithLabels(map[string]string{"gpu": "h200"}))
	announceGo(t, conn, map[string]string{"b": "other"}, cluster.WithName("m2"), cluster.WithProtocols(2, 2))
	all, err = cluster.Machines(t.Context(), conn)
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, "h200", all[0].Labels["gpu"])
	require.Len(t, all[0].Pipelines, 2)
	assert.Equal(t, "b", all[0].Pipelines[1].Name)
	assert.Positive(t, all[0].Pipelines[1].Slots)
	assert.True(t, all[0].Usable)
	assert.False(t, all[1].Usable)
	roster := cluster.NewRoster(conn)
	defer roster.Close()
	assert.Len(t, roster.Machines(t.Context()), 2)
}

func TestTheDiagnosisNamesWhatIsWrong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	conn := localConn(t, func(c *cluster.Config) { c.StateDir = dir })
	announceGo(t, conn, map[string]string{"p": "go"}, cluster.WithName("a"))
	announceGo(t, conn, map[string]string{"p": "other"}, cluster.WithName("b"), cluster.WithProtocols(2, 2))
	url, err := cluster.LocalURL(dir)
	require.NoError(t, err)
	found := diagnose(t, cluster.Config{URLs: []string{url}})
	assert.Equal(t, runner.FindingOK, found["nats jetstream"].Status)
	assert.Equal(t, runner.FindingOK, found["machine a"].Status)
	assert.Contains(t, found["machine b"].Hint, "cannot call it")
	assert.Contains(t, found["pipeline p"].Detail, "it has several schemas: ")
	// A server without JetStream, and a user with the permissions of a caller.
	url = runServer(t, `authorization { users: [ { user: u, password: p, permissions: {
		publish: { allow: ["gophersnake.hello", "gophersnake.alive.*", "gophersnake.call.>"] }, subscribe: { allow: ["_INBOX.>", "gophersnake.beat.*"] } } } ] }`)
	found = diagnose(t, cluster.Config{URLs: []string{strings.Replace(url, "://", "://u:p@", 1)}})
	assert.Equal(t, runner.FindingWarning, found["nats jetstream"].Status)
	assert.Equal(t, runner.FindingOK, found["nats permissions of a caller"].Status)
	assert.Contains(t, found["nats permissions of a machine"].Detail, "the user must not subscribe to gophersnake.hello, ")
	assert.Equal(t, "no machine serves a pipeline", found["machines"].Detail)
	found = diagnose(t, cluster.Config{URLs: []string{url}})
	assert.Equal(t, runner.FindingFailure, found["nats connection"].Status)
	assert.Len(t, found, 1)
}

// diagnose returns the findings by their names, each of which occurs once.
func diagnose(t *testing.T, c cluster.Config) map[string]runner.Finding {
	t.Helper()
	found := make(map[string]runner.Finding)
	for _, f := range cluster.Diagnose(t.Context(), c) {
		assert.NotContains(t, found, f.Name)
		assert.NotEmpty(t, f.Detail)
		found[f.Name] = f
	}
	return found
}

func TestAMachineWithAnotherSchemaIsRefused(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"p": clustertest.EchoPipeline})
	schema := dial(t, conn, "p", 1).Machines()[0].Schema
	require.NotEmpty(t, schema)
	dial(t, conn, "p", 1, cluster.WithSchema(schema))
	_, err := cluster.Dial(t.Context(), conn, "p", cluster.WithSchema("other"))
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, "with the schema "+schema+", and this client needs other")
}

func TestAMissingPipelineAndAMissingMachineAreClearErrors(t *testing.T) {
	conn := localConn(t)
	quickly := cluster.WithWait(100 * time.Millisecond)
	_, err := cluster.Dial(t.Context(), conn, "echo", quickly)
	require.ErrorIs(t, err, runner.KindTransport)
	assert.ErrorContains(t, err, `no machine serves the pipeline "echo"`)
	m := announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	_, err = cluster.Dial(t.Context(), conn, "ecko", quickly)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.Equal(t, "the machines serve echo", runner.AsError(err).Hint)
	c := dial(t, conn, "echo", 1, quickly)
	m.Close()
	_, err = c.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindTransport)
	assert.True(t, runner.AsError(err).NotBegun)
}

func TestAMachineIsNotLostToALongCall(t *testing.T) {
	conn, folder := localConn(t), t.TempDir()
	announce(t, conn, map[string]string{"hold": clustertest.HoldPipeline(folder, 1, ", idempotent: false")})
	c := dial(t, conn, "hold", 1)
	done := goRun(t.Context(), c, "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	// Several inventories pass: each makes the machine's count of requests larger.
	info := func() int { return requests(t, conn, "hold") }
	before := info()
	testkit.Eventually(t, func() bool { return info() >= before+2 }, "inventories")
	clustertest.Release(t, folder)
	require.NoError(t, await(t, done).err)
}

func TestCallsGoOnWhenServersOfAClusterAreKilled(t *testing.T) {
	servers, urls := clustertest.StartServers(t, 3, clustertest.Settings{})
	pipelines := map[string]string{"echo": clustertest.EchoPipeline}
	for i, name := range []string{"a", "b", "c"} {
		clustertest.Start(t, "machine", clustertest.Settings{Name: name, URLs: slices.Concat(urls[i:], urls[:i]), Pipelines: pipelines})
	}
	c := dial(t, connect(t, slices.Concat(urls[1:], urls[:1])...), "echo", 3)
	h := hammer(t, c)
	for _, victim := range servers[:2] { // the client's is one of them
		h.await(100)
		require.NoError(t, victim.Restart())
	}
	h.await(100)
	h.stop()
}

// TestCallsGoOnWhileMachinesAreKilled logs how long calls take without kills, and how long those
// take that a kill meets. By hand, GOPHERSNAKE_KILLS=50 makes more kills.
func TestCallsGoOnWhileMachinesAreKilled(t *testing.T) {
	kills := 3
	if text := os.Getenv("GOPHERSNAKE_KILLS"); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	url := localURL(t)
	pipelines := map[string]string{"echo": clustertest.EchoPipeline}
	machines := []*clustertest.Process{machine(t, url, "a", pipelines), machine(t, url, "b", pipelines), machine(t, url, "c", pipelines)}
	c := dial(t, connect(t, url), "echo", 3)
	h := hammer(t, c)
	h.await(300)
	var deaths []madeCall // when the machines died
	for i := range kills {
		h.await(100)
		death := madeCall{began: time.Now()}
		machines[i%3].Kill()
		death.ended = time.Now()
		deaths = append(deaths, death)
		machines[i%3] = machine(t, url, fmt.Sprint(i), pipelines)
	}
	h.await(100)
	h.stop()
	var before, met []madeCall
	for _, call := range h.made {
		if call.ended.Before(deaths[0].began) {
			before = append(before, call)
		}
		if slices.ContainsFunc(deaths, func(d madeCall) bool { return call.began.Before(d.ended) && call.ended.After(d.began) }) {
			met = append(met, call)
		}
	}
	t.Logf("without kills: %s", describeCalls(before))
	t.Logf("in flight when one of %d machines was killed: %s", kills, describeCalls(met))
}

func TestAStateFolderIsOfOneProcessAndOneUser(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	_, err := cluster.LocalURL(dir)
	require.ErrorIs(t, err, runner.KindIO)
	m := clustertest.Start(t, "machine", clustertest.Settings{Name: "a", StateDir: dir, Pipelines: map[string]string{"echo": clustertest.EchoPipeline}})
	_, err = cluster.Connect(t.Context(), cluster.Config{StateDir: dir})
	require.ErrorIs(t, err, runner.KindIO)
	assert.ErrorContains(t, err, "another process has a NATS server in "+dir)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	// Another process of this user finds the server, and no other connects.
	url, err := cluster.LocalURL(dir)
	require.NoError(t, err)
	_, err = dial(t, connect(t, url), "echo", 1).Run(t.Context(), 1)
	require.NoError(t, err)
	_, err = cluster.Connect(t.Context(), cluster.Config{URLs: []string{withoutToken(t, url)}})
	require.ErrorIs(t, err, runner.KindIO)
	assert.Equal(t, "the server refuses the credentials", runner.AsError(err).Hint)
	// After a crash, the folder is free again.
	m.Kill()
	_, err = cluster.LocalURL(dir)
	require.ErrorIs(t, err, runner.KindIO)
	localConn(t, func(c *cluster.Config) { c.StateDir = dir })
	require.NoError(t, os.Chmod(dir, 0o755))
	_, err = cluster.Connect(t.Context(), cluster.Config{StateDir: dir})
	assert.ErrorContains(t, err, "other users may read the state folder")
}

func TestMicroServicesShowPipelinesNodesAndVersions(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"my pipeline": clustertest.EchoPipeline}, cluster.WithName("m1"), cluster.WithLabels(map[string]string{"gpu": "h200"}))
	c := dial(t, conn, "my pipeline", 1)
	for range 3 {
		_, err := c.Run(t.Context(), 1)
		require.NoError(t, err)
	}
	info := serviceInfo(t, conn, "my-pipeline")
	assert.Equal(t, "m1", info.Metadata["machine"])
	assert.Equal(t, "my pipeline", info.Metadata["pipeline"])
	assert.Equal(t, "h200", info.Metadata["label.gpu"])
	assert.Equal(t, "1", info.Metadata["protocol"])
	assert.Equal(t, c.Machines()[0].Schema, info.Metadata["schema"])
	require.Len(t, info.Endpoints, 2)
	assert.Equal(t, "run", info.Endpoints[0].Name)
	assert.Equal(t, "echo", info.Endpoints[1].Name)
	assert.Equal(t, 3, requests(t, conn, "my-pipeline"))
}

func TestAProgramThatEmbedsRunnerDoesNotCompileNATS(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "..", "../serve").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.NotContains(t, string(out), "github.com/nats-io/")
}
