package pool

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// availableMemory is what new processes may take of the machine's memory, or of
// their cgroup's where that has less left; 0 where it cannot be known.
func availableMemory() int64 {
	var free int64
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		free = field(string(text), "MemAvailable:") << 10
	}
	if left, bounded := groupMemory("/sys/fs/cgroup", ownGroup()); bounded && (free == 0 || left < free) {
		free = max(left, 1)
	}
	return free
}

// ownGroup is the path of the supervisor's cgroup, which is its workers' too.
func ownGroup() string {
	text, _ := os.ReadFile("/proc/self/cgroup") // without it, there is the root
	for line := range strings.Lines(string(text)) {
		if path, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			return path
		}
	}
	return "/"
}

// groupMemory is what a cgroup has left, and whether it is bounded at all. What the
// kernel keeps of files goes when memory is wanted.
func groupMemory(root, path string) (left int64, bounded bool) {
	number := func(name string) (int64, bool) {
		text, err := os.ReadFile(filepath.Join(root, path, name))
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
	if text, err := os.ReadFile(filepath.Join(root, path, "memory.stat")); err == nil {
		used -= field(string(text), "inactive_file")
	}
	return limit - used, true
}

// field is the number that follows a name at the beginning of a line.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			n, _ := strconv.ParseInt(words[1], 10, 64) // what is no number is not known
			return n
		}
	}
	return 0
}
