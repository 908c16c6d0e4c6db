package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
)

// procStat is the content of /proc/…/stat, of a process or of a thread.
type procStat struct {
	state       byte
	parent      int
	group       int
	cpu         time.Duration // without its children
	childrenCPU time.Duration // of the children that it has reaped
	threads     int
	resident    int64 // bytes
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
		threads:     int(number(20)),
		resident:    number(24) * pageSize,
	}, nil
}

// usage is what a process and its group use.
type usage struct {
	resident int64 // bytes; memory that several of the processes share counts for each
	cpu      time.Duration
	threads  int  // also those of descendants that have left the group
	alone    bool // there is no other process in the group
}

// groupUsage returns what a process and its group use.
func groupUsage(pid int, now time.Time) usage {
	stat, err := readStat(livingFolder(pid))
	if err != nil {
		return usage{alone: true}
	}
	u := usage{stat.resident, stat.cpu + stat.childrenCPU, countThreads(pid), true}
	members, left := groupMembers(pid, now)
	for _, member := range members {
		// The process id may have been taken by another process since.
		if stat, err := readStat(livingFolder(member)); err == nil && stat.group == pid {
			u.resident += stat.resident
			u.cpu += stat.cpu + stat.childrenCPU
			u.threads += stat.threads
			u.alone = false
		}
	}
	for _, each := range left {
		u.threads += countThreads(each)
	}
	return u
}

// livingFolder returns the folder in /proc from which the state of a process can be
// read. If its first thread has ended before the others, the kernel reports no memory and
// no descriptors there, but it does for each of the others.
func livingFolder(pid int) string {
	folder := procFolder(pid)
	stat, err := readStat(folder)
	if err != nil || stat.state != 'Z' || stat.threads <= 1 {
		return folder
	}
	tasks, _ := filepath.Glob(folder + "/task/*") // the pattern is valid
	for _, task := range tasks {
		if stat, err := readStat(task); err == nil && stat.state != 'Z' {
			return task
		}
	}
	return folder
}

// inodeOf returns the inode of an open file, 0 if it cannot be read.
func inodeOf(f *os.File) uint64 {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return 0
	}
	return stat.Ino
}

// countThreads returns how many threads a process has. It is much cheaper than reading
// the process's state, for which the kernel goes through all of them.
func countThreads(pid int) int {
	var stat unix.Stat_t
	if err := unix.Stat(procFolder(pid)+"/task", &stat); err != nil {
		return 0
	}
	return max(int(stat.Nlink)-2, 0) // each thread is a folder
}

// groups caches which processes are in which process group, and whose children they
// were when they were first seen. The kernel reports this of one process at a time, so
// groupMembers has to go through all processes. It does so seldom, and reads each process
// once.
var groups struct {
	sync.Mutex
	at       time.Time
	of       map[int]kinship
	members  map[int][]int // group to processes, without its leader
	children map[int][]int
}

// kinship is the group and the parent of a process.
type kinship struct{ group, parent int }

const (
	// maxMembersAge is how long it may take until a new process of a group counts.
	maxMembersAge = time.Second
	// maxKinshipAge is how old what is known of a process may be: later, another process
	// may have its id.
	maxKinshipAge = 10 * time.Second
)

// groupMembers returns the processes of a group, without its leader, and the descendants
// of all of them that have left the group.
func groupMembers(leader int, now time.Time) (members, left []int) {
	groups.Lock()
	defer groups.Unlock()
	if age := now.Sub(groups.at); age >= maxMembersAge {
		if age > maxKinshipAge {
			groups.of = nil
		}
		groups.at = now
		readGroupsLocked()
	}
	members = slices.Clone(groups.members[leader])
	family := append([]int{leader}, members...)
	for i := 0; i < len(family); i++ { // it grows
		for _, child := range groups.children[family[i]] {
			if groups.of[child].group != leader {
				left, family = append(left, child), append(family, child)
			}
		}
	}
	return members, left
}

// readGroupsLocked reads the groups and parents of all processes. It takes those of known
// processes over.
func readGroupsLocked() {
	known := groups.of
	groups.of, groups.members, groups.children = make(map[int]kinship, len(known)), make(map[int][]int), make(map[int][]int)
	proc, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // an error leaves those that were read
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		kin, found := known[pid]
		if !found {
			stat, err := readStat("/proc/" + name)
			if err != nil {
				continue // it has ended
			}
			kin = kinship{stat.group, stat.parent}
		}
		groups.of[pid] = kin
		groups.children[kin.parent] = append(groups.children[kin.parent], pid)
		if kin.group != pid {
			groups.members[kin.group] = append(groups.members[kin.group], pid)
		}
	}
}

// openFiles are the descriptors of a process and its group.
type openFiles struct {
	at   time.Time
	cost time.Duration // how long it took to read them
	open int           // of the process itself
	// memory are the files that consist of memory: see scanFiles.
	memory memoryFiles
	// queued is how many descriptors wait in the process's sockets, except those on which the
	// supervisor sends them.
	queued int
}

// fileID identifies a file.
type fileID struct{ device, inode uint64 }

// memoryFiles are files that consist of memory, with the bytes that they take. A page of
// them that is mapped is also part of a process's resident memory.
type memoryFiles map[fileID]int64

func (m memoryFiles) size() (total int64) {
	for _, bytes := range m {
		total += bytes
	}
	return total
}

// scanFiles reads the descriptors of a process, its group and its descendants. With the
// memory, it finds the files that consist of memory: memfds and deleted files of a tmpfs,
// and files of a tmpfs that are open for writing. If the kernel allows it, also those that
// are only mapped. The supervisor itself sends descriptors on own, the inodes of sockets.
func scanFiles(pid int, now time.Time, memory bool, own [2]uint64) openFiles {
	began := time.Now()
	found := openFiles{at: now}
	if !memory {
		found.open = countOpenFiles(pid)
	} else {
		found.memory = make(memoryFiles)
		found.open, found.queued = found.memory.addOpen(pid, own)
		found.memory.addMapped(pid)
		members, left := groupMembers(pid, now)
		for _, each := range append(members, left...) {
			found.memory.addOpen(each, own)
			found.memory.addMapped(each)
		}
	}
	found.cost = time.Since(began)
	return found
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

// addOpen adds the memory files that a process has open. It returns how many descriptors
// the process has, and how many wait in its sockets, except its own.
func (m memoryFiles) addOpen(pid int, own [2]uint64) (open, queued int) {
	root := livingFolder(pid)
	folder, err := os.Open(root + "/fd")
	if err != nil {
		return 0, 0
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1) // an error leaves those that were read
	for _, name := range names {
		if kind, inode := m.add(int(folder.Fd()), name); kind == unix.S_IFSOCK && !slices.Contains(own[:], inode) {
			text, _ := os.ReadFile(root + "/fdinfo/" + name) // it may be closed
			n, _ := cgroup.Value(string(text), "scm_fds:")
			queued += int(n)
		}
	}
	return len(names), queued
}

// addMapped adds the memory files that a process has mapped. The kernel shows these files
// only to privileged processes: for others, the pages that are in no page table now, of
// files that are not open, do not count.
func (m memoryFiles) addMapped(pid int) {
	root := livingFolder(pid)
	text, err := os.ReadFile(root + "/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(text) {
		id, addresses := mappedFile(line)
		if id.inode == 0 || m.has(id) {
			continue
		}
		folder, err := os.Open(procFolder(pid) + "/map_files")
		if err != nil {
			return
		}
		m.add(int(folder.Fd()), addresses)
		_ = folder.Close()
	}
}

func (m memoryFiles) has(id fileID) bool { _, found := m[id]; return found }

// mappedFile returns the file of a line of maps or smaps, and the addresses to which it is
// mapped. The inode is 0 if that is no file, or one of a file system on a disk.
func mappedFile(line []byte) (id fileID, addresses string) {
	fields := bytes.Fields(line) // addresses, permissions, offset, device, inode
	if len(fields) < 5 {
		return fileID{}, ""
	}
	minor, found := bytes.CutPrefix(fields[3], []byte("00:"))
	device, err := strconv.ParseUint(string(minor), 16, 32)
	inode, errInode := strconv.ParseUint(string(fields[4]), 10, 64)
	if !found || errors.Join(err, errInode) != nil {
		return fileID{}, ""
	}
	return fileID{unix.Mkdev(0, uint32(device)), inode}, string(fields[0])
}

// add adds a file, which a link in a folder of /proc leads to, if it consists of memory
// and is the process's own. It returns the type and the inode of the file, 0 if they cannot
// be read. It asks no network file system, which might block.
func (m memoryFiles) add(folder int, link string) (kind uint16, inode uint64) {
	const wanted = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_BLOCKS
	var stat unix.Statx_t
	if err := unix.Statx(folder, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, wanted, &stat); err != nil {
		return 0, 0
	}
	kind = stat.Mode & unix.S_IFMT
	if kind != unix.S_IFREG || stat.Dev_major != 0 {
		return kind, stat.Ino
	}
	device := unix.Mkdev(stat.Dev_major, stat.Dev_minor)
	if stat.Blocks == 0 || !isMemory(device, folder, link) || stat.Nlink > 0 && !isWritable(folder, link) {
		return kind, stat.Ino
	}
	m[fileID{device, stat.Ino}] = int64(stat.Blocks) * 512
	return kind, stat.Ino
}

// isWritable reports whether a descriptor or a mapping may write to its file.
func isWritable(folder int, link string) bool {
	var stat unix.Stat_t
	err := unix.Fstatat(folder, link, &stat, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && stat.Mode&unix.S_IWUSR != 0
}

// memoryDevices caches which file systems consist of memory.
var memoryDevices sync.Map // device number to bool

// isMemory reports whether the file system of a device consists of memory, given a file
// in it.
func isMemory(device uint64, folder int, link string) bool {
	if known, found := memoryDevices.Load(device); found {
		return known.(bool)
	}
	var system unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/self/fd/%d/%s", folder, link), &system); err != nil {
		return false
	}
	is := system.Type == unix.TMPFS_MAGIC || system.Type == unix.RAMFS_MAGIC || system.Type == unix.HUGETLBFS_MAGIC
	memoryDevices.Store(device, is)
	return is
}

// withoutOwn returns those of the files that this process does not have open itself. The
// others are segments of shared memory, which it has lent, or taken over.
func (m memoryFiles) withoutOwn() memoryFiles {
	own := make(memoryFiles)
	own.addOpen(os.Getpid(), [2]uint64{})
	others := make(memoryFiles, len(m))
	for id, bytes := range m {
		if !own.has(id) {
			others[id] = bytes
		}
	}
	return others
}

// exactMemory returns the memory of a process and its group, and the part of it that is in
// files. Each process has its share of the memory that it shares with others, unless it is
// alone in its group. It returns 0 if the kernel does not report that. It takes much longer
// than groupUsage and, with files, scanFiles.
func exactMemory(pid int, now time.Time, alone, withFiles bool) (memory, files int64) {
	processes, field := []int{pid}, "Rss:"
	if !alone {
		members, _ := groupMembers(pid, now)
		processes, field = append(processes, members...), "Pss:"
	}
	// What is closed after the mappings were read counts as resident, as it was before.
	mapped := make(memoryFiles)
	for _, each := range processes {
		memory += mapped.addResident(each, field, withFiles)
	}
	if !withFiles || memory == 0 {
		return memory, 0
	}
	found := scanFiles(pid, now, true, [2]uint64{}).memory.withoutOwn()
	for id, bytes := range mapped {
		if found.has(id) {
			memory -= bytes
		}
	}
	files = found.size()
	return memory + files, files
}

// addResident returns the resident memory of a process. With files, it adds how much of it
// is mapped from which file on a file system without a disk. The field of the kernel's
// report says how shared memory counts.
func (m memoryFiles) addResident(pid int, field string, withFiles bool) (total int64) {
	report := "/smaps_rollup"
	if withFiles {
		report = "/smaps"
	}
	text, _ := os.ReadFile(livingFolder(pid) + report) // it may have ended
	var file fileID
	for line := range bytes.Lines(text) {
		if value, found := bytes.CutPrefix(line, []byte(field)); found {
			kib, _ := strconv.ParseInt(string(bytes.Fields(value)[0]), 10, 64) // the kernel writes only numbers
			total += kib << 10
			if file.inode != 0 {
				m[file] += kib << 10
			}
		} else if line[0] < 'A' || line[0] > 'Z' { // the next mapping
			file, _ = mappedFile(line)
		}
	}
	return total
}
