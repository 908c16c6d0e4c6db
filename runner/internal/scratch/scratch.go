// Package scratch makes temporary folders whose owner can be told to be gone. Each is
// locked as long as the process lives that made it, so that the next one sees which
// of them a killed one has left, and may take those away.
package scratch

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrTaken is the error of a folder that is not to be had: it is gone, another's, or
// in use.
var ErrTaken = errors.New("the folder is another's")

// New makes a folder in another one, the temporary folder where that is empty, with a
// name that begins with the prefix, and locks it. Who closes the file, after having
// removed the folder, is done with it.
func New(in, prefix string) (dir string, lock *os.File, err error) {
	for {
		if dir, err = os.MkdirTemp(in, prefix); err != nil {
			return "", nil, err
		}
		if lock, err = Lock(dir); err == nil {
			return dir, lock, nil
		}
		if !errors.Is(err, ErrTaken) {
			_ = os.Remove(dir)
			return "", nil, err
		}
		// Somebody who sweeps was quicker, and removes it.
	}
}

// Lock locks a folder that is this user's, is there, and is nobody else's.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrTaken
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrTaken
	}
	if err == nil {
		err = isOurs(f, dir)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// isOurs looks whether a folder that is open still has its name, and is this user's.
func isOurs(f *os.File, dir string) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(dir)
	if err != nil || !os.SameFile(open, named) {
		return ErrTaken
	}
	if owner, ok := open.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return ErrTaken
	}
	return nil
}
