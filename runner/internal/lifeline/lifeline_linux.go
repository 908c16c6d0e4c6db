package lifeline

import (
	"os"

	"golang.org/x/sys/unix"
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
