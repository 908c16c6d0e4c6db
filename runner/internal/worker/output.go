package worker

import (
	"bytes"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner/internal/output"
)

// stdout is a worker's standard output. go-plugin reads only the handshake
// line; all other lines become log records. If go-plugin read them, a long line would
// stop its scanner, and the full pipe would block the worker.
type stdout struct {
	lines   output.Lines
	logger  hclog.Logger
	drained drained

	handshake []byte // the rest of the handshake line, for go-plugin to read
	announced bool   // the handshake line has been found, or is not expected
}

func newStdout() *stdout { return &stdout{drained: newDrained()} }

// handshakeOf returns the handshake in a line of output, as go-plugin may read it: the five
// fields that a worker announces, and no address but that of a Unix socket. go-plugin would
// look up the host name of another one, and dereference a nil pointer at a certificate in a
// sixth field.
func handshakeOf(line []byte) []byte {
	const fields, network = 5, 2
	parts := bytes.Split(line, []byte("|"))
	parts = parts[:min(len(parts), fields)]
	if len(parts) > network && string(parts[network]) != "unix" {
		parts[network] = []byte("other")
	}
	return append(bytes.Join(parts, []byte("|")), '\n')
}

// Read returns the handshake line. It may be called by one goroutine only, until it
// has returned an error.
func (s *stdout) Read(p []byte) (int, error) {
	for len(s.handshake) == 0 {
		line, err := s.lines.Next()
		switch {
		case err != nil:
			s.drained.signal()
			return 0, io.EOF
		case !s.announced && bytes.HasPrefix(line, []byte("1|")):
			s.announced = true
			s.handshake = handshakeOf(line)
		default:
			s.logger.Info(string(line))
		}
	}
	n := copy(p, s.handshake)
	s.handshake = s.handshake[n:]
	return n, nil
}

// Close does nothing: the process closes the pipe.
func (s *stdout) Close() error { return nil }

// stderr is a worker's standard error. go-plugin turns its lines into log records;
// its end is kept for the autopsy.
type stderr struct {
	lines   output.Lines
	logger  hclog.Logger
	drained drained

	pending []byte // the rest of a line, for go-plugin to read

	tail output.Tail
}

func newStderr() *stderr {
	s := &stderr{drained: newDrained()}
	s.lines.OnRead = s.tail.Add
	return s
}

// stderrName is the name of the logger of standard error.
const stderrName = "stderr"

// Read returns the lines of standard error. It may be called by one goroutine only,
// until it has returned an error.
func (s *stderr) Read(p []byte) (int, error) {
	for len(s.pending) == 0 {
		line, err := s.lines.Next()
		switch {
		case err != nil:
			s.drained.signal()
			return 0, io.EOF
		case panicsGoPlugin(line):
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

// panicsGoPlugin reports whether go-plugin would panic at a line: it takes a JSON
// object for one of hclog's records and asserts that these keys hold strings.
func panicsGoPlugin(line []byte) bool {
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

// Close does nothing: the process closes the pipe.
func (s *stderr) Close() error { return nil }

// drained lets goroutines wait until a stream has been read to its end.
type drained struct {
	once sync.Once
	ch   chan struct{}
}

func newDrained() drained { return drained{ch: make(chan struct{})} }

func (d *drained) signal() { d.once.Do(func() { close(d.ch) }) }

func (d *drained) wait(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-d.ch:
	case <-timer.C:
	}
}

// pluginLogger lowers go-plugin's own messages to trace level. Its named logger gets
// the worker's standard error: a line that go-plugin recognizes as a record keeps its
// level, and a plain line, which go-plugin logs at debug level, is raised to info
// level, because it is output to a Python programmer.
type pluginLogger struct {
	hclog.Logger
	process *process
}

// Log logs at trace level.
func (l pluginLogger) Log(_ hclog.Level, msg string, args ...any) { l.Trace(msg, args...) }

// Debug logs at trace level.
func (l pluginLogger) Debug(msg string, args ...any) { l.Trace(msg, args...) }

// Info logs at trace level.
func (l pluginLogger) Info(msg string, args ...any) { l.Trace(msg, args...) }

// Warn logs at trace level.
func (l pluginLogger) Warn(msg string, args ...any) { l.Trace(msg, args...) }

// Error logs at trace level.
func (l pluginLogger) Error(msg string, args ...any) { l.Trace(msg, args...) }

// Named returns the logger of standard error. go-plugin calls it once the process has started.
func (l pluginLogger) Named(string) hclog.Logger { return stderrLogger{l.process.stderr.logger} }

// stderrLogger raises go-plugin's debug messages to info level.
type stderrLogger struct{ hclog.Logger }

// Debug logs at info level.
func (l stderrLogger) Debug(msg string, args ...any) { l.Info(msg, args...) }
