package worker

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/pyworker"
)

// spawnLocked starts the process with a reaper as its parent. Both lead groups of their own. It
// waits until the reaper has forked the process, and releases the lock meanwhile. If the
// process is ended then, or the interpreter before it forks, the interpreter itself is taken
// for the process, so that its own output and status explain the failure.
func (p *process) spawnLocked() error {
	r, end, err := newReaper()
	if err != nil {
		return err
	}
	p.ownSockets[1] = inodeOf(end)
	pidfd := -1
	p.cmd.Stdin = end
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd}
	err = p.startCommand()
	_ = end.Close()
	if err != nil {
		_ = r.channel.Close()
		return err
	}
	r.id = p.cmd.Process.Pid
	_ = unix.SetNonblock(pidfd, true) // for the runtime's poller
	r.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	worker, err := p.adoptLocked(r)
	if err != nil {
		_ = r.channel.Close() // on which the reaper ends what it has forked
		p.handle = &childProcess{cmd: p.cmd, pidfd: r.pidfd}
		time.AfterFunc(abortGrace, p.killInterpreter)
		return nil
	}
	p.handle = worker
	go worker.watch(func(bool) { _ = p.cmd.Wait() })
	return nil
}

// adoptLocked waits for the reaper's worker, and releases the lock meanwhile. If the process
// is ended, it closes the channel and returns an error.
func (p *process) adoptLocked(r *reaper) (*reapedProcess, error) {
	p.interrupt = r.channel.Close
	p.mu.Unlock()
	worker, err := r.adopt()
	p.mu.Lock()
	p.interrupt = nil
	if err == nil && p.endRequested.Load() {
		_ = worker.pidfd.Close()
		err = errEndedBefore
	}
	return worker, err
}

// startCommand starts the command with a reaper, in a sandbox if the process is isolated.
// The sandbox is removed when the process has ended.
func (p *process) startCommand() (err error) {
	if p.isolation == nil {
		p.cmd.Args = append([]string{p.cmd.Args[0], "-I", "-S", "-c", spawnProgram, p.cmd.Path}, p.cmd.Args...)
		return p.cmd.Start()
	}
	profile := *p.isolation
	profile.Reaper = pyworker.Reaper()
	p.sandbox, err = profile.Start(p.cmd, p.socketDir)
	return err
}

// killInterpreter kills an interpreter that did not become a reaper, and what it has forked.
func (p *process) killInterpreter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hasExitedLocked() {
		killDescendants(p.pid())
		p.signal(syscall.SIGKILL)
	}
}

// awaitExit waits in the runtime's poller, so that a hundred workers do not occupy a
// hundred threads.
func (c *childProcess) awaitExit() {
	awaitReadable(c.pidfd)
	_ = c.pidfd.Close()
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
