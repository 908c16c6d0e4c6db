package ipc

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// checkPeer asks the kernel who holds the other end of the connection.
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
		return fmt.Errorf("ask for the peer of the socket: %w", perr)
	}
	if peerPID != pid || int(peer.Uid) != os.Geteuid() {
		return &PeerError{WantPID: pid, PID: peerPID, WantUID: os.Geteuid(), UID: int(peer.Uid)}
	}
	return nil
}
