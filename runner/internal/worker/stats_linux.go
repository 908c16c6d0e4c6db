package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// procStat is the content of /proc/…/stat, of a process or of a thread.
type procStat struct {
	state       byte
	parent      int
	group       int
	cpu         time.Duration // without its children
	childrenCPU time.Duration // of the children that it has reaped
	resident    int64         // bytes
}

// clockTick is the unit of the times in /proc. It does not depend on the kernel's
// configuration.
const clockTick = 10 * time.Millisecond

var pageSize = int64(os.Getpagesize())

func procFolder(pid int) string { return fmt.Sprintf("/proc/%d", pid) }

// readStat reads the file stat of a folder in /proc.
func readStat(folder string) (procStat, error) {
	text, err := os.ReadFile(folder + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(text)
}

// parseStat parses the content of such a file. The name in it, which the process
// chooses, may contain anything, also brackets.
func parseStat(text []byte) (procStat, error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return procStat{}, errors.New("the stat file has too few fields")
	}
	number := func(field int) int64 { // numbered as in proc(5)
		n, _ := strconv.ParseInt(string(fields[field-3]), 10, 64) // the kernel writes only numbers
		return n
	}
	return procStat{
		state:       fields[0][0],
		parent:      int(number(4)),
		group:       int(number(5)),
		cpu:         time.Duration(number(14)+number(15)) * clockTick,
		childrenCPU: time.Duration(number(16)+number(17)) * clockTick,
		resident:    number(24) * pageSize,
	}, nil
}

// groupUsage returns the resident memory and the CPU time of a process and its group,
// and whether the process is alone in it. Memory that several of them share counts
// for each.
func groupUsage(pid int, now time.Time) (resident int64, cpu time.Duration, alone bool) {
	stat, err := readStat(procFolder(pid))
	if err != nil {
		return 0, 0, true
	}
	resident, cpu, alone = stat.resident, stat.cpu+stat.childrenCPU, true
	for _, member := range groupMembers(pid, now) {
		// The process id may have been taken by another process since.
		if stat, err := readStat(procFolder(member)); err == nil && stat.group == pid {
			resident += stat.resident
			cpu += stat.cpu + stat.childrenCPU
			alone = false
		}
	}
	return resident, cpu, alone
}

// proportionalMemory returns the resident memory of a process and its group, in which
// each process has its share of the memory that it shares with others. It returns 0 if
// the kernel does not report that. It takes much longer than groupUsage.
func proportionalMemory(pid int, now time.Time) int64 {
	total := proportionalSetSize(pid)
	for _, member := range groupMembers(pid, now) {
		total += proportionalSetSize(member)
	}
	return total
}

func proportionalSetSize(pid int) int64 {
	text, _ := os.ReadFile(procFolder(pid) + "/smaps_rollup")
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("Pss:")); found {
			kib, _ := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// countOpenFiles returns how many descriptors a process has open.
func countOpenFiles(pid int) int {
	folder, err := os.Open(procFolder(pid) + "/fd")
	if err != nil {
		return 0
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1) // an error leaves those that were read
	return len(names)
}

// groups caches which processes are in which process group. The kernel reports the
// group of one process at a time, so groupMembers has to go through all processes. It
// does so seldom, and reads each process once.
var groups struct {
	sync.Mutex
	at      time.Time
	of      map[int]int   // process to group
	members map[int][]int // group to processes, without its leader
}

// maxMembersAge is how long it may take until a new process of a group counts.
const maxMembersAge = time.Second

// groupMembers returns the processes of a group, without its leader.
func groupMembers(leader int, now time.Time) []int {
	groups.Lock()
	defer groups.Unlock()
	if now.Sub(groups.at) >= maxMembersAge {
		groups.at = now
		groups.of, groups.members = readGroups(groups.of)
	}
	return groups.members[leader]
}

// readGroups returns the groups of all processes. It takes those of known processes
// over.
func readGroups(known map[int]int) (of map[int]int, members map[int][]int) {
	of, members = make(map[int]int, len(known)), make(map[int][]int)
	proc, err := os.Open("/proc")
	if err != nil {
		return of, members
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // an error leaves those that were read
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		group, found := known[pid]
		if !found {
			stat, err := readStat("/proc/" + name)
			if err != nil {
				continue // it has ended
			}
			group = stat.group
		}
		of[pid] = group
		if group != pid {
			members[group] = append(members[group], pid)
		}
	}
	return of, members
}
