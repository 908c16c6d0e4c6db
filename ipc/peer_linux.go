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
	var peer *unix.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) {
		peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if perr != nil {
		return fmt.Errorf("ask for the peer of the socket: %w", perr)
	}
	if int(peer.Pid) != pid || int(peer.Uid) != os.Geteuid() {
		return &PeerError{WantPID: pid, PID: int(peer.Pid), WantUID: os.Geteuid(), UID: int(peer.Uid)}
	}
	return nil
}
