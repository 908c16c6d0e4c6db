package lifeline

import (
	"os"
	"os/exec"
)

// killGroupAtEnd does nothing: this system has no such signal.
func killGroupAtEnd(*os.File, int) error { return nil }

// RunReaped runs a command to its end. This system has no subreapers, so it ends only the
// process group of the command. Its error is an [ExitError] if the command failed.
func RunReaped(cmd *exec.Cmd, r Reaped) error { return runInGroup(cmd, r) }
