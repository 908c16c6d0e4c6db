package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// once1 makes a script misbehave on inputs of 1 only, so that the process that replaces
// another one can be seen to work.
func once1(misbehave string) string {
	return `while read -r line; do case $line in 1) ` + misbehave + `;; *) echo "$line";; esac; done`
}

func TestEachFaultIsExplained(t *testing.T) {
	for _, c := range []struct {
		name, script string
		protocol     Protocol
		fault        engine.Fault
		reason       string
		code         int // -1 for none
		signal       string
		hint         string
	}{
		{name: "an exit code", script: once1("echo first >&2; echo it is broken >&2; exit 3"), fault: engine.Execution,
			reason: "the program exited with code 3, saying: it is broken", code: 3},
		{name: "the fault of a Go program", script: once1("echo panic: it is empty >&2; echo main.go:3 >&2; exit 2"), fault: engine.Execution,
			reason: "the program exited with code 2, saying: panic: it is empty", code: 2},
		{name: "an exit without an answer", script: once1("exit 0"), fault: engine.Transport,
			reason: "the program exited with code 0 before it had answered", hint: "use the protocol once"},
		{name: "an exit in the middle of an answer", script: once1("printf '[1,'; exit 0"), fault: engine.Transport,
			reason: "exited with code 0 before it had answered"},
		{name: "a crash", script: once1("kill -SEGV $$"), fault: engine.Transport,
			reason: "the program was killed by SIGSEGV (segmentation fault)", code: -1, signal: "SIGSEGV"},
		{name: "a kill", script: once1("kill -KILL $$"), fault: engine.Transport,
			reason: "killed by SIGKILL (killed), which gophersnake did not send", code: -1, signal: "SIGKILL", hint: "ran out of memory"},
		{name: "a broken pipe is not ignored", script: once1("kill -PIPE $$"), fault: engine.Transport, code: -1, signal: "SIGPIPE"},
		{name: "garbage", script: once1(`printf 'h\033[31mello\n'`), fault: engine.Marshaling,
			reason: `something else than JSON, "h\x1b[31mello"`, code: -1, hint: "standard error"},
		{name: "garbage after a value", script: once1("echo 1 2"), fault: engine.Marshaling, reason: "not one JSON", code: -1},
		{name: "a line that is empty", script: once1("echo"), fault: engine.Marshaling, reason: "it is empty", code: -1},
		{name: "bytes that are not UTF-8", script: once1(`printf '"\377"\n'`), fault: engine.Marshaling, reason: `\xff`, code: -1},
		{name: "two lines", script: once1(`printf '1\n2\n'`), fault: engine.Transport,
			reason: `the program wrote "2" after its answer`, code: -1, hint: "exactly one result"},
		{name: "an answer to no question", script: "echo ready; echo ready >&2; " + echoScript, fault: engine.Transport,
			reason: `the program wrote "ready" before it was asked`, code: -1},
		{name: "a flood", script: once1("exec tr '\\0' x </dev/zero"), fault: engine.Marshaling,
			reason: `more than 100000 bytes, beginning with "xxx`, code: -1},
		{name: "input closed", script: "exec <&-; echo ready >&2; exec sleep 3600", fault: engine.Transport,
			reason: "closed its standard input", code: -1},
		{name: "output closed", script: once1("exec >&-; sleep 3600"), fault: engine.Transport,
			reason: "closed its standard output", code: -1},
		{name: "no msgpack", script: `printf '\301'; echo ready >&2; cat`, protocol: Msgpack, fault: engine.Transport, reason: "before it was asked", code: -1},
		{name: "invalid msgpack", script: `head -c 1 >&2; printf '\301'; sleep 3600`, protocol: Msgpack, fault: engine.Marshaling,
			reason: "something else than msgpack", code: -1},
		{name: "msgpack that is too large", script: `head -c 1 >&2; printf '\306\377\377\377\377'; sleep 3600`, protocol: Msgpack,
			fault: engine.Marshaling, reason: "more than 100000 bytes", code: -1},
		{name: "an exit code after output", script: "cat; exit 4", protocol: Once, fault: engine.Execution, reason: "exited with code 4", code: 4},
		{name: "no output", script: ":", protocol: Once, fault: engine.Marshaling, reason: "it is empty", code: -1},
		{name: "a flood once", script: "exec cat /dev/zero", protocol: Once, fault: engine.Marshaling, reason: "more than 100000 bytes", code: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := script(t, c.script)
			if c.protocol != "" {
				config.Protocol = c.protocol
			}
			config.Limits.Result = 100_000
			n := started(t, config)
			if strings.Contains(c.script, "ready >&2") { // what it does, it does without a call
				testkit.Eventually(t, func() bool { return n.idle()[0].stderr.tail.String() == "ready" })
			}
			if c.name == "input closed" { // the reaper keeps it open for some milliseconds
				testkit.Eventually(t, func() bool { return hasNoReader(n.idle()[0].stdin) })
			}
			_, err := call(t, n, 1)
			e := failure(t, err)
			assert.Equal(t, c.fault, e.Fault, "%v", e)
			assert.Contains(t, e.Error(), c.reason)
			assert.Equal(t, c.signal, e.Signal)
			assert.Contains(t, e.Hint, c.hint)
			assert.NotZero(t, e.PID)
			if c.code >= 0 {
				require.NotNil(t, e.ExitCode)
				assert.Equal(t, c.code, *e.ExitCode)
			} else {
				assert.Nil(t, e.ExitCode)
			}
			assert.True(t, testkit.Gone(e.PID), "the process has ended before its call returns")
			if strings.HasPrefix(c.script, "while") {
				assertEcho(t, n, int64(2))
			}
		})
	}
}

// hasNoReader reports whether a pipe has no read end.
func hasNoReader(f *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	_, _ = unix.Poll(fds, 0)
	return fds[0].Revents&unix.POLLERR != 0
}

// A program that starts others, which leave its group, its session and its pipes.
const familyScript = `echo $$ >>pids
sleep 3600 & echo $! >>pids
setsid sh -c 'echo $$ >>pids; exec sleep 3600' &
(setsid sh -c 'trap "" TERM HUP; echo $$ >>pids; exec sleep 3600 >/dev/null 2>&1 </dev/null' &)
until [ $(wc -l <pids) -ge 4 ]; do sleep 0.01; done; echo ready >ready
`

// family returns the processes of familyScript.
func family(t *testing.T, folder string) (pids []int) {
	t.Helper()
	testkit.AwaitFile(t, filepath.Join(folder, "ready"))
	text, err := os.ReadFile(filepath.Join(folder, "pids"))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var pid int
		_, err := fmt.Sscan(line, &pid)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.Len(t, pids, 4)
	return pids
}

func assertGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		assert.False(t, testkit.Alive(pid), "process %d", pid)
	}
}

func TestADeadlineKillsAllThatTheProgramHasStarted(t *testing.T) {
	c := script(t, `while read -r line; do case $line in 1) `+familyScript+` sleep 3600;; *) echo "$line";; esac; done`)
	n := started(t, c)
	late := errors.New("no answer in time")
	_, err := n.CallWithin(t.Context(), engine.Within{Limit: time.Second, Cause: late}, encoded(t, 1))
	e := failure(t, err)
	assert.Equal(t, engine.Transport, e.Fault)
	assert.ErrorIs(t, e, late)
	assert.Contains(t, e.Hint, "buffer")
	assertGone(t, family(t, c.Dir))
	assertEcho(t, n, int64(2))
}

func TestACancellationKillsAllThatTheProgramHasStarted(t *testing.T) {
	c := script(t, `while read -r line; do case $line in 1) `+familyScript+` sleep 3600;; *) echo "$line";; esac; done`)
	n := started(t, c)
	ctx, cancel := context.WithCancelCause(t.Context())
	own := errors.New("not needed")
	go func() {
		testkit.AwaitFile(t, filepath.Join(c.Dir, "ready"))
		cancel(own)
	}()
	_, err := callIn(ctx, t, n, 1)
	assert.ErrorIs(t, err, own)
	assertGone(t, family(t, c.Dir))
	assertEcho(t, n, int64(2))
}

func TestWithoutAReaperTheGroupEnds(t *testing.T) {
	c := script(t, `while read -r line; do sleep 3600 & echo $! >child; sleep 3600; done`)
	c.Python = ""
	n := started(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var child int
	go func() {
		child = testkit.AwaitPID(t, filepath.Join(c.Dir, "child"))
		cancel()
	}()
	_, err := callIn(ctx, t, n, 1)
	assert.ErrorIs(t, err, context.Canceled)
	testkit.Eventually(t, func() bool { return !testkit.Alive(child) })
}

func TestACallThatIsCanceledBeforeEndsNothing(t *testing.T) {
	n := started(t, script(t, echoScript))
	first := n.idle()[0]
	_, err := callIn(ended(), t, n, 1)
	assert.ErrorIs(t, err, context.Canceled)
	assertEcho(t, n, int64(2))
	assert.Equal(t, []*process{first}, n.idle())
}

func TestCallsThatAreCanceledAtAnyTimeDoNotDisturbOthers(t *testing.T) {
	c := goProgram(t, "double")
	c.Min, c.Max = 2, 2
	n := started(t, c)
	for i := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
		if out, err := callIn(ctx, t, n, i); err == nil {
			require.Equal(t, int64(2*i), out)
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
		out, err := call(t, n, 1000+i)
		require.NoError(t, err)
		require.Equal(t, int64(2000+2*i), out)
	}
}

func TestAnIdleProcessThatDiesIsReplaced(t *testing.T) {
	n := started(t, script(t, echoScript))
	for range 3 {
		first := n.idle()[0]
		require.NoError(t, syscall.Kill(first.id, syscall.SIGKILL))
		testkit.Eventually(t, func() bool { return !testkit.Alive(first.id) })
		assertEcho(t, n, int64(1)) // also if the death was not noticed yet
		<-first.done
		testkit.Eventually(t, func() bool {
			idle := n.idle()
			return len(idle) == 1 && idle[0] != first
		})
	}
}

func TestAProgramThatEndsAtOnceIsStartedMoreAndMoreSeldom(t *testing.T) {
	c := script(t, "echo x >>starts; exit 1")
	n := started(t, c)
	testkit.Eventually(t, func() bool {
		n.pool.mu.Lock()
		defer n.pool.mu.Unlock()
		return n.pool.failures >= 4
	})
	starts, err := os.ReadFile(filepath.Join(c.Dir, "starts"))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(starts), 2*6)
	assert.Equal(t, []time.Duration{0, 0, firstDelay, 2 * firstDelay, lastDelay}, []time.Duration{
		delayAfter(0), delayAfter(1), delayAfter(2), delayAfter(3), delayAfter(1000),
	})
	_, err = call(t, n, 1)
	require.Error(t, err)
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		limits Limits
		input  int
		want   any
		fault  engine.Fault
		reason string
		limit  string
	}{
		{name: "open files", config: goProgram(t, "descriptors"), limits: Limits{OpenFiles: 20}, want: int64(20)},
		{name: "memory", config: goProgram(t, "reserve"), limits: Limits{Memory: 300 << 20}, input: 1000, fault: engine.Execution,
			reason: "exited with code"},
		{name: "resident memory", config: goProgram(t, "reserve"), limits: Limits{Resident: 50 << 20}, input: 200, fault: engine.Transport,
			reason: "bytes, more than the limit of 52428800", limit: "resident"},
		{name: "CPU time", config: script(t, "read -r _; while :; do :; done"), limits: Limits{CPUTime: 200 * time.Millisecond},
			fault: engine.Transport, reason: "more than the limit of 200ms", limit: "cpu_time"},
		{name: "CPU time of children", config: script(t, "read -r _; sh -c 'while :; do :; done'; :"), limits: Limits{CPUTime: 200 * time.Millisecond},
			fault: engine.Transport, reason: "more than the limit of 200ms", limit: "cpu_time"},
		{name: "threads", config: script(t, "read -r _; for _ in 1 2 3 4 5 6; do sleep 3600 & done; wait"), limits: Limits{Threads: 5},
			fault: engine.Transport, reason: "threads, more than the limit of 5", limit: "threads"},
		{name: "result", config: script(t, `read -r _; echo '"0123456789"'; cat`), limits: Limits{Result: 11},
			fault: engine.Marshaling, reason: "more than 11 bytes", limit: "result"},
		{name: "a result of the size", config: script(t, `read -r _; echo '"0123456789"'; cat`), limits: Limits{Result: 12}, want: "0123456789"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.config.Limits = c.limits
			out, err := call(t, started(t, c.config), c.input)
			if c.reason == "" {
				require.NoError(t, err)
				if n, ok := out.(int64); ok {
					assert.Less(t, n, c.want)
				} else {
					assert.Equal(t, c.want, out)
				}
				return
			}
			e := failure(t, err)
			assert.Equal(t, c.fault, e.Fault)
			assert.Contains(t, e.Reason, c.reason)
			assert.Equal(t, c.limit, e.Limit)
		})
	}
}

func TestCloseAsksAndThenKills(t *testing.T) {
	t.Run("asks", func(t *testing.T) {
		c := script(t, echoScript+"; echo bye >bye")
		n := started(t, c)
		n.Close(t.Context())
		assert.True(t, testkit.Exists(filepath.Join(c.Dir, "bye"))())
		_, err := n.Call(t.Context(), encoded(t, 1))
		assert.ErrorContains(t, err, "the node was closed")
		n.Close(t.Context())
	})
	t.Run("kills", func(t *testing.T) {
		c := script(t, "trap '' TERM; "+familyScript+"exec sleep 3600")
		c.Grace = 10 * time.Millisecond
		n := started(t, c)
		pids := family(t, c.Dir)
		n.Close(t.Context())
		assertGone(t, pids)
	})
	t.Run("calls fail", func(t *testing.T) {
		c := script(t, "read -r line; echo $$ >called; sleep 3600")
		n := started(t, c)
		failed := make(chan error, 2)
		for range 2 { // one of them waits
			go func() { _, err := n.Call(context.Background(), encoded(t, 1)); failed <- err }()
		}
		pid := testkit.AwaitPID(t, filepath.Join(c.Dir, "called"))
		n.Close(t.Context())
		assert.False(t, testkit.Alive(pid))
		for range 2 {
			assert.ErrorContains(t, <-failed, "the node was closed")
		}
	})
}

func TestNoDescriptorIsLeft(t *testing.T) {
	n := started(t, script(t, once1("exit 1")))
	_, err := call(t, n, 1)
	require.Error(t, err)
	assertEcho(t, n, int64(2))
	before := testkit.Descriptors(t, os.Getpid())
	for range 20 {
		_, err := call(t, n, 1)
		require.Error(t, err)
	}
	assertEcho(t, n, int64(2))
	testkit.Eventually(t, func() bool { return testkit.Descriptors(t, os.Getpid()) <= before })
	n.Close(t.Context())
	testkit.Eventually(t, func() bool { return len(testkit.Children(t, os.Getpid())) == 0 })
}

func TestNothingOutlivesAKilledSupervisor(t *testing.T) {
	if folder := os.Getenv("COMMAND_FOLDER"); folder != "" {
		c := script(t, familyScript+echoScript)
		c.Dir = folder
		if os.Getenv("COMMAND_REAPER") == "" {
			c.Python = ""
		}
		n := New(c)
		require.NoError(t, n.Start(t.Context()))
		select {}
	}
	for _, reaped := range []string{"", "yes"} {
		t.Run("reaped "+reaped, func(t *testing.T) {
			folder := t.TempDir()
			supervisor := testCommand(t, "TestNothingOutlivesAKilledSupervisor", "COMMAND_FOLDER="+folder, "COMMAND_REAPER="+reaped)
			require.NoError(t, supervisor.Start())
			pids := family(t, folder)
			require.NoError(t, supervisor.Process.Kill())
			_ = supervisor.Wait()
			inGroup := pids[:2]
			if reaped == "" { // the kernel kills the group alone
				for _, pid := range pids[2:] {
					defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
				}
			} else {
				inGroup = pids
			}
			for _, pid := range inGroup {
				testkit.Eventually(t, func() bool { return !testkit.Alive(pid) })
			}
		})
	}
}
