package pyenv

import "syscall"

// processAttributes gives a program a session of its own, so that it is killed with
// all that it starts and cannot wait at the terminal for a password. It dies with
// the supervisor.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}
