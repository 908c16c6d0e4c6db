package worker

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner runs functions on one operating-system thread that lives as long as
// the supervisor. The parent-death signal follows the thread that forked, so a
// worker must not be forked by a thread that may end before the process does.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func (p *process) spawn() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
		PidFD:     &p.pidfd,
	}
	result := make(chan error)
	spawner() <- func() { result <- p.cmd.Start() }
	return <-result
}

// awaitExit returns once the process has ended, leaving it to be reaped. It
// waits in the runtime's poller, so that a hundred workers do not take a
// hundred threads.
func (p *process) awaitExit() {
	ended := func(idType, id, options int) bool {
		var info unix.Siginfo
		for {
			err := unix.Waitid(idType, id, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
			if err != unix.EINTR {
				// Signo stays 0 while a WNOHANG wait has nothing to say.
				return err != nil || info.Signo != 0
			}
		}
	}
	if p.pidfd >= 0 {
		_ = unix.SetNonblock(p.pidfd, true)
		f := os.NewFile(uintptr(p.pidfd), "pidfd")
		defer f.Close()
		if raw, err := f.SyscallConn(); err == nil {
			err = raw.Read(func(fd uintptr) bool { return ended(unix.P_PIDFD, int(fd), unix.WNOHANG) })
			if err == nil {
				return
			}
		}
	}
	ended(unix.P_PID, p.pid(), 0)
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
