// Package cgroup finds the cgroup v2 of this process, which is also that of its workers,
// and reads values from the kernel's files of names and numbers.
package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Own returns the folder of this process's cgroup v2.
func Own() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	return find(string(mounts), string(groups))
}

// find returns the folder of a process's cgroup v2, given the contents of the files
// mountinfo and cgroup of the process in /proc.
func find(mounts, groups string) (string, error) {
	var path string
	for line := range strings.Lines(groups) {
		if own, ok := strings.CutPrefix(line, "0::"); ok {
			path = strings.TrimSuffix(own, "\n")
		}
	}
	for line := range strings.Lines(mounts) {
		// ID, parent, device, root, mount point, options, …, -, type, …
		mount, kind, _ := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if !strings.HasPrefix(kind, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		relative, err := filepath.Rel(fields[3], path)
		if path == "" || err != nil || relative == ".." || strings.HasPrefix(relative, "../") {
			break // it belongs to another namespace
		}
		return filepath.Join(fields[4], relative), nil
	}
	return "", errors.New("this process has no cgroup v2")
}

// Value returns the number that follows a name at the beginning of a line, and whether
// there is one.
func Value(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			if n, err := strconv.ParseInt(words[1], 10, 64); err == nil {
				return n, true
			}
		}
	}
	return 0, false
}

// MemoryLimit returns the lowest limit of the memory, in bytes, of this process's cgroup and
// those that contain it, and whether there is one.
func MemoryLimit() (limit int64, ok bool) {
	folder, err := Own()
	for ; err == nil; folder = filepath.Dir(folder) {
		var text []byte
		if text, err = os.ReadFile(filepath.Join(folder, "memory.max")); err != nil {
			break // the root has no limit
		}
		if n, parsing := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); parsing == nil && (!ok || n < limit) {
			limit, ok = n, true
		}
	}
	return limit, ok
}
