package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	var peer *unix.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) {
		peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if perr != nil {
		return fmt.Errorf("get the credentials of the socket's peer: %w", perr)
	}
	if int(peer.Pid) != pid || int(peer.Uid) != os.Geteuid() {
		return &PeerError{WantPID: pid, PID: int(peer.Pid), WantUID: os.Geteuid(), UID: int(peer.Uid)}
	}
	return nil
}

const (
	// sizeSeals fix the size of a segment. If a file shrank under a mapping, a process that
	// reads there would be killed.
	sizeSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	// futureWrite is F_SEAL_FUTURE_WRITE, which Linux has had since version 5.1: only the
	// mappings that exist can write. It holds for every descriptor of the file, so a
	// borrower does not get around it by opening the file again.
	futureWrite = 0x10
	// writeSeals are seals of which a segment must have one.
	writeSeals = futureWrite | unix.F_SEAL_WRITE
)

// createSegment creates a segment of the given size that only this process can write. Its
// error is [errors.ErrUnsupported] if the kernel cannot ensure that.
func createSegment(size int64, owner segmentOwner) (*segment, error) {
	fd, err := unix.MemfdCreate("gophersnake", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "gophersnake-segment")
	if err := unix.Ftruncate(fd, size); err != nil {
		_ = file.Close()
		return nil, os.NewSyscallError("ftruncate", err)
	}
	view, err := mapSegment(file, size, true)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sizeSeals|futureWrite|unix.F_SEAL_SEAL); err != nil {
		_ = unmapSegment(view)
		_ = file.Close()
		if errors.Is(err, unix.EINVAL) { // the kernel is older than the seal
			return nil, errors.ErrUnsupported
		}
		return nil, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return newSegment(file, view, owner), nil
}

// mapSegment maps the whole file of a segment. Only its owner maps it writable.
func mapSegment(file *os.File, size int64, writable bool) ([]byte, error) {
	protection := unix.PROT_READ
	if writable {
		protection |= unix.PROT_WRITE
	}
	view, err := unix.Mmap(int(file.Fd()), 0, int(size), protection, unix.MAP_SHARED)
	return view, os.NewSyscallError("mmap", err)
}

func unmapSegment(view []byte) error { return unix.Munmap(view) }

// NewChannel returns the two ends of the socket that carries the descriptors of segments:
// the supervisor's for [Start], and the one that the worker process inherits. Its error is
// [errors.ErrUnsupported] on a system without shared memory.
func NewChannel() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	own := os.NewFile(uintptr(fds[0]), "segments")
	worker := os.NewFile(uintptr(fds[1]), "segments")
	conn, err := net.FileConn(own) // duplicates the descriptor
	_ = own.Close()
	if err != nil {
		_ = worker.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), worker, nil
}

// channelMessage is the size of a message on the channel: a segment's number and size,
// little-endian. The segment's descriptor accompanies it.
const channelMessage = 12

// sendSegment sends a segment's descriptor without blocking. Its error is errChannelFull
// if the receiver has not yet received the ones before it, or if too many descriptors of
// this user are in transit to all receivers.
func sendSegment(channel *net.UnixConn, s *segment) error {
	message := binary.LittleEndian.AppendUint32(make([]byte, 0, channelMessage), s.id)
	message = binary.LittleEndian.AppendUint64(message, uint64(s.size()))
	raw, err := channel.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = unix.Sendmsg(int(fd), message, unix.UnixRights(int(s.file.Fd())), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	if errors.Is(sent, unix.EAGAIN) || errors.Is(sent, unix.ETOOMANYREFS) {
		return errChannelFull
	}
	return errors.Join(err, sent)
}

// receiveTransfer receives the next segment that the owner has sent, without mapping it. It
// does not block: the owner sends a descriptor before the frame that names its segment, so
// the descriptor has arrived when the frame is read, or never will. Its error is
// errNotTransferred if nothing has arrived, and wraps [unix.EMFILE] if this process cannot
// take another descriptor.
func receiveTransfer(channel *net.UnixConn) (transfer, error) {
	raw, err := channel.SyscallConn()
	if err != nil {
		return transfer{}, err
	}
	// There is room for as many descriptors as a message may carry. The kernel would close
	// those without room before it returns, which may block; see closeAside.
	message, rights := make([]byte, channelMessage+1), make([]byte, unix.CmsgSpace(4*maxRights))
	var n, oobn, flags int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		n, oobn, flags, _, failed = unix.Recvmsg(int(fd), message, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	}); err != nil {
		return transfer{}, err
	}
	switch {
	case errors.Is(failed, unix.EAGAIN), failed == nil && n == 0 && oobn == 0:
		return transfer{}, errNotTransferred
	case failed != nil:
		return transfer{}, os.NewSyscallError("recvmsg", failed)
	case oobn == 0 && flags&unix.MSG_CTRUNC != 0:
		return transfer{}, os.NewSyscallError("recvmsg", unix.EMFILE) // the kernel has dropped the descriptor
	}
	file, err := fileOf(rights[:oobn])
	if err != nil {
		return transfer{}, err
	}
	if n != channelMessage {
		closeAside(file)
		return transfer{}, fmt.Errorf("a descriptor arrived with a message of %d bytes instead of %d", n, channelMessage)
	}
	return transfer{binary.LittleEndian.Uint32(message), binary.LittleEndian.Uint64(message[4:]), file}, nil
}

// maxRights is how many descriptors the kernel allows in one message (SCM_MAX_FD).
const maxRights = 253

// soPassRights is SO_PASSRIGHTS, which Linux has had since version 6.16.
const soPassRights = 83

// RefuseDescriptors makes the kernel refuse descriptors that the peer of a socket sends. It
// must be called before the peer can send. A kernel that cannot refuse them closes them when
// the message is read, which may block the reader; see closeAside.
func RefuseDescriptors(socket syscall.RawConn) error {
	return socket.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, soPassRights, 0) // an older kernel has no such option
	})
}

// openFileLimit returns how many descriptors this process may have open.
func openFileLimit() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}

// fileOf returns the single descriptor in a control message, and closes any others.
func fileOf(rights []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("a message without a descriptor")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		refused := make([]io.Closer, len(fds))
		for i, fd := range fds {
			refused[i] = os.NewFile(uintptr(fd), "refused")
		}
		closeAside(refused...)
		return nil, fmt.Errorf("a message with %d descriptors", len(fds))
	}
	return os.NewFile(uintptr(fds[0]), "gophersnake-segment"), nil
}

// checkSegment verifies that a descriptor is memory of the claimed size, which its owner can
// neither shrink nor grow, and to which others cannot write.
func checkSegment(file *os.File, size uint64) error {
	// Only a memfd has seals, so the calls below do not ask a file system of the owner's.
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	var stat unix.Stat_t
	var system unix.Statfs_t
	if err == nil {
		err = errors.Join(unix.Fstat(int(file.Fd()), &stat), unix.Fstatfs(int(file.Fd()), &system))
	}
	switch {
	case err != nil:
		return fmt.Errorf("the descriptor is not shared memory: %w", err)
	case system.Type != unix.TMPFS_MAGIC: // the owner can take huge pages back, and a reader be killed
		return errors.New("a segment of huge pages")
	case seals&sizeSeals != sizeSeals:
		return errors.New("the size of a segment is not sealed")
	case seals&writeSeals == 0:
		return errors.New("a segment is not sealed against writing")
	case size == 0 || uint64(stat.Size) != size:
		return fmt.Errorf("a segment of %d bytes claims to have %d", stat.Size, size)
	}
	return nil
}

// readMonotonic returns the reading of the clock that Python's time.monotonic reads, in
// nanoseconds.
func readMonotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail for this clock
	return now.Nano()
}
