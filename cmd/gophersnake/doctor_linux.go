package main

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func checkPlatform() check {
	c := check{Name: "platform"}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return c.ok("linux/%s", runtime.GOARCH)
	}
	return c.ok("linux/%s, kernel %s", runtime.GOARCH, unix.ByteSliceToString(name.Release[:]))
}

// platformChecks are what only Linux has.
func platformChecks() []check { return []check{checkMemfd(), checkPeer(), checkLifeline()} }

// checkMemfd makes a file without a name, as for a worker's last words.
func checkMemfd() check {
	c := check{Name: "memfd"}
	fd, err := unix.MemfdCreate("gophersnake-doctor", unix.MFD_CLOEXEC)
	if err != nil {
		return c.fail("memfd_create: %v", err).mend("allow memfd_create in the container's seccomp profile")
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return c.fail("writing to a memfd: %v", err)
	}
	return c.ok("memfd_create works")
}

// checkPeer asks a socket who is at its other end.
func checkPeer() check {
	c := check{Name: "peer check"}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return c.fail("socketpair: %v", err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	peer, err := unix.GetsockoptUcred(ends[0], unix.SOL_SOCKET, unix.SO_PEERCRED)
	switch {
	case err != nil:
		return c.fail("SO_PEERCRED: %v", err).mend("allow getsockopt in the container's seccomp profile")
	case int(peer.Pid) != os.Getpid():
		return c.fail("SO_PEERCRED says that this process is %d, but it is %d", peer.Pid, os.Getpid()).
			mend("run the supervisor and its workers in one PID namespace")
	}
	return c.ok("SO_PEERCRED works")
}

// spawnAttributes sets a command up as a worker; the descriptor it returns is -1
// where the kernel has no pidfd.
func spawnAttributes(cmd *exec.Cmd) *int {
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd}
	return &pidfd
}

func (c check) withoutPidfd() check {
	return c.warn("process groups, but no pidfd: each worker takes a thread").
		mend("a kernel from 5.4 on has it; a container's seccomp profile may forbid it")
}

// checkLifeline asks for what ends the workers with the supervisor: the signal that
// the kernel sends when the write end of a pipe is gone.
func checkLifeline() check {
	c := check{Name: "lifeline"}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return c.fail("pipe2: %v", err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	for _, step := range []struct{ command, value int }{
		{unix.F_SETOWN, os.Getpid()}, {unix.F_SETSIG, int(unix.SIGURG)}, {unix.F_SETFL, unix.O_ASYNC},
	} {
		if _, err := unix.FcntlInt(uintptr(ends[0]), step.command, step.value); err != nil {
			return c.warn("this kernel sends no signal when a pipe closes (%v): a worker that holds the GIL outlives a killed supervisor", err).
				mend("allow fcntl F_SETOWN and F_SETSIG in the container's seccomp profile")
		}
	}
	return c.ok("the kernel ends workers whose supervisor is gone")
}
