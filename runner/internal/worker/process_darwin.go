package worker

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn starts the process. The worker watches its lifeline itself here.
func (p *process) spawn(*os.File) error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.launch(); err != nil {
		return err
	}
	p.body = &child{cmd: p.cmd, pidfd: -1}
	return nil
}

func (c *child) await() {
	queue, err := unix.Kqueue()
	if err != nil {
		return // the reaping waits as well
	}
	defer unix.Close(queue)
	events := make([]unix.Kevent_t, 1)
	unix.SetKevent(&events[0], c.pid(), unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	events[0].Fflags = unix.NOTE_EXIT
	for {
		// A process that has ended already is an error, and no reason to wait.
		if _, err := unix.Kevent(queue, events, events, nil); err != unix.EINTR {
			return
		}
	}
}

// hasEnded does not know here.
func (c *child) hasEnded() bool { return false }

// anonymousFile makes a file and unlinks it at once.
func anonymousFile(name string) (*os.File, error) {
	f, err := os.CreateTemp("", name+"-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
