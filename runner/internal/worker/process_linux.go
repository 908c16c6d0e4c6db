package worker

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn starts the process in a group of its own, and makes the kernel kill the whole
// group when the supervisor dies: the lifeline's write end is closed then, and its
// read end, which the worker holds, is set to send SIGKILL instead of SIGIO. A
// parent-death signal would kill only the worker, and do so first, so that nothing
// would be left to kill the worker's children.
func (p *process) spawn(lifeline *os.File) error {
	c := &childProcess{cmd: p.cmd, pidfd: -1}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &c.pidfd}
	if err := p.startCommand(); err != nil {
		return err
	}
	p.handle = c
	fd := lifeline.Fd()
	for _, step := range []struct{ command, value int }{
		{unix.F_SETOWN, -p.pid()},
		{unix.F_SETSIG, int(unix.SIGKILL)},
		{unix.F_SETFL, unix.O_ASYNC},
	} {
		if _, err := unix.FcntlInt(fd, step.command, step.value); err != nil {
			break // the worker notices, and watches the lifeline itself
		}
	}
	return nil
}

// awaitExit waits in the runtime's poller, so that a hundred workers do not occupy a
// hundred threads.
func (c *childProcess) awaitExit() {
	if c.pidfd >= 0 {
		_ = unix.SetNonblock(c.pidfd, true)
		f := os.NewFile(uintptr(c.pidfd), "pidfd")
		defer f.Close()
		if raw, err := f.SyscallConn(); err == nil {
			err = raw.Read(func(fd uintptr) bool { return isZombie(unix.P_PIDFD, int(fd), unix.WNOHANG) })
			if err == nil {
				return
			}
		}
	}
	isZombie(unix.P_PID, c.pid(), 0)
}

func (c *childProcess) hasExited() bool { return isZombie(unix.P_PID, c.pid(), unix.WNOHANG) }

// isZombie reports whether a child has exited, without reaping it. Without WNOHANG it
// first waits until it has.
func isZombie(idType, id, options int) bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
		if err != unix.EINTR {
			// Signo stays 0 if WNOHANG finds no child that has exited.
			return err != nil || info.Signo != 0
		}
	}
}

// anonymousFile creates a file without a name. The kernel frees it when its last
// descriptor is closed, however the processes that hold it end.
func anonymousFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// maxRSS returns the largest resident memory in bytes. Linux counts it in kibibytes.
func maxRSS(usage *syscall.Rusage) int64 { return usage.Maxrss << 10 }
