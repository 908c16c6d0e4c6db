package worker

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/ipc"
)

// Reason says who ended a worker, and why.
type Reason int32

const (
	// ReasonSelf: the process ended without the supervisor's doing.
	ReasonSelf Reason = iota
	// ReasonShutdown: it was asked to, and did.
	ReasonShutdown
	// ReasonDeadline: a call ran past its deadline.
	ReasonDeadline
	// ReasonCancel: the node went on after its call was cancelled.
	ReasonCancel
	// ReasonStartTimeout: it was not ready in time.
	ReasonStartTimeout
	// ReasonBroken: its connection broke, or it spoke out of protocol.
	ReasonBroken
	// ReasonKilled: the supervisor had no more use for it.
	ReasonKilled
)

// wantsDump reports whether the Python stacks tell why it had to be ended.
func (r Reason) wantsDump() bool {
	return r == ReasonDeadline || r == ReasonCancel || r == ReasonStartTimeout || r == ReasonBroken
}

// Exit is the autopsy of a worker: how it ended, by whose doing, where in
// Python, and what it last said.
type Exit struct {
	PID int
	// Code is the exit code, -1 where a signal ended the process.
	Code int
	// Signal is the signal that ended the process, 0 where none did.
	Signal syscall.Signal
	Reason Reason
	// Limit is the deadline that was passed, where Reason is one.
	Limit time.Duration
	// Traceback says where in Python it ended, the outermost frame first; empty
	// where the interpreter left no word of it.
	Traceback []ipc.TracebackFrame
	// Dump is what the interpreter wrote as it died: the stacks of all threads.
	Dump string
	// Stderr is the end of what the process wrote on standard error.
	Stderr string
	// Remote is what the worker itself said just before it ended, if it did.
	Remote *ipc.RemoteError
	// Uptime is how long the process lived.
	Uptime time.Duration
	// MaxRSS is the largest resident memory that it had, in bytes.
	MaxRSS int64
}

// Error is one line: what happened, and where.
func (e *Exit) Error() string {
	return e.Summary() + where(e.Traceback)
}

// Summary says what happened, without the place.
func (e *Exit) Summary() string {
	switch e.Reason {
	case ReasonDeadline:
		return fmt.Sprintf("the interpreter hung: no answer within %s", e.Limit)
	case ReasonCancel:
		return fmt.Sprintf("the node went on for %s after it was cancelled, and was ended", e.Limit)
	case ReasonStartTimeout:
		return fmt.Sprintf("the worker was not ready within %s", e.Limit)
	case ReasonShutdown:
		return "the worker was shut down"
	case ReasonKilled:
		return "the worker was ended by the supervisor"
	}
	if r := e.Remote; r != nil {
		switch {
		case r.ExitCode != nil:
			return fmt.Sprintf("the node called sys.exit(%d)", *r.ExitCode)
		case r.Class == "MemoryError":
			return "the interpreter ran out of memory"
		}
		return r.Exception.Error()
	}
	if strings.HasPrefix(e.Dump, "gophersnake: os._exit") {
		call, _, _ := strings.Cut(strings.TrimPrefix(e.Dump, "gophersnake: "), "\n")
		return "the node called " + call
	}
	if e.Signal != 0 {
		text := fmt.Sprintf("the interpreter was ended by %s (%s)", unix.SignalName(e.Signal), e.Signal)
		if e.Signal == syscall.SIGKILL {
			text += ", which somebody outside sent: the kernel does when memory runs out"
		}
		return text
	}
	return fmt.Sprintf("the interpreter exited with code %d", e.Code)
}

func where(frames []ipc.TracebackFrame) string {
	if len(frames) == 0 {
		return ""
	}
	f := frames[len(frames)-1]
	return fmt.Sprintf(" (%s:%d in %s)", f.File, f.Line, f.Function)
}

// exit writes the autopsy of a process that is gone.
func (p *process) exit(packageDir string, remote *ipc.RemoteError) *Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &Exit{
		PID:    p.pid(),
		Code:   -1,
		Reason: p.reason,
		Dump:   p.dump,
		Stderr: p.stderr.last(),
		Remote: remote,
		Uptime: time.Since(p.started),
	}
	if p.state != nil {
		e.Code = p.state.ExitCode()
		if status, ok := p.state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			e.Signal = status.Signal()
		}
		if usage, ok := p.state.SysUsage().(*syscall.Rusage); ok {
			e.MaxRSS = maxRSS(usage)
		}
	}
	switch {
	case remote != nil && len(remote.Frames) > 0:
		e.Traceback = remote.Frames
	default:
		e.Traceback = parseDump(p.dump, packageDir)
	}
	return e
}

var dumpLine = regexp.MustCompile(`^  File "(.*)", line (\d+|\?\?\?) in (.*)$`)

// parseDump finds in faulthandler's dump the stack that tells what happened:
// the one that serves calls where it is there, for node code runs on it, else
// that of the thread on which the signal landed.
func parseDump(dump, packageDir string) []ipc.TracebackFrame {
	var current, serving []ipc.TracebackFrame
	var stack []ipc.TracebackFrame
	isCurrent := false
	flush := func() {
		frames, serves := nodeFrames(stack, packageDir)
		if isCurrent {
			current = frames
		}
		if serves {
			serving = frames
		}
		stack = nil
	}
	lines := bufio.NewScanner(strings.NewReader(dump))
	lines.Buffer(nil, maxDump)
	for lines.Scan() {
		line := lines.Text()
		if m := dumpLine.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[2]) // ??? becomes 0: not known
			stack = append(stack, ipc.TracebackFrame{File: m[1], Line: n, Function: m[3]})
			continue
		}
		if strings.Contains(line, "(most recent call first)") {
			flush()
			isCurrent = strings.HasPrefix(line, "Current thread") || strings.HasPrefix(line, "Stack")
		}
	}
	flush()
	if len(current) == 0 {
		current = serving
	}
	for i := range current {
		current[i].Source = sourceLine(current[i].File, current[i].Line)
	}
	return current
}

// nodeFrames turns a stack around, the outermost frame first, and leaves out
// the worker's own frames and what runs them. It reports whether there were any.
func nodeFrames(stack []ipc.TracebackFrame, packageDir string) ([]ipc.TracebackFrame, bool) {
	end := len(stack)
	serves := false
	for i, f := range stack {
		if packageDir != "" && strings.HasPrefix(f.File, packageDir+string(os.PathSeparator)) {
			end, serves = i, true
			break
		}
	}
	if end == 0 {
		end = len(stack) // the worker itself failed, and its own frames tell where
	}
	frames := make([]ipc.TracebackFrame, 0, end)
	for i := end - 1; i >= 0; i-- {
		frames = append(frames, stack[i])
	}
	return frames, serves
}

// sourceLine returns one line of a source file, or nothing.
func sourceLine(file string, n int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for i := 1; lines.Scan(); i++ {
		if i == n {
			return strings.TrimSpace(lines.Text())
		}
	}
	return ""
}
