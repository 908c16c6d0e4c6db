package worker

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn starts the process in a group of its own, which the kernel is to kill as
// a whole when the lifeline's write end is gone, that is when the supervisor is:
// the read end, which the worker holds, asks for SIGKILL in place of SIGIO. A
// parent-death signal would do that for the worker alone, and would come first:
// its children would be left, and nobody to see the lifeline end.
func (p *process) spawn(lifeline *os.File) error {
	c := &child{cmd: p.cmd, pidfd: -1}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &c.pidfd}
	if err := p.launch(); err != nil {
		return err
	}
	p.body = c
	fd := lifeline.Fd()
	for _, step := range []struct{ command, value int }{
		{unix.F_SETOWN, -p.pid()},
		{unix.F_SETSIG, int(unix.SIGKILL)},
		{unix.F_SETFL, unix.O_ASYNC},
	} {
		if _, err := unix.FcntlInt(fd, step.command, step.value); err != nil {
			break // the worker sees that it is not so, and watches the lifeline itself
		}
	}
	return nil
}

// await waits in the runtime's poller, so that a hundred workers do not take a
// hundred threads.
func (c *child) await() {
	if c.pidfd >= 0 {
		_ = unix.SetNonblock(c.pidfd, true)
		f := os.NewFile(uintptr(c.pidfd), "pidfd")
		defer f.Close()
		if raw, err := f.SyscallConn(); err == nil {
			err = raw.Read(func(fd uintptr) bool { return zombie(unix.P_PIDFD, int(fd), unix.WNOHANG) })
			if err == nil {
				return
			}
		}
	}
	zombie(unix.P_PID, c.pid(), 0)
}

func (c *child) hasEnded() bool { return zombie(unix.P_PID, c.pid(), unix.WNOHANG) }

// zombie asks, or without WNOHANG waits, for the end of a process.
func zombie(idType, id, options int) bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
		if err != unix.EINTR {
			// Signo stays 0 while a WNOHANG wait has nothing to say.
			return err != nil || info.Signo != 0
		}
	}
}

// anonymousFile makes a file without a name, which goes when its last
// descriptor does, whoever dies.
func anonymousFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
