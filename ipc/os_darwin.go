package ipc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkPeer verifies that the other end of a connection belongs to the process with the
// given pid and to the user of this process. Otherwise its error is a *[PeerError].
func checkPeer(nc *net.UnixConn, pid int) error {
	raw, err := nc.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Xucred
	var peerPID int
	var perr error
	if err := raw.Control(func(fd uintptr) {
		if peer, perr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); perr == nil {
			peerPID, perr = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		}
	}); err != nil {
		return err
	}
	if perr != nil {
		return fmt.Errorf("get the credentials of the socket's peer: %w", perr)
	}
	if peerPID != pid || int(peer.Uid) != os.Geteuid() {
		return &PeerError{WantPID: pid, PID: peerPID, WantUID: os.Geteuid(), UID: int(peer.Uid)}
	}
	return nil
}

// There is no memfd on this system, so large buffers travel through the socket.

func createSegment(int64, segmentOwner) (*segment, error) { return nil, errors.ErrUnsupported }

func mapSegment(*os.File, int64, bool) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmapSegment([]byte) error { return errors.ErrUnsupported }

// NewChannel returns [errors.ErrUnsupported], because this system has no shared memory.
func NewChannel() (*net.UnixConn, *os.File, error) { return nil, nil, errors.ErrUnsupported }

func sendSegment(*net.UnixConn, *segment) error { return errors.ErrUnsupported }

func receiveTransfer(*net.UnixConn) (transfer, error) { return transfer{}, errors.ErrUnsupported }

func checkSegment(*os.File, uint64) error { return errors.ErrUnsupported }

func openFileLimit() uint64 { return 0 }

// RefuseDescriptors does nothing, because this system cannot refuse them.
func RefuseDescriptors(syscall.RawConn) error { return nil }

// readMonotonic returns the reading of the clock that Python's time.monotonic reads, in
// nanoseconds.
func readMonotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_UPTIME_RAW, &now) // cannot fail for this clock
	return now.Nano()
}
