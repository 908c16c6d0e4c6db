package wasm

import (
	"bytes"

	"github.com/hashicorp/go-hclog"
)

// The bounds of what is kept of the output of a module.
const (
	maxTail   = 4 << 10  // bytes of standard error that an error shows
	maxLine   = 8 << 10  // a longer line is logged in parts
	maxLogged = 64 << 10 // bytes that the log takes of one call
)

// logOutput turns the output of an instance into log records, a line each, and keeps its
// end. Only the goroutine that runs the instance uses it.
type logOutput struct {
	of     *instance
	logger hclog.Logger

	line   []byte // the beginning of a line that has not ended
	logged int    // bytes of this call that were logged
	tail   []byte
}

// Write takes output. Its cost does not depend on the length of p beyond what is kept. It
// panics with the error of the call's context once that has ended, because a module can
// have one call of fd_write write millions of parts.
func (o *logOutput) Write(p []byte) (int, error) {
	if err := o.of.ctx.Err(); err != nil {
		panic(err)
	}
	o.keepTail(p)
	for rest := p; len(rest) > 0 && o.logged < maxLogged; {
		end := bytes.IndexByte(rest[:min(len(rest), maxLine)], '\n')
		whole := end >= 0
		if !whole {
			end = min(len(rest), maxLine-len(o.line))
		}
		o.line = append(o.line, rest[:end]...)
		rest = rest[end:]
		if whole {
			rest = rest[1:]
		}
		if whole || len(o.line) >= maxLine {
			o.logLine()
		}
	}
	return len(p), nil
}

// logLine logs the line that was collected.
func (o *logOutput) logLine() {
	o.logged += len(o.line) + 1
	o.logger.Info(string(bytes.TrimRight(bytes.ToValidUTF8(o.line, []byte("\ufffd")), "\r")))
	o.line = o.line[:0]
	if o.logged >= maxLogged {
		o.logger.Warn("further output of this call is not logged")
	}
}

// keepTail keeps the last maxTail bytes, or up to twice as many.
func (o *logOutput) keepTail(p []byte) {
	o.tail = append(o.tail, p[max(0, len(p)-maxTail):]...)
	if len(o.tail) > 2*maxTail {
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-maxTail:]...)
	}
}

// begin begins the output of a call.
func (o *logOutput) begin() { o.logged, o.line, o.tail = 0, o.line[:0], o.tail[:0] }

// end logs a line that has no end.
func (o *logOutput) end() {
	if len(o.line) > 0 && o.logged < maxLogged {
		o.logLine()
	}
}

// lastLines returns the end of the output. If it is cut, it begins with a whole line.
func (o *logOutput) lastLines() string {
	tail := o.tail
	if len(tail) > maxTail {
		tail = tail[len(tail)-maxTail:]
		if i := bytes.IndexByte(tail, '\n'); i >= 0 {
			tail = tail[i+1:]
		}
	}
	return string(bytes.TrimSpace(bytes.ToValidUTF8(tail, []byte("\ufffd"))))
}

// result collects the standard output of a command.
type result struct {
	limit int64
	bytes []byte
}

// Write takes output. Beyond the limit it panics, which ends the module: its further
// output would be of no use.
func (r *result) Write(p []byte) (int, error) {
	if size := int64(len(r.bytes)) + int64(len(p)); size > r.limit {
		panic(&ResultError{Size: size, Limit: r.limit})
	}
	r.bytes = append(r.bytes, p...)
	return len(p), nil
}
