package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
)

// natsServer starts a NATS server in this process, and returns its state folder and a connection.
func natsServer(t *testing.T) (folder string, conn *cluster.Conn) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "state")
	conn, err := cluster.Connect(t.Context(), cluster.Config{StateDir: folder})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return folder, conn
}

// onceOnly makes the node of a folder one that is not idempotent.
func onceOnly(t *testing.T, folder string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "pipeline.yaml"),
		[]byte("version: v1\npython: nodes.py\nnodes: [{id: n, node_type: say, idempotent: false}]\n"), 0o600))
}

// terminate ends a process by SIGTERM, and checks that it ends well.
func terminate(t *testing.T, p *piped) {
	t.Helper()
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
}

func TestANodeOfAServiceRunsOnTheMachineThatItsHostNames(t *testing.T) {
	nats, _ := natsServer(t)
	gpu, office := codeOf(t, `"gpu"`), codeOf(t, `"office"`)
	require.NoError(t, os.WriteFile(filepath.Join(office, "pipeline.yaml"),
		[]byte("version: v1\npython: nodes.py\nnodes: [{id: n, node_type: say, host: {label: gpu}}]\n"), 0o600))
	there, _ := serving(t, "code="+gpu, "--nats", nats, "--name", "gpu-1", "--label", "gpu=h200")
	here, url := serving(t, "code="+office, "--nats", nats, "--name", "office")
	status, text := ask(t, url+"/v1/pipelines/code", "0")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "\"gpu\"\n", text)
	terminate(t, here)
	terminate(t, there)
	got := command(t, "serve", "code="+office, "--listen", "127.0.0.1:0")
	assert.Equal(t, 3, got.code)
	assert.Contains(t, got.err, "serve --nats")
}

func TestARollingUpdateOfTwoMachinesLosesNoCall(t *testing.T) {
	nats, conn := natsServer(t)
	folder := codeOf(t, "1")
	onceOnly(t, folder) // a call that is made twice, or may have been, is an error
	names := []string{"a", "b"}
	machines := make(map[string]*piped)
	for _, name := range names {
		machines[name], _ = serving(t, "code="+folder, "--nats", nats, "--name", name)
	}
	client, err := cluster.Dial(t.Context(), conn, "code", cluster.WithWait(patience))
	require.NoError(t, err)
	defer client.Close()
	var calls, news atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	defer func() { stop(); callers.Wait() }()
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				v, err := client.Run(t.Context(), 0)
				if !assert.NoError(t, err) {
					return
				}
				if v == int64(2) {
					news.Add(1)
				}
				calls.Add(1)
			}
		})
	}
	await := func(count *atomic.Int64, more int64) {
		t.Helper()
		want := count.Load() + more
		require.Eventually(t, func() bool { return count.Load() >= want }, patience, 1e6)
	}
	await(&calls, 100)
	change(t, folder, "return 2")
	for _, name := range names {
		terminate(t, machines[name])
		machines[name], _ = serving(t, "code="+folder, "--nats", nats, "--name", name)
		await(&calls, 50)
	}
	await(&news, 50)
	stop()
	callers.Wait()
	v, err := client.Run(t.Context(), 0)
	require.NoError(t, err)
	assert.EqualValues(t, 2, v)
	for _, name := range names {
		terminate(t, machines[name])
	}
}

func TestAMachineLeavesAtOnceAndFinishesItsCalls(t *testing.T) {
	nats, conn := natsServer(t)
	folder, gate := codeOf(t, "0"), filepath.Join(t.TempDir(), "gate")
	change(t, folder, `open(`+"'"+gate+`.began', 'w').close()
    import os, time
    while not os.path.exists('`+gate+`'): time.sleep(0.01)
    return 7`)
	onceOnly(t, folder)
	p, _ := serving(t, "slow="+folder, "--nats", nats)
	client, err := cluster.Dial(t.Context(), conn, "slow")
	require.NoError(t, err)
	defer client.Close()
	answers := make(chan any, 1)
	go func() {
		v, err := client.Run(t.Context(), 0)
		assert.NoError(t, err)
		answers <- v
	}()
	require.Eventually(t, func() bool { return fileExists(gate + ".began") }, patience, 1e6)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return len(client.Machines()) == 0 }, patience, 1e6)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	assert.EqualValues(t, 7, <-answers)
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
}

func TestAReloadAnnouncesTheNewSchema(t *testing.T) {
	nats, conn := natsServer(t)
	folder := codeOf(t, "1")
	p, _ := serving(t, "code="+folder, "--nats", nats)
	client, err := cluster.Dial(t.Context(), conn, "code")
	require.NoError(t, err)
	defer client.Close()
	before := client.Machines()[0].Schema
	strict, err := cluster.Dial(t.Context(), conn, "code", cluster.WithSchema(before), cluster.WithWait(100*time.Millisecond))
	require.NoError(t, err)
	defer strict.Close()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "nodes.py"), []byte("from gophersnake import node\n\n@node\ndef say(value: int) -> int:\n    return 2\n"), 0o600))
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	readUntil(t, p.err, `node "n": (reloaded, 1 new worker after)`)
	require.Eventually(t, func() bool { return client.Machines()[0].Schema != before }, patience, 1e6)
	v, err := client.Run(t.Context(), 0)
	require.NoError(t, err)
	assert.EqualValues(t, 2, v)
	// A client that relies on the old schema does not call the machine, and says why.
	require.Eventually(t, func() bool { return len(strict.Machines()) == 0 }, patience, 1e6)
	_, err = strict.Run(t.Context(), 0)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, "this client needs "+before)
	terminate(t, p)
}

func TestCallRunsInputsOnOtherMachines(t *testing.T) {
	nats, _ := natsServer(t)
	folder := codeOf(t, "value + 1")
	p, _ := serving(t, "code="+folder, "--nats", nats)
	got := command(t, "call", "code", "1", "2", "3", "--nats", nats, "-o", "jsonl")
	assert.Zero(t, got.code, got.err)
	for i, line := range strings.Split(strings.TrimSpace(got.out), "\n") {
		assert.Contains(t, line, `"result":`+string(rune('2'+i)))
	}
	got = command(t, "call", "code", "--input", "4", "--node", "n", "--nats", nats)
	assert.Equal(t, "5\n", got.out, got.err)
	got = command(t, "call", "code", "--input", "x", "--nats", nats)
	assert.Equal(t, 4, got.code, got.err)
	assert.Contains(t, got.err, "TypeError")
	got = command(t, "call", "kode", "--nats", nats)
	assert.Contains(t, got.err, "the machines serve code")
	terminate(t, p)
}

func TestDoctorSaysHowNATSAndTheMachinesAre(t *testing.T) {
	nats, _ := natsServer(t)
	p, _ := serving(t, "code="+codeOf(t, "1"), "--nats", nats, "--name", "m1", "--label", "gpu=h200", "--label", "big")
	code, found := doctor(t, "--nats", nats)
	assert.Zero(t, code)
	for _, name := range []string{"nats connection", "nats round trip", "nats max payload", "nats jetstream", "nats sync", "nats permissions of a machine", "nats permissions of a caller", "machines", "machine m1"} {
		if assert.Contains(t, found, name) {
			assert.Equal(t, runner.FindingOK, found[name].Status, found[name])
		}
	}
	assert.Contains(t, found["machine m1"].Detail, "gophersnake "+program.ReadVersion().Version+", protocol 1, big=true, gpu=h200; code: 0 of 1 slots taken, schema ")
	assert.Contains(t, command(t, "doctor", "--nats", nats).out, "Machines can call each other.")
	terminate(t, p)
	code, found = doctor(t, "--nats", "nats://127.0.0.1:1")
	assert.Equal(t, 1, code)
	assert.Equal(t, "no server answers at nats://127.0.0.1:1", found["nats connection"].Hint)
}

func TestTheStatusTopAndMetricsShowAllMachines(t *testing.T) {
	nats, _ := natsServer(t)
	folder := codeOf(t, "1")
	a, url := serving(t, "code="+folder, "--nats", nats, "--name", "a", "--label", "gpu")
	b, _ := serving(t, "code="+folder, "--nats", nats, "--name", "b")
	require.Zero(t, command(t, "call", "code", "--nats", nats).code)
	var status struct {
		Machines []struct {
			Name      string
			Usable    bool
			Pipelines []struct{ Name string }
		}
	}
	require.Eventually(t, func() bool {
		_, text, _ := topOnce(t, url, "--json")
		return json.Unmarshal([]byte(text), &status) == nil && len(status.Machines) == 2
	}, patience, 1e6)
	assert.Equal(t, "a", status.Machines[0].Name)
	assert.True(t, status.Machines[0].Usable)
	assert.Equal(t, "code", status.Machines[0].Pipelines[0].Name)
	_, text, _ := topOnce(t, url)
	assert.Regexp(t, `(?m)^  a +code +ready +0/\d+ +0 +\S+ +gpu=true$`, text)
	assert.Regexp(t, `(?m)^  b +code +ready +0/\d+ `, text)
	answer, err := http.Get(url + "/metrics")
	require.NoError(t, err)
	metrics, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	for _, line := range []string{
		`gophersnake_cluster_slots{machine="a",node="",pipeline="code"} `, "gophersnake_cluster_connected 1\n",
		`gophersnake_cluster_refusals_total{machine="a",node="n",pipeline="code",reason="busy"} 0` + "\n",
	} {
		assert.True(t, strings.Contains(string(metrics), "\n"+line), line)
	}
	terminate(t, a)
	terminate(t, b)
}

func TestFlagsAboutNATSThatDoNotFitAreRefused(t *testing.T) {
	folder := codeOf(t, "1")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"serve", folder, "--label", "gpu"}, 2, "name the servers with --nats URL"},
		{[]string{"serve", folder, "--nats-creds", "x"}, 2, "name them with --nats URL"},
		{[]string{"serve", folder, "--nats", "nats://127.0.0.1:1", "--label", "=x"}, 2, "--label takes NAME or NAME=VALUE"},
		{[]string{"serve", folder, "--nats", "nats://127.0.0.1:1", "--nats-cert", "x"}, 2, "--nats-cert and --nats-key need each other"},
		{[]string{"serve", folder, "--nats", "nats://127.0.0.1:1"}, 7, "no server answers at nats://127.0.0.1:1"},
		{[]string{"serve", folder, "--nats", "nats://127.0.0.1:1", "--nats-creds", "nowhere"}, 7, "read the credentials"},
		{[]string{"serve", folder, "--nats", t.TempDir()}, 7, "no NATS server runs in"},
		{[]string{"call", "code"}, 2, "--nats URL is missing"},
		{[]string{"doctor", "--nats", "nats://"}, 2, "--nats takes URLs"},
	} {
		got := command(t, c.args...)
		assert.Equal(t, c.code, got.code, "%v: %s", c.args, got.err)
		assert.Contains(t, got.err, c.says)
	}
}

func TestThePageShowsAllMachines(t *testing.T) {
	b := newTab(t)
	nats, _ := natsServer(t)
	folder := codeOf(t, "1")
	a, url := serving(t, "code="+folder, "--nats", nats, "--name", "a", "--label", "gpu=<b>h200</b>")
	other, _ := serving(t, "code="+folder, "--nats", nats, "--name", "b")
	b.size(t, 1280, 900, "light")
	b.do(t, chromedp.Navigate(url))
	b.until(t, `document.querySelectorAll("#machines tbody tr").length === 2`)
	row := value[string](t, b, `document.querySelector("#machines tbody tr").innerText`)
	assert.Regexp(t, `^a\tcode\tready\t0/\d+\t0\t\S+\t[0-9a-f]{16}\tgpu=<b>h200</b>$`, row)
	b.look(t, "machines")
	b.isAccessible(t, "machines")
	terminate(t, other)
	b.until(t, `document.querySelectorAll("#machines tbody tr").length === 1`)
	b.size(t, 360, 740, "dark")
	b.isAccessible(t, "a machine on a phone")
	require.NoError(t, a.Process.Kill()) // the page holds a stream
	_, _ = a.rest(t)
}
