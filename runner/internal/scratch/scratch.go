// Package scratch creates temporary folders that show whether their owner is still
// alive. Each folder is locked as long as the process that created it lives, so that a
// later process can recognize and remove the folders of a process that was killed.
package scratch

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrTaken is the error of a folder that cannot be locked: it is gone, belongs to
// another user, or is in use.
var ErrTaken = errors.New("the folder is gone, in use, or belongs to another user")

// New creates a folder, whose name begins with the prefix, in another folder, and locks
// it. If in is empty, that is the system's folder for temporary files. The caller
// removes the folder when it is no longer needed, and then closes the lock.
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
		// Another process locked the folder before, took it for a leftover, and removes it.
	}
}

// Lock locks a folder of this user. It does not wait: its error is [ErrTaken] if the
// folder is gone, in use, or belongs to another user. Closing the file unlocks it.
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
		err = checkOwner(f, dir)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Remove removes a folder that other programs have filled, with all that is in it. It holds
// few descriptors and little of the stack, however deep the folders are nested, and removes
// those, too, that their owner must not list. It does not follow symbolic links.
func Remove(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for moved := 0; ; {
		folders, err := removeFiles(root, ".")
		for _, folder := range folders {
			if err == nil {
				err = flatten(root, folder, &moved)
			}
		}
		if err != nil || len(folders) == 0 {
			return errors.Join(err, os.Remove(dir))
		}
	}
}

// flatten removes a folder of the root. The folders in it move into the root, so that
// all of them are removed at the same depth. Their new names are numbers.
func flatten(root *os.Root, folder string, moved *int) error {
	if err := root.Chmod(folder, 0o700); err != nil {
		return err
	}
	inner, err := removeFiles(root, folder)
	if err != nil {
		return err
	}
	for _, name := range inner {
		from, to := folder+"/"+name, ""
		for free := false; !free; {
			*moved++
			to = strconv.Itoa(*moved)
			_, missing := root.Lstat(to)
			free = missing != nil
		}
		// Its entry for the parent folder changes, so that it must be writable.
		if err := errors.Join(root.Chmod(from, 0o700), root.Rename(from, to)); err != nil {
			return err
		}
	}
	return root.Remove(folder)
}

// removeFiles removes all but the folders from a folder, and returns the names of those.
func removeFiles(root *os.Root, folder string) (folders []string, err error) {
	f, err := root.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1000)
		for _, entry := range entries {
			if entry.IsDir() {
				folders = append(folders, entry.Name())
			} else if err := root.Remove(folder + "/" + entry.Name()); err != nil {
				return nil, err
			}
		}
		if errors.Is(err, io.EOF) {
			return folders, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// checkOwner returns ErrTaken if an open folder no longer has its name, or belongs to
// another user.
func checkOwner(f *os.File, dir string) error {
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
