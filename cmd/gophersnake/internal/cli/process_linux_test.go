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
)

// TestMain lets the test binary be gophersnake itself: a process to send signals
// to, or to give a terminal to.
func TestMain(m *testing.M) {
	switch os.Getenv("GOPHERSNAKE_TEST_MAIN") {
	case "gophersnake":
		os.Exit(Main(""))
	case "deaf":
		ctx, _ := withSignals(context.Background())
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("stopping")
		select {} // a command that never gets around to it
	}
	os.Exit(m.Run())
}

// process returns gophersnake as a process of its own; it is killed with the test.
func process(t *testing.T, as string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), "GOPHERSNAKE_TEST_MAIN="+as)
	return c
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// readUntil reads on until the pattern's group has been read, and returns it.
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
			assert.False(t, alive(worker), "its worker is gone before it is")
			left, err := os.ReadDir(os.TempDir())
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestASignalEndsTheWaitForStandardInput(t *testing.T) {
	c := process(t, "gophersnake", "run", pipelineOf(t, "nodes: [{id: n, node_type: Slow}]"), "--input", "-", "--log-level", "debug")
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	defer func() { _ = stdin.Close() }()
	pipe, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	stderr := bufio.NewReader(pipe)
	readUntil(t, stderr, "(worker started)")
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

// terminal starts a process on a terminal of its own, and returns the side that
// people see.
func terminal(t *testing.T, c *exec.Cmd) (keyboard *os.File, screen *bufio.Reader) {
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

// shown is all that a process shows on its terminal until it ends.
func shown(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	_, screen := terminal(t, c)
	text, _ := io.ReadAll(screen) // ends with EIO when nobody holds the other side
	require.NoError(t, c.Wait(), "%s", text)
	return string(text)
}

func TestATerminalShowsALineForEachNode(t *testing.T) {
	c := process(t, "gophersnake", "run", "hello", "--input", "Ada")
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=")
	text := shown(t, c)
	assert.Contains(t, text, "\x1b[32m✓", "in colours")
	plain := regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`).ReplaceAllString(text, "")
	assert.Regexp(t, `✓ greet  0\.\d\d s`, plain)
	assert.Regexp(t, `✓ shout  0\.\d\d s`, plain)
	assert.True(t, strings.HasSuffix(plain, "GOOD MORNING, ADA!\r\n"), "for people, below the lines: %q", plain)
}

func TestATerminalThatShowsLess(t *testing.T) {
	c := process(t, "gophersnake", "run", "hello", "--input", "Ada")
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=1")
	text := shown(t, c)
	assert.Contains(t, text, "✓ greet")
	assert.NotRegexp(t, `\x1b\[[0-9;]*m`, text, "without colours")

	c = process(t, "gophersnake", "run", "hello", "--input", "Ada")
	c.Env = append(c.Env, "TERM=dumb")
	assert.Equal(t, "GOOD MORNING, ADA!\r\n", shown(t, c), "nor lines that change")
}

func TestCtrlCOnATerminal(t *testing.T) {
	c := process(t, "gophersnake", "run", nodeOfType(t, "stuck"))
	c.Env = append(c.Env, "TERM=dumb")
	keyboard, screen := terminal(t, c)
	readUntil(t, screen, `stuck in (\d+)`)
	_, err := keyboard.WriteString("\x03")
	require.NoError(t, err)
	text, _ := io.ReadAll(screen)
	_ = c.Wait()
	assert.Equal(t, 130, c.ProcessState.ExitCode())
	assert.Contains(t, string(text), "error: interrupted\r\n")
}
