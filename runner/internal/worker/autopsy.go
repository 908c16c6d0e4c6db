package worker

import (
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
)

// The autopsy file is shared with the interpreter:
//
//	bytes 0 to 7   the begun count plus one, 0 if the worker does not count its calls
//	bytes 8 to 15  the inode of its heartbeat pipe, 0 for none
//	bytes 16 to 23 the member of a fused chain that runs or ran last, counted from 1, 0 for none
//	bytes 24 to 31 when that member began, in seconds of the system's monotonic clock, a float
//	bytes 32 on    the exit report, which the interpreter writes as it ends
const (
	begunCountSize = 8
	heartbeatSize  = 8
	memberOffset   = begunCountSize + heartbeatSize
	memberSize     = 16
	reportOffset   = memberOffset + memberSize
)

// maxDump bounds how much of an exit report is read.
const maxDump = 256 << 10

// newAutopsyFile creates an autopsy file, positioned at the exit report.
func newAutopsyFile() (*os.File, error) {
	f, err := anonymousFile("gophersnake-autopsy")
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(reportOffset); err == nil {
		_, err = f.Seek(reportOffset, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// readAutopsy reads the autopsy file of a process that is gone, as far as it can be read.
func (p *process) readAutopsy() {
	p.begun, p.counted = readBegun(p.autopsyFile)
	p.member, _ = readMember(p.autopsyFile)
	text, _ := io.ReadAll(io.NewSectionReader(p.autopsyFile, reportOffset, maxDump))
	p.dump = string(text)
}

// readMember returns the number of the member of a fused chain that runs or ran last, 0 for none,
// and how long ago it began. Both are the word of the worker, and may be any numbers.
func readMember(f *os.File) (number uint64, ran time.Duration) {
	var word [memberSize]byte
	if _, err := f.ReadAt(word[:], memberOffset); err != nil {
		return 0, 0
	}
	since := math.Float64frombits(binary.LittleEndian.Uint64(word[8:])) * float64(time.Second)
	ran = time.Duration(math.MaxInt64)
	now := ipc.Monotonic(time.Now())
	if since > 0 && since <= float64(now)+float64(time.Millisecond) { // false for NaN
		ran = time.Duration(max(now-int64(since), 0))
	}
	return binary.LittleEndian.Uint64(word[:]), ran
}

// readBegun returns how many calls the process has begun, if it counts them.
func readBegun(f *os.File) (begun uint64, counted bool) {
	var count [begunCountSize]byte
	if _, err := f.ReadAt(count[:], 0); err != nil {
		return 0, false
	}
	n := binary.LittleEndian.Uint64(count[:])
	return max(n, 1) - 1, n > 0
}

// readHeartbeat returns the inode of the pipe by which a living process shows that it
// can run Python code, 0 for none.
func readHeartbeat(f *os.File) uint64 {
	var inode [heartbeatSize]byte
	if _, err := f.ReadAt(inode[:], begunCountSize); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(inode[:])
}

// autopsy returns all that is known of the worker's end. The fatal error is the one
// that the worker itself reported, nil for none. The process must be gone.
func (w *Worker) autopsy(fatal *ipc.RemoteError) *Exit {
	e := w.process.autopsy(w.config.Package, fatal)
	e.Member = w.config.memberIndex(w.process.member)
	switch e.Reason {
	case ReasonDeadline:
		e.Limit = w.config.timeoutOf(e.Member)
		e.Breach = &Breach{LimitCall, "no answer", formatDuration(e.Limit)}
	case ReasonCancel:
		e.Limit = w.config.Grace
	case ReasonStartTimeout:
		e.Limit = w.config.StartTimeout
		e.Breach = &Breach{LimitStart, formatDuration(e.Uptime), formatDuration(e.Limit)}
	case ReasonSelf:
		if memory := w.config.Setup.Limits.Memory; memory > 0 && fatal != nil && fatal.Class == "MemoryError" {
			e.Breach = &Breach{LimitMemory, "an allocation", formatBytes(memory)}
		}
	}
	return e
}

// autopsy returns how a process that is gone has ended.
func (p *process) autopsy(packageDir string, fatal *ipc.RemoteError) *Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &Exit{
		PID:         p.pid(),
		Code:        -1,
		Reason:      p.reason,
		Dump:        p.dump,
		Stderr:      p.stderr.tail.String(),
		Remote:      fatal,
		Begun:       p.begun,
		Counted:     p.counted,
		Unknown:     p.status == nil,
		Uptime:      p.uptime,
		OutOfMemory: p.reason == ReasonSelf && p.outOfMemory,
	}
	if p.status != nil {
		e.Code = p.status.wait.ExitStatus()
		if p.status.wait.Signaled() {
			e.Signal = p.status.wait.Signal()
		}
		e.MaxRSS = maxRSS(&p.status.usage)
	}
	switch {
	case diedFirst(e.Reason, e.Signal):
		e.Reason = ReasonSelf
	case e.Reason == ReasonBroken && fatal != nil && fatal.ExitCode != nil:
		e.Reason = ReasonSelf // it was exiting, but took too long to finalize the interpreter
	case e.Reason == ReasonSelf && e.Signal == 0 && strings.HasPrefix(e.Dump, connectionEnded):
		e.Reason = ReasonBroken // it exited before it was ended
	default:
		e.Breach, e.Hang = p.breach, p.hang
	}
	if fatal != nil && len(fatal.Frames) > 0 {
		e.Traceback = fatal.Frames
	} else if e.Traceback = parseDump(p.dump, packageDir, e.Reason.wantsDump(), p.sourceFolders()); len(e.Traceback) == 0 {
		// If the node enables faulthandler itself, the stacks are on standard error.
		e.Traceback = parseDump(e.Stderr, packageDir, e.Reason.wantsDump(), p.sourceFolders())
	}
	return e
}

// sourceFolders returns the folders in which the process may read source files, nil for
// all of them.
func (p *process) sourceFolders() []string {
	if p.isolation == nil {
		return nil
	}
	return append([]string{}, p.isolation.Read...)
}

// diedFirst reports whether a process was already dying when it was ended for the
// given reason: it died of a signal that the supervisor does not send then.
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

// oomUnknown stands for a number of OOM kills that cannot be read.
const oomUnknown = -1

// oomKills returns how many processes the kernel has killed for lack of memory in
// the supervisor's cgroup, which is the workers' too.
func oomKills() int64 {
	text, err := os.ReadFile(oomFile())
	if err != nil {
		return oomUnknown
	}
	return parseOOMKills(string(text))
}

// oomFile returns the file in which the kernel counts OOM kills, empty if it does
// not.
var oomFile = sync.OnceValue(func() string {
	groups, _ := os.ReadFile("/proc/self/cgroup") // without it, the machine's count remains
	for _, path := range oomFiles(string(groups)) {
		if text, err := os.ReadFile(path); err == nil && parseOOMKills(string(text)) != oomUnknown {
			return path
		}
	}
	return ""
})

// oomFiles returns the files that may hold the count, the narrowest first, given
// the content of /proc/self/cgroup. In a container the paths in that file may be the
// host's, while the group itself is mounted as the root.
func oomFiles(groups string) []string {
	const root = "/sys/fs/cgroup"
	var v1, v2 []string
	for line := range strings.Lines(groups) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, found := strings.Cut(rest, ":")
		switch {
		case !found:
		case id == "0" && controllers == "":
			v2 = []string{filepath.Join(root, path, "memory.events"), filepath.Join(root, "memory.events")}
		case controllers == "memory":
			v1 = []string{
				filepath.Join(root, "memory", path, "memory.oom_control"),
				filepath.Join(root, "memory", "memory.oom_control"),
			}
		}
	}
	return append(append(v2, v1...), "/proc/vmstat")
}

// parseOOMKills returns the count in the content of one of these files. All of them
// have a line oom_kill.
func parseOOMKills(text string) int64 {
	if count, found := cgroup.Value(text, "oom_kill"); found {
		return count
	}
	return oomUnknown
}
