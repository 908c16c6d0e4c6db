package worker

import (
	"bytes"
	"encoding/json"
	"io"
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
func (d *drained) wait(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-d.ch:
	case <-timer.C:
	}
}

// stdout is a worker's standard output. go-plugin gets to see its handshake
// line; all else becomes log records, and go-plugin, whose scanner would stop at
// a long line and so block the worker, never sees it.
type stdout struct {
	lines   lines
	logger  hclog.Logger
	drained drained

	handshake []byte // what is left of the handshake line for go-plugin to read
	shaken    bool
}

func newStdout(logger hclog.Logger) *stdout {
	return &stdout{logger: logger.Named("stdout"), drained: newDrained()}
}

// Read is called by one goroutine of go-plugin's until it has returned an error.
func (s *stdout) Read(p []byte) (int, error) {
	for len(s.handshake) == 0 {
		line, err := s.lines.next()
		switch {
		case err != nil:
			s.drained.signal()
			return 0, io.EOF
		case !s.shaken && bytes.HasPrefix(line, []byte("1|")):
			s.shaken = true
			s.handshake = append(bytes.Clone(line), '\n')
		default:
			s.logger.Info(string(line))
		}
	}
	n := copy(p, s.handshake)
	s.handshake = s.handshake[n:]
	return n, nil
}

func (s *stdout) Close() error { return nil }

// stderr is a worker's standard error: go-plugin turns it into log records, and
// its end is kept for the autopsy.
type stderr struct {
	lines   lines
	logger  hclog.Logger
	drained drained

	pending []byte // what is left of a line for go-plugin to read

	mu   sync.Mutex
	tail []byte
}

func newStderr(logger hclog.Logger) *stderr {
	s := &stderr{logger: logger.Named(stderrName), drained: newDrained()}
	s.lines.seen = s.keep
	return s
}

// stderrName is the name of the logger of standard error.
const stderrName = "stderr"

// maxTail is how much of standard error an autopsy shows.
const maxTail = 4 << 10

// Read is called by one goroutine of go-plugin's until it has returned an error.
func (s *stderr) Read(p []byte) (int, error) {
	for len(s.pending) == 0 {
		line, err := s.lines.next()
		switch {
		case err != nil:
			s.drained.signal()
			return 0, io.EOF
		case upsetsGoPlugin(line):
			s.logger.Info(string(line))
		default:
			s.pending = append(append(s.pending, line...), '\n')
		}
	}
	n := copy(p, s.pending)
	if n == len(s.pending) {
		s.pending = s.pending[:0]
	} else {
		s.pending = s.pending[n:]
	}
	return n, nil
}

// upsetsGoPlugin reports whether go-plugin would panic at a line: it takes a
// JSON object for a record of hclog's, and what is in it for text.
func upsetsGoPlugin(line []byte) bool {
	if line = bytes.TrimSpace(line); len(line) == 0 || line[0] != '{' {
		return false
	}
	var record map[string]any
	if json.Unmarshal(line, &record) != nil {
		return false
	}
	for _, key := range []string{"@message", "@level", "@timestamp"} {
		if v, ok := record[key]; ok {
			if _, text := v.(string); !text {
				return true
			}
		}
	}
	return false
}

func (s *stderr) Close() error { return nil }

func (s *stderr) keep(read []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail = append(s.tail, read...)
	if len(s.tail) > 2*maxTail {
		s.tail = append(s.tail[:0], s.tail[len(s.tail)-maxTail:]...)
	}
}

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
