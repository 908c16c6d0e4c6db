package worker

import "syscall"

// foster is a process that a template forked, and that therefore is not the
// supervisor's child: who wants to know how it ended asks the template.
type foster interface {
	pid() int
	signal(sig syscall.Signal)
	await() // its end
	hasEnded() bool
	endGroup()
	reap() *ended // once it has ended; nil where how is not known
}

// ended is how a process ended, and what it had used.
type ended struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
}

func killed(e *ended) bool {
	return e != nil && e.status.Signaled() && e.status.Signal() == syscall.SIGKILL
}

// endGroup ends what the process, which has ended, left of its group.
func (p *process) endGroup() {
	if p.foster != nil {
		p.foster.endGroup()
		return
	}
	// The leader is not reaped yet, so the group's id cannot be another's.
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
}

// reap takes a process that has ended out of the system's table.
func (p *process) reap() *ended {
	if p.foster != nil {
		return p.foster.reap()
	}
	_ = p.cmd.Wait() // how it ended is no error here
	state := p.cmd.ProcessState
	return &ended{status: state.Sys().(syscall.WaitStatus), usage: *state.SysUsage().(*syscall.Rusage)}
}
