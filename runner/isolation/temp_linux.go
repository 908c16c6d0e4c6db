package isolation

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// tempName is how the temporary folders are named.
const tempName = "gophersnake-temp-"

// temp is the temporary folder of one process. It is locked as long as its
// supervisor lives, so that others can tell what a killed one has left.
type temp struct {
	dir  string
	lock *os.File
}

// swept is when this process has looked for what others have left.
var swept sync.Once

// newTemp makes a temporary folder.
func newTemp() (*temp, error) {
	swept.Do(func() { sweep(os.TempDir()) })
	for {
		dir, err := os.MkdirTemp("", tempName)
		if err != nil {
			return nil, err
		}
		lock, err := lockFolder(dir)
		if err == nil {
			return &temp{dir, lock}, nil
		}
		if !errors.Is(err, errTaken) {
			_ = os.Remove(dir)
			return nil, err
		}
		// Somebody who sweeps was quicker, and removes it.
	}
}

func (t *temp) remove() {
	_ = os.RemoveAll(t.dir)
	_ = t.lock.Close()
}

var errTaken = errors.New("the folder is another's")

// lockFolder locks a folder that is this user's, is there, and is nobody else's.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errTaken
	}
	if err == nil {
		err = sameFolder(f, dir)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sameFolder looks whether a folder that is open still has its name, and is this
// user's.
func sameFolder(f *os.File, dir string) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(dir)
	if err != nil || !os.SameFile(open, named) {
		return errTaken
	}
	if owner, ok := open.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return errTaken
	}
	return nil
}

// sweep removes the folders of supervisors that were killed.
func sweep(root string) {
	left, _ := filepath.Glob(filepath.Join(root, tempName+"*"))
	for _, dir := range left {
		if lock, err := lockFolder(dir); err == nil {
			(&temp{dir, lock}).remove()
		}
	}
}
