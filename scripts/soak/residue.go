package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// residue is what a supervisor might leave behind, counted at one moment.
type residue struct {
	descriptors int      // of this process
	segments    int      // shared memory that this process and its children hold or map
	named       []string // of /dev/shm
	children    int      // of this process, zombies included
}

// look counts what there is now.
func look() (residue, error) {
	var r residue
	own, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return r, err
	}
	r.descriptors = len(own) - 1 // one of them reads the folder
	children := childrenOf(os.Getpid())
	for _, pid := range append(children, os.Getpid()) {
		r.segments += segmentsOf(pid)
	}
	shm, err := os.ReadDir("/dev/shm")
	if err != nil {
		return r, err
	}
	for _, entry := range shm {
		r.named = append(r.named, entry.Name())
	}
	r.children = len(children)
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

// since says what there is now that was not there before.
func (r residue) since(before residue) error {
	switch {
	case r.descriptors > before.descriptors:
		return fmt.Errorf("%d descriptors are left, before it were %d", r.descriptors, before.descriptors)
	case r.segments > before.segments:
		return fmt.Errorf("%d segments are left, before it were %d", r.segments, before.segments)
	case len(r.named) > len(before.named):
		return fmt.Errorf("/dev/shm holds %v, before it was %v", r.named, before.named)
	case r.children > before.children:
		return fmt.Errorf("%d processes are left, before it were %d", r.children, before.children)
	}
	return nil
}

// childrenOf returns the processes that a process has started.
func childrenOf(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var children []int
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // a thread may have ended
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// resident is the resident memory of this process and its children, in bytes.
// Shared memory counts for each that has touched it.
func resident() int64 {
	total := int64(0)
	for _, pid := range append(childrenOf(os.Getpid()), os.Getpid()) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)) // it may have ended
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			total += pages * int64(os.Getpagesize())
		}
	}
	return total
}
