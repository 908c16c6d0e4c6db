package ipc

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDialWaitsWhileTheQueueOfTheSocketIsFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	require.NoError(t, unix.Listen(fd, 0))
	f := os.NewFile(uintptr(fd), "listener")
	listener, err := net.FileListener(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	defer listener.Close()
	var queue []net.Conn
	for {
		c, err := net.Dial("unix", path)
		if err != nil {
			require.ErrorIs(t, err, unix.EAGAIN)
			break
		}
		queue = append(queue, c)
	}
	defer func() {
		for _, c := range queue {
			c.Close()
		}
	}()

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = Dial(ctx, path, os.Getpid(), NewSecret())
	require.ErrorIs(t, err, context.DeadlineExceeded)

	dialed := make(chan error, 1)
	secret := NewSecret()
	go func() {
		nc, err := Dial(t.Context(), path, os.Getpid(), secret)
		if err == nil {
			err = nc.Close()
		}
		dialed <- err
	}()
	for {
		c, err := listener.Accept()
		require.NoError(t, err)
		said := make([]byte, SecretSize)
		if len(queue) > 0 { // they were first
			require.NoError(t, queue[0].Close())
			queue = queue[1:]
			c.Close()
			continue
		}
		_, err = c.Read(said)
		require.NoError(t, err)
		assert.Equal(t, secret, said)
		c.Close()
		break
	}
	require.NoError(t, <-dialed)
}
