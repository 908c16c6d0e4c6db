package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// spent is the processor time that this process has taken up to now.
func spent() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // it cannot fail
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// spentBelow is that of each process below this one.
func spentBelow() map[int]time.Duration {
	below := map[int]time.Duration{}
	for _, pid := range procs.Descendants(os.Getpid()) {
		below[pid] = spentBy(pid)
	}
	return below
}

// spentBy is the processor time that the threads of a process have taken. The times
// of /proc/PID/stat are in hundredths of a second, of which an idle worker takes none.
func spentBy(pid int) time.Duration {
	total := int64(0)
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, thread := range threads {
		total += fieldOf(thread, 0)
	}
	return time.Duration(total)
}

// privateOf is the memory that a process shares with nobody, in bytes.
func privateOf(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)) // it may have ended
	total := int64(0)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(line, "Private_") {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			total += kib << 10
		}
	}
	return total
}

// fieldOf returns a number in a file of /proc, 0 where there is none any more.
func fieldOf(path string, field int) int64 {
	text, _ := os.ReadFile(path)
	fields := strings.Fields(string(text))
	if len(fields) <= field {
		return 0
	}
	n, _ := strconv.ParseInt(fields[field], 10, 64)
	return n
}
