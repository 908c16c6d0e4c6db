package worker

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spawnLocked starts the process in a group of its own. This system has no subreapers; the
// worker watches its lifeline itself. A sandbox cannot be created here.
func (p *process) spawnLocked() (err error) {
	if p.container != nil {
		return errors.New("containers need Linux: here, podman runs them in a virtual machine")
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.isolation == nil {
		err = p.cmd.Start()
	} else {
		p.sandbox, err = p.isolation.Start(p.cmd, p.socketDir)
	}
	if err == nil {
		p.handle = &childProcess{cmd: p.cmd}
	}
	return err
}

// awaitExit returns early if the kernel's queue cannot be used: reap waits as well.
func (c *childProcess) awaitExit() {
	queue, err := unix.Kqueue()
	if err != nil {
		return
	}
	defer unix.Close(queue)
	events := make([]unix.Kevent_t, 1)
	unix.SetKevent(&events[0], c.pid(), unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	events[0].Fflags = unix.NOTE_EXIT
	for {
		// If the process has exited already, Kevent fails, and there is no need to wait.
		if _, err := unix.Kevent(queue, events, events, nil); err != unix.EINTR {
			return
		}
	}
}

// hasExited is always false on this system, which offers no such query.
func (c *childProcess) hasExited() bool { return false }

// anonymousFile creates a file and unlinks it at once.
func anonymousFile(name string) (*os.File, error) {
	f, err := os.CreateTemp("", name+"-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// maxRSS returns the largest resident memory in bytes, the unit of this system.
func maxRSS(usage *syscall.Rusage) int64 { return usage.Maxrss }

// stateStopped is the kernel's SSTOP.
const stateStopped = 4

// findHang recognizes only a stopped process here: the heartbeat pipe of another
// process cannot be opened.
func (p *process) findHang() Hang {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", p.pid())
	if err == nil && info.Proc.P_stat == stateStopped {
		return HangStopped
	}
	return ""
}

// noForkServer says why workers are not forked.
const noForkServer = "the fork server needs Linux"

func (*templateServer) forkLocked(*process) error { return errors.ErrUnsupported }

// The stats of another process cannot be read here without C.

// usage is what a process and its group use.
type usage struct {
	resident int64
	cpu      time.Duration
	threads  int
	alone    bool
}

// openFiles are the descriptors of a process and its group.
type openFiles struct {
	at     time.Time
	cost   time.Duration
	open   int
	memory memoryFiles
	queued int
}

// memoryFiles are files that consist of memory.
type memoryFiles struct{}

func (memoryFiles) size() int64 { return 0 }

func groupUsage(int, time.Time) usage { return usage{alone: true} }

func inodeOf(*os.File) uint64 { return 0 }

func countThreads(int) int { return 0 }

func scanFiles(int, time.Time, bool, [2]uint64) openFiles { return openFiles{} }

func exactMemory(int, time.Time, bool, bool) (memory, files int64) { return 0, 0 }
