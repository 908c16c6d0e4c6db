// Package peer tells whether the other end of a connection has closed it.
package peer

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// HasClosed reports whether the peer of a socket has closed it, even if data that was
// sent before is yet to be read.
func HasClosed(socket syscall.RawConn) bool {
	closed := false
	err := socket.Control(func(fd uintptr) {
		events := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, _ := unix.Poll(events, 0) // does not block
		closed = n > 0 && events[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return closed || err != nil
}
