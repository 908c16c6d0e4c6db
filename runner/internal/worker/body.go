package worker

import (
	"os/exec"
	"syscall"
)

// body is a process as the system has it: the supervisor's child, or a worker that a
// template forked. It is there once the process has been started.
type body interface {
	pid() int
	signal(sig syscall.Signal) // one that is gone is not an error
	await()                    // its end, leaving it to be reaped
	hasEnded() bool            // asked before it is reaped
	endGroup()                 // what it has left of its group
	reap() *ended              // once it has ended; nil where how is not known
}

// ended is how a process ended, and what it had used.
type ended struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
}

func killed(e *ended) bool {
	return e != nil && e.status.Signaled() && e.status.Signal() == syscall.SIGKILL
}

// child is a process that the supervisor itself started.
type child struct {
	cmd   *exec.Cmd
	pidfd int // -1 where the system has none
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) signal(sig syscall.Signal) { _ = c.cmd.Process.Signal(sig) }

// endGroup needs no care: the leader is not reaped yet, so the group's id cannot be
// another's.
func (c *child) endGroup() { _ = syscall.Kill(-c.pid(), syscall.SIGKILL) }

func (c *child) reap() *ended {
	_ = c.cmd.Wait() // how it ended is no error here
	state := c.cmd.ProcessState
	return &ended{status: state.Sys().(syscall.WaitStatus), usage: *state.SysUsage().(*syscall.Rusage)}
}
