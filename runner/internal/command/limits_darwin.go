package command

import (
	"errors"

	"golang.org/x/sys/unix"
)

// accessible returns an error if this user may not execute a file.
func accessible(path string) error { return unix.Access(path, unix.X_OK) }

// apply fails: this system cannot bound another process.
func (l *Limits) apply(int) error {
	if l.Memory > 0 || l.OpenFiles > 0 {
		return errors.New("limits.memory and limits.open_files of a command need Linux")
	}
	return nil
}
