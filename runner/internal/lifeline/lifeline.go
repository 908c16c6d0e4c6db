// Package lifeline starts commands that end with this process, however it ends.
//
// [Run] ends a command and its process group. The kernel's parent-death signal would not
// do: the kernel sends it when the thread that started the command ends, and only to the
// command, not to its children.
//
// [RunReaped] also ends the processes that leave the group, and those that the command
// leaves behind when it ends itself or is killed.
package lifeline

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Run runs a command to its end, as [exec.Cmd.Run] does. On Linux the kernel kills the
// command and its process group if this process ends before; the command's attributes
// must give it a group or a session of its own. It inherits one more descriptor than
// ExtraFiles names, as the first of them. A process that leaves the group lives on.
//
// If start is not nil, it is called to start the command.
func Run(cmd *exec.Cmd, start func() error) error {
	if start == nil {
		start = cmd.Start
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close() // as the end of this process does
	cmd.ExtraFiles = append([]*os.File{read}, cmd.ExtraFiles...)
	err = start()
	if err == nil {
		err = killGroupAtEnd(read, cmd.Process.Pid)
	}
	_ = read.Close()
	if cmd.Process == nil {
		return err
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	return cmd.Wait()
}

// Reaped says how [RunReaped] runs a command.
type Reaped struct {
	// Python is the path of the interpreter that runs the reaper. If it is empty, there is
	// no reaper: what the command leaves in its process group is killed, and nothing else.
	Python string
	// Held is a file that stays open as long as a process of the command lives, also if
	// this process ends before. It is meant for a lock. The command does not inherit it.
	Held *os.File
	// Stdin is the standard input of the command; nil is the null device.
	Stdin *os.File
	// Started is called with the process id of the command, unless it is nil. The id does
	// not become that of another process before it returns.
	Started func(pid int)
}

// CannotExecute is how the last line that a command writes to its standard error begins if the
// kernel refuses to execute it, and its exit code is then [ExitCannotExecute]. The number of
// the error follows.
const (
	CannotExecute     = "gophersnake: the program cannot be executed: errno "
	ExitCannotExecute = 127
)

// runInGroup runs a command without a reaper.
func runInGroup(cmd *exec.Cmd, r Reaped) error {
	if r.Stdin != nil {
		cmd.Stdin = r.Stdin
	}
	err := Run(cmd, func() error {
		err := cmd.Start()
		if err == nil && r.Started != nil {
			r.Started(cmd.Process.Pid)
		}
		return err
	})
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the command has left
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &ExitError{exit.Sys().(syscall.WaitStatus)}
	}
	return err
}

// ExitError says that a command ended with another status than 0.
type ExitError struct{ Status syscall.WaitStatus }

// Error returns a text such as "exit status 1" or "signal: killed".
func (e *ExitError) Error() string {
	if e.Status.Signaled() {
		return "signal: " + e.Status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", e.Status.ExitStatus())
}
