package worker

import (
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
)

// oomUnknown is the number of the kernel's OOM kills where it cannot be known.
const oomUnknown = -1

// oomKills returns how many processes the kernel has ended for want of memory
// in the supervisor's cgroup, which is the workers' too.
func oomKills() int64 {
	text, err := os.ReadFile(oomFile())
	if err != nil {
		return oomUnknown
	}
	return parseOOMKills(string(text))
}

// oomFile is where the kernel counts them; empty where it does not.
var oomFile = sync.OnceValue(func() string {
	groups, _ := os.ReadFile("/proc/self/cgroup") // without it, the machine's count is left
	for _, path := range oomFiles(string(groups)) {
		if text, err := os.ReadFile(path); err == nil && parseOOMKills(string(text)) != oomUnknown {
			return path
		}
	}
	return ""
})

// oomFiles are the files that may hold the count, the narrowest first, given
// the content of /proc/self/cgroup. Inside of a container the path that stands
// there may be the host's, and the group itself be mounted as the root.
func oomFiles(groups string) []string {
	const root = "/sys/fs/cgroup"
	var v1, v2 []string
	for line := range strings.Lines(groups) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, found := strings.Cut(rest, ":")
		switch {
		case !found:
		case id == "0" && controllers == "":
			v2 = []string{filepath.Join(root, path, "memory.events"), filepath.Join(root, "memory.events")}
		case controllers == "memory":
			v1 = []string{
				filepath.Join(root, "memory", path, "memory.oom_control"),
				filepath.Join(root, "memory", "memory.oom_control"),
			}
		}
	}
	return append(append(v2, v1...), "/proc/vmstat")
}

// parseOOMKills finds the count; all of these files have a line for it.
func parseOOMKills(text string) int64 {
	if count, found := cgroup.Figure(text, "oom_kill"); found {
		return count
	}
	return oomUnknown
}
