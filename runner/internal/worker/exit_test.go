package worker

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestAnExitIsWorded(t *testing.T) {
	three := 3
	frames := []ipc.TracebackFrame{{File: "a.py", Line: 1, Function: "f"}, {File: "b.py", Line: 2, Function: "g"}}
	for _, c := range []struct {
		want string
		exit Exit
	}{
		{"the interpreter exited with code 1", Exit{Code: 1}},
		{"the interpreter exited with code 1, saying: last", Exit{Code: 1, Stderr: "first\nlast"}},
		{"the interpreter exited with code 1 (b.py:2 in g)", Exit{Code: 1, Stderr: "last", Traceback: frames}},
		{"the interpreter was killed by SIGSEGV (segmentation fault) (b.py:2 in g)", Exit{Signal: syscall.SIGSEGV, Traceback: frames}},
		{"the interpreter was killed by SIGKILL (killed), which gophersnake did not send; the kernel sends it when memory runs out", Exit{Signal: syscall.SIGKILL}},
		{"the kernel killed the interpreter because memory ran out (SIGKILL)", Exit{Signal: syscall.SIGKILL, OutOfMemory: true}},
		{"the node called sys.exit(3)", Exit{Remote: &ipc.RemoteError{ExitCode: &three}}},
		{"the interpreter ran out of memory", Exit{Remote: &ipc.RemoteError{Exception: ipc.Exception{Class: "MemoryError"}}}},
		{"SystemError: bad call", Exit{Remote: &ipc.RemoteError{Exception: ipc.Exception{Class: "SystemError", Message: "bad call"}}}},
		{"the node called os._exit(3)", Exit{Code: 3, Dump: "gophersnake: os._exit(3)\n\nStack"}},
		{"the interpreter hung: no answer within 1s", Exit{Reason: ReasonDeadline, Limit: time.Second, Signal: syscall.SIGABRT}},
		{"the node kept running for 2s after its call was canceled, and was killed", Exit{Reason: ReasonCancel, Limit: 2 * time.Second}},
		{"the worker was not ready within 1m0s", Exit{Reason: ReasonStartTimeout, Limit: time.Minute}},
		{"the interpreter hung: no answer within 1s; it was blocked in Python (b.py:2 in g)", Exit{Reason: ReasonDeadline, Limit: time.Second, Hang: HangPython, Traceback: frames}},
		{"the node kept running for 2s after its call was canceled, and was killed; it was blocked in C code that holds the GIL", Exit{Reason: ReasonCancel, Limit: 2 * time.Second, Hang: HangGIL}},
		{"the worker was not ready within 1m0s; the process was stopped", Exit{Reason: ReasonStartTimeout, Limit: time.Minute, Hang: HangStopped}},
		{"the interpreter ran out of memory: its resident memory was 2 GiB, more than the limit of 1 GiB (resident)", Exit{Reason: ReasonMemory, Breach: &Breach{LimitResident, "2 GiB", "1 GiB"}}},
		{"the call used too much CPU time: 1.1s, more than the limit of 1s (cpu_time); it was blocked in Python", Exit{Reason: ReasonCPU, Breach: &Breach{LimitCPUTime, "1.1s", "1s"}, Hang: HangPython}},
		{"the interpreter was killed by SIGRTMIN+3 (signal 37)", Exit{Signal: 37}},
		{"the worker was shut down", Exit{Reason: ReasonShutdown}},
		{"the worker was killed by the supervisor", Exit{Reason: ReasonKilled}},
		{"the worker was killed because its connection broke", Exit{Reason: ReasonBroken, Signal: syscall.SIGABRT}},
	} {
		t.Run(c.want, func(t *testing.T) { assert.Equal(t, c.want, c.exit.Error()) })
	}
}

func TestReasonsAndSignalsHaveNames(t *testing.T) {
	var names []string
	for r := ReasonSelf; r <= ReasonCPU; r++ {
		names = append(names, r.String())
	}
	assert.Equal(t, []string{"self", "shutdown", "deadline", "cancel", "start timeout", "broken", "killed", "memory", "cpu time"}, names)
	for number, name := range map[syscall.Signal]string{
		syscall.SIGSEGV: "SIGSEGV", 34: "SIGRTMIN", 64: "SIGRTMIN+30", 65: "signal 65", 33: "signal 33",
	} {
		assert.Equal(t, name, SignalName(number))
	}
}

// processOf returns the process of a shell script, not started yet.
func processOf(t *testing.T, script string) *process {
	const shell = "import os, runpy, sys; folder = sys.argv[1]; runpy.run_path(folder + '/__main__.py')['fork_worker'](folder); os.execv('/bin/sh', ['sh', '-c', sys.argv[2]])"
	p := newProcess(exec.Command(testkit.Python(t), "-c", shell, packageDir, script), hclog.NewNullLogger())
	t.Cleanup(func() {
		if p.wasStarted() {
			p.end(ReasonKilled)
			<-p.done
		}
	})
	return p
}

func TestAProcessThatEndedByItselfIsNotSaidToHaveBeenEnded(t *testing.T) {
	ends := map[string]func(p *process){
		"by a deadline":        func(p *process) { p.end(ReasonDeadline) },
		"by the supervisor":    func(p *process) { p.end(ReasonKilled) },
		"by being shut down":   func(p *process) { p.expectShutdown() },
		"by being shut down 2": func(p *process) { p.expectShutdown(); p.end(ReasonKilled) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			p := processOf(t, "exit 3")
			inherited, err := p.openFiles()
			require.NoError(t, err)
			p.mu.Lock()
			err = p.spawnLocked()
			p.mu.Unlock()
			require.NoError(t, err)
			for _, f := range inherited {
				require.NoError(t, f.Close())
			}
			testkit.Eventually(t, p.handle.hasExited)
			p.startedAt = time.Now()
			end(p)
			assert.Equal(t, ReasonSelf, p.reason)

			p.stdout.drained.signal()
			p.stderr.drained.signal()
			p.awaitExit()
			end(p)
			exit := p.autopsy("", nil)
			assert.Equal(t, ReasonSelf, exit.Reason)
			assert.Equal(t, 3, exit.Code)
		})
	}
}

func TestAProcessThatWasDyingWhenItWasEndedDiedByItself(t *testing.T) {
	for _, c := range []struct {
		reason Reason
		signal syscall.Signal
		want   bool
	}{
		{ReasonDeadline, syscall.SIGSEGV, true},
		{ReasonDeadline, syscall.SIGABRT, false},
		{ReasonDeadline, syscall.SIGKILL, false},
		{ReasonCancel, syscall.SIGBUS, true},
		{ReasonDeadline, 0, false}, // a handler of SIGABRT that exits
		{ReasonKilled, syscall.SIGSEGV, true},
		{ReasonKilled, syscall.SIGKILL, false},
		{ReasonShutdown, syscall.SIGSEGV, true},
		{ReasonShutdown, 0, false},
		{ReasonSelf, syscall.SIGSEGV, false},
	} {
		assert.Equal(t, c.want, diedFirst(c.reason, c.signal), "%v %v", c.reason, c.signal)
	}
}

func TestAProcessThatIsEndedBeforeItsStartIsNotStarted(t *testing.T) {
	p := processOf(t, "exit 0")
	assert.Empty(t, p.ID())
	require.NoError(t, p.Kill(t.Context()), "there is nothing to kill")
	p.end(ReasonKilled)
	require.ErrorContains(t, p.Start(t.Context()), "before it was started")
	assert.False(t, p.wasStarted())
	assert.Empty(t, p.ID())
}

func TestAProcessWhoseOutputNobodyReadsCanEnd(t *testing.T) {
	p := processOf(t, "echo out; echo err >&2")
	require.NoError(t, p.Start(t.Context()))
	<-p.done
	assert.Empty(t, p.ID())
}

func TestTheEndTakesTheWholeGroup(t *testing.T) {
	p := processOf(t, "sleep 3600 & echo $! >&2; wait")
	require.NoError(t, p.Start(t.Context()))
	buf := make([]byte, 64)
	n, err := p.stderr.Read(buf)
	require.NoError(t, err)
	p.end(ReasonKilled)
	<-p.done
	assert.Equal(t, string(buf[:n]), p.stderr.tail.String()+"\n")
	testkit.Eventually(t, func() bool { return syscall.Kill(-p.pid(), 0) == syscall.ESRCH || groupIsDead(p.pid()) })
}

// groupIsDead reports whether only zombies are left in a process group. They are not
// reaped if the machine's init does not do so.
func groupIsDead(group int) bool {
	out, _ := exec.Command("ps", "-e", "-o", "pgid=,stat=").Output()
	var id int
	var stat string
	for line := range strings.Lines(string(out)) {
		if n, _ := fmt.Sscan(line, &id, &stat); n == 2 && id == group && stat[0] != 'Z' {
			return false
		}
	}
	return true
}
