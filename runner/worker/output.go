package worker

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// drained tells once that a stream has been read to its end.
type drained struct {
	once sync.Once
	ch   chan struct{}
}

func newDrained() drained  { return drained{ch: make(chan struct{})} }
func (d *drained) signal() { d.once.Do(func() { close(d.ch) }) }
func (d *drained) wait(limit <-chan time.Time) {
	select {
	case <-d.ch:
	case <-limit:
	}
}

// maxLine is where a line of output without a newline is cut.
const maxLine = 8 << 10

// stdout is a worker's standard output. go-plugin gets to see its handshake
// line; all else becomes log records, and go-plugin, whose scanner would stop at
// a long line and so block the worker, never sees it.
type stdout struct {
	file    *os.File
	logger  hclog.Logger
	drained drained

	buf       []byte // read and not yet taken
	handshake []byte // what is left of the handshake line for go-plugin to read
	shaken    bool
}

// Read is called by one goroutine of go-plugin's until it has returned an error.
func (s *stdout) Read(p []byte) (int, error) {
	for len(s.handshake) == 0 {
		line, err := s.line()
		switch {
		case err != nil:
			s.drained.signal()
			return 0, io.EOF
		case !s.shaken && bytes.HasPrefix(line, []byte("1|")):
			s.shaken = true
			s.handshake = append(line, '\n')
		default:
			s.logger.Info(string(line))
		}
	}
	n := copy(p, s.handshake)
	s.handshake = s.handshake[n:]
	return n, nil
}

func (s *stdout) Close() error { return nil }

// line returns the next line without its end, or as much of it as is allowed.
func (s *stdout) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(s.buf, '\n'); i >= 0 {
			return s.take(i, i+1), nil
		}
		if len(s.buf) >= maxLine {
			return s.take(maxLine, maxLine), nil
		}
		chunk := make([]byte, maxLine)
		n, err := s.file.Read(chunk)
		s.buf = append(s.buf, chunk[:n]...)
		if err != nil && n == 0 {
			if len(s.buf) > 0 {
				return s.take(len(s.buf), len(s.buf)), nil
			}
			return nil, err
		}
	}
}

func (s *stdout) take(line, all int) []byte {
	b := bytes.TrimRight(bytes.Clone(s.buf[:line]), "\r")
	s.buf = append(s.buf[:0], s.buf[all:]...)
	return b
}

// stderr is a worker's standard error: go-plugin turns it into log records, and
// its end is kept for the autopsy.
type stderr struct {
	file    *os.File
	drained drained

	mu   sync.Mutex
	tail []byte
}

// maxTail is how much of standard error an autopsy shows.
const maxTail = 4 << 10

// Read is called by one goroutine of go-plugin's until it has returned an error.
func (s *stderr) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	if err != nil {
		s.drained.signal()
		return 0, io.EOF
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail = append(s.tail, p[:n]...)
	if len(s.tail) > 2*maxTail {
		s.tail = append(s.tail[:0], s.tail[len(s.tail)-maxTail:]...)
	}
	return n, nil
}

func (s *stderr) Close() error { return nil }

// last returns the end of what was written, whole lines where it was cut.
func (s *stderr) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	tail := s.tail
	if len(tail) > maxTail {
		tail = tail[len(tail)-maxTail:]
		if i := bytes.IndexByte(tail, '\n'); i >= 0 {
			tail = tail[i+1:]
		}
	}
	return string(bytes.TrimSpace(bytes.ToValidUTF8(tail, []byte("\ufffd"))))
}

// pluginLogger keeps go-plugin's own words at trace level. What the worker
// writes on standard error reaches the log under the name that go-plugin asks
// for, plain lines at info: to a Python programmer they are output.
type pluginLogger struct{ hclog.Logger }

func (l pluginLogger) Log(_ hclog.Level, msg string, args ...any) { l.Trace(msg, args...) }
func (l pluginLogger) Debug(msg string, args ...any)              { l.Trace(msg, args...) }
func (l pluginLogger) Info(msg string, args ...any)               { l.Trace(msg, args...) }
func (l pluginLogger) Warn(msg string, args ...any)               { l.Trace(msg, args...) }
func (l pluginLogger) Error(msg string, args ...any)              { l.Trace(msg, args...) }

func (l pluginLogger) Named(name string) hclog.Logger {
	return stderrLogger{l.Logger.Named(name)}
}

type stderrLogger struct{ hclog.Logger }

func (l stderrLogger) Debug(msg string, args ...any) { l.Info(msg, args...) }
