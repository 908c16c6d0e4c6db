//go:build !linux

package ipc

import (
	"io"
	"net"
	"sync/atomic"
)

// newAwaiting returns how the beginning of a frame is read: as anything else.
func newAwaiting(nc net.Conn, _ *atomic.Int32) io.Reader { return nc }
