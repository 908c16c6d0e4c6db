package lifeline

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// killGroupAtEnd does nothing: this system has no such signal.
func killGroupAtEnd(*os.File, int) error { return nil }

// RunReaped runs a command to its end. This system has no subreapers, so it ends only the
// process group of the command. Its error is an [ExitError] if the command failed.
func RunReaped(cmd *exec.Cmd, _ Reaped) error {
	err := Run(cmd, nil)
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the command has left
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &ExitError{exit.Sys().(syscall.WaitStatus)}
	}
	return err
}
