package ipc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// NewSecret returns a fresh secret for one spawn.
func NewSecret() []byte {
	secret := make([]byte, SecretSize)
	_, _ = rand.Read(secret) // never fails, by its contract
	return secret
}

// Dial connects to a worker's socket, checks that the peer is the process with
// the given pid run by this user, and presents the secret.
func Dial(ctx context.Context, path string, pid int, secret []byte) (net.Conn, error) {
	nc, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(nc.(*net.UnixConn), pid); err != nil {
		_ = nc.Close()
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetWriteDeadline(deadline)
	}
	if _, err := nc.Write(secret); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("present the secret: %w", err)
	}
	_ = nc.SetWriteDeadline(time.Time{}) // the context bounds the dialling only
	return nc, nil
}

// dial waits for its turn where strangers fill the socket's queue: the kernel lets
// nobody wait there, and the worker is about to turn them away.
func dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		nc, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return nc, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(nextTry):
		}
	}
}

// nextTry is the time between two attempts to connect.
const nextTry = 5 * time.Millisecond

// PeerError says that somebody else answered on a worker's socket.
type PeerError struct{ WantPID, PID, WantUID, UID int }

func (e *PeerError) Error() string {
	return fmt.Sprintf("the socket is answered by process %d of user %d, not by the worker %d of user %d",
		e.PID, e.UID, e.WantPID, e.WantUID)
}
