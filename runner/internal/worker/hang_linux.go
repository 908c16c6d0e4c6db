package worker

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// gilTimeout is how long a thread may wait for the GIL before another thread is
	// assumed to hold it forever. Python code releases it every 5 ms.
	gilTimeout = 250 * time.Millisecond
	// gilCPU is the CPU time that a process which is not asleep must have used
	// meanwhile: on a busy machine it may not have been scheduled.
	gilCPU           = 50 * time.Millisecond
	hangPollInterval = 5 * time.Millisecond
)

// findHang finds out how a process hangs, empty if it cannot tell. It takes between
// a few milliseconds and hangTimeouts.busy, unless the process is killed meanwhile.
//
// It writes two bytes into the process's heartbeat pipe, which a Python thread of the
// worker reads one by one. If both are read, Python code can run, so the call is
// blocked in Python. If not, the GIL is held: that is certain if all threads are
// asleep, or if the process keeps running while its heartbeat thread, having been
// scheduled, cannot go on.
func (p *process) findHang() Hang {
	folder := procFolder(p.pid())
	heartbeat := openHeartbeat(folder, readHeartbeat(p.autopsyFile))
	if heartbeat >= 0 {
		defer unix.Close(heartbeat)
	}
	before, _ := readStat(folder) // if the process is gone, the loop finds out
	for began := time.Now(); ; p.sleepUnlessKilled(hangPollInterval) {
		stat, err := readStat(folder)
		switch {
		case err != nil || p.gone.Load() || p.isKilled():
			return ""
		case stat.state == 'T' || stat.state == 't':
			return HangStopped
		case heartbeat < 0:
			return ""
		}
		unread, err := unix.IoctlGetInt(heartbeat, unix.TIOCINQ)
		waited := time.Since(began)
		switch {
		case err != nil:
			return ""
		case unread == 0:
			return HangPython
		case waited < gilTimeout:
			continue
		}
		worked := stat.cpu-before.cpu >= gilCPU
		wasScheduled := unread == 1 || waited > p.hangTimeouts.heartbeat
		states := threadStates(folder)
		switch {
		case strings.Trim(states, "S") == "", worked && wasScheduled:
			return HangGIL
		case waited > p.hangTimeouts.busy, waited > p.hangTimeouts.heartbeat && !strings.Contains(states, "R"):
			return "" // without a thread that is ready to run, it does not wait for a processor
		}
	}
}

// sleepUnlessKilled sleeps, but not after kill was called.
func (p *process) sleepUnlessKilled(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.killed:
	case <-timer.C:
	}
}

func (p *process) isKilled() bool {
	select {
	case <-p.killed:
		return true
	default:
		return false
	}
}

// openHeartbeat opens the heartbeat pipe of a process and writes two bytes into it; it
// returns -1 if it cannot. It finds the pipe by its inode, not by its descriptor's
// number: the node may have closed that descriptor and opened another file under the
// number.
func openHeartbeat(folder string, inode uint64) int {
	if inode == 0 {
		return -1
	}
	name := fmt.Sprintf("pipe:[%d]", inode)
	entries, _ := os.ReadDir(folder + "/fd") // an error leaves those that were read
	for _, entry := range entries {
		path := folder + "/fd/" + entry.Name()
		if link, err := os.Readlink(path); err != nil || link != name {
			continue
		}
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1
		}
		// The worker may have put another file there meanwhile, which it cannot write itself.
		var opened unix.Stat_t
		if err := unix.Fstat(fd, &opened); err != nil || opened.Mode&unix.S_IFMT != unix.S_IFIFO || opened.Ino != inode {
			_ = unix.Close(fd)
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

// threadStates returns the states of all threads of a process, one letter each: S for
// sleeping, R for running or ready to run, D for waiting in the kernel.
func threadStates(folder string) string {
	threads, _ := os.ReadDir(folder + "/task") // an error leaves those that were read
	states := make([]byte, 0, len(threads))
	for _, thread := range threads {
		if stat, err := readStat(folder + "/task/" + thread.Name()); err == nil {
			states = append(states, stat.state)
		}
	}
	return string(states)
}
