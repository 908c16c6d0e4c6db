package clustertest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// insideVariable says that a test runs in a network namespace of its own.
const insideVariable = "GOPHERSNAKE_CLUSTER_NETWORK"

// IsInOwnNetwork reports whether this is the run of a test in namespaces of its own.
func IsInOwnNetwork() bool { return os.Getenv(insideVariable) != "" }

// InOwnNetwork runs the test again in network and mount namespaces of its own, and reports
// whether this is that run. It skips the test if the user may not create them.
func InOwnNetwork(t *testing.T) bool {
	t.Helper()
	if IsInOwnNetwork() {
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
	args := []string{"--net", "--mount", os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-test.timeout=") {
			args = append(args, arg)
		}
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	var out bytes.Buffer
	cmd.Stdout = &out
	if testing.Verbose() {
		cmd.Stdout = io.MultiWriter(&out, os.Stderr)
	}
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	require.NoError(t, err, out.String())
	require.Contains(t, out.String(), "--- PASS: "+t.Name())
	return false
}

// Host is a network namespace. Cables connect it to that of the test, and to other hosts.
type Host struct {
	t    *testing.T
	Name string
}

// NewHost makes the host with a number. The end of the test deletes it.
func NewHost(t *testing.T, number int) *Host {
	t.Helper()
	h := &Host{t: t, Name: fmt.Sprintf("gophersnake-%d-%d", os.Getpid(), number)}
	command(t, "ip", "netns", "add", h.Name)
	t.Cleanup(func() { command(t, "ip", "netns", "del", h.Name) })
	h.command("ip", "link", "set", "lo", "up")
	return h
}

// Exec is how the command line of a process on the host begins.
func (h *Host) Exec() []string { return []string{"ip", "netns", "exec", h.Name} }

func (h *Host) command(line ...string) {
	h.t.Helper()
	if h.Name != "" {
		line = append(h.Exec(), line...)
	}
	command(h.t, line[0], line[1:]...)
}

// Cable connects two hosts, or a host and the test.
type Cable struct {
	near *Host
	name string
	// Near is the address of the first host, and Far that of the second.
	Near, Far string
}

// Lay connects two hosts with the cable with a number, from 1 to 250. A host of nil is that of the
// test.
func Lay(t *testing.T, number int, near, far *Host) *Cable {
	t.Helper()
	if near == nil {
		near = &Host{t: t}
	}
	c := &Cable{near: near, name: fmt.Sprintf("gs%d", number), Near: fmt.Sprintf("10.213.%d.1", number), Far: fmt.Sprintf("10.213.%d.2", number)}
	near.command("ip", "link", "add", c.name, "type", "veth", "peer", "name", c.name, "netns", far.Name)
	near.command("ip", "addr", "add", c.Near+"/30", "dev", c.name)
	far.command("ip", "addr", "add", c.Far+"/30", "dev", c.name)
	far.command("ip", "link", "set", c.name, "up")
	c.Join()
	return c
}

// Cut takes the cable out.
func (c *Cable) Cut() { c.near.command("ip", "link", "set", c.name, "down") }

// Join puts the cable back.
func (c *Cable) Join() { c.near.command("ip", "link", "set", c.name, "up") }

// Sent returns how many bytes have gone from the first host, which must be that of the test.
func (c *Cable) Sent(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/net/dev")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		// There are eight counters of what an interface has received, then those of what it has sent.
		if name, counters, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == c.name {
			sent, err := strconv.ParseInt(strings.Fields(counters)[8], 10, 64)
			require.NoError(t, err)
			return sent
		}
	}
	require.FailNow(t, "there is no interface "+c.name)
	return 0
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}
