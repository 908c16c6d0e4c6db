package runner_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

// isolated returns a pipeline with one node of testdata/isolated.py, without retries.
func isolated(nodeType, how string, more ...string) string {
	more = append([]string{"python: isolated.py", "retry: none", "breaker: none", "isolation: " + how}, more...)
	return single(nodeType, more...)
}

// startIsolated starts such a pipeline. It skips the test if this system cannot
// isolate it.
func startIsolated(t *testing.T, nodeType, how string, more ...string) *runner.Runner {
	t.Helper()
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	return start(t, isolated(nodeType, how, more...))
}

// denied runs a pipeline that must fail, and returns its error.
func denied(t *testing.T, r *runner.Runner, input any) *runner.Error {
	t.Helper()
	value, err := r.Run(t.Context(), input)
	require.Error(t, err, "%v", value)
	return asError(t, err)
}

func TestAnIsolatedNodeDoesNotReadOutside(t *testing.T) {
	r := startIsolated(t, "read", "strict")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o644))
	for _, path := range []string{"/etc/shadow", secret, fmt.Sprintf("/proc/%d/environ", os.Getpid()), "/proc/self/environ", "/proc/1/cmdline"} {
		e := denied(t, r, path)
		assert.ErrorIs(t, e, runner.KindExecution)
		assert.Equal(t, "PermissionError", e.PythonClass, path)
		assert.Contains(t, e.Hint, "Landlock keeps ", path)
		assert.Contains(t, e.Hint, "isolation.read", path)
	}
	text, err := r.Run(t.Context(), "isolated.py")
	require.NoError(t, err, "the pipeline's own folder")
	assert.Contains(t, text, "Nodes that try")
}

func TestAnIsolatedNodeDoesNotWriteOutside(t *testing.T) {
	r := startIsolated(t, "write", "strict")
	base, err := filepath.Abs("testdata")
	require.NoError(t, err)
	outside := filepath.Join(t.TempDir(), "new")
	for path, words := range map[string]string{
		outside:                            "Landlock keeps " + outside,
		filepath.Join(base, "new"):         "Landlock lets it read " + filepath.Join(base, "new") + ", but not change it",
		filepath.Join(base, "isolated.py"): "but not change it",
		"/etc/passwd":                      "but not change it",
		"/dev/shm/gophersnake-test":        "Landlock keeps ",
	} {
		e := denied(t, r, path)
		assert.Equal(t, "PermissionError", e.PythonClass, path)
		assert.Contains(t, e.Hint, words, path)
		assert.Contains(t, e.Hint, "isolation.", path)
	}
	assert.NoFileExists(t, outside)
	assert.NoFileExists(t, filepath.Join(base, "new"))
}

func TestAnIsolatedNodeWritesWhereItMay(t *testing.T) {
	folder := t.TempDir()
	r := startIsolated(t, "write", fmt.Sprintf("{write: [%s]}", folder))
	value, err := r.Run(t.Context(), filepath.Join(folder, "new"))
	require.NoError(t, err)
	assert.Equal(t, "written", value)
	assert.FileExists(t, filepath.Join(folder, "new"))

	secret := filepath.Join(folder, "new")
	r = startIsolated(t, "read", fmt.Sprintf("{read: [%s]}", secret))
	value, err = r.Run(t.Context(), secret)
	require.NoError(t, err)
	assert.Equal(t, "written", value)
}

func TestAnIsolatedNodeHasNoNetwork(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	r := startIsolated(t, "connect", "strict")
	e := denied(t, r, port)
	assert.Equal(t, "PermissionError", e.PythonClass)
	assert.Contains(t, e.Hint, "seccomp refuses sockets")
	assert.Contains(t, e.Hint, "isolation.network")

	value, err := startIsolated(t, "connect", "{network: true}").Run(t.Context(), port)
	require.NoError(t, err)
	assert.Equal(t, "connected", value)

	value, err = startIsolated(t, "sockets", "strict").Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, []any{"AF_UNIX SOCK_STREAM"}, value, "the kind on which it listens for the supervisor")

	socket := filepath.Join(t.TempDir(), "socket")
	unixListener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer unixListener.Close()
	e = denied(t, startIsolated(t, "connect_unix", "strict"), socket)
	assert.Contains(t, e.Hint, "seccomp refuses sockets")
	e = denied(t, startIsolated(t, "resolve", "strict"), "no-such-host.invalid")
	assert.Contains(t, e.Hint, "seccomp refuses sockets")
}

func TestAnIsolatedNodeStartsNoProcesses(t *testing.T) {
	e := denied(t, startIsolated(t, "fork", "strict"), 10_000)
	assert.Equal(t, "PermissionError", e.PythonClass)
	assert.Contains(t, e.Hint, "seccomp refuses further processes")
	assert.Contains(t, e.Hint, "isolation.processes")

	e = denied(t, startIsolated(t, "run", "strict"), "/bin/true")
	assert.Contains(t, e.Hint, "seccomp refuses further processes")

	value, err := startIsolated(t, "system", "strict").Run(t.Context(), "exit 0")
	require.NoError(t, err)
	assert.NotZero(t, value)
	value, err = startIsolated(t, "system", "{processes: any}").Run(t.Context(), "exit 0")
	require.NoError(t, err)
	assert.Zero(t, value)
}

func TestAnIsolatedNodeDoesNotTakeAllMemory(t *testing.T) {
	e := denied(t, startIsolated(t, "allocate", "strict"), 10<<30)
	assert.ErrorIs(t, e, runner.KindPythonVM)
	assert.Contains(t, e.Error(), "memory")
	assert.Contains(t, e.Hint, "limits.memory")
}

func TestAnIsolatedNodeHasNoPowerOverOthers(t *testing.T) {
	e := denied(t, startIsolated(t, "kill", "strict"), os.Getpid())
	if os.Geteuid() == 0 { // which may create a process id namespace
		assert.Equal(t, "ProcessLookupError", e.PythonClass)
		assert.Contains(t, e.Hint, "it sees only its own processes")
	} else {
		assert.Equal(t, "PermissionError", e.PythonClass)
		assert.Contains(t, e.Hint, "Landlock refuses signals")
	}
	assert.Contains(t, e.Hint, "isolation.signals")

	r := startIsolated(t, "limit", "strict")
	value, err := r.Run(t.Context(), os.Getpid())
	require.NoError(t, err)
	assert.Equal(t, []any{"limits", "priority", "priorities", "affinity", "scheduler"}, value)
	value, err = r.Run(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, []any{"priorities"}, value, "itself, but not its user's processes")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	e = denied(t, startIsolated(t, "mode", "strict"), file)
	assert.Contains(t, e.Hint, "seccomp refuses to change the modes")
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())

	r = startIsolated(t, "call", "strict")
	for name, number := range map[string]int{
		"ptrace": unix.SYS_PTRACE, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "keyctl": unix.SYS_KEYCTL, "bpf": unix.SYS_BPF,
		"perf_event_open": unix.SYS_PERF_EVENT_OPEN, "io_uring_setup": unix.SYS_IO_URING_SETUP, "userfaultfd": unix.SYS_USERFAULTFD,
		"mount": unix.SYS_MOUNT, "unshare": unix.SYS_UNSHARE, "setns": unix.SYS_SETNS, "init_module": unix.SYS_INIT_MODULE,
		"pidfd_getfd": unix.SYS_PIDFD_GETFD, "shmget": unix.SYS_SHMGET, "personality": unix.SYS_PERSONALITY, "clone": unix.SYS_CLONE,
	} {
		value, err := r.Run(t.Context(), number)
		require.NoError(t, err, name)
		assert.Equal(t, "Operation not permitted", value, name)
	}
	for name, number := range map[string]int{"clone3": unix.SYS_CLONE3, "one of a newer kernel": 1999} {
		value, err := r.Run(t.Context(), number)
		require.NoError(t, err, name)
		assert.Equal(t, "Function not implemented", value, name)
	}
}

func TestAnIsolatedNodeHasNoPrivileges(t *testing.T) {
	value, err := startIsolated(t, "status", "{read: [/proc]}").Run(t.Context(), nil)
	require.NoError(t, err)
	status := value.(map[string]any)
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		assert.Equal(t, strings.Repeat("0", 16), status[set], set)
	}
	assert.Equal(t, "1", status["NoNewPrivs"])
	assert.Equal(t, "2", status["Seccomp"], "it is filtered")
}

func TestAnIsolatedNodeThatSeesProcessesDoesNotSeeIntoThem(t *testing.T) {
	r := startIsolated(t, "read", "{read: [/proc]}")
	command, err := r.Run(t.Context(), fmt.Sprintf("/proc/%d/cmdline", os.Getpid()))
	require.NoError(t, err)
	assert.Contains(t, command, "runner.test")
	for _, file := range []string{"environ", "maps", "mem"} {
		e := denied(t, r, fmt.Sprintf("/proc/%d/%s", os.Getpid(), file))
		assert.Equal(t, "PermissionError", e.PythonClass, file)
	}
}

func TestAnIsolatedNodeWorks(t *testing.T) {
	value, err := startIsolated(t, "process", "{cpus: 1}").Run(t.Context(), nil)
	require.NoError(t, err)
	did := value.(map[string]any)
	assert.Equal(t, "z", did["text"])
	assert.Equal(t, "x", did["received"])
	assert.Equal(t, "slept", did["slept"])
	assert.EqualValues(t, 2, did["signals"])
	assert.EqualValues(t, 1, did["cpus"])

	e := denied(t, startIsolated(t, "affinity", "{cpus: 1}"), nil)
	assert.Equal(t, "PermissionError", e.PythonClass)

	s, err := startIsolated(t, "count", "strict").Stream(t.Context())
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Send(100))
	s.CloseSend()
	items := 0
	for _, err := range s.All() {
		require.NoError(t, err)
		items++
	}
	assert.Equal(t, 100, items)
}

func TestAnIsolatedNodeHasNumPyAndSharedMemory(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	r := start(t, arrays(`nodes: [{id: a, TYPE: double, isolation: strict}, {id: b, TYPE: double_in_place_of, isolation: strict}]
connections: [{from: a, to: b}]`))
	for range 3 {
		out, err := r.Run(t.Context(), floats(t, 1<<20))
		require.NoError(t, err)
		assert.Equal(t, []int{1 << 20}, out.(*ipc.Tensor).Shape)
	}
}

func TestAnIsolatedNodesEndIsExplained(t *testing.T) {
	e := denied(t, startIsolated(t, "crash", "strict"), nil)
	assert.ErrorIs(t, e, runner.KindPythonVM)
	assert.Equal(t, "SIGSEGV", e.Signal)
	require.NotEmpty(t, e.Traceback)
	assert.Contains(t, e.Traceback[len(e.Traceback)-1].File, "ctypes")

	e = denied(t, startIsolated(t, "wait", "strict", "timeout: 300ms"), nil)
	assert.ErrorIs(t, e, runner.KindPythonVM)
	assert.Contains(t, e.Error(), "300ms")
}

func TestAnIsolatedNodesTemporaryFolderGoesWithItsWorker(t *testing.T) {
	value, err := startIsolated(t, "temp", "strict").Run(t.Context(), nil)
	require.NoError(t, err)
	assert.DirExists(t, value.(string))
	assert.NotEqual(t, os.TempDir(), value)

	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	r := startIsolated(t, "leave", "strict", "workers: {min: 1, spare: 0}")
	e := denied(t, r, "mine")
	assert.Equal(t, "SIGKILL", e.Signal)
	require.NoError(t, r.Close(t.Context()))
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestUnsupportedIsolationStartsNothing(t *testing.T) {
	profile := isolation.Profile{Processes: 3, CPUs: 0.5}
	if missing := profile.Missing(); len(missing) == 0 {
		t.Skip("this system can do all of it")
	}
	r, err := load(t, isolated("temp", "{processes: 3, cpus: 0.5}"))
	require.NoError(t, err)
	e := new(runner.Error)
	require.ErrorAs(t, r.Start(t.Context()), &e)
	assert.ErrorIs(t, e, runner.KindIO)
	assert.Equal(t, runner.VerdictPermanent, e.Verdict)
	assert.Contains(t, e.Error(), "cannot isolate the node as requested: processes: 3 and cpus: 0.5 cannot be enforced")
	assert.Contains(t, e.Error(), "Linux ")
	assert.NotEmpty(t, e.Hint)

	r, err = load(t, isolated("temp", "{read: [no/such/folder]}"))
	require.NoError(t, err)
	require.ErrorAs(t, r.Start(t.Context()), &e)
	assert.ErrorIs(t, e, runner.KindManifest)
	assert.Contains(t, e.Error(), "no/such/folder")
	assert.Contains(t, e.Hint, "read and write of isolation")
}

func TestANodeIsDescribedAsIsolatedAsItRuns(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("secret"), 0o600))
	t.Setenv("GOPHERSNAKE_TEST_TOKEN", "secret")
	node := func(id, more string) string {
		return fmt.Sprintf("  - {id: %s, node_type: imported, python: isolated_import.py, env: {GOPHERSNAKE_TEST_FILE: %s}%s}\n", id, file, more)
	}
	const pass = ", pass_env: [GOPHERSNAKE_TEST_TOKEN]"
	describe := func(nodes string) ([]ipc.Description, error) {
		r, err := load(t, "nodes:\n"+nodes)
		require.NoError(t, err)
		return r.Describe(t.Context())
	}
	found, err := describe(node("a", pass) + "  - {id: b, node_type: echo}\n" + node("c", pass))
	require.NoError(t, err)
	require.Len(t, found, 3)
	assert.Equal(t, []string{"imported", "echo", "imported"}, []string{found[0].Name, found[1].Name, found[2].Name})

	_, err = describe(node("a", pass+", isolation: strict"))
	assert.ErrorContains(t, err, "PermissionError")
	e := new(runner.Error)
	require.ErrorAs(t, err, &e)
	assert.Contains(t, e.Hint, "Landlock keeps "+file)
	_, err = describe(node("a", pass+fmt.Sprintf(", isolation: {read: [%s]}", file)))
	assert.NoError(t, err)
	_, err = describe(node("a", ""))
	assert.ErrorContains(t, err, "KeyError")
	_, err = describe(node("a", ", isolation: {read: [no/such/folder]}"))
	assert.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, "no/such/folder")
}

// Run by TestAnIsolatedWorkerDiesWithItsSupervisor, as the supervisor that is killed.
func TestIsolatedSupervisor(t *testing.T) {
	if os.Getenv("GOPHERSNAKE_TEST_ISOLATED") == "" {
		t.Skip("it is part of another test")
	}
	r, err := load(t, isolated("wait", "strict", "timeout: none", "workers: {spare: 0}"), runner.WithEvents(func(e runner.Event) {
		if e, ok := e.(runner.WorkerStarted); ok {
			fmt.Println("worker", e.PID)
		}
	}))
	require.NoError(t, err)
	_, _ = r.Run(t.Context(), nil)
}

func TestAnIsolatedWorkerDiesWithItsSupervisor(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	supervisor := exec.Command(os.Args[0], "-test.run", "^TestIsolatedSupervisor$")
	supervisor.Env = append(os.Environ(), "GOPHERSNAKE_TEST_ISOLATED=1", "TMPDIR="+t.TempDir())
	supervisor.Stderr = os.Stderr
	out, err := supervisor.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, supervisor.Start())
	pid := 0
	_, err = fmt.Fscanf(out, "worker %d\n", &pid)
	if err != nil {
		_ = supervisor.Process.Kill()
		require.NoError(t, err)
	}
	worker, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(worker)
	require.NoError(t, supervisor.Process.Kill())
	assert.Error(t, supervisor.Wait())
	ended := []unix.PollFd{{Fd: int32(worker), Events: unix.POLLIN}}
	for n := 0; n == 0; { // the test's own timeout bounds it
		n, err = unix.Poll(ended, -1)
		if errors.Is(err, unix.EINTR) {
			n = 0
		}
	}
	assert.NotZero(t, ended[0].Revents&unix.POLLIN)
}
