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

// cpuTime returns the CPU time that this process has used.
func cpuTime() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // it cannot fail
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// descendantsCPUTime returns the CPU time of each descendant of this process.
func descendantsCPUTime() map[int]time.Duration {
	times := map[int]time.Duration{}
	for _, pid := range procs.Descendants(os.Getpid()) {
		times[pid] = cpuTimeOf(pid)
	}
	return times
}

// cpuTimeOf returns the CPU time of a process's threads, in nanoseconds. /proc/PID/stat has
// it too, but in hundredths of a second, which is too coarse for an idle worker.
func cpuTimeOf(pid int) time.Duration {
	total := int64(0)
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, thread := range threads {
		total += procField(thread, 0)
	}
	return time.Duration(total)
}

// privateMemory returns the memory that a process shares with no other one, in bytes.
func privateMemory(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)) // empty if it has ended
	total := int64(0)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(line, "Private_") {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			total += kib << 10
		}
	}
	return total
}

// procField returns a number in a file of /proc, or 0 if the file does not exist.
func procField(path string, field int) int64 {
	text, _ := os.ReadFile(path)
	fields := strings.Fields(string(text))
	if len(fields) <= field {
		return 0
	}
	n, _ := strconv.ParseInt(fields[field], 10, 64)
	return n
}

// memoryProfile samples the memory of all processes a hundred times during a soak.
type memoryProfile struct {
	total, every       int
	first, most, least int64 // from the first tenth of the work on
}

func newMemoryProfile(total int) *memoryProfile {
	return &memoryProfile{total: total, every: max(1, total/100)}
}

// progress takes a sample if one is due after this much of the work.
func (p *memoryProfile) progress(done int) {
	if done%p.every != 0 || done < p.total/10 {
		return
	}
	now := procs.Resident(append(procs.Children(os.Getpid()), os.Getpid())...)
	if p.first == 0 {
		p.first, p.least = now, now
	}
	p.most, p.least = max(p.most, now), min(p.least, now)
}

// memorySlack is how much memory may grow, since the timing of garbage collections varies.
const memorySlack = 16 << 20

// check returns an error if the memory grew.
func (p *memoryProfile) check() error {
	if p.most > p.first+memorySlack {
		return fmt.Errorf("the memory grew by %d MiB after the first tenth; %d MiB are allowed", (p.most-p.first)>>20, memorySlack>>20)
	}
	return nil
}

func (p *memoryProfile) String() string {
	return fmt.Sprintf("%.1f MiB after the first tenth, then %.1f to %.1f MiB", mib(p.first), mib(p.least), mib(p.most))
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
