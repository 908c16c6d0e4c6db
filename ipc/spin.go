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

const (
	// spinTime is how long a caller polls for its answer before it blocks.
	spinTime = 150 * time.Microsecond
	// spinAfter is how many consecutive reads with a single pending call precede polling.
	spinAfter = 64
)

// spinReader reads the beginnings of frames. The only caller of a quick node polls the
// socket for its answer instead of blocking at once: to block and be woken takes as long
// as the call itself, and longer if the processor has gone to sleep in the meantime.
//
// It does not poll if the last answer took longer than spinTime, nor if there were other
// callers recently. A polling caller occupies a processor on which they would make their
// next calls.
type spinReader struct {
	net.Conn
	raw   syscall.RawConn
	open  *atomic.Int64    // how many calls are open
	poll  func(fd uintptr) // polls until fd is readable or spinTime is over
	start time.Time        // of the current read
	quick bool             // the last answer arrived within spinTime
	lone  int              // consecutive reads with one pending call
}

// newSpinReader returns a reader of nc that polls while exactly one call is open. It returns
// nc itself if polling is of no use: on a single processor it would keep the worker from
// running. On systems other than Linux it has not been measured.
func newSpinReader(nc net.Conn, open *atomic.Int64) io.Reader {
	conn, ok := nc.(syscall.Conn)
	if !ok || runtime.GOOS != "linux" || runtime.GOMAXPROCS(0) == 1 {
		return nc
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nc
	}
	r := &spinReader{Conn: nc, raw: raw, open: open}
	r.poll = func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for time.Since(r.start) < spinTime && r.open.Load() == 1 {
			if n, _ := unix.Poll(fds[:], 0); n != 0 { // readable, or an error that Read returns
				return
			}
		}
	}
	return r
}

// Read implements io.Reader.
func (r *spinReader) Read(b []byte) (int, error) {
	if r.open.Load() != 1 {
		r.lone = 0
		return r.Conn.Read(b)
	}
	r.lone++
	r.start = time.Now()
	if r.quick && r.lone > spinAfter {
		_ = r.raw.Control(r.poll)
	}
	n, err := r.Conn.Read(b)
	r.quick = time.Since(r.start) < spinTime
	return n, err
}
