package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Residue counts the resources that a supervisor could leave behind, at one moment.
type Residue struct {
	Descriptors int      // of the process
	Segments    int      // shared memory that the process and its children hold or map
	Named       []string // the entries of /dev/shm
	Children    int      // of the process, including zombies
}

// Look counts the resources that this process holds now.
func Look() (Residue, error) {
	r, err := Of(os.Getpid())
	r.Descriptors-- // the one that reads the folder
	return r, err
}

// Of counts the resources that a process holds now.
func Of(pid int) (Residue, error) {
	var r Residue
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return r, err
	}
	r.Descriptors = len(open)
	children := Children(pid)
	for _, pid := range append(children, pid) {
		r.Segments += segmentsOf(pid)
	}
	shm, err := os.ReadDir("/dev/shm")
	if err != nil {
		return r, err
	}
	for _, entry := range shm {
		r.Named = append(r.Named, entry.Name())
	}
	r.Children = len(children)
	return r, nil
}

// segmentsOf counts the segments that a process holds or maps. It returns 0 if the process
// has ended.
func segmentsOf(pid int) int {
	isOurs := func(target string) bool { return strings.Contains(target, "memfd:gophersnake") }
	n := 0
	held, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, path := range held {
		if target, err := os.Readlink(path); err == nil && isOurs(target) {
			n++
		}
	}
	maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	for line := range strings.Lines(string(maps)) {
		if isOurs(line) {
			n++
		}
	}
	return n
}

// Since returns an error if more is held now than before.
func (r Residue) Since(before Residue) error {
	switch {
	case r.Descriptors > before.Descriptors:
		return fmt.Errorf("%d descriptors, %d before", r.Descriptors, before.Descriptors)
	case r.Segments > before.Segments:
		return fmt.Errorf("%d segments, %d before", r.Segments, before.Segments)
	case len(r.Named) > len(before.Named):
		return fmt.Errorf("/dev/shm holds %v, before %v", r.Named, before.Named)
	case r.Children > before.Children:
		return fmt.Errorf("%d child processes, %d before", r.Children, before.Children)
	}
	return nil
}

// AwaitBefore waits until no more is held than before, and returns an error if that takes more
// than 10 seconds: some descriptors are closed by goroutines that end a moment after their owner.
func AwaitBefore(before Residue) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now, err := Look()
		if err == nil {
			err = now.Since(before)
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
