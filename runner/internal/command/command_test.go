package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestValuesComeBackAsTheyWere(t *testing.T) {
	long := strings.Repeat("a long text, ", 100_000)
	plain := []any{
		nil, true, int64(-1), int64(math.MinInt64), uint64(math.MaxUint64), 0.1, 3.0, "", "line\nline", "é\u2028\x00", long,
		[]any{}, ipc.Object{{Key: "z", Value: int64(1)}, {Key: "a", Value: []any{nil}}},
	}
	lines := started(t, script(t, echoScript))
	program := goProgram(t, "echo")
	program.Protocol = Msgpack
	packed := started(t, program)
	for _, v := range plain {
		assertEcho(t, packed, v)
		if v != long { // the shell takes a second for it
			assertEcho(t, lines, v)
		}
	}
	for _, v := range []any{[]byte("\xff\n\x00"), bytes.Repeat([]byte{7}, 1<<20), time.Unix(1, 5).UTC(), math.Inf(1)} {
		assertEcho(t, packed, v)
	}
	assertEcho(t, started(t, goProgram(t, "echo")), long)
	tensor, err := ipc.NewTensor([]float32{1, 2, 3, 4}, 2, 2)
	require.NoError(t, err)
	assertEcho(t, packed, ipc.Object{{Key: "tensor", Value: tensor}})
}

func TestAProcessServesManyCalls(t *testing.T) {
	n := started(t, goProgram(t, "double"))
	first := n.idle()[0]
	for i := range 1000 {
		out, err := call(t, n, i)
		require.NoError(t, err)
		require.Equal(t, int64(2*i), out)
	}
	assert.Equal(t, []*process{first}, n.idle())
}

func TestCallsAtOnceHaveProcessesOfTheirOwn(t *testing.T) {
	c := goProgram(t, "double")
	c.Min, c.Max = 1, 3
	n := started(t, c)
	var calls sync.WaitGroup
	for i := range 12 {
		calls.Go(func() {
			for j := range 20 {
				out, err := call(t, n, 100*i+j)
				assert.NoError(t, err)
				assert.Equal(t, int64(200*i+2*j), out)
			}
		})
	}
	calls.Wait()
	assert.LessOrEqual(t, n.size(), 3)
}

func TestJqIsANode(t *testing.T) {
	needs(t, "jq")
	n := started(t, configOf(t, "jq", "-c", "--unbuffered", ".price * 2"))
	for i := range 100 {
		out, err := call(t, n, map[string]any{"price": i, "name": "ü"})
		require.NoError(t, err)
		require.Equal(t, int64(2*i), out)
	}
	wrong := encoded(t, map[string]any{"price": map[string]any{}})
	_, err := n.CallWithin(t.Context(), engine.Within{Limit: time.Second, Cause: context.DeadlineExceeded}, wrong) // jq goes on without an answer
	e := failure(t, err)
	assert.Equal(t, engine.Transport, e.Fault)
	assert.Contains(t, e.Stderr, "jq: error")
}

func TestOnce(t *testing.T) {
	for _, c := range []struct {
		name, script string
		output       Output
		in, want     any
	}{
		{"JSON", "cat", JSON, map[string]any{"a": int64(1)}, ipc.Object{{Key: "a", Value: int64(1)}}},
		{"a string as JSON", "cat", JSON, "text", "text"},
		{"JSON in many lines", `printf '{\n"a":\n1}\n\n'`, JSON, nil, ipc.Object{{Key: "a", Value: int64(1)}}},
		{"a string as text", "tr a-z A-Z", Text, "text\n", "TEXT\n"},
		{"JSON to text", "cat", Text, []any{int64(1)}, "[1]\n"},
		{"nothing as text", ":", Text, nil, ""},
		{"bytes", "cat", Bytes, []byte("\xff\x00"), []byte("\xff\x00")},
		{"bytes to JSON", "wc -c", JSON, []byte("\xff\x00"), int64(2)},
		{"an input that is not read", "echo 1", JSON, strings.Repeat("x", 1<<20), int64(1)},
		{"an input that is read in part", "head -c 3", Text, strings.Repeat("x", 1<<20), "xxx"},
		{"a large result", "head -c 1000000 /dev/zero", Bytes, nil, make([]byte, 1_000_000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := script(t, c.script)
			config.Protocol, config.Output = Once, c.output
			n := started(t, config)
			assert.Zero(t, n.size(), "it is started for the call only")
			for range 2 {
				out, err := call(t, n, c.in)
				require.NoError(t, err)
				assert.Equal(t, c.want, out)
			}
			testkit.Eventually(t, func() bool { return n.size() == 0 })
		})
	}
}

// idle returns the processes without a call.
func (n *Node) idle() []*process {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	return slices.Clone(n.pool.idle)
}

// size returns how many processes there are.
func (n *Node) size() int {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	return len(n.pool.all)
}

func TestProgramsAreFound(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	write("bin/echoes", "#!/bin/sh\n"+echoScript, 0o700)
	plain := write("bin/plain", "#!/bin/sh\n", 0o600)
	alien := write("bin/alien", "no program", 0o700)
	orphan := write("bin/orphan", "#!/no/such/interpreter\n", 0o700)
	for _, c := range []struct {
		program, reason, hint string
		late                  bool // found by the kernel only
	}{
		{program: "./bin/echoes"},
		{program: "echoes"},
		{program: filepath.Join(folder, "bin/echoes")},
		{program: "none", reason: `there is no program "none" in PATH`, hint: "install it, set PATH"},
		{program: "./none", reason: "cannot run " + folder + "/none: no such file or directory", hint: "correct the path"},
		{program: "bin/plain/x", reason: "not a directory"},
		{program: "./bin", reason: "is a directory"},
		{program: "plain", reason: "cannot run " + plain + ": permission denied", hint: "chmod +x"},
		{program: "./bin/plain", reason: "cannot run " + plain + ": permission denied", hint: "chmod +x"},
		{program: alien, reason: "exec format error", hint: "a script needs a first line", late: true},
		{program: orphan, reason: "no such file or directory", hint: "its first line names", late: true},
	} {
		for _, reaped := range []bool{true, false} {
			t.Run(fmt.Sprint(filepath.Base(c.program), " reaped ", reaped), func(t *testing.T) {
				config := configOf(t, c.program)
				config.Dir = folder
				config.Env = append(config.Env, "PATH="+folder+"/bin:/usr/bin:/bin")
				if !reaped {
					config.Python = ""
				}
				n := New(config)
				defer n.Close(ended())
				err := n.Start(t.Context())
				switch {
				case c.reason == "":
					require.NoError(t, err)
					assertEcho(t, n, int64(1))
					return
				case c.late && reaped:
					require.NoError(t, err)
					_, err = call(t, n, 1)
				}
				e := failure(t, err)
				assert.Equal(t, engine.System, e.Fault)
				assert.Contains(t, e.Error(), c.reason)
				assert.Contains(t, e.Hint, c.hint)
			})
		}
	}
}

func TestTheEnvironmentAndTheFolderAreThoseOfTheNode(t *testing.T) {
	c := script(t, `while read -r _; do echo "\"$PWD $NAME $1\""; done`)
	c.Args = append(c.Args, "name", "an argument")
	c.Env = append(c.Env, "NAME=value")
	out, err := call(t, started(t, c), nil)
	require.NoError(t, err)
	assert.Equal(t, c.Dir+" value an argument", out)
}

func TestWhatJSONCannotCarryIsRefused(t *testing.T) {
	n := started(t, script(t, echoScript))
	_, err := call(t, n, map[string]any{"data": []any{[]byte("x")}})
	e := failure(t, err)
	assert.Equal(t, engine.Marshaling, e.Fault)
	assert.Equal(t, "input.data[0]", e.Path)
	assert.Contains(t, e.Hint, "protocol: msgpack")
	assertEcho(t, n, int64(1))
	assert.Equal(t, 1, n.size(), "the process lives on")
}

func TestAProcessRetiresAfterMaxCalls(t *testing.T) {
	c := script(t, `while read -r _; do echo $$; done; echo bye >>bye`)
	c.MaxCalls = 2
	n := started(t, c)
	var seen []any
	for range 5 {
		out, err := call(t, n, nil)
		require.NoError(t, err)
		seen = append(seen, out)
	}
	assert.Equal(t, seen[0], seen[1])
	assert.NotEqual(t, seen[1], seen[2])
	assert.Equal(t, seen[2], seen[3])
	assert.NotEqual(t, seen[3], seen[4])
	testkit.AwaitFile(t, filepath.Join(c.Dir, "bye"))
}

func TestACallWaitsForAProcessThatIsBusy(t *testing.T) {
	c := script(t, `while read -r line; do until [ -e go ]; do sleep 0.01; done; echo $line; done`)
	n := started(t, c)
	first := make(chan error, 1)
	go func() {
		_, err := call(t, n, 1)
		first <- err
	}()
	testkit.Eventually(t, func() bool { return n.pool.slots.Used() == 1 })
	canceled, cancel := context.WithCancelCause(t.Context())
	own := errors.New("its own reason")
	cancel(own)
	_, err := callIn(canceled, t, n, 2)
	assert.ErrorIs(t, err, own)
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "go"), nil, 0o600))
	require.NoError(t, <-first)
	assertEcho(t, n, int64(3))
}

func TestTheQueueHasLimits(t *testing.T) {
	for limit, wait := range map[string]time.Duration{"queue": 0, "queue_wait": time.Millisecond} {
		c := script(t, `while read -r line; do until [ -e go ]; do sleep 0.01; done; echo $line; done`)
		c.Queue, c.QueueWait = 1, wait
		n := started(t, c)
		ended := make(chan error, 2)
		calling := func(v int) { _, err := n.Call(context.Background(), encoded(t, v)); ended <- err }
		go calling(1)
		testkit.Eventually(t, func() bool { return n.pool.slots.Used() == 1 })
		if limit == "queue" {
			go calling(2)
			testkit.Eventually(t, func() bool { return n.pool.slots.Waiting() == 1 })
		} else {
			ended <- nil
		}
		_, err := call(t, n, 3)
		e := failure(t, err)
		assert.Equal(t, engine.Busy, e.Fault)
		assert.Equal(t, limit, e.Limit)
		assert.Contains(t, e.Reason, "workers.max is 1, and all are busy")
		require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "go"), nil, 0o600))
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
	}
}

func TestIdleProcessesBeyondTheMinimumEnd(t *testing.T) {
	c := script(t, `while read -r line; do until [ -e go ]; do sleep 0.01; done; echo $line; done`)
	c.Max, c.IdleTimeout = 3, 10*time.Millisecond
	n := started(t, c)
	var calls sync.WaitGroup
	for i := range 3 {
		calls.Go(func() { _, err := call(t, n, i); assert.NoError(t, err) })
	}
	testkit.Eventually(t, func() bool { return n.size() == 3 })
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "go"), nil, 0o600))
	calls.Wait()
	testkit.Eventually(t, func() bool { return n.size() == 1 })
	assertEcho(t, n, int64(7))
}

func TestAnOldProcessIsReplacedAfterItsCall(t *testing.T) {
	c := script(t, `while read -r _; do echo $$; done`)
	c.MaxAge = time.Nanosecond
	n := started(t, c)
	first, err := call(t, n, nil)
	require.NoError(t, err)
	second, err := call(t, n, nil)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
}
