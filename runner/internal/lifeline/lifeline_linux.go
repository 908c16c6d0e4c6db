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

// firstDescriptor is the number of the first of the files that a reaper inherits besides the
// lifeline.
const firstDescriptor = 4

// reaperProgram forks the command from its reaper. Its arguments are the numbers of
// Reaped.Held and Reaped.Stdin, 0 without one, the path of the command, and the command's
// name and arguments. It undoes what an interpreter ignores that starts.
var reaperProgram = pyworker.Reaper() + `
import sys, _signal
held, stdin = int(sys.argv[1]), int(sys.argv[2])
fork_worker(held=held, at_once=True)
if stdin:
    posix.dup2(stdin, 0)
    posix.close(stdin)
for each in (_signal.SIGPIPE, _signal.SIGXFSZ):
    _signal.signal(each, _signal.SIG_DFL)
try:
    posix.execv(sys.argv[3], sys.argv[4:])
except OSError as error:
    sys.stderr.write(f"` + CannotExecute + `{error.errno}\n")
    sys.stderr.flush()
    posix._exit(` + strconv.Itoa(ExitCannotExecute) + `)
`

// RunReaped runs a command below a reaper: a process that inherits all that the command
// starts, whatever session or group it moves to, and kills what is left of it when the
// command or this process ends. The path of the command must be absolute. If the context
// of the command ends, everything is killed. RunReaped returns when nothing is left.
//
// Its error is an [ExitError] if the command failed. If the reaper itself is killed, the
// kernel kills the command's process group.
func RunReaped(cmd *exec.Cmd, r Reaped) error {
	if r.Python == "" {
		return runInGroup(cmd, r)
	}
	channel, end, err := NewChannel()
	if err != nil {
		return err
	}
	defer channel.Close()
	inherit := func(f *os.File) string {
		if f == nil {
			return "0"
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		return strconv.Itoa(firstDescriptor + len(cmd.ExtraFiles) - 1)
	}
	held, stdin := inherit(r.Held), inherit(r.Stdin)
	cmd.Args = append([]string{r.Python, "-I", "-S", "-c", reaperProgram, held, stdin, cmd.Path}, cmd.Args...)
	cmd.Path, cmd.Stdin = r.Python, end
	cmd.Cancel = channel.CloseWrite // the reaper takes it for the end of this process
	reported := make(chan report, 1)
	failed := Run(cmd, func() error {
		err := cmd.Start()
		_ = end.Close() // so that the channel ends with the reaper
		if err == nil {
			go func() { reported <- channel.awaitReport(cmd.Process.Pid, r.Started) }()
		}
		return err
	})
	if cmd.Process == nil {
		_ = end.Close()
		return failed
	}
	switch last := <-reported; {
	case !last.ended && failed == nil:
		return errors.New("the reaper ended without a report")
	case !last.ended:
		return failed
	case last.status != 0:
		return &ExitError{last.status}
	}
	return nil
}

// report is what a reaper said before it ended: the status of its command, if that has ended.
type report struct {
	ended  bool
	status syscall.WaitStatus
}

// awaitReport follows what a reaper says until it ends. It calls started, which may be nil,
// with the command's process id, before it allows the reaper to reap the command.
func (c *Channel) awaitReport(reaper int, started func(pid int)) (last report) {
	for {
		message, sender, err := c.Receive()
		if err != nil {
			return last
		}
		switch parts := strings.Fields(string(message)); {
		case len(parts) == 1 && parts[0] == "worker" && sender != reaper:
			if started != nil {
				started(sender)
			}
			_, _ = c.Write([]byte("adopted")) // it fails if the reaper has ended
		case len(parts) > 1 && parts[0] == "ended" && sender == reaper:
			status, err := strconv.Atoi(parts[1])
			last = report{err == nil, syscall.WaitStatus(status)}
		}
	}
}
