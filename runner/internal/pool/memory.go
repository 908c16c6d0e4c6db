package pool

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
)

// availableMemory returns how many bytes of memory new processes may take: the
// machine's available memory, or that of the supervisor's cgroup if it is less. It
// returns 0 if neither is known.
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

// groupMemory returns how many bytes a cgroup has left, and whether it has a limit at
// all. The kernel's inactive file cache counts as left, since it is dropped when
// memory is needed.
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
