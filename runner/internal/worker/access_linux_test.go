package worker

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// otherUser is the id of another local user.
const otherUser = 65534

// gate is a real worker that is starting: it has bound its socket, and waits at a gate
// before it announces it.
type gate struct {
	t       *testing.T
	root    string // a folder that is open to all users; that of the socket is in it
	socket  string
	secret  []byte
	hold    *os.File // closed to open the gate
	started chan startResult
}

type startResult struct {
	worker *Worker
	err    error
}

func atGate(t *testing.T, env ...string) *gate {
	t.Helper()
	// This folder is open to other users: only the worker's own folder keeps them out.
	dir, err := os.MkdirTemp("/tmp", "access-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Setenv("TMPDIR", dir)
	pipe, announced := filepath.Join(dir, "gate"), filepath.Join(dir, "socket")
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	hold, err := os.OpenFile(pipe, os.O_RDWR, 0)
	require.NoError(t, err)
	config := testConfig(t, "echo")
	config.Package = filepath.Join(config.Setup.Base, "access")
	config.Env = append(config.Env, append(env, "PACKAGE="+packageDir, "SOCKET="+announced, "GATE="+pipe)...)
	g := &gate{t: t, root: dir, hold: hold, started: make(chan startResult, 1)}
	t.Cleanup(func() { _ = hold.Close() })
	go func() {
		w, err := Start(t.Context(), config)
		g.started <- startResult{w, err}
	}()
	testkit.Eventually(t, func() bool { return testkit.Written(announced)() || len(g.started) > 0 })
	content, err := os.ReadFile(announced)
	require.NoError(t, err)
	socket, secret, _ := strings.Cut(string(content), "\n")
	g.socket = socket
	g.secret, err = hex.DecodeString(secret)
	require.NoError(t, err)
	return g
}

// open opens the gate and waits for the end of the start.
func (g *gate) open() (*Worker, error) {
	require.NoError(g.t, g.hold.Close())
	r := <-g.started
	if r.err == nil {
		g.t.Cleanup(r.worker.Kill)
	}
	return r.worker, r.err
}

// serves opens the gate and checks that the worker answers a call.
func (g *gate) serves() *Worker {
	g.t.Helper()
	w, err := g.open()
	require.NoError(g.t, err)
	got, err := call(g.t.Context(), w, "v")
	require.NoError(g.t, err)
	assert.Equal(g.t, "v", got)
	return w
}

func (g *gate) connect() net.Conn {
	g.t.Helper()
	c, err := net.Dial("unix", g.socket)
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

// assertRefused checks that a connection is closed without an answer.
func assertRefused(t *testing.T, c net.Conn) {
	t.Helper()
	said, err := io.ReadAll(c)
	assert.Empty(t, said)
	if err != nil {
		assert.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

// TestStrangerProcess is not a test but the process of another user that asOtherUser
// starts. It connects to the socket and presents the secret that it is given.
func TestStrangerProcess(t *testing.T) {
	socket := os.Getenv("GOPHERSNAKE_TEST_SOCKET")
	if socket == "" {
		t.Skip("it is started by other tests")
	}
	if _, err := os.ReadDir(filepath.Dir(socket)); err != nil {
		t.Logf("list: %v", err)
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Logf("connect: %v", err)
		return
	}
	secret, _ := hex.DecodeString(os.Getenv("GOPHERSNAKE_TEST_SECRET"))
	_, err = c.Write(secret)
	t.Logf("present: %v", err)
	said, err := io.ReadAll(c)
	t.Logf("read %d bytes: %v", len(said), err)
}

// asOtherUser makes a process of another user connect to the worker's socket, and
// returns its output. It calls meanwhile as soon as the process has connected or failed
// to.
func (g *gate) asOtherUser(meanwhile func()) string {
	g.t.Helper()
	if os.Geteuid() != 0 {
		g.t.Skip("only root can become another user")
	}
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(g.t, err)
	dir, err := os.MkdirTemp("/tmp", "stranger-") // the other user can run programs there
	require.NoError(g.t, err)
	defer os.RemoveAll(dir)
	require.NoError(g.t, os.Chmod(dir, 0o777))
	program := filepath.Join(dir, "stranger")
	require.NoError(g.t, os.WriteFile(program, self, 0o755))
	stranger := exec.Command(program, "-test.run=^TestStrangerProcess$", "-test.v")
	stranger.Dir = dir
	stranger.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir,
		"GOPHERSNAKE_TEST_SOCKET=" + g.socket, "GOPHERSNAKE_TEST_SECRET=" + hex.EncodeToString(g.secret)}
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser}}
	out, in := io.Pipe()
	stranger.Stdout, stranger.Stderr = in, in
	require.NoError(g.t, stranger.Start())
	go func() { _ = stranger.Wait(); _ = in.Close() }()
	var said strings.Builder
	var once sync.Once
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if text := said.String(); strings.Contains(text, "present:") || strings.Contains(text, "connect:") || err != nil {
			once.Do(meanwhile)
		}
		if err != nil {
			return said.String()
		}
	}
}

func TestAnotherUserCannotReachAWorkersSocket(t *testing.T) {
	g := atGate(t)
	for place := filepath.Dir(g.socket); place != g.root; place = filepath.Dir(place) {
		info, err := os.Stat(place)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm(), place)
	}
	said := g.asOtherUser(func() {})
	assert.Regexp(t, "list: .*permission denied", said)
	assert.Regexp(t, "connect: .*permission denied", said)
	assert.NotContains(t, said, "present:")
	g.serves()
}

// The folder is open and the secret known, but the kernel reports another user.
func TestAnotherUserIsRefusedEvenWithTheSecret(t *testing.T) {
	g := atGate(t)
	for place := g.socket; place != g.root; place = filepath.Dir(place) {
		require.NoError(t, os.Chmod(place, 0o777))
	}
	said := g.asOtherUser(func() { g.serves() })
	assert.Contains(t, said, "present: <nil>", "it came that far")
	assert.Contains(t, said, "read 0 bytes: ")
}

func TestConnectionsWithoutTheSecretAreRefusedAndTheSupervisorIsServed(t *testing.T) {
	g := atGate(t)
	wrong := make([]byte, ipc.SecretSize)
	var strangers []net.Conn
	for _, says := range [][]byte{nil, nil, nil, nil, nil, nil, nil, nil, wrong, wrong[:5], g.secret[:ipc.SecretSize-1], append(g.secret[:ipc.SecretSize-1:ipc.SecretSize-1], g.secret[ipc.SecretSize-1]^1)} {
		c := g.connect()
		_, err := c.Write(says)
		require.NoError(t, err)
		strangers = append(strangers, c)
	}
	require.NoError(t, g.connect().Close()) // a connection that is closed at once
	g.serves()
	for _, c := range strangers {
		assertRefused(t, c)
	}
}

// The kernel bounds the queue of connections that the worker has not accepted.
func TestAFullQueueOfStrangersDoesNotKeepTheSupervisorOut(t *testing.T) {
	g := atGate(t)
	var strangers []net.Conn
	for {
		c, err := net.Dial("unix", g.socket)
		if err != nil {
			require.ErrorIs(t, err, syscall.EAGAIN)
			break
		}
		strangers = append(strangers, c)
	}
	w := g.serves()
	for _, c := range strangers {
		assertRefused(t, c)
		_ = c.Close()
	}
	w.Kill()
}

func TestNobodyCanConnectAfterTheHandshake(t *testing.T) {
	g := atGate(t)
	kept := filepath.Join(g.root, "kept")
	require.NoError(t, os.Link(g.socket, kept)) // a name of the socket that the worker does not know
	g.serves()
	_, err := net.Dial("unix", kept)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.NoDirExists(t, filepath.Dir(g.socket))
}

// A false worker receives nothing: no secret, no node, no input.
func TestAFalseWorkerIsRefused(t *testing.T) {
	g := atGate(t)
	require.NoError(t, os.Remove(g.socket))
	listener, err := net.Listen("unix", g.socket)
	require.NoError(t, err)
	defer listener.Close()
	received := make(chan string, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			received <- err.Error()
			return
		}
		defer c.Close()
		said, _ := io.ReadAll(c)
		received <- string(said)
	}()
	_, err = g.open()
	var peer *ipc.PeerError
	require.ErrorAs(t, err, &peer)
	assert.Equal(t, os.Getpid(), peer.PID)
	assert.NotEqual(t, peer.WantPID, peer.PID)
	assert.Empty(t, <-received)
	var failed *StartError
	require.ErrorAs(t, err, &failed)
	assert.True(t, testkit.Gone(failed.Exit.PID), "the worker itself is ended")
}

func TestAWorkerOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	g := atGate(t, "UID="+strconv.Itoa(otherUser))
	_, err := g.open()
	var peer *ipc.PeerError
	require.ErrorAs(t, err, &peer)
	assert.Equal(t, otherUser, peer.UID)
	assert.Equal(t, peer.WantPID, peer.PID, "it is the process that was started")
	assert.False(t, errors.Is(err, syscall.EACCES))
}
