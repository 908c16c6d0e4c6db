// Package output reads what a process writes to its standard output and standard error. What
// a process can make the reader keep is bounded, whatever it writes.
package output

import (
	"bytes"
	"os"
	"slices"
	"sync"
)

// MaxLine is the length in bytes at which a line is cut.
const MaxLine = 8 << 10

// Lines splits a stream into lines. Its methods may be called by one goroutine only.
type Lines struct {
	File   *os.File
	OnRead func([]byte) // receives all bytes as they are read; may be nil

	buf   []byte
	start int // buf[start:] has been read and not returned yet
	err   error
}

// Next returns the next line without its end, or MaxLine bytes of a longer one. The
// line is valid until the next call. An error is returned after the last line.
func (l *Lines) Next() ([]byte, error) {
	for {
		unread := l.buf[l.start:]
		if i := bytes.IndexByte(unread, '\n'); i >= 0 {
			l.start += i + 1
			return bytes.TrimRight(unread[:i], "\r"), nil
		}
		if n := min(len(unread), MaxLine); n == MaxLine || n > 0 && l.err != nil {
			l.start += n
			return unread[:n], nil
		}
		if l.err != nil {
			return nil, l.err
		}
		l.buf, l.start = slices.Grow(append(l.buf[:0], unread...), MaxLine), 0
		end := len(l.buf)
		n, err := l.File.Read(l.buf[end : end+MaxLine])
		l.buf, l.err = l.buf[:end+n], err
		if l.OnRead != nil && n > 0 {
			l.OnRead(l.buf[end:])
		}
	}
}

// MaxTail is how many bytes a [Tail] returns at most.
const MaxTail = 4 << 10

// Tail keeps the end of a stream. It is safe for concurrent use.
type Tail struct {
	mu   sync.Mutex
	kept []byte
}

// Add appends bytes of the stream. Up to twice MaxTail bytes are kept, and no more are copied.
func (t *Tail) Add(read []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, read[max(0, len(read)-2*MaxTail):]...)
	if len(t.kept) > 2*MaxTail {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-MaxTail:]...)
	}
}

// Reset forgets the stream.
func (t *Tail) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = t.kept[:0]
}

// String returns the end of the stream. If it is cut, it begins with a whole line.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.kept
	if len(end) > MaxTail {
		end = end[len(end)-MaxTail:]
		if i := bytes.IndexByte(end, '\n'); i >= 0 {
			end = end[i+1:]
		}
	}
	return string(bytes.TrimSpace(bytes.ToValidUTF8(end, []byte("\ufffd"))))
}
