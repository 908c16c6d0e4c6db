package command

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// programVariable makes the test's own binary a program of a node.
const programVariable = "GOPHERSNAKE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if program := os.Getenv(programVariable); program != "" {
		programs[program]()
		return
	}
	os.Exit(m.Run())
}

// programs are what the binary does as a program.
var programs = map[string]func(){
	"echo": func() { // any protocol
		_, _ = io.Copy(os.Stdout, os.Stdin)
	},
	"double": func() { // json-lines
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			var n int
			_, _ = fmt.Sscan(lines.Text(), &n)
			fmt.Println(2 * n)
		}
	},
	"descriptors": func() { // json-lines: how many files it can open
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			n := 0
			for ; n < 1000; n++ {
				if _, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0); err != nil {
					break
				}
			}
			fmt.Println(n)
		}
	},
	"reserve": func() { // json-lines: takes as many MiB as the input says
		lines := bufio.NewScanner(os.Stdin)
		var kept [][]byte
		for lines.Scan() {
			var n int
			_, _ = fmt.Sscan(lines.Text(), &n)
			memory := make([]byte, n<<20)
			for i := 0; i < len(memory); i += 4096 {
				memory[i] = 1
			}
			kept = append(kept, memory)
			time.Sleep(time.Duration(min(n, 1)) * time.Second / 2)
			fmt.Println(len(kept))
		}
	},
	"half": func() { // msgpack: a length without its data, then the end
		var first [1]byte
		_, _ = os.Stdin.Read(first[:])
		_ = binary.Write(os.Stdout, binary.BigEndian, [5]byte{0xc6, 0, 0, 0, 9})
	},
}

// goProgram returns the configuration of a node whose program is written in Go.
func goProgram(t testing.TB, name string) Config {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	c := configOf(t, binary)
	c.Env = append(c.Env, programVariable+"="+name)
	return c
}

// configOf returns the configuration of a node. It has a reaper.
func configOf(t testing.TB, args ...string) Config {
	t.Helper()
	return Config{
		Args: args, Dir: t.TempDir(), Env: os.Environ(), Protocol: JSONLines, Output: JSON,
		Min: 1, Max: 1, Grace: testkit.Long, Python: testkit.Python(t), Logger: hclog.NewNullLogger(),
	}
}

// script returns the configuration of a node that is a shell script.
func script(t *testing.T, text string) Config {
	t.Helper()
	return configOf(t, "sh", "-c", text)
}

// echoScript answers each line with itself.
const echoScript = `while read -r line; do printf '%s\n' "$line"; done`

// started returns a node that the test closes at its end.
func started(t *testing.T, c Config) *Node {
	t.Helper()
	n := New(c)
	t.Cleanup(func() { n.Close(ended()) })
	require.NoError(t, n.Start(t.Context()))
	return n
}

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	p, err := ipc.Encode("input", v)
	require.NoError(t, err)
	in, err := p.Inline("input", ipc.DefaultLimits())
	require.NoError(t, err)
	return in
}

// call calls a node with a value, and returns the value of its answer, whose objects keep
// their order.
func call(t testing.TB, n *Node, v any) (any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Long)
	defer cancel()
	return callIn(ctx, t, n, v)
}

func callIn(ctx context.Context, t testing.TB, n *Node, v any) (any, error) {
	t.Helper()
	out, err := n.Call(ctx, encoded(t, v))
	if err != nil {
		return nil, err
	}
	return ipc.Payload{Body: out}.Ordered().Decode("result", ipc.DefaultLimits())
}

// failure returns the error of a call as the type that all of them have.
func failure(t testing.TB, err error) *engine.Error {
	t.Helper()
	require.Error(t, err)
	e, ok := errors.AsType[*engine.Error](err)
	require.True(t, ok, "%T: %v", err, err)
	return e
}

// needs skips the test if a program is not installed.
func needs(t *testing.T, program string) {
	t.Helper()
	for folder := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		if testkit.Exists(folder + "/" + program)() {
			return
		}
	}
	t.Skipf("%s is not installed", program)
}

func assertEcho(t *testing.T, n *Node, v any) {
	t.Helper()
	out, err := call(t, n, v)
	require.NoError(t, err)
	assert.Equal(t, v, out)
}

// testCommand returns a command that runs one of the tests in a process of its own.
func testCommand(t *testing.T, test string, env ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(binary, "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}
