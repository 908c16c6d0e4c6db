package worker

import (
	"os"
	"syscall"
)

// spawn starts the process. The worker watches its lifeline itself here.
func (p *process) spawn(*os.File) error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return p.cmd.Start()
}

// awaitExit leaves the waiting to the reaping.
func (p *process) awaitExit() { _ = p.cmd.Wait() }

// anonymousFile makes a file and unlinks it at once.
func anonymousFile(name string) (*os.File, error) {
	f, err := os.CreateTemp("", name+"-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
