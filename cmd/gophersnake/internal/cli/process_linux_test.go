package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// TestMain makes the test binary act as gophersnake if the environment asks for it, so that
// tests can send signals to a process or start it on a terminal.
func TestMain(m *testing.M) {
	switch os.Getenv("GOPHERSNAKE_TEST_MAIN") {
	case "gophersnake":
		os.Exit(Main())
	case "deaf":
		ctx, _ := withSignals(context.Background())
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("stopping")
		select {} // a command that does not stop
	}
	os.Exit(m.Run())
}

// process returns gophersnake as a process, which is killed at the end of the test.
func process(t *testing.T, as string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), "GOPHERSNAKE_TEST_MAIN="+as)
	return c
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// readUntil reads lines until one matches the pattern, and returns the pattern's group.
func readUntil(t *testing.T, from *bufio.Reader, pattern string) string {
	t.Helper()
	var text strings.Builder
	for {
		line, err := from.ReadString('\n')
		text.WriteString(line)
		if found := regexp.MustCompile(pattern).FindStringSubmatch(line); found != nil {
			return found[1]
		}
		require.NoError(t, err, text.String())
	}
}

func TestASignalStopsARunCleanly(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		code   int
		say    string
	}{{syscall.SIGINT, 130, "error: interrupted\n"}, {syscall.SIGTERM, 143, "error: terminated\n"}} {
		t.Run(c.signal.String(), func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			supervisor := process(t, "gophersnake", "run", nodeOfType(t, "stuck"))
			pipe, err := supervisor.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, supervisor.Start())
			stderr := bufio.NewReader(pipe)
			worker, err := strconv.Atoi(readUntil(t, stderr, `stuck in (\d+)`))
			require.NoError(t, err)
			require.True(t, alive(worker))

			require.NoError(t, supervisor.Process.Signal(c.signal))
			rest, err := io.ReadAll(stderr)
			require.NoError(t, err)
			_ = supervisor.Wait()
			assert.Equal(t, c.code, supervisor.ProcessState.ExitCode())
			assert.Equal(t, c.say, string(rest), "and nothing else")
			assert.False(t, alive(worker), "the worker ends before the supervisor")
			left, err := os.ReadDir(os.TempDir())
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestASignalEndsTheWaitForStandardInput(t *testing.T) {
	c := process(t, "gophersnake", "run", fixtures.Pipeline(t, "nodes: [{id: n, node_type: Slow}]"), "--input", "-", "--log-level", "debug")
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	defer func() { _ = stdin.Close() }()
	pipe, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	stderr := bufio.NewReader(pipe)
	readUntil(t, stderr, "(worker [0-9]+ is ready)")
	require.NoError(t, c.Process.Signal(syscall.SIGINT))
	_, err = io.ReadAll(stderr)
	require.NoError(t, err)
	_ = c.Wait()
	assert.Equal(t, 130, c.ProcessState.ExitCode())
}

func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	deaf := process(t, "deaf")
	pipe, err := deaf.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, deaf.Start())
	stdout := bufio.NewReader(pipe)
	readUntil(t, stdout, "(ready)")
	require.NoError(t, deaf.Process.Signal(syscall.SIGINT))
	readUntil(t, stdout, "(stopping)")
	require.NoError(t, deaf.Process.Signal(syscall.SIGINT))
	_ = deaf.Wait()
	assert.Equal(t, 130, deaf.ProcessState.ExitCode())
}

func TestWorkersEndWithAKilledSupervisor(t *testing.T) {
	supervisor := process(t, "gophersnake", "run", nodeOfType(t, "stuck"))
	pipe, err := supervisor.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, supervisor.Start())
	worker, err := strconv.Atoi(readUntil(t, bufio.NewReader(pipe), `stuck in (\d+)`))
	require.NoError(t, err)
	require.NoError(t, supervisor.Process.Kill())
	_ = supervisor.Wait()
	require.Eventually(t, func() bool { return !alive(worker) }, 10*time.Second, time.Millisecond)
}

// startOnTerminal starts a process on a new terminal, and returns the ends that a user has.
func startOnTerminal(t *testing.T, c *exec.Cmd) (keyboard *os.File, screen *bufio.Reader) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}))
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, c.Start())
	require.NoError(t, slave.Close())
	return master, bufio.NewReader(master)
}

// shown returns all that a process writes to its terminal.
func shown(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	_, screen := startOnTerminal(t, c)
	text, _ := io.ReadAll(screen) // fails with EIO when the process has closed the terminal
	require.NoError(t, c.Wait(), "%s", text)
	return string(text)
}

func TestATerminalShowsALineForEachNode(t *testing.T) {
	c := process(t, "gophersnake", "run", "hello", "--input", "Ada")
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=")
	text := shown(t, c)
	assert.Contains(t, text, "\x1b[32m✓", "in colors")
	plain := regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`).ReplaceAllString(text, "")
	assert.Regexp(t, `✓ greet  0\.\d\d s`, plain)
	assert.Regexp(t, `✓ shout  0\.\d\d s`, plain)
	assert.True(t, strings.HasSuffix(plain, "GOOD MORNING, ADA!\r\n"), "the result is below the lines: %q", plain)
}

func TestATerminalWithoutColorsOrProgress(t *testing.T) {
	c := process(t, "gophersnake", "run", "hello", "--input", "Ada")
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=1")
	text := shown(t, c)
	assert.Contains(t, text, "✓ greet")
	assert.NotRegexp(t, `\x1b\[[0-9;]*m`, text, "without colors")

	c = process(t, "gophersnake", "run", "hello", "--input", "Ada")
	c.Env = append(c.Env, "TERM=dumb")
	assert.Equal(t, "GOOD MORNING, ADA!\r\n", shown(t, c), "nor progress lines")
}

func TestCtrlCOnATerminal(t *testing.T) {
	c := process(t, "gophersnake", "run", nodeOfType(t, "stuck"))
	c.Env = append(c.Env, "TERM=dumb")
	keyboard, screen := startOnTerminal(t, c)
	readUntil(t, screen, `stuck in (\d+)`)
	_, err := keyboard.WriteString("\x03")
	require.NoError(t, err)
	text, _ := io.ReadAll(screen)
	_ = c.Wait()
	assert.Equal(t, 130, c.ProcessState.ExitCode())
	assert.Contains(t, string(text), "error: interrupted\r\n")
}

func TestARunOverManyInputsOnATerminal(t *testing.T) {
	c := process(t, "gophersnake", "run", nodeOfType(t, "picky"), "1", "x", "y", "2", "--output", "jsonl")
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=1")
	_, screen := startOnTerminal(t, c)
	text, _ := io.ReadAll(screen)
	assert.Error(t, c.Wait())
	assert.Equal(t, 4, c.ProcessState.ExitCode())
	plain := regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`).ReplaceAllString(string(text), "")
	assert.Contains(t, plain, "error: x: execution error in node \"n\" during call: gophersnake.Permanent: 'x' is not a number", "errors are for people, though the output is JSON")
	assert.Contains(t, plain, "\r\nerror: y: execution error")
	assert.Regexp(t, `✗ n .*4/4.*2 failed\s+2 ok, 2 failed\r\n$`, plain, "the totals are below the progress")
}

// A run executes one program for each worker, an interpreter that forks the worker and becomes its
// reaper, and no others: the interpreter is not asked again, nothing is compiled, no shim is run.
func TestARunStartsNoProcessesButItsWorkers(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace")
	}
	succeed(t, "run", "hello") // creates what is cached
	file := t.TempDir() + "/trace"
	run := process(t, "gophersnake", "run", "hello")
	run.Path, run.Args = strace, append([]string{strace, "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", file}, run.Args...)
	out, err := run.CombinedOutput()
	if err != nil && strings.Contains(string(out), "ptrace") {
		t.Skip("strace is not permitted here")
	}
	require.NoError(t, err, "%s", out)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	programs := regexp.MustCompile(`(?m)^\d+ +execve\(.* = 0$|^\d+ <\.\.\. execve resumed>.* = 0$`).FindAllString(string(content), -1)
	assert.Len(t, programs, 1+2, "%s", content)
}
