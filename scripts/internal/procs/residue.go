package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Residue is what a supervisor might leave behind, counted at one moment.
type Residue struct {
	Descriptors int      // of this process
	Segments    int      // shared memory that this process and its children hold or map
	Named       []string // of /dev/shm
	Children    int      // of this process, zombies included
}

// Look counts what there is now.
func Look() (Residue, error) {
	var r Residue
	own, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return r, err
	}
	r.Descriptors = len(own) - 1 // one of them reads the folder
	children := Children(os.Getpid())
	for _, pid := range append(children, os.Getpid()) {
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

// segmentsOf counts what a process holds and maps, 0 where it is gone by now.
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

// Since says what there is now that was not there before.
func (r Residue) Since(before Residue) error {
	switch {
	case r.Descriptors > before.Descriptors:
		return fmt.Errorf("%d descriptors are left, before it were %d", r.Descriptors, before.Descriptors)
	case r.Segments > before.Segments:
		return fmt.Errorf("%d segments are left, before it were %d", r.Segments, before.Segments)
	case len(r.Named) > len(before.Named):
		return fmt.Errorf("/dev/shm holds %v, before it was %v", r.Named, before.Named)
	case r.Children > before.Children:
		return fmt.Errorf("%d processes are left, before it were %d", r.Children, before.Children)
	}
	return nil
}
