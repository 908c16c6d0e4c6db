package worker

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/ipc"
)

// Reason is why a worker ended.
type Reason int32

const (
	// ReasonSelf means that the process ended without the supervisor's doing.
	ReasonSelf Reason = iota
	// ReasonShutdown means that it shut down when asked to.
	ReasonShutdown
	// ReasonDeadline means that a call passed its deadline.
	ReasonDeadline
	// ReasonCancel means that the node ran on after its call was canceled.
	ReasonCancel
	// ReasonStartTimeout means that it was not ready in time.
	ReasonStartTimeout
	// ReasonBroken means that its connection broke, or that it violated the protocol.
	ReasonBroken
	// ReasonKilled means that the supervisor no longer needed it.
	ReasonKilled
	// ReasonMemory means that it used more resident memory than Limits.Resident.
	ReasonMemory
	// ReasonCPU means that a call used more CPU time than Limits.CPUTime.
	ReasonCPU
	// ReasonThreads means that it had more threads than Limits.Threads.
	ReasonThreads
)

// wantsDump reports whether the Python stacks help to explain a forced end.
func (r Reason) wantsDump() bool {
	return r == ReasonBroken || r == ReasonMemory || r == ReasonThreads || r.isHang()
}

// isHang reports whether the process was ended because it took too long.
func (r Reason) isHang() bool {
	return r == ReasonDeadline || r == ReasonCancel || r == ReasonStartTimeout || r == ReasonCPU
}

var reasons = [...]string{
	ReasonSelf: "self", ReasonShutdown: "shutdown", ReasonDeadline: "deadline", ReasonCancel: "cancel",
	ReasonStartTimeout: "start timeout", ReasonBroken: "broken", ReasonKilled: "killed",
	ReasonMemory: "memory", ReasonCPU: "cpu time", ReasonThreads: "threads",
}

func (r Reason) String() string { return reasons[r] }

// Hang says what kept a hanging worker from answering. It is set only from evidence.
type Hang string

const (
	// HangPython means that a call does not return, but other threads can run Python code.
	HangPython Hang = "blocked in Python"
	// HangGIL means that no Python code can run at all.
	HangGIL Hang = "blocked in C code that holds the GIL"
	// HangStopped means that SIGSTOP or a debugger has stopped the whole process.
	HangStopped Hang = "the process is stopped"
)

// clause returns the hang as the end of a sentence.
func (h Hang) clause() string {
	switch h {
	case "":
		return ""
	case HangStopped:
		return "; the process was stopped"
	}
	return "; it was " + string(h)
}

// Exit is the autopsy of a worker: how it ended, why, at which place in Python,
// and what it wrote last.
type Exit struct {
	PID int
	// Code is the exit code, -1 if a signal ended the process.
	Code int
	// Signal is the signal that ended the process, 0 if none did.
	Signal syscall.Signal
	// Unknown says that neither the code nor the signal is known: the reaper ended before
	// the process. Only the parent can ask how a process ended.
	Unknown bool
	Reason  Reason
	// Limit is the deadline that was passed, if Reason is one.
	Limit time.Duration
	// Breach is the limit that was passed, nil if none was.
	Breach *Breach
	// Hang says how the worker hung, if Reason is that it took too long; it is empty
	// if that is not known.
	Hang Hang
	// Traceback is the Python stack at the end, the outermost frame first. It is empty
	// if the interpreter wrote no exit report.
	Traceback []ipc.TracebackFrame
	// Dump is the exit report that the interpreter wrote: the stacks of all threads.
	Dump string
	// Stderr is the end of the process's standard error.
	Stderr string
	// Begun is how many calls the worker had begun, if it Counted them.
	Begun   uint64
	Counted bool
	// Member is the index of the node of a fused chain that ran last, by the word of the worker;
	// 0 without a chain.
	Member int
	// Remote is the fatal error that the worker reported before it ended, nil if it
	// reported none.
	Remote *ipc.RemoteError
	// Uptime is how long the process lived.
	Uptime time.Duration
	// MaxRSS is the largest resident memory that the process had, in bytes.
	MaxRSS int64
	// OutOfMemory says that SIGKILL ended the process, and that the kernel's OOM
	// killer killed a process of its cgroup or of the supervisor's in its lifetime.
	OutOfMemory bool
}

// IsDeep reports whether the stack at the end was a deep one, as that of a recursion.
func (e *Exit) IsDeep() bool { return len(e.Traceback) >= maxFrames }

// Error is one line: what happened, and at which place in Python.
func (e *Exit) Error() string {
	return e.Summary() + location(e.Traceback)
}

// Summary says what happened, without the place in Python.
func (e *Exit) Summary() string {
	switch e.Reason {
	case ReasonDeadline:
		return fmt.Sprintf("the interpreter hung: no answer within %s", e.Limit) + e.Hang.clause()
	case ReasonCancel:
		return fmt.Sprintf("the node kept running for %s after its call was canceled, and was killed", e.Limit) + e.Hang.clause()
	case ReasonStartTimeout:
		return fmt.Sprintf("the worker was not ready within %s", e.Limit) + e.Hang.clause()
	case ReasonMemory:
		return "the interpreter ran out of memory: " + e.memoryText()
	case ReasonCPU:
		return fmt.Sprintf("the call used too much CPU time: %s", e.Breach) + e.Hang.clause()
	case ReasonThreads:
		return fmt.Sprintf("the node started too many threads: the worker had %s", e.Breach)
	case ReasonShutdown:
		return "the worker was shut down"
	case ReasonKilled:
		return "the worker was killed by the supervisor"
	case ReasonBroken:
		return "the worker was killed because its connection broke"
	}
	if e.Remote != nil {
		return fatalSummary(e.Remote)
	}
	if report, found := strings.CutPrefix(e.Dump, "gophersnake: "); found && (strings.HasPrefix(report, "os._exit") || strings.HasPrefix(report, "sys.exit")) {
		call, _, _ := strings.Cut(report, "\n")
		return "the node called " + call
	}
	return e.statusSummary()
}

// Hint says what to do about an end that no limit caused, or "" if nothing is known.
func (e *Exit) Hint() string {
	switch {
	case e.Remote != nil && e.Remote.Class == "MemoryError":
		return "give the machine more memory, or make the node use less"
	case e.Remote != nil && e.Remote.ExitCode != nil:
		return "a node must not exit: let it return, or raise an exception"
	case e.OutOfMemory:
		return "give the machine or the cgroup more memory, limit the node's with limits.memory, or run fewer workers"
	case e.Signal == syscall.SIGKILL:
		return "check whether the machine, or the memory cgroup, ran out of memory"
	case e.Signal == syscall.SIGSEGV && e.IsDeep():
		return "the recursion is probably too deep for the stack, which sys.setrecursionlimit does not enlarge: " +
			"leave that limit as it is, replace the recursion by a loop, or run it in a thread with a larger threading.stack_size"
	case e.Signal == syscall.SIGSEGV:
		return "code in C crashed: that of an extension, or that of the interpreter, if a recursion is too deep for the stack " +
			"because the node has called sys.setrecursionlimit"
	}
	return ""
}

// memoryText says which memory passed its limit.
func (e *Exit) memoryText() string {
	if e.Breach.Limit == LimitMemory {
		return fmt.Sprintf("its files that consist of memory had %s", e.Breach)
	}
	return fmt.Sprintf("its resident memory was %s", e.Breach)
}

// fatalSummary describes the fatal error of a worker that ended itself.
func fatalSummary(r *ipc.RemoteError) string {
	switch {
	case r.ExitCode != nil:
		return fmt.Sprintf("the node called sys.exit(%d)", *r.ExitCode)
	case r.Class == "MemoryError":
		return "the interpreter ran out of memory"
	}
	return r.Exception.Error()
}

// statusSummary describes the exit status of a process that left no other explanation.
func (e *Exit) statusSummary() string {
	switch {
	case e.OutOfMemory:
		return "the kernel killed the interpreter because memory ran out (SIGKILL)"
	case e.Signal == syscall.SIGKILL:
		return fmt.Sprintf("the interpreter was killed by %s, which gophersnake did not send; the kernel sends it when memory runs out", signalText(e.Signal))
	case e.Signal != 0:
		return "the interpreter was killed by " + signalText(e.Signal)
	case e.Unknown:
		return "the interpreter ended, but how is unknown: its reaper ended first"
	case e.Code > 0 && len(e.Traceback) == 0 && e.Stderr != "":
		return fmt.Sprintf("the interpreter exited with code %d, saying: %s", e.Code, reasonLine(e.Stderr))
	}
	return fmt.Sprintf("the interpreter exited with code %d", e.Code)
}

// connectionEnded is how the exit report begins of a worker that exits because its
// connection has ended.
const connectionEnded = "gophersnake: the connection ended"

// protocolError returns the error that the worker itself found in the protocol,
// empty if it reported none.
func (e *Exit) protocolError() string {
	report, found := strings.CutPrefix(e.Dump, connectionEnded+": out of protocol: ")
	if !found {
		return ""
	}
	line, _, _ := strings.Cut(report, "\n")
	return line
}

func signalText(s syscall.Signal) string {
	return fmt.Sprintf("%s (%s)", SignalName(s), s)
}

// SignalName returns the name of a signal, including the real-time signals.
func SignalName(s syscall.Signal) string {
	const first, last = 34, 64 // the real-time signals that C libraries leave to programs
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

// maxLastLine is how many bytes of the last line of standard error go into a message.
const maxLastLine = 500

// reasonLine returns the line of standard error that most likely says why the interpreter
// exited: that of Python's fatal error, below which Python describes its own state, or else
// the last line.
func reasonLine(text string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "Fatal Python error: ") {
			return lastLine(strings.TrimSpace(line))
		}
	}
	return lastLine(text)
}

// lastLine returns the last line of a text, shortened to maxLastLine bytes.
func lastLine(text string) string {
	line := text[strings.LastIndexByte(text, '\n')+1:]
	if len(line) > maxLastLine {
		line = strings.ToValidUTF8(line[:maxLastLine], "") + "…"
	}
	return line
}

// location describes the innermost frame of a traceback; it is empty if there is none.
func location(frames []ipc.TracebackFrame) string {
	if len(frames) == 0 {
		return ""
	}
	f := frames[len(frames)-1]
	return fmt.Sprintf(" (%s:%d in %s)", f.File, f.Line, f.Function)
}
