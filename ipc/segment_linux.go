package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settled are the seals without which a segment is not mapped: a file that shrinks
// under a mapping ends the process that reads there.
const settled = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW

// createSegment makes a segment of the given size.
func createSegment(size int64, owner home) (*Segment, error) {
	fd, err := unix.MemfdCreate("gophersnake", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "gophersnake-segment")
	if err := unix.Ftruncate(fd, size); err != nil {
		_ = file.Close()
		return nil, os.NewSyscallError("ftruncate", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, settled|unix.F_SEAL_SEAL); err != nil {
		_ = file.Close()
		return nil, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return newSegment(file, size, owner)
}

func mapSegment(file *os.File, size int64) ([]byte, error) {
	view, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return view, os.NewSyscallError("mmap", err)
}

func unmapSegment(view []byte) error { return unix.Munmap(view) }

// NewChannel returns the two ends of the socket on which descriptors of segments
// are handed over: the supervisor's, and the one that a worker is born with.
func NewChannel() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	own := os.NewFile(uintptr(fds[0]), "segments")
	worker := os.NewFile(uintptr(fds[1]), "segments")
	conn, err := net.FileConn(own) // it has a descriptor of its own then
	_ = own.Close()
	if err != nil {
		_ = worker.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), worker, nil
}

// A message on the channel is a segment's number and size, little-endian, beside
// its descriptor.
const channelMessage = 12

// handOver sends a segment's descriptor, without waiting: the receiver looks for it
// when a frame names it, and so never while that frame is held up.
func handOver(channel *net.UnixConn, s *Segment) error {
	message := binary.LittleEndian.AppendUint32(make([]byte, 0, channelMessage), s.id)
	message = binary.LittleEndian.AppendUint64(message, uint64(s.Size()))
	raw, err := channel.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = unix.Sendmsg(int(fd), message, unix.UnixRights(int(s.file.Fd())), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	if sent == unix.EAGAIN {
		return errChannelFull
	}
	return errors.Join(err, sent)
}

// handOverTime bounds the wait for a descriptor. It was sent before the frame that
// names it, so it is there already, or never comes.
const handOverTime = 5 * time.Second

// takeOver receives a descriptor, and returns the number that its owner gave it.
func takeOver(channel *net.UnixConn) (uint32, *Segment, error) {
	_ = channel.SetReadDeadline(time.Now().Add(handOverTime))
	message, rights := make([]byte, channelMessage+1), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := channel.ReadMsgUnix(message, rights)
	if err != nil {
		return 0, nil, err
	}
	file, err := rightsFile(rights[:oobn])
	if err != nil {
		return 0, nil, err
	}
	if n != channelMessage {
		_ = file.Close()
		return 0, nil, fmt.Errorf("a descriptor came with a message of %d bytes instead of %d", n, channelMessage)
	}
	size := binary.LittleEndian.Uint64(message[4:])
	if err := verify(file, size); err != nil {
		_ = file.Close()
		return 0, nil, err
	}
	s, err := newSegment(file, int64(size), nil)
	return binary.LittleEndian.Uint32(message), s, err
}

func rightsFile(rights []byte) (*os.File, error) {
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
	if len(fds) != 1 { // there is room for two
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("a message with %d descriptors", len(fds))
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "gophersnake-segment"), nil
}

// verify makes sure that a descriptor is memory of the claimed size that cannot
// shrink, whatever its owner does.
func verify(file *os.File, size uint64) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	switch {
	case err != nil:
		return fmt.Errorf("what came is no shared memory: %w", err)
	case seals&settled != settled:
		return errors.New("a segment whose size is not settled")
	case size == 0 || uint64(stat.Size) != size:
		return fmt.Errorf("a segment of %d bytes is said to have %d", stat.Size, size)
	}
	return nil
}
