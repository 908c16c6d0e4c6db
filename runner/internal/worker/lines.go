package worker

import (
	"bytes"
	"os"
	"slices"
)

// maxLine is where a line of output without a newline is cut.
const maxLine = 8 << 10

// lines cuts a stream into lines.
type lines struct {
	file *os.File
	seen func([]byte) // is shown all that was read, as it comes; may be nil

	buf   []byte
	start int // buf[start:] has been read and not yet returned
	err   error
}

// next returns the next line without its end, or as much of it as is allowed.
// The line is valid until the next call. An error comes after the last line.
func (l *lines) next() ([]byte, error) {
	for {
		unread := l.buf[l.start:]
		if i := bytes.IndexByte(unread, '\n'); i >= 0 {
			l.start += i + 1
			return bytes.TrimRight(unread[:i], "\r"), nil
		}
		if n := min(len(unread), maxLine); n == maxLine || n > 0 && l.err != nil {
			l.start += n
			return unread[:n], nil
		}
		if l.err != nil {
			return nil, l.err
		}
		l.buf, l.start = slices.Grow(append(l.buf[:0], unread...), maxLine), 0
		end := len(l.buf)
		n, err := l.file.Read(l.buf[end : end+maxLine])
		l.buf, l.err = l.buf[:end+n], err
		if l.seen != nil && n > 0 {
			l.seen(l.buf[end:])
		}
	}
}
