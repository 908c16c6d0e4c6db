package worker

import "golang.org/x/sys/unix"

// stateStopped is the kernel's SSTOP.
const stateStopped = 4

// findHang sees here only whether the process is stopped: the pipe of its pulse
// cannot be opened from outside.
func (p *process) findHang() Hang {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", p.pid())
	if err == nil && info.Proc.P_stat == stateStopped {
		return HangStopped
	}
	return ""
}
