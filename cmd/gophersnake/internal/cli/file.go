package cli

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// writeFile writes a file as a whole or not at all.
func writeFile(path string, encode func(io.Writer) error) error {
	f, err := createFile(path)
	if err != nil {
		return err
	}
	defer f.discard()
	if err := encode(f); err != nil {
		return f.failed(err)
	}
	return f.commit()
}

// atomicFile is a file that is not there before it is complete.
type atomicFile struct {
	*os.File
	path string
}

func createFile(path string) (*atomicFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "write "+path)
	}
	temporary := filepath.Join(filepath.Dir(path), "."+rand.Text()+filepath.Ext(path))
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) // less the umask
	if err != nil {
		return nil, runner.Wrap(withoutPath(err), runner.KindIO, "write "+path)
	}
	return &atomicFile{f, path}, nil
}

func (f *atomicFile) failed(err error) error {
	kind := runner.KindIO
	if _, ok := err.(*media.Error); ok {
		kind = runner.KindSerialization
	}
	return runner.Wrap(withoutPath(err), kind, "write "+f.path)
}

// withoutPath leaves out the name of the temporary file, which nobody knows.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// commit puts the file in its place.
func (f *atomicFile) commit() error {
	if err := f.Close(); err != nil {
		return f.failed(err)
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return f.failed(err)
	}
	return nil
}

// discard removes a file that was not committed.
func (f *atomicFile) discard() {
	_ = f.Close()
	_ = os.Remove(f.Name()) // it is gone where it was committed
}
