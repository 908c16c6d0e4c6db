package pool

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
)

// availableMemory is what new processes may take of the machine's memory, or of
// their cgroup's where that has less left; 0 where it cannot be known.
func availableMemory() int64 {
	var free int64
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _ := cgroup.Value(string(text), "MemAvailable:")
		free = kib << 10
	}
	group, err := cgroup.Own()
	if err != nil {
		return free
	}
	if left, bounded := groupMemory(group); bounded && (free == 0 || left < free) {
		free = max(left, 1)
	}
	return free
}

// groupMemory is what a cgroup has left, and whether it is bounded at all. What the
// kernel keeps of files goes when memory is wanted.
func groupMemory(group string) (left int64, bounded bool) {
	number := func(name string) (int64, bool) {
		text, err := os.ReadFile(filepath.Join(group, name))
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return n, err == nil // the limit may be the word "max"
	}
	limit, bounded := number("memory.max")
	used, known := number("memory.current")
	if !bounded || !known {
		return 0, false
	}
	if text, err := os.ReadFile(filepath.Join(group, "memory.stat")); err == nil {
		cached, _ := cgroup.Value(string(text), "inactive_file")
		used -= cached
	}
	return limit - used, true
}
