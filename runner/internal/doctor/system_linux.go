package doctor

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

func checkPlatform() Finding {
	f := Finding{Name: "platform"}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return f.ok("linux/%s", runtime.GOARCH)
	}
	return f.ok("linux/%s, kernel %s", runtime.GOARCH, unix.ByteSliceToString(name.Release[:]))
}

// platformChecks are the checks that only Linux has.
func platformChecks() []Finding {
	return []Finding{checkMemfd(), checkPeer(), checkLifeline(), checkReaper()}
}

// checkMemfd creates a nameless file, as a worker does for its exit report, and seals it, as
// the owner of shared memory does.
func checkMemfd() Finding {
	f := Finding{Name: "memfd"}
	fd, err := unix.MemfdCreate("gophersnake-doctor", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return f.fail("memfd_create: %v", err).hint("allow memfd_create in the container's seccomp profile")
	}
	file := os.NewFile(uintptr(fd), "memfd")
	defer file.Close()
	if _, err := file.Write(make([]byte, 4096)); err != nil {
		return f.fail("write to a memfd: %v", err)
	}
	const futureWrite = 0x10 // F_SEAL_FUTURE_WRITE
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, futureWrite); err != nil {
		return f.warn("memory cannot be shared, because it cannot be sealed against writing: %v; large arrays go through the socket", err).
			hint("use Linux 5.1 or later")
	}
	return f.ok("memfd_create and its seals work")
}

// checkPeer reads the process id of a socket's peer, as the runner does to
// authenticate a worker.
func checkPeer() Finding {
	f := Finding{Name: "peer check"}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return f.fail("socketpair: %v", err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	peer, err := unix.GetsockoptUcred(ends[0], unix.SOL_SOCKET, unix.SO_PEERCRED)
	switch {
	case err != nil:
		return f.fail("SO_PEERCRED: %v", err).hint("allow getsockopt in the container's seccomp profile")
	case int(peer.Pid) != os.Getpid():
		return f.fail("SO_PEERCRED reports process %d, but this process is %d", peer.Pid, os.Getpid()).
			hint("run the supervisor and its workers in one PID namespace")
	}
	return f.ok("SO_PEERCRED works")
}

// spawnAttributes gives a command the attributes of a worker. The returned
// descriptor stays -1 if the kernel has no pidfd.
func spawnAttributes(cmd *exec.Cmd) *int {
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd}
	return &pidfd
}

func (f Finding) withoutPidfd() Finding {
	return f.warn("process groups, but no pidfd: each worker takes a thread").
		hint("use Linux 5.4 or newer; a container's seccomp profile may forbid pidfd")
}

// checkLifeline asks the kernel for a signal when the write end of a pipe closes.
// Workers end by that signal if the supervisor dies after their reaper, and installers if
// the supervisor dies.
func checkLifeline() Finding {
	f := Finding{Name: "lifeline"}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return f.fail("pipe2: %v", err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	for _, step := range []struct{ command, value int }{
		{unix.F_SETOWN, os.Getpid()}, {unix.F_SETSIG, int(unix.SIGURG)}, {unix.F_SETFL, unix.O_ASYNC},
	} {
		if _, err := unix.FcntlInt(uintptr(ends[0]), step.command, step.value); err != nil {
			return f.warn("the kernel sends no signal when a pipe closes (%v): installers outlive a killed supervisor", err).
				hint("allow fcntl F_SETOWN and F_SETSIG in the container's seccomp profile")
		}
	}
	return f.ok("the kernel ends process groups if the supervisor dies")
}

// checkReaper says what ends the processes that workers leave, also if the supervisor dies.
func checkReaper() Finding {
	f := Finding{Name: "reaper"}
	if _, err := unix.PrctlRetInt(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(new(int32))), 0, 0, 0); err != nil {
		return f.warn("the kernel has no subreapers (%v): processes that leave a worker outlive it", err).
			hint("allow prctl PR_SET_CHILD_SUBREAPER in the container's seccomp profile")
	}
	detail := "a subreaper ends all that a worker starts"
	if found := isolation.Confinements(); len(found) > 0 {
		detail += "; isolated nodes are also held by " + strings.Join(found, " and ")
	}
	return f.ok("%s", detail)
}
