package worker

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"
)

// groups knows which processes are in which process group. The kernel tells that
// of each process alone, so all of them are gone through, though not often, and
// each is asked once.
var groups struct {
	sync.Mutex
	at      time.Time
	of      map[int]int   // process to group
	members map[int][]int // group to processes, without its leader
}

// membersAge is how long it may take until a new process of a group counts.
const membersAge = time.Second

// groupMembers returns the processes of a group, without its leader.
func groupMembers(leader int, now time.Time) []int {
	groups.Lock()
	defer groups.Unlock()
	if now.Sub(groups.at) >= membersAge {
		groups.at = now
		groups.of, groups.members = allGroups(groups.of)
	}
	return groups.members[leader]
}

func allGroups(known map[int]int) (of map[int]int, members map[int][]int) {
	of, members = make(map[int]int, len(known)), make(map[int][]int)
	proc, err := os.Open("/proc")
	if err != nil {
		return of, members
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // those that there are
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		group, found := known[pid]
		if !found {
			stat, err := readStat("/proc/" + name)
			if err != nil {
				continue // it is gone
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

// use returns what a process and its group use. Memory that several of them
// share counts for each.
func use(pid int, now time.Time) (resident int64, cpu time.Duration, alone bool) {
	stat, err := readStat(procFolder(pid))
	if err != nil {
		return 0, 0, true
	}
	resident, cpu, alone = stat.resident, stat.cpu+stat.waited, true
	for _, member := range groupMembers(pid, now) {
		// Its number may be another's by now.
		if stat, err := readStat(procFolder(member)); err == nil && stat.group == pid {
			resident += stat.resident
			cpu += stat.cpu + stat.waited
			alone = false
		}
	}
	return resident, cpu, alone
}

// sharedOut returns the memory of a process and its group in which what is shared
// counts in parts, 0 where the kernel does not tell. That takes it much longer.
func sharedOut(pid int, now time.Time) int64 {
	total := proportional(pid)
	for _, member := range groupMembers(pid, now) {
		total += proportional(member)
	}
	return total
}

func proportional(pid int) int64 {
	text, _ := os.ReadFile(procFolder(pid) + "/smaps_rollup")
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("Pss:")); found {
			kib, _ := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// openFiles returns how many descriptors a process has open.
func openFiles(pid int) int {
	folder, err := os.Open(procFolder(pid) + "/fd")
	if err != nil {
		return 0
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1) // those that there are
	return len(names)
}
