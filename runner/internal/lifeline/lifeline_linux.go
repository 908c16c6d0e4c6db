package lifeline

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/pyworker"
)

// killGroupAtEnd makes the kernel kill a process group when the write end of a pipe is
// closed, as long as a process holds the read end. The kernel remembers the group itself,
// not its id.
func killGroupAtEnd(read *os.File, group int) error {
	for _, step := range []struct{ command, value int }{
		{unix.F_SETOWN, -group},
		{unix.F_SETSIG, int(unix.SIGKILL)},
		{unix.F_SETFL, unix.O_ASYNC},
	} {
		if _, err := unix.FcntlInt(read.Fd(), step.command, step.value); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return nil
}

// heldDescriptor is the number of Reaped.Held in the reaper: the one after the lifeline.
const heldDescriptor = 4

// reaperProgram forks the command from its reaper. Its arguments are the path of the
// command, and the command's own arguments.
var reaperProgram = pyworker.Reaper() + "\nimport sys\nfork_worker(held=int(sys.argv[1]))\nposix.execv(sys.argv[2], sys.argv[2:])\n"

// RunReaped runs a command below a reaper: a process that inherits all that the command
// starts, whatever session or group it moves to, and kills what is left of it when the
// command or this process ends. The path of the command must be absolute. If the context
// of the command ends, everything is killed. RunReaped returns when nothing is left.
//
// Its error is an [ExitError] if the command failed. If the reaper itself is killed, the
// kernel kills the command's process group.
func RunReaped(cmd *exec.Cmd, r Reaped) error {
	channel, end, err := socketpair()
	if err != nil {
		return err
	}
	defer channel.Close()
	defer end.Close()
	// The reaper may reap the command at once, since nothing here waits for it.
	if _, err := channel.WriteString("adopted"); err != nil {
		return err
	}
	held := "0"
	if r.Held != nil {
		held, cmd.ExtraFiles = strconv.Itoa(heldDescriptor), []*os.File{r.Held}
	}
	cmd.Args = append([]string{r.Python, "-I", "-S", "-c", reaperProgram, held, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Stdin = r.Python, end
	cmd.Cancel = func() error { // the reaper takes it for the end of this process
		return unix.Shutdown(int(channel.Fd()), unix.SHUT_RDWR)
	}
	failed := Run(cmd, nil)
	_ = end.Close()
	status, ok := reportedStatus(channel)
	switch {
	case !ok && failed == nil:
		return errors.New("the reaper ended without a report")
	case !ok:
		return failed
	case status != 0:
		return &ExitError{status}
	}
	return nil
}

// socketpair returns the ends of a channel that preserves the boundaries of messages.
func socketpair() (own, other *os.File, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(ends[0]), "reaper"), os.NewFile(uintptr(ends[1]), "reaper"), nil
}

// reportedStatus reads what a reaper said before it ended: the status of its command.
func reportedStatus(channel *os.File) (syscall.WaitStatus, bool) {
	for {
		var message [128]byte
		n, _, err := unix.Recvfrom(int(channel.Fd()), message[:], unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return 0, false
		}
		if parts := strings.Fields(string(message[:n])); len(parts) > 1 && parts[0] == "ended" {
			status, err := strconv.Atoi(parts[1])
			return syscall.WaitStatus(status), err == nil
		}
	}
}
