package worker

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noForkServer says why there is none; here there is one.
const noForkServer = ""

// forked is a worker that a template forked.
//
// The template does not reap it until it is told to, so that its number stays its
// own while the supervisor opens the pidfd, and afterwards until its group has been
// ended. Where the template dies first, the system reaps it at any time: what counts
// then is the pidfd, which is never another's, and the lifeline, in which the kernel
// keeps the group itself and not its number.
type forked struct {
	server   *server
	id       int
	pidfd    *os.File
	worker   *process
	lifeline *os.File // its read end: the kernel forgets the group with the last of these
}

// adopt takes a process that the template says it has forked into the supervisor's
// care.
func adopt(s *server, pid int, worker *process, lifeline *os.File) (body, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	if err = unix.SetNonblock(fd, true); err != nil { // for the runtime's poller
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := &forked{server: s, id: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), worker: worker}
	// Nobody but a living template can have a child of that number.
	if parent := parentOf(pid); parent != s.process.pid() {
		_ = f.pidfd.Close()
		return nil, fmt.Errorf("process %d is a child of process %d, not of the template %d", pid, parent, s.process.pid())
	}
	own, err := unix.FcntlInt(lifeline.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = f.pidfd.Close()
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	f.lifeline = os.NewFile(uintptr(own), "lifeline")
	return f, nil
}

// parentOf returns a process's parent, 0 where it cannot be seen.
func parentOf(pid int) int {
	stat, _ := readStat(procFolder(pid))
	return stat.parent
}

func (f *forked) pid() int { return f.id }

func (f *forked) signal(sig syscall.Signal) {
	f.control(func(fd int) { _ = unix.PidfdSendSignal(fd, sig, nil, 0) })
}

func (f *forked) control(do func(fd int)) {
	if raw, err := f.pidfd.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) }) // fails when it is reaped
	}
}

// await waits in the runtime's poller.
func (f *forked) await() {
	if raw, err := f.pidfd.SyscallConn(); err == nil {
		_ = raw.Read(func(fd uintptr) bool { return readable(int(fd)) })
	}
}

func (f *forked) hasEnded() (has bool) {
	f.control(func(fd int) { has = readable(fd) })
	return has
}

// readable reports whether a pidfd's process has ended.
func readable(fd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0
}

func (f *forked) endGroup() {
	if f.server.lives() { // so the leader is not reaped
		_ = syscall.Kill(-f.id, syscall.SIGKILL)
		return
	}
	_ = f.worker.lifeline.Close()
}

func (f *forked) reap() *ended {
	defer func() {
		_ = f.pidfd.Close()
		_ = f.lifeline.Close()
	}()
	if e, err := f.server.reap(f.id); err == nil {
		return e
	}
	return f.reapOrphan()
}

// reapOrphan reaps a worker whose template is gone, where it has become the
// supervisor's child by that: the first process of a container inherits orphans.
func (f *forked) reapOrphan() (e *ended) {
	<-f.server.process.done
	f.control(func(fd int) {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err != nil || info.Signo == 0 {
			return
		}
		e = &ended{}
		if _, err = syscall.Wait4(f.id, &e.status, syscall.WNOHANG, &e.usage); err != nil {
			e = nil
		}
	})
	return e
}
