package pyenv

import "syscall"

// processAttributes gives a program a session of its own, so that it is killed with
// all that it starts and cannot wait at the terminal for a password. There is no
// parent-death signal here: an installer outlives a supervisor that is killed.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
