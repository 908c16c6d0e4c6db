package worker

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noForkServer says why workers are not forked; here they can be.
const noForkServer = ""

// forkedProcess is a worker that a template forked.
//
// The template reaps it only on the supervisor's request. Until then its process id
// stays its own: while the supervisor opens the pidfd, and later while it kills the
// group. If the template dies first, the system may reap the worker at any time. The
// supervisor then relies on the pidfd, which never refers to another process, and on
// the lifeline, for which the kernel remembers the group itself and not its id.
type forkedProcess struct {
	template *templateServer
	id       int
	pidfd    *os.File
	worker   *process
	lifeline *os.File // a copy of the read end: the kernel forgets the group with the last one
}

// adopt opens a process that the template reports to have forked. It fails if the
// process is not the template's child.
func adopt(template *templateServer, pid int, worker *process, lifeline *os.File) (osProcess, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	if err = unix.SetNonblock(fd, true); err != nil { // for the runtime's poller
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := &forkedProcess{template: template, id: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), worker: worker}
	// A template reaps its children only on request. So a child that it has now is the
	// process that was opened.
	if parent := parentOf(pid); parent != template.process.pid() {
		_ = f.pidfd.Close()
		return nil, fmt.Errorf("process %d is a child of process %d, not of the template %d", pid, parent, template.process.pid())
	}
	own, err := unix.FcntlInt(lifeline.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = f.pidfd.Close()
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	f.lifeline = os.NewFile(uintptr(own), "lifeline")
	return f, nil
}

// parentOf returns the parent of a process, 0 if it cannot be read.
func parentOf(pid int) int {
	stat, _ := readStat(procFolder(pid))
	return stat.parent
}

func (f *forkedProcess) pid() int { return f.id }

func (f *forkedProcess) signal(sig syscall.Signal) {
	f.withPidfd(func(fd int) { _ = unix.PidfdSendSignal(fd, sig, nil, 0) })
}

// withPidfd calls a function with the pidfd, unless that is closed.
func (f *forkedProcess) withPidfd(do func(fd int)) {
	if raw, err := f.pidfd.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) }) // fails once the process is reaped
	}
}

// awaitExit waits in the runtime's poller.
func (f *forkedProcess) awaitExit() {
	if raw, err := f.pidfd.SyscallConn(); err == nil {
		_ = raw.Read(func(fd uintptr) bool { return isReadable(int(fd)) })
	}
}

func (f *forkedProcess) hasExited() (exited bool) {
	f.withPidfd(func(fd int) { exited = isReadable(fd) })
	return exited
}

// isReadable reports whether a pidfd is readable, which means that its process has
// exited.
func isReadable(fd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0
}

func (f *forkedProcess) killGroup() {
	if f.template.isAlive() { // then the leader is not reaped yet, and the group's id not free
		_ = syscall.Kill(-f.id, syscall.SIGKILL)
		return
	}
	_ = f.worker.lifeline.Close()
}

func (f *forkedProcess) reap() *exitStatus {
	defer func() {
		_ = f.pidfd.Close()
		_ = f.lifeline.Close()
	}()
	if status, err := f.template.reap(f.id); err == nil {
		return status
	}
	return f.reapOrphan()
}

// reapOrphan reaps a worker whose template has ended, if the supervisor has inherited
// it: orphans become children of a container's first process. Otherwise it returns
// nil.
func (f *forkedProcess) reapOrphan() (status *exitStatus) {
	<-f.template.process.done
	f.withPidfd(func(fd int) {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err != nil || info.Signo == 0 {
			return
		}
		status = &exitStatus{}
		if _, err = syscall.Wait4(f.id, &status.wait, syscall.WNOHANG, &status.usage); err != nil {
			status = nil
		}
	})
	return status
}
