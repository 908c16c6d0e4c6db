package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// live is a command line that is running: its input is open, and the test reads its
// output line by line.
type live struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Reader
	err  bytes.Buffer // may be read after code was received
	code chan int
}

// stream starts the command stream.
func stream(t *testing.T, args ...string) *live {
	t.Helper()
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	l := &live{t: t, in: in, out: bufio.NewReader(out), code: make(chan int, 1)}
	go func() {
		l.code <- newApp(stdin, stdout, &l.err).run(t.Context(), append([]string{"stream"}, args...))
		_ = stdin.Close()
		_ = stdout.Close()
	}()
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	return l
}

func (l *live) send(data string) {
	l.t.Helper()
	_, err := io.WriteString(l.in, data)
	require.NoError(l.t, err)
}

// receive waits for a line.
func (l *live) receive() string {
	l.t.Helper()
	line, err := l.out.ReadString('\n')
	if err != nil {
		l.t.Fatalf("no result, but exit code %d: %s", <-l.code, l.err.String())
	}
	return strings.TrimSuffix(line, "\n")
}

// end closes the input, and returns the exit code and the rest of the output.
func (l *live) end() result {
	l.t.Helper()
	require.NoError(l.t, l.in.Close())
	rest, err := io.ReadAll(l.out)
	require.NoError(l.t, err)
	code := <-l.code
	return result{code, string(rest), l.err.String()}
}

func TestAResultIsWrittenBeforeTheInputEnds(t *testing.T) {
	l := stream(t, "hello")
	for _, name := range []string{"Ada", "Grace", "Guido"} {
		l.send(`"` + name + "\"\n")
		assert.Equal(t, `"GOOD MORNING, `+strings.ToUpper(name)+`!"`, l.receive())
	}
	assert.Equal(t, result{}, l.end())
}

func TestAnItemMayHaveManyResultsOrNone(t *testing.T) {
	l := stream(t, nodeOfType(t, "countdown"))
	l.send("2\n0\n1\n")
	assert.Equal(t, []string{"2", "1", "1"}, []string{l.receive(), l.receive(), l.receive()})
	assert.Equal(t, result{}, l.end())
}

func TestANodeRemembersItsStream(t *testing.T) {
	l := stream(t, nodeOfType(t, "Sum"))
	for number, sum := range []string{"0", "1", "3", "6"} {
		l.send(fmt.Sprintln(number))
		assert.Equal(t, sum, l.receive())
	}
	assert.Equal(t, result{0, "{\"count\":4}\n", ""}, l.end())
}

func TestAnItemThatFailsEndsTheStream(t *testing.T) {
	l := stream(t, nodeOfType(t, "picky"))
	l.send("1\n2\n\"x\"\n")
	assert.Equal(t, []string{"2", "3"}, []string{l.receive(), l.receive()})
	rest, err := io.ReadAll(l.out) // while the input is open
	require.NoError(t, err)
	assert.Empty(t, rest)
	assert.Equal(t, 4, <-l.code)
	assert.Contains(t, l.err.String(), `error: execution error in node "n" during call: gophersnake.Permanent: 'x' is not a number`)
	assert.Contains(t, l.err.String(), "\ndelivered: 2\n")
}

func TestReadingPausesWhenTheWindowIsFull(t *testing.T) {
	const lines, window = 200, 2
	l := stream(t, nodeOfType(t, "echo"), "--window", fmt.Sprint(window), "--input-format", "text")
	text := strings.Repeat("x", 64<<10-1) // a line fills the reader's buffer
	var sent atomic.Int64
	go func() {
		for range lines {
			_, _ = io.WriteString(l.in, text+"\n")
			sent.Add(1)
		}
		_ = l.in.Close()
	}()
	for received := range int64(lines) {
		assert.Len(t, l.receive(), len(text)+2)
		// The windows of the node's input and of its results; and items in the buffers of
		// this test and of the command, and between them.
		assert.LessOrEqual(t, sent.Load(), received+2*window+6)
	}
	assert.Zero(t, <-l.code)
}
