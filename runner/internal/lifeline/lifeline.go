// Package lifeline starts commands that end with this process, however it ends.
//
// The kernel's parent-death signal would not do: the kernel sends it when the thread that
// started the command ends, and only to the command, not to its children.
package lifeline

import (
	"os"
	"os/exec"
)

// Run runs a command to its end, as [exec.Cmd.Run] does. On Linux the kernel kills the
// command and its process group if this process ends before; the command's attributes
// must give it a group or a session of its own. It inherits one more descriptor than
// ExtraFiles names. A process that leaves the group lives on.
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
	cmd.ExtraFiles = append(cmd.ExtraFiles, read)
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
