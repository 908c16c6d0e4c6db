package scratch

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
)

// filesPrefix is how the names of the folders with unpacked files begin.
const filesPrefix = "gophersnake-files-"

// Files is a folder of this process that holds the files of an [fs.FS].
type Files struct {
	// Dir is the absolute path of the folder. Only this user can read it.
	Dir string

	remove func() error
}

// sweepFilesOnce removes the folders that killed processes left, once per process.
var sweepFilesOnce sync.Once

// Unpack copies all files into a new folder. It leaves out __pycache__, and refuses a file
// system that holds anything but regular files and folders, or whose names would lead out of
// the folder. The caller removes the result.
func Unpack(files fs.FS) (*Files, error) {
	sweepFilesOnce.Do(func() { Sweep(os.TempDir(), filesPrefix) })
	dir, lock, err := New("", filesPrefix)
	if err != nil {
		return nil, err
	}
	remove := sync.OnceValue(func() error { return errors.Join(Remove(dir), lock.Close()) })
	if err := unpackInto(dir, files); err != nil {
		return nil, errors.Join(err, remove())
	}
	return &Files{Dir: dir, remove: remove}, nil
}

// Remove removes the folder. Calls after the first one return the same, and it does nothing
// for a nil Files.
func (f *Files) Remove() error {
	if f == nil {
		return nil
	}
	return f.remove()
}

func unpackInto(dir string, files fs.FS) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		local, invalid := filepath.Localize(name)
		switch {
		case err != nil:
			return err
		case invalid != nil:
			return &fs.PathError{Op: "unpack", Path: name, Err: errors.New("the name leads out of the folder, or is no name of a file here")}
		case entry.IsDir() && path.Base(name) == "__pycache__":
			return fs.SkipDir
		case entry.IsDir():
			return root.MkdirAll(local, 0o700)
		case !entry.Type().IsRegular():
			return &fs.PathError{Op: "unpack", Path: name, Err: errors.New("neither a regular file nor a folder")}
		}
		return unpackFile(root, local, files, name)
	})
}

func unpackFile(root *os.Root, local string, files fs.FS, name string) error {
	from, err := files.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := root.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|info.Mode().Perm()&0o100)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// Sweep removes the folders with a prefix that killed processes left in a folder.
func Sweep(parent, prefix string) {
	left, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, dir := range left {
		if lock, err := Lock(dir); err == nil {
			_ = Remove(dir)
			_ = lock.Close()
		}
	}
}
