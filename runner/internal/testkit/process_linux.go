package testkit

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// process is what /proc/PID/stat says about a process.
type process struct {
	state  string // "Z" for a zombie
	parent int
}

// readProcess returns false if the process does not exist.
func readProcess(pid int) (process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:]) // the name can contain anything
	if len(fields) < 2 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return process{state: fields[0], parent: parent}, err == nil
}

// Alive reports whether a process exists and is no zombie.
func Alive(pid int) bool {
	p, exists := readProcess(pid)
	return exists && p.state != "Z"
}

// IsZombie reports whether a process has exited and is not reaped.
func IsZombie(pid int) bool {
	p, exists := readProcess(pid)
	return exists && p.state == "Z"
}

// parents returns the parent of each process of the system, zombies included.
func parents(t testing.TB) map[int]int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	found := map[int]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, exists := readProcess(pid); exists {
			found[pid] = p.parent
		}
	}
	return found
}

// Children returns the processes that a process is the parent of, zombies included.
func Children(t testing.TB, of int) []int {
	t.Helper()
	var found []int
	for pid, parent := range parents(t) {
		if parent == of {
			found = append(found, pid)
		}
	}
	return found
}

// Descendants returns the children of a process, their children and so on, zombies
// included.
func Descendants(t testing.TB, of int) []int {
	t.Helper()
	parents := parents(t)
	var found []int
	for pid := range parents {
		for p := parents[pid]; p != 0; p = parents[p] {
			if p == of {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// Descriptors returns the number of descriptors that a process has open. If that is the
// calling process, the number includes the one that Descriptors reads the folder with.
func Descriptors(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	return len(entries)
}
