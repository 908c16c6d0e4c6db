package ipc

import (
	"errors"
	"os"
	"time"
)

// steady reads the connection on where its reader was woken in the midst of a frame.
type steady struct{ c *Conn }

// Read implements io.Reader.
func (s steady) Read(b []byte) (int, error) {
	for {
		n, err := s.c.nc.Read(b)
		if err == nil || n > 0 || !s.c.wasWoken(err) {
			return n, err
		}
	}
}

// wake has who reads the connection look whether he still has to: it may be the
// caller of a call that was settled otherwise. Whoever reads next is woken where
// nobody does now, to no harm.
func (c *Conn) wake() {
	c.calls.Lock()
	defer c.calls.Unlock()
	if c.calls.writeErr == nil { // else its deadline wakes him soon enough
		c.calls.woken = true
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection only
	}
}

// wasWoken reports whether it was wake that kept a read from going on, and sees to it
// that the next one can.
func (c *Conn) wasWoken(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.calls.Lock()
	defer c.calls.Unlock()
	if !c.calls.woken {
		return false
	}
	c.calls.woken = false
	if c.calls.writeErr == nil {
		_ = c.nc.SetReadDeadline(time.Time{})
	}
	return true
}
