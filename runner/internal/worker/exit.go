package worker

import (
	"fmt"
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
	// ReasonMemory: it took more resident memory than Limits.Resident.
	ReasonMemory
	// ReasonCPU: a call took more CPU time than Limits.CPUTime.
	ReasonCPU
)

// wantsDump reports whether the Python stacks tell why it had to be ended.
func (r Reason) wantsDump() bool {
	return r == ReasonBroken || r == ReasonMemory || r.isHang()
}

// isHang reports whether it was ended for not coming to an end.
func (r Reason) isHang() bool {
	return r == ReasonDeadline || r == ReasonCancel || r == ReasonStartTimeout || r == ReasonCPU
}

var reasons = [...]string{
	ReasonSelf: "self", ReasonShutdown: "shutdown", ReasonDeadline: "deadline", ReasonCancel: "cancel",
	ReasonStartTimeout: "start timeout", ReasonBroken: "broken", ReasonKilled: "killed",
	ReasonMemory: "memory", ReasonCPU: "cpu time",
}

func (r Reason) String() string { return reasons[r] }

// Exit is the autopsy of a worker: how it ended, by whose doing, where in
// Python, and what it last said.
type Exit struct {
	PID int
	// Code is the exit code, -1 where a signal ended the process.
	Code int
	// Signal is the signal that ended the process, 0 where none did.
	Signal syscall.Signal
	// Unknown says that there is neither to be told: a template forked the process,
	// and died before it. A Template alone can ask how its children ended.
	Unknown bool
	Reason  Reason
	// Limit is the deadline that was passed, where Reason is one.
	Limit time.Duration
	// Breach is the limit that was passed, nil where none was.
	Breach *Breach
	// Hang says in what way it hung, where its Reason is that it did not answer;
	// empty where that cannot be told.
	Hang Hang
	// Traceback says where in Python it ended, the outermost frame first; empty
	// where the interpreter left no word of it.
	Traceback []ipc.TracebackFrame
	// Dump is what the interpreter wrote as it died: the stacks of all threads.
	Dump string
	// Stderr is the end of what the process wrote on standard error.
	Stderr string
	// Begun is how many calls the worker had begun, where it Counted them.
	Begun   uint64
	Counted bool
	// Remote is what the worker itself said just before it ended, if it did.
	Remote *ipc.RemoteError
	// Uptime is how long the process lived.
	Uptime time.Duration
	// MaxRSS is the largest resident memory that it had, in bytes.
	MaxRSS int64
	// OutOfMemory says that the kernel counted a process of the supervisor's
	// cgroup that it ended for want of memory while this one lived, and that
	// SIGKILL ended this one.
	OutOfMemory bool
}

// Error is one line: what happened, and where.
func (e *Exit) Error() string {
	return e.Summary() + where(e.Traceback)
}

// Summary says what happened, without the place.
func (e *Exit) Summary() string {
	switch e.Reason {
	case ReasonDeadline:
		return fmt.Sprintf("the interpreter hung: no answer within %s", e.Limit) + e.Hang.in()
	case ReasonCancel:
		return fmt.Sprintf("the node went on for %s after it was cancelled, and was ended", e.Limit) + e.Hang.in()
	case ReasonStartTimeout:
		return fmt.Sprintf("the worker was not ready within %s", e.Limit) + e.Hang.in()
	case ReasonMemory:
		return fmt.Sprintf("the interpreter ran out of memory: its resident memory was %s", e.Breach)
	case ReasonCPU:
		return fmt.Sprintf("the call used too much CPU time: %s", e.Breach) + e.Hang.in()
	case ReasonShutdown:
		return "the worker was shut down"
	case ReasonKilled:
		return "the worker was ended by the supervisor"
	case ReasonBroken:
		return "the worker was ended because its connection broke"
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
	switch {
	case e.OutOfMemory:
		return "the kernel ended the interpreter because memory ran out (SIGKILL)"
	case e.Signal == syscall.SIGKILL:
		return fmt.Sprintf("the interpreter was ended by %s, which somebody outside sent: the kernel does when memory runs out", signalText(e.Signal))
	case e.Signal != 0:
		return "the interpreter was ended by " + signalText(e.Signal)
	case e.Unknown:
		return "the interpreter ended, and how is not known: the template that had forked it died before"
	case e.Code > 0 && len(e.Traceback) == 0 && e.Stderr != "":
		return fmt.Sprintf("the interpreter exited with code %d, saying: %s", e.Code, lastLine(e.Stderr))
	}
	return fmt.Sprintf("the interpreter exited with code %d", e.Code)
}

func signalText(s syscall.Signal) string {
	return fmt.Sprintf("%s (%s)", SignalName(s), s)
}

// SignalName returns the name of a signal, of a real-time one too.
func SignalName(s syscall.Signal) string {
	const first, last = 34, 64 // of those that C libraries leave to programs
	switch name := unix.SignalName(s); {
	case name != "":
		return name
	case s == first:
		return "SIGRTMIN"
	case s > first && s <= last:
		return fmt.Sprintf("SIGRTMIN+%d", int(s)-first)
	}
	return fmt.Sprintf("signal %d", int(s))
}

// maxLastLine is how much of the last line of standard error goes into a message.
const maxLastLine = 500

func lastLine(text string) string {
	line := text[strings.LastIndexByte(text, '\n')+1:]
	if len(line) > maxLastLine {
		line = strings.ToValidUTF8(line[:maxLastLine], "") + "…"
	}
	return line
}

func where(frames []ipc.TracebackFrame) string {
	if len(frames) == 0 {
		return ""
	}
	f := frames[len(frames)-1]
	return fmt.Sprintf(" (%s:%d in %s)", f.File, f.Line, f.Function)
}

// connectionEnded is how the last words begin of a worker that leaves because it
// cannot go on with its connection.
const connectionEnded = "gophersnake: the connection ended"

// outOfProtocol is what the worker itself found wrong with its connection, empty
// where it did not say.
func (e *Exit) outOfProtocol() string {
	words, found := strings.CutPrefix(e.Dump, connectionEnded+": out of protocol: ")
	if !found {
		return ""
	}
	line, _, _ := strings.Cut(words, "\n")
	return line
}

// exit writes the autopsy of a process that is gone.
func (p *process) exit(packageDir string, remote *ipc.RemoteError) *Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &Exit{
		PID:         p.pid(),
		Code:        -1,
		Reason:      p.reason,
		Dump:        p.dump,
		Stderr:      p.stderr.last(),
		Remote:      remote,
		Begun:       p.begun,
		Counted:     p.counted,
		Unknown:     p.state == nil,
		Uptime:      p.uptime,
		OutOfMemory: p.reason == ReasonSelf && p.outOfMemory,
	}
	if p.state != nil {
		e.Code = p.state.status.ExitStatus()
		if p.state.status.Signaled() {
			e.Signal = p.state.status.Signal()
		}
		e.MaxRSS = maxRSS(&p.state.usage)
	}
	switch {
	case diedFirst(e.Reason, e.Signal):
		e.Reason = ReasonSelf
	case e.Reason == ReasonSelf && e.Signal == 0 && strings.HasPrefix(e.Dump, connectionEnded):
		e.Reason = ReasonBroken // it left before it was ended
	default:
		e.Breach, e.Hang = p.breach, p.hang
	}
	if remote != nil && len(remote.Frames) > 0 {
		e.Traceback = remote.Frames
	} else if e.Traceback = parseDump(p.dump, packageDir, e.Reason.wantsDump()); len(e.Traceback) == 0 {
		// A node that enables faulthandler itself has the stacks written here.
		e.Traceback = parseDump(e.Stderr, packageDir, e.Reason.wantsDump())
	}
	return e
}

// diedFirst reports whether a process died of a signal that its end for the
// given reason does not bring about: it was dying when it was to be ended.
func diedFirst(reason Reason, signal syscall.Signal) bool {
	switch {
	case signal == 0:
		return false
	case reason.wantsDump():
		return signal != syscall.SIGABRT && signal != syscall.SIGKILL
	case reason == ReasonKilled:
		return signal != syscall.SIGKILL
	}
	return reason == ReasonShutdown
}
