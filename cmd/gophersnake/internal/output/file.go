package output

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/media"
)

// PrintJSON writes a value as indented JSON and a line feed.
func PrintJSON(w io.Writer, v any) error {
	text, err := document.Encode(v, "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// writeFile writes a file completely or not at all.
func writeFile(path string, encode func(io.Writer) error) error {
	f, err := createFile(path)
	if err != nil {
		return err
	}
	defer f.discard()
	if err := encode(f); err != nil {
		return f.writeError(err)
	}
	return f.commit()
}

// atomicFile is a buffered temporary file until commit renames it.
type atomicFile struct {
	*bufio.Writer
	file *os.File
	path string // the name after commit
}

// createFile begins to write the file at path, and creates its folder if needed. The
// caller must call discard.
func createFile(path string) (*atomicFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fileError(path, err)
	}
	temporary := filepath.Join(filepath.Dir(path), "."+rand.Text()+filepath.Ext(path))
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) // before the umask
	if err != nil {
		return nil, fileError(path, withoutPath(err))
	}
	return &atomicFile{bufio.NewWriter(f), f, path}, nil
}

// writeError adds the name of the file to an error.
func (f *atomicFile) writeError(err error) error {
	_, isMedia := errors.AsType[*media.Error](err)
	_, isTable := errors.AsType[*tablefile.Error](err)
	if isMedia || isTable {
		return runner.Wrap(withoutPath(err), runner.KindSerialization, "write "+f.path)
	}
	return fileError(f.path, withoutPath(err))
}

// fileError returns the error of a file that cannot be written, with a hint.
func fileError(path string, err error) error {
	e := runner.Wrap(err, runner.KindIO, "write "+path)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return e.WithHint("free space or inodes there, or name a file in another folder")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return e.WithHint("name a file in a folder that can be written")
	}
	return e
}

// withoutPath removes the name of the temporary file from an error, since it means nothing
// to the user.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// commit gives the file its name.
func (f *atomicFile) commit() error {
	if err := f.Flush(); err != nil {
		return f.writeError(err)
	}
	if err := f.file.Close(); err != nil {
		return f.writeError(err)
	}
	if err := os.Rename(f.file.Name(), f.path); err != nil {
		return f.writeError(err)
	}
	return nil
}

// discard removes the file unless it was committed.
func (f *atomicFile) discard() {
	_ = f.file.Close()
	_ = os.Remove(f.file.Name()) // it does not exist any more if it was committed
}
