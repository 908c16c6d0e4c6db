package isolation

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(tasks)
}

// restrictions returns the kernel's lines about the restrictions of all threads of this
// process.
func restrictions(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	require.NoError(t, err)
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has just ended
		}
		require.NoError(t, err)
		for line := range strings.Lines(string(status)) {
			for _, name := range []string{"CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:", "Cpus_allowed:"} {
				if strings.HasPrefix(line, name) {
					found[strings.TrimSpace(line)] = true
				}
			}
		}
	}
	return found
}

func TestNothingSticksToTheSupervisor(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, nil, 0o600))
	run(t, Profile{CPUs: 1}, "pass")
	before, files, first := restrictions(t), testkit.Descriptors(t, os.Getpid()), threads(t)
	for range 100 {
		r := run(t, Profile{CPUs: 1}, "open("+quoted(secret)+")")
		require.Contains(t, r.err, "PermissionError")
		_, err := os.ReadFile(secret)
		require.NoError(t, err)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, listener.Close())
		require.NoError(t, exec.Command("/bin/true").Run())
	}
	assert.Equal(t, before, restrictions(t))
	assert.Equal(t, files, testkit.Descriptors(t, os.Getpid()))
	assert.LessOrEqual(t, threads(t), first+50, "each start has its thread, which ends with it")
}

func quoted(path string) string { return "'" + path + "'" }

func TestTheFirstThreadStaysFree(t *testing.T) {
	needs(t, &Profile{})
	for range 200 {
		tid := 0
		require.NoError(t, onOwnThread(func() error {
			tid = unix.Gettid()
			return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		}))
		require.NotEqual(t, os.Getpid(), tid)
	}
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	assert.Contains(t, string(status), "NoNewPrivs:\t0")
}

func TestAProcessGroupAndAPidfdAreAsWithoutIsolation(t *testing.T) {
	needs(t, &Profile{})
	interpreter, read := python(t)
	pidfd := -1
	cmd := exec.Command(interpreter, "-c", "import os, sys; print(os.getpgrp() == os.getpid()); os.write(3, b'3'); sys.exit(7)")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	var out strings.Builder
	cmd.Stdout = &out
	sandbox, err := (&Profile{Read: read}).Start(cmd)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	defer sandbox.Remove()
	assert.Error(t, cmd.Wait())
	assert.Equal(t, 7, cmd.ProcessState.ExitCode())
	assert.Equal(t, "True\n", out.String())
	assert.GreaterOrEqual(t, pidfd, 0)
	require.NoError(t, unix.Close(pidfd))
	got := make([]byte, 8)
	n, err := r.Read(got)
	require.NoError(t, err)
	assert.Equal(t, "3", string(got[:n]), "the descriptor came through both programs")
}

func TestAProgramThatIsNotThereIsTheUsualError(t *testing.T) {
	needs(t, &Profile{})
	_, read := python(t)
	for _, program := range []string{"/no/such/python", "no-such-python"} {
		_, err := (&Profile{Read: read}).Start(exec.Command(program))
		assert.Truef(t, errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound), "%v", err)
	}
}

func TestAPlaceThatIsNotThereIsNamed(t *testing.T) {
	needs(t, &Profile{})
	interpreter, read := python(t)
	for _, p := range []Profile{{Read: append(read, "/no/such/file")}, {Read: read, Write: []string{"/no/such/file"}}} {
		_, err := p.Start(exec.Command(interpreter, "-c", "pass"))
		var path *fs.PathError
		require.ErrorAs(t, err, &path)
		assert.Equal(t, OpIsolate, path.Op)
		assert.Equal(t, "/no/such/file", path.Path)
	}
}

func TestAStageThatFailsStartsNoProgram(t *testing.T) {
	needs(t, &Profile{})
	interpreter, _ := python(t)
	ran := filepath.Join(t.TempDir(), "ran")
	for _, args := range [][]string{
		{"0", "00"}, // no instruction
		{"0", "ffffffffffffffff"},
		{"1024", ""}, // a scope that no kernel knows
	} {
		args = append(append([]string{"-I", "-S", "-c", stage}, args...), "3", "/bin/touch", "touch", ran)
		out, err := exec.Command(interpreter, args...).CombinedOutput()
		assert.Error(t, err)
		assert.Contains(t, string(out), "gophersnake: isolation: ")
		assert.NoFileExists(t, ran)
	}
	code := "import sys; sys.modules['ctypes'] = None\n" + stage
	out, err := exec.Command(interpreter, "-I", "-S", "-c", code, "0", "", "/bin/touch", "touch", ran).CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "needs an interpreter with ctypes")
	assert.NoFileExists(t, ran)
}

// TestUnprivileged is run by TestAnUnprivilegedUserIsIsolatedAsWell, as another user.
func TestUnprivileged(t *testing.T) {
	if os.Getenv("GOPHERSNAKE_TEST_UNPRIVILEGED") == "" {
		t.Skip("another test runs it")
	}
	assert.NotZero(t, os.Getuid())
	r := run(t, Profile{CPUs: 1}, `
import os, socket, tempfile
for attempt in (lambda: open("/etc/hostname"), lambda: socket.socket(), os.fork, lambda: open("/tmp/gophersnake-test", "w"),
                lambda: os.kill(os.getppid(), 0)):
    try:
        attempt()
        print("done")
    except PermissionError:
        print("refused")
tempfile.TemporaryFile().close()
print(len(os.sched_getaffinity(0)))
`)
	assert.Equal(t, strings.Repeat("refused\n", 5)+"1\n", r.out, r.err)
}

func TestAnUnprivilegedUserIsIsolatedAsWell(t *testing.T) {
	needs(t, &Profile{})
	if os.Getuid() != 0 {
		t.Skip("the other tests are run by one")
	}
	const nobody = 65534
	// That user must be able to run the test's program and the interpreter.
	folder, err := os.MkdirTemp("", "gophersnake-unprivileged-")
	require.NoError(t, err)
	defer os.RemoveAll(folder)
	require.NoError(t, os.Chmod(folder, 0o755))
	self, err := os.Executable()
	require.NoError(t, err)
	program, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "test"), program, 0o755))
	credential := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	interpreter := ""
	for _, candidate := range []string{os.Getenv("GOPHERSNAKE_PYTHON"), "/usr/bin/python3", "/usr/local/bin/python3"} {
		probe := exec.Command(candidate, "-c", "pass")
		probe.SysProcAttr, probe.Dir = credential, "/"
		if candidate != "" && probe.Run() == nil {
			interpreter = candidate
			break
		}
	}
	if interpreter == "" {
		t.Skip("other users have no interpreter here")
	}
	cmd := exec.Command(filepath.Join(folder, "test"), "-test.run", "^TestUnprivileged$", "-test.v")
	cmd.SysProcAttr, cmd.Dir = credential, "/"
	cmd.Env = []string{"GOPHERSNAKE_TEST_UNPRIVILEGED=1", "GOPHERSNAKE_PYTHON=" + interpreter, "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, string(out))
	assert.Contains(t, string(out), "--- PASS: TestUnprivileged")
}

// C code in an embedder opens files that each process inherits.
func TestAProcessInheritsOnlyItsOwnDescriptors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("a secret"), 0o600))
	fd, err := unix.Open(file, unix.O_RDONLY, 0) // without O_CLOEXEC
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	got := run(t, Profile{}, fmt.Sprintf("import os; os.pread(%d, 8, 0)", fd))
	assert.NotZero(t, got.code)
	assert.Contains(t, got.err, "Bad file descriptor")
}

// A lease of a file makes every process that opens the file wait.
func TestAProcessTakesNoLeases(t *testing.T) {
	for _, command := range []string{"fcntl.F_SETLEASE", "1 << 32 | fcntl.F_SETLEASE", "1026"} {
		got := run(t, Profile{}, fmt.Sprintf(`
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
number = 72 if os.uname().machine == "x86_64" else 25
descriptor = os.open(os.path.dirname(os.__file__) + ("" if "%[1]s" == "1026" else "/os.py"), os.O_RDONLY)
result = libc.syscall(ctypes.c_long(number), descriptor, ctypes.c_ulong(%[1]s), 0 if "%[1]s" == "1026" else fcntl.F_RDLCK)
print(result, os.strerror(ctypes.get_errno()))
`, command))
		assert.Equal(t, "-1 Operation not permitted\n", got.out, got.err)
	}
}
