package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// codeOf writes a pipeline of one node that returns an expression; change changes the node.
func codeOf(t *testing.T, word string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "pipeline.yaml"),
		[]byte("version: v1\npython: nodes.py\nnodes: [{id: n, node_type: say}]\n"), 0o600))
	change(t, folder, "return "+word)
	return folder
}

// change rewrites the body of the node.
func change(t *testing.T, folder, body string) {
	t.Helper()
	code := "from gophersnake import node\n\n@node\ndef say(value):\n    " + body + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, "nodes.py"), []byte(code), 0o600))
}

// started starts a command as a process with pipes as standard streams.
func started(t *testing.T, args ...string) *piped {
	t.Helper()
	c := process(t, "gophersnake", args...)
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	return &piped{c, in, bufio.NewReader(out), bufio.NewReader(stderr), out}
}

func TestSIGHUPReloadsTheCode(t *testing.T) {
	folder := codeOf(t, "1")
	p := started(t, "stream", folder)
	says := func(want string) {
		t.Helper()
		p.send(t, "0\n")
		assert.Equal(t, want, readUntil(t, p.out, `(\d)`))
	}
	says("1")
	change(t, folder, "return 2")
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	readUntil(t, p.err, `SIGHUP: (reloading the code)`)
	readUntil(t, p.err, `node "n": (reloaded, 1 new worker after)`)
	says("2")
	change(t, folder, "return (")
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	readUntil(t, p.err, `(the code was not reloaded; the old code stays in use)`)
	readUntil(t, p.err, `error: .*(SyntaxError)`)
	says("2")
	require.NoError(t, p.in.Close())
	_, _ = p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode())
}

func TestWatchRunsTheInputsAgainAfterEachChange(t *testing.T) {
	folder := codeOf(t, "1")
	p := started(t, "run", folder, "--watch", "--output", "jsonl", "--input", "7")
	result := func() string {
		t.Helper()
		return readUntil(t, p.out, `"result":(\d+)`)
	}
	assert.Equal(t, "1", result())
	readUntil(t, p.err, "(waiting for the next change of the code)")
	change(t, folder, "return 2")
	readUntil(t, p.err, `nodes.py has changed: (reloading the code)`)
	assert.Equal(t, "2", result())
	change(t, folder, "return (")
	readUntil(t, p.err, "(SyntaxError)")
	change(t, folder, "import time; time.sleep(600)") // until the next change
	readUntil(t, p.err, `(reloaded)`)
	change(t, folder, "return 4")
	assert.Equal(t, "4", result())
	require.NoError(t, os.Mkdir(filepath.Join(folder, "parts"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "parts", "more.py"), []byte("number = 5\n"), 0o600))
	change(t, folder, "from parts.more import number; return number")
	assert.Equal(t, "5", until(t, result, "5"))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "parts", "more.py"), []byte("number = 6\n"), 0o600))
	assert.Equal(t, "6", until(t, result, "6"), "the new folder is watched, too")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	_, _ = p.rest(t)
	assert.Equal(t, 130, p.ProcessState.ExitCode())
}

// until calls ask until it returns want, since a change may be noticed in several steps.
func until(t *testing.T, ask func() string, want string) string {
	t.Helper()
	for {
		if got := ask(); got == want {
			return got
		}
	}
}

func TestWatchWaitsForCodeThatCanBeStarted(t *testing.T) {
	folder := codeOf(t, "(")
	p := started(t, "run", folder, "--watch", "--output", "jsonl", "--input", "7")
	readUntil(t, p.err, "(SyntaxError)")
	readUntil(t, p.err, "(waiting for the next change of the code)")
	change(t, folder, "return 3")
	readUntil(t, p.err, "nodes.py has changed: (starting again)")
	assert.Equal(t, "3", readUntil(t, p.out, `"result":(\d+)`))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "pipeline.yaml"), []byte("version: v2\n"), 0o600))
	readUntil(t, p.err, "(pipeline.yaml has changed: restart the command to use it)")
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, _ = p.rest(t)
	assert.Equal(t, 143, p.ProcessState.ExitCode())

	p = started(t, "run", codeOf(t, "("), "--watch")
	readUntil(t, p.err, "(waiting for the next change of the code)")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	_, _ = p.rest(t)
	assert.Equal(t, 130, p.ProcessState.ExitCode())
}

func TestATerminalThatIsClosedEndsARun(t *testing.T) {
	c := process(t, "gophersnake", "run", nodeOfType(t, "stuck"))
	c.Env = append(c.Env, "TERM=dumb")
	keyboard, screen := startOnTerminal(t, c)
	worker, err := strconv.Atoi(readUntil(t, screen, `stuck in (\d+)`))
	require.NoError(t, err)
	require.NoError(t, keyboard.Close())
	_ = c.Wait()
	assert.Equal(t, 129, c.ProcessState.ExitCode())
	assert.False(t, alive(worker))
}

// get sends a request as curl does.
func get(t *testing.T, client *http.Client, url, accept string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestStatusOfAProcess(t *testing.T) {
	p := started(t, "stream", codeOf(t, "1"), "--status", "127.0.0.1:0")
	address := readUntil(t, p.err, `status: (http://\S+)/health`)
	client := &http.Client{}
	require.Eventually(t, func() bool { code, _ := get(t, client, address+"/health", "*/*"); return code == 200 }, time.Minute, time.Millisecond)
	p.send(t, "0\n")
	readUntil(t, p.out, `(1)`)
	code, text := get(t, client, address+"/health", "*/*")
	assert.Equal(t, 200, code)
	assert.Regexp(t, `^healthy\n\nNODE +STATE +WORKERS`, text)
	for _, ask := range []struct{ path, accept string }{{"/health?format=json", "*/*"}, {"/health", "application/json"}} {
		code, text = get(t, client, address+ask.path, ask.accept)
		assert.Equal(t, 200, code)
		var doc struct {
			State string
			Nodes []struct{ Calls int }
		}
		require.NoError(t, json.Unmarshal([]byte(text), &doc), text)
		assert.Equal(t, "healthy", doc.State)
		assert.Equal(t, 1, doc.Nodes[0].Calls)
	}
	code, text = get(t, client, address+"/metrics", "*/*")
	assert.Equal(t, 200, code)
	assert.Contains(t, text, "\ngophersnake_calls_total{node=\"n\"} 1\n")
	code, _ = get(t, client, address+"/", "*/*")
	assert.Equal(t, 404, code)
	require.NoError(t, p.in.Close())
	_, _ = p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode())
}

func TestStatusAtAUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "status.sock")
	abandoned, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	require.NoError(t, err)
	abandoned.SetUnlinkOnClose(false)
	require.NoError(t, abandoned.Close())
	p := started(t, "stream", codeOf(t, "1"), "--status", socket)
	readUntil(t, p.err, `(curl --unix-socket )`)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	code, _ := get(t, client, "http://localhost/metrics", "")
	assert.Equal(t, 200, code)
	got := command(t, "run", "hello", "--status", socket)
	assert.Equal(t, 7, got.code, "another process listens there")
	assert.Contains(t, got.err, "serve the status: listen unix "+socket+": bind: address already in use")
	require.NoError(t, p.in.Close())
	_, _ = p.rest(t)
	assert.NoFileExists(t, socket)
}

func TestInvalidServiceFlags(t *testing.T) {
	got := commandWithInput(t, "1", "run", "hello", "--watch", "--input", "-")
	assert.Equal(t, 2, got.code)
	assert.Contains(t, got.err, "--watch runs the inputs repeatedly, but standard input (-) can be read only once")
	got = command(t, "run", "hello", "--status", "9090")
	assert.Equal(t, 2, got.code)
	assert.Contains(t, got.err, "--status takes HOST:PORT")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	got = command(t, "run", "hello", "--status", busy.Addr().String())
	assert.Equal(t, 7, got.code)
	assert.Contains(t, got.err, "address already in use")
}
