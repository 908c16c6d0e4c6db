package worker

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// findHang looks in what way a process hangs, which takes a moment.
func (p *process) findHang() Hang {
	folder := procFolder(p.pid())
	pulse := openPulse(folder, readPulse(p.autopsy))
	if pulse >= 0 {
		defer unix.Close(pulse)
	}
	before, _ := readStat(folder) // of a process that is gone nothing is found below
	for began := time.Now(); ; time.Sleep(hangPace) {
		stat, err := readStat(folder)
		switch {
		case err != nil || p.gone.Load():
			return ""
		case stat.state == 'T' || stat.state == 't':
			return HangStopped
		case pulse < 0:
			return ""
		}
		left, err := unix.IoctlGetInt(pulse, unix.TIOCINQ)
		waited := time.Since(began)
		switch {
		case err != nil:
			return ""
		case left == 0:
			return HangPython
		case waited < gilPatience:
			continue
		}
		asleep, worked := isAsleep(folder), stat.cpu-before.cpu >= gilTime
		switch {
		case asleep, worked && (left == 1 || waited > hangPatience):
			// The thread has got the first byte, and so had its turn, or nobody else
			// keeps it from that: it waits for the GIL.
			return HangGIL
		case waited > busyPatience:
			return ""
		}
	}
}

// openPulse opens the pipe of a process and writes into it what one of its threads
// is to take out; -1 where that cannot be done. Its number there tells nothing: the
// node may have closed what it did not open, and opened something else.
func openPulse(folder string, inode uint64) int {
	if inode == 0 {
		return -1
	}
	name := fmt.Sprintf("pipe:[%d]", inode)
	entries, _ := os.ReadDir(folder + "/fd") // those that there are
	for _, entry := range entries {
		path := folder + "/fd/" + entry.Name()
		if link, err := os.Readlink(path); err != nil || link != name {
			continue
		}
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1
		}
		if n, err := unix.Write(fd, []byte("??")); n != 2 || err != nil {
			_ = unix.Close(fd)
			return -1
		}
		return fd
	}
	return -1
}

// isAsleep reports whether all threads of a process wait for something.
func isAsleep(folder string) bool {
	threads, _ := os.ReadDir(folder + "/task") // those that there are
	for _, thread := range threads {
		stat, err := readStat(folder + "/task/" + thread.Name())
		if err == nil && stat.state != 'S' {
			return false
		}
	}
	return true
}
