// Package procs looks at the processes of a long run: which there are, and what
// they hold. It reads /proc, and finds nothing where there is none.
package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Children returns the processes that a process has started, zombies included.
func Children(pid int) []int {
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

// Descendants returns the children of a process, and theirs.
func Descendants(pid int) []int {
	found := Children(pid)
	for _, child := range found {
		found = append(found, Descendants(child)...)
	}
	return found
}

// IsBelow reports whether a process was started by this one, or by one that was.
func IsBelow(pid int) bool {
	for own := os.Getpid(); pid > 1; pid = parent(pid) {
		if parent(pid) == own {
			return true
		}
	}
	return false
}

// parent returns the parent of a process, 0 where there is none.
func parent(pid int) int {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // it may have ended
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0
	}
	found, _ := strconv.Atoi(fields[1])
	return found
}

// With returns the processes in whose environment a variable was set so when they
// were started, this one excepted. It finds those too that nobody is the parent of.
func With(variable string) []int {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	var found []int
	for _, path := range environments {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		text, _ := os.ReadFile(path) // it may have ended
		if pid != os.Getpid() && strings.Contains("\x00"+string(text), "\x00"+variable+"\x00") {
			found = append(found, pid)
		}
	}
	return found
}

// Resident is the resident memory of processes, in bytes. Shared memory counts for
// each that has touched it.
func Resident(pids ...int) int64 {
	total := int64(0)
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)) // it may have ended
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			total += pages * int64(os.Getpagesize())
		}
	}
	return total
}

// Segments is how much of a process's resident memory is shared memory, in bytes.
func Segments(pid int) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may have ended
	_, after, _ := strings.Cut(string(status), "\nRssShmem:")
	if fields := strings.Fields(after); len(fields) > 0 {
		kib, _ := strconv.ParseInt(fields[0], 10, 64)
		return kib << 10
	}
	return 0
}
