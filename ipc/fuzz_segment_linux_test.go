package ipc

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// channelPair returns both ends of a channel.
func channelPair(t *testing.T) (host, worker *net.UnixConn) {
	host, file, err := NewChannel()
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	other, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return host, other.(*net.UnixConn)
}

// FuzzSegmentMessage lets a worker send anything as a segment: any message with any number
// of descriptors, sealed or not. A segment that is accepted has the size in the message, and
// no descriptor stays open.
func FuzzSegmentMessage(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0x80, 0, 0x10, 0, 0, 0, 0, 0, 0}, uint16(0x1000), byte(1), byte(sizeSeals|futureWrite))
	f.Add([]byte{1, 0, 0, 0x80, 0, 0x10, 0, 0, 0, 0, 0, 0}, uint16(0x1000), byte(2), byte(sizeSeals|futureWrite))
	f.Add([]byte{1, 0, 0, 0x80, 0, 0x20, 0, 0, 0, 0, 0, 0}, uint16(0x1000), byte(1), byte(sizeSeals|futureWrite))
	f.Add([]byte{1, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80}, uint16(0), byte(1), byte(sizeSeals|futureWrite))
	f.Add([]byte{1}, uint16(1), byte(1), byte(0))
	f.Add([]byte{}, uint16(1), byte(0), byte(0))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, uint16(1), byte(9), byte(sizeSeals|futureWrite))
	f.Fuzz(func(t *testing.T, message []byte, size uint16, count, seals byte) {
		host, worker := channelPair(t)
		fd, err := unix.MemfdCreate("gophersnake", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		require.NoError(t, err)
		defer unix.Close(fd)
		require.NoError(t, unix.Ftruncate(fd, int64(size)))
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, int(seals)&(sizeSeals|writeSeals|unix.F_SEAL_SEAL))
		require.NoError(t, err)
		before := len(openDescriptors(t))

		var rights []byte
		if n := int(count) % 10; n > 0 {
			fds := make([]int, n)
			for i := range fds {
				fds[i] = fd
			}
			rights = unix.UnixRights(fds...)
		}
		_, _, err = worker.WriteMsgUnix(message[:min(len(message), 64)], rights, nil)
		require.NoError(t, err)
		require.NoError(t, worker.Close()) // so that receiving does not wait for more
		number, s, err := receiveSegment(host)
		if err == nil {
			require.EqualValues(t, size, s.size())
			require.EqualValues(t, number, le.Uint32(message))
			require.NotZero(t, seals&writeSeals, "its owner could write to it again")
			s.hold(1)
			s.drop(1) // the last reference, and the segment has no owner
		}
		awaitDescriptors(t, before-1, "all received descriptors and the worker's end are closed")
	})
}

// awaitDescriptors waits until at most so many descriptors are open. Some are closed on
// goroutines of their own; see closeAside.
func awaitDescriptors(t *testing.T, most int, says string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(openDescriptors(t)) <= most }, 10*time.Second, 100*time.Microsecond, says)
}

// openDescriptors returns the targets of the open descriptors.
func openDescriptors(t *testing.T) []string {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	var open []string
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil { // the descriptor of the folder itself is closed again
			open = append(open, target)
		}
	}
	return open
}
