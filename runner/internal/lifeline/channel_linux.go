package lifeline

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/ipc"
)

// Channel is the supervisor's end of the socket between it and a reaper. It preserves the
// boundaries of messages, and the kernel says which process sent one.
type Channel struct{ *net.UnixConn }

// NewChannel returns both ends: that of the supervisor, and the one that the reaper inherits
// as its standard input. The caller closes both.
func NewChannel() (*Channel, *os.File, error) {
	conn, end, err := ipc.NewChannel()
	if err != nil {
		return nil, nil, err
	}
	c := &Channel{conn}
	if err = c.passCredentials(); err != nil {
		_ = conn.Close()
		_ = end.Close()
		return nil, nil, err
	}
	return c, end, nil
}

// passCredentials makes the kernel tell the sender of each message.
func (c *Channel) passCredentials() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt SO_PASSCRED", failed)
}

// Receive returns the next message, and the process that sent it as the kernel says. Its
// error is io.EOF after the end of the reaper.
func (c *Channel) Receive() (message []byte, sender int, err error) {
	buffer, control := make([]byte, 128), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, controlled, _, _, err := c.ReadMsgUnix(buffer, control)
	if err != nil {
		return nil, 0, err
	}
	if n == 0 {
		return nil, 0, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlled])
	if err != nil || len(messages) != 1 {
		return nil, 0, errors.New("a message to the reaper's channel has no sender")
	}
	credentials, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return nil, 0, err
	}
	return buffer[:n], int(credentials.Pid), nil
}
