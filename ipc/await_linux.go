package ipc

import (
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a caller looks for his answer before he goes to sleep.
const patience = 150 * time.Microsecond

// awaiting reads a connection. It has the only caller of a quick node look for the
// answer rather than sleep until it comes: to fall asleep and be woken takes as long
// as the call itself, and longer where the processor has gone to sleep as well. Where
// the last answer took its time, or others have calls under way, nobody looks.
type awaiting struct {
	net.Conn
	raw     syscall.RawConn
	callers *atomic.Int32 // who wait for an answer
	look    func(fd uintptr)
	quick   bool // the last answer was
	begun   time.Time
}

// newAwaiting returns how the beginning of a frame is read. On a single processor,
// looking would keep the worker from its work.
func newAwaiting(nc net.Conn, callers *atomic.Int32) io.Reader {
	conn, ok := nc.(syscall.Conn)
	if !ok || runtime.GOMAXPROCS(0) == 1 {
		return nc
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nc
	}
	a := &awaiting{Conn: nc, raw: raw, callers: callers}
	a.look = func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for time.Since(a.begun) < patience {
			if n, _ := unix.Poll(fds[:], 0); n != 0 { // what there is, reading finds out
				return
			}
		}
	}
	return a
}

// Read implements io.Reader.
func (a *awaiting) Read(b []byte) (int, error) {
	if a.callers.Load() != 1 {
		return a.Conn.Read(b)
	}
	a.begun = time.Now()
	if a.quick {
		_ = a.raw.Control(a.look)
	}
	n, err := a.Conn.Read(b)
	a.quick = time.Since(a.begun) < patience
	return n, err
}
