// Package procs finds the processes of a long run and the resources that they hold. It
// reads /proc; without it, it finds nothing.
package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Children returns the child processes of a process, including zombies.
func Children(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var children []int
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // empty if the thread has ended
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// Descendants returns the children of a process and their descendants.
func Descendants(pid int) []int {
	found := Children(pid)
	for _, child := range found {
		found = append(found, Descendants(child)...)
	}
	return found
}

// IsBelow reports whether a process is a descendant of this one.
func IsBelow(pid int) bool {
	for self := os.Getpid(); pid > 1; pid = parent(pid) {
		if parent(pid) == self {
			return true
		}
	}
	return false
}

// parent returns the parent of a process, or 0 if there is none.
func parent(pid int) int {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // empty if it has ended
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0
	}
	found, _ := strconv.Atoi(fields[1])
	return found
}

// With returns the processes that were started with a variable in their environment, given
// as NAME=VALUE, or with the path of something below that value, except this process. It
// also finds orphans.
func With(variable string) []int {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	var found []int
	for _, path := range environments {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		text, _ := os.ReadFile(path) // empty if it has ended
		if pid != os.Getpid() && hasVariable("\x00"+string(text), "\x00"+variable) {
			found = append(found, pid)
		}
	}
	return found
}

func hasVariable(environment, entry string) bool {
	return strings.Contains(environment, entry+"\x00") || strings.Contains(environment, entry+"/")
}

// Resident returns the resident memory of processes, in bytes. Shared memory counts for
// each process that has touched it.
func Resident(pids ...int) int64 {
	total := int64(0)
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)) // empty if it has ended
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			total += pages * int64(os.Getpagesize())
		}
	}
	return total
}

// Segments returns how much of a process's resident memory is shared memory, in bytes.
func Segments(pid int) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // empty if it has ended
	_, after, _ := strings.Cut(string(status), "\nRssShmem:")
	if fields := strings.Fields(after); len(fields) > 0 {
		kib, _ := strconv.ParseInt(fields[0], 10, 64)
		return kib << 10
	}
	return 0
}
