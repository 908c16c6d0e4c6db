package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/internal/container"
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
	if p.container == nil {
		p.cmd.Stdin = end
	} else { // podman copies standard input, but passes descriptors on
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, end)
		r.contained = true
	}
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
		p.handle = &childProcess{cmd: p.cmd, pidfd: r.childPidfd()}
		time.AfterFunc(abortGrace, p.killInterpreter)
		return nil
	}
	p.handle = worker
	go worker.watch(func(bool) {
		if r.podman != nil { // it outlives the reaper, and Wait would not wait: its pidfd does not block
			awaitReadable(r.podman)
			_ = r.podman.Close()
		}
		_ = p.cmd.Wait()
	})
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

// startCommand starts the command with a reaper, in a sandbox if the process is isolated, or
// in a container. The sandbox is removed when the process has ended.
func (p *process) startCommand() (err error) {
	if p.container != nil {
		return p.startContainer()
	}
	if p.isolation == nil {
		p.cmd.Env = append(p.cmd.Env, forkVariable)
		return p.cmd.Start()
	}
	profile := *p.isolation
	profile.Reaper = pyworker.Reaper()
	p.sandbox, err = profile.Start(p.cmd, p.socketDir)
	return err
}

// startContainer starts podman, whose container has the reaper as its first process. The
// reaper's channel is the last of the descriptors.
func (p *process) startContainer() error {
	pkg, main := filepath.Dir(p.cmd.Args[1]), p.cmd.Args[1]
	descriptors := len(p.cmd.ExtraFiles)
	program := fmt.Sprintf("%s\nimport sys\nposix.dup2(%d, CHANNEL)\nposix.close(%[2]d)\nfork_worker(True)\nposix.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n",
		pyworker.Reaper(), 2+descriptors)
	args, env := p.container.Command(container.Options{
		Dir: p.cmd.Dir, Env: p.cmd.Env, Descriptors: descriptors,
		Mounts: []container.Mount{{Host: pkg, Path: pkg}, {Host: p.socketDir, Path: p.socketDir, Write: true}},
	}, "-I", "-S", "-c", program, main)
	p.cmd.Args, p.cmd.Env = append([]string{p.cmd.Path}, args...), env
	return p.cmd.Start()
}

// openContained opens the reaper in a container in place of podman. It is the parent of a
// process that has not been reaped, so it lives.
func (r *reaper) openContained() error {
	pidfd, err := openProcess(r.id)
	if err == nil {
		r.podman, r.pidfd = r.pidfd, pidfd
	}
	return err
}

// childPidfd returns the pidfd of the supervisor's own child, and closes that of a reaper in a
// container.
func (r *reaper) childPidfd() *os.File {
	if r.podman == nil {
		return r.pidfd
	}
	_ = r.pidfd.Close()
	return r.podman
}

// openProcess opens the pidfd of a process.
func openProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	if err = unix.SetNonblock(fd, true); err != nil { // for the runtime's poller
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
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
