package ipc

import (
	"io"
	"net"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long a caller looks for his answer before he goes to sleep.
	patience = 150 * time.Microsecond
	// loneReads is how many reads on end there was one caller only before he looks.
	loneReads = 64
)

// awaiting reads a connection. It has the only caller of a quick node look for the
// answer rather than sleep until it comes: to fall asleep and be woken takes as long
// as the call itself, and longer where the processor has gone to sleep as well. Where
// the last answer took its time, nobody looks, nor where there have been other callers
// lately: who looks keeps a processor from them, that they would make their next call on.
type awaiting struct {
	net.Conn
	raw    syscall.RawConn
	isLone func() bool // there is one caller
	look   func(fd uintptr)
	quick  bool // the last answer was
	lone   int  // reads with one caller since there were more
	begun  time.Time
}

// newAwaiting returns how the beginning of a frame is read. On a single processor,
// looking would keep the worker from its work.
func newAwaiting(nc net.Conn, isLone func() bool) io.Reader {
	conn, ok := nc.(syscall.Conn)
	if !ok || runtime.GOMAXPROCS(0) == 1 {
		return nc
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nc
	}
	a := &awaiting{Conn: nc, raw: raw, isLone: isLone}
	a.look = func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for time.Since(a.begun) < patience && a.isLone() {
			if n, _ := unix.Poll(fds[:], 0); n != 0 { // what there is, reading finds out
				return
			}
		}
	}
	return a
}

// Read implements io.Reader.
func (a *awaiting) Read(b []byte) (int, error) {
	if !a.isLone() {
		a.lone = 0
		return a.Conn.Read(b)
	}
	a.lone++
	a.begun = time.Now()
	if a.quick && a.lone > loneReads {
		_ = a.raw.Control(a.look)
	}
	n, err := a.Conn.Read(b)
	a.quick = time.Since(a.begun) < patience
	return n, err
}
