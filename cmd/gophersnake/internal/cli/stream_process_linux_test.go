package cli

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// piped is gophersnake as a process with pipes as standard streams.
type piped struct {
	*exec.Cmd
	in       io.WriteCloser
	out, err *bufio.Reader
	outPipe  io.Closer
}

func pipe(t *testing.T, args ...string) *piped {
	t.Helper()
	c := process(t, "gophersnake", append([]string{"stream"}, args...)...)
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	return &piped{c, in, bufio.NewReader(out), bufio.NewReader(stderr), out}
}

func (p *piped) send(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(p.in, text)
	require.NoError(t, err)
}

// rest waits for the process, and returns the rest of its output.
func (p *piped) rest(t *testing.T) (out, stderr string) {
	t.Helper()
	text, err := io.ReadAll(p.out)
	require.NoError(t, err)
	words, err := io.ReadAll(p.err)
	require.NoError(t, err)
	_ = p.Wait()
	return string(text), string(words)
}

func TestASignalEndsTheInputAndItemsInProgressAreFinished(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		code   int
		word   string
	}{{syscall.SIGINT, 130, "interrupted"}, {syscall.SIGTERM, 143, "terminated"}} {
		t.Run(c.signal.String(), func(t *testing.T) {
			p := pipe(t, nodeOfType(t, "Sum"))
			p.send(t, "1\n2\n")
			assert.Equal(t, "1", readUntil(t, p.out, `(\d+)`))
			assert.Equal(t, "3", readUntil(t, p.out, `(\d+)`))
			require.NoError(t, p.Process.Signal(c.signal)) // while the input is open
			out, err := p.rest(t)
			assert.Equal(t, "{\"count\":2}\n", out, "the node has finished")
			assert.Regexp(t, `^\S+ \[INFO\]  `+c.word+`: finishing the items in progress; a second signal ends the command at once\n`+
				`error: `+c.word+`: 2 items sent, 3 results received\n$`, err)
			assert.Equal(t, c.code, p.ProcessState.ExitCode())
		})
	}
}

func TestASecondSignalEndsAStreamAtOnce(t *testing.T) {
	p := pipe(t, nodeOfType(t, "stuck"))
	p.send(t, "1\n")
	worker, err := strconv.Atoi(readUntil(t, p.err, `stuck in (\d+)`))
	require.NoError(t, err)
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	readUntil(t, p.err, "(a second signal ends the command at once)")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	out, _ := p.rest(t)
	assert.Empty(t, out)
	assert.Equal(t, 130, p.ProcessState.ExitCode())
	require.Eventually(t, func() bool { return !alive(worker) }, 10*time.Second, time.Millisecond)
}

func TestASignalEndsTheWaitForANamedPipe(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	p := pipe(t, nodeOfType(t, "Slow"), "--input", fifo, "--log-level", "debug")
	readUntil(t, p.err, "(worker [0-9]+ is ready)")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	_, _ = p.rest(t)
	assert.Equal(t, 130, p.ProcessState.ExitCode())
}

func TestAnInputThatCannotBeOpenedIsAnError(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	got := command(t, "stream", nodeOfType(t, "echo"), "--input", socket)
	assert.Equal(t, 7, got.code)
	assert.Contains(t, got.err, "error: io error: read "+socket+": open "+socket+": no such device or address\n")
}

func TestTheTimeoutEndsAStream(t *testing.T) {
	l := stream(t, nodeOfType(t, "stuck"), "--timeout", "1s", "--log-level", "off", "--output", "jsonl")
	_, _ = io.WriteString(l.in, "1\n") // unless it is over already
	_, err := io.ReadAll(l.out)        // though the input is still open
	require.NoError(t, err)
	assert.Equal(t, 124, <-l.code)
	assert.Contains(t, l.err.String(), `{"error":{"kind":"timeout","message":"the --timeout expired (1s)`)
}

func TestAReaderThatLeavesEndsTheStreamQuietly(t *testing.T) {
	p := pipe(t, nodeOfType(t, "echo"))
	p.send(t, "1\n")
	assert.Equal(t, "1", readUntil(t, p.out, `(\d)`))
	require.NoError(t, p.outPipe.Close()) // as head does
	p.send(t, "2\n")
	words, err := io.ReadAll(p.err)
	require.NoError(t, err)
	assert.Empty(t, string(words))
	_ = p.Wait()
	status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	assert.Equal(t, syscall.SIGPIPE, status.Signal(), "as any other command")
}

func TestATerminalShowsTheResultsAboveTheProgress(t *testing.T) {
	c := process(t, "gophersnake", "stream", nodeOfType(t, "echo"), "--input-format", "text")
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=1")
	keyboard, screen := startOnTerminal(t, c)
	readUntil(t, screen, `\[INFO\]  (reading from the keyboard; Ctrl-D)`)
	_, err := keyboard.WriteString("spoken\n")
	require.NoError(t, err)
	readUntil(t, screen, `(1 in, 1 out)`)
	_, err = keyboard.WriteString("\x04")
	require.NoError(t, err)
	text, _ := io.ReadAll(screen)
	require.NoError(t, c.Wait())
	plain := regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`).ReplaceAllString(string(text), "")
	assert.True(t, strings.HasSuffix(strings.TrimSpace(plain), "· stream  1 in, 1 out"), "%q", plain)
}

func TestAResultThatCannotBeWrittenEndsTheStream(t *testing.T) {
	echo, made := nodeOfType(t, "echo"), nodeOfType(t, "made")
	fixtures.Chdir(t, map[string]string{"file": ""})
	require.NoError(t, os.Symlink("/dev/full", "full.jsonl"))
	got := commandWithInput(t, "1\n2\n", "stream", echo, "--output", "full.jsonl")
	assert.Equal(t, 7, got.code)
	assert.Contains(t, got.err, "write the output: write full.jsonl: no space left on device")
	got = commandWithInput(t, "text\naudio\ntext\n", "stream", made, "--input-format", "text", "--output-dir", "file")
	assert.Equal(t, 7, got.code)
	assert.Equal(t, "\"grüße\"\n", got.out)
	assert.Contains(t, got.err, "error: io error: write file/stdin-2-n.wav: ")
	assert.Contains(t, got.err, "\ndelivered: 1\n")
}
