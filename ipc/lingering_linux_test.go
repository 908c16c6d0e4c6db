package ipc

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// lingering returns a TCP socket whose last close blocks until the end of the test: data is
// left that its peer does not read, and it lingers.
func lingering(t *testing.T) *os.File {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	sender, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer sender.Close()
	receiver, err := listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = receiver.Close() })
	file, err := sender.(*net.TCPConn).File()
	require.NoError(t, err)
	fd := int(file.Fd())
	require.NoError(t, unix.SetNonblock(fd, true)) // Fd has made it block
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 1<<16))
		require.True(t, err == nil || errors.Is(err, unix.EAGAIN), "%v", err)
	}
	require.NoError(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3600}))
	return file
}

// sendAway sends descriptors, and closes this side's lingering one without waiting.
func sendAway(t *testing.T, socket *net.UnixConn, message []byte, lingers *os.File, before ...int) {
	t.Helper()
	_, _, err := socket.WriteMsgUnix(message, unix.UnixRights(append(before, int(lingers.Fd()))...), nil)
	require.NoError(t, err)
	go lingers.Close() // it blocks if the host has read the message and closed its own before
}

// returns checks that a function returns, however long a lingering socket blocks.
func returns(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal(what, " waits for the worker's descriptor to be closed")
	}
}

func TestNothingWaitsForTheCloseOfAWorkersDescriptor(t *testing.T) {
	transfer := func(number uint32) []byte { return le.AppendUint64(le.AppendUint32(nil, number), 4096) }
	pipe := func(t *testing.T) int {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
		return int(r.Fd())
	}
	for name, send := range map[string]func(*testing.T, *sharingPeer){
		"as a segment": func(t *testing.T, p *sharingPeer) {
			sendAway(t, p.channel, transfer(ownedByWorker|1), lingering(t))
		},
		"as a segment of the supervisor's": func(t *testing.T, p *sharingPeer) {
			sendAway(t, p.channel, transfer(1), lingering(t))
		},
		"with a short message": func(t *testing.T, p *sharingPeer) {
			sendAway(t, p.channel, []byte("short"), lingering(t))
		},
		"behind other descriptors": func(t *testing.T, p *sharingPeer) {
			sendAway(t, p.channel, transfer(ownedByWorker|1), lingering(t), pipe(t), pipe(t), pipe(t))
		},
		"left in the channel": func(t *testing.T, p *sharingPeer) {
			_, _, err := p.channel.WriteMsgUnix(transfer(ownedByWorker|1), unix.UnixRights(pipe(t)), nil)
			require.NoError(t, err)
			sendAway(t, p.channel, transfer(ownedByWorker|2), lingering(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := share(t)
			s, err := createSegment(4096, nil)
			require.NoError(t, err)
			defer s.destroy()
			s.id = ownedByWorker | 1
			send(t, p)
			go func() { p.answer(p.takeCall(), s, 0, 8) }()
			returns(t, "the call", func() {
				_, err := conn.NewCall(FrameCall, 0).Do(Args{})
				assert.Error(t, err)
			})
			returns(t, "Close", conn.Close)
		})
	}
}

func TestCloseDoesNotWaitForAReaderThatIsBlocked(t *testing.T) {
	conn, p := share(t)
	raw, err := p.nc.(*net.UnixConn).SyscallConn()
	require.NoError(t, err)
	require.NotNil(t, raw)
	sendAway(t, p.nc.(*net.UnixConn), encodeFrame(frame{kind: framePong}), lingering(t))
	require.Eventually(t, func() bool { // the frame has been read, or is being
		n := 0
		require.NoError(t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }))
		return err == nil && n == 0
	}, 10*time.Second, time.Millisecond)
	returns(t, "Close", conn.Close)
	<-conn.Done()
}

func TestDescriptorsOnTheConnectionAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	host, err := Dial(t.Context(), path, os.Getpid(), NewSecret())
	require.NoError(t, err)
	defer host.Close()
	raw, err := host.(*net.UnixConn).SyscallConn()
	require.NoError(t, err)
	var unsupported error
	require.NoError(t, raw.Control(func(fd uintptr) {
		_, unsupported = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, soPassRights)
	}))
	if unsupported != nil {
		t.Skip("needs Linux 6.16: ", unsupported)
	}
	worker, err := listener.Accept()
	require.NoError(t, err)
	defer worker.Close()
	_, _, err = worker.(*net.UnixConn).WriteMsgUnix([]byte("x"), unix.UnixRights(0), nil)
	assert.ErrorIs(t, err, unix.EPERM)
}

func TestHugePagesAreNoSegment(t *testing.T) {
	fd, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_HUGETLB)
	if err != nil {
		t.Skip("needs huge pages: ", err)
	}
	file := os.NewFile(uintptr(fd), "huge")
	defer file.Close()
	const size = 1 << 30 // a multiple of every size of huge pages
	require.NoError(t, file.Truncate(size))
	_, err = unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, sizeSeals)
	require.NoError(t, err)
	assert.ErrorContains(t, checkSegment(file, size), "a segment of huge pages")
}
