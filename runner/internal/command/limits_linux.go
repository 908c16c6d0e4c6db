package command

import (
	"golang.org/x/sys/unix"
)

// accessible returns an error if this user may not execute a file.
func accessible(path string) error {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// apply makes the kernel bound a process and those that it will start.
func (l *Limits) apply(pid int) error {
	for _, each := range []struct {
		resource int
		value    uint64
	}{
		{unix.RLIMIT_DATA, uint64(l.Memory)},
		{unix.RLIMIT_NOFILE, uint64(l.OpenFiles)},
	} {
		if each.value == 0 {
			continue
		}
		var old unix.Rlimit
		err := unix.Prlimit(pid, each.resource, nil, &old)
		if err == nil {
			bound := min(each.value, old.Max)
			err = unix.Prlimit(pid, each.resource, &unix.Rlimit{Cur: bound, Max: bound}, nil)
		}
		if err != nil && err != unix.ESRCH { // it has ended
			return err
		}
	}
	return nil
}
