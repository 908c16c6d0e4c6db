package wasm

import (
	"bytes"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner/internal/output"
)

// maxLogged is how many bytes of the output of one call the log takes. A line of more than
// output.MaxLine bytes is logged in parts.
const maxLogged = 64 << 10

// logOutput turns the output of an instance into log records, a line each, and keeps its
// end. Only the goroutine that runs the instance uses it.
type logOutput struct {
	of     *instance
	logger hclog.Logger

	line   []byte // the beginning of a line that has not ended
	logged int    // bytes of this call that were logged
	tail   output.Tail
}

// Write takes output. Its cost does not depend on the length of p beyond what is kept. It
// panics with the error of the call's context once that has ended, because a module can
// have one call of fd_write write millions of parts.
func (o *logOutput) Write(p []byte) (int, error) {
	if err := o.of.ctx.Err(); err != nil {
		panic(err)
	}
	o.tail.Add(p)
	for rest := p; len(rest) > 0 && o.logged < maxLogged; {
		end := bytes.IndexByte(rest[:min(len(rest), output.MaxLine)], '\n')
		whole := end >= 0
		if !whole {
			end = min(len(rest), output.MaxLine-len(o.line))
		}
		o.line = append(o.line, rest[:end]...)
		rest = rest[end:]
		if whole {
			rest = rest[1:]
		}
		if whole || len(o.line) >= output.MaxLine {
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

// begin begins the output of a call.
func (o *logOutput) begin() {
	o.logged, o.line = 0, o.line[:0]
	o.tail.Reset()
}

// end logs a line that has no end.
func (o *logOutput) end() {
	if len(o.line) > 0 && o.logged < maxLogged {
		o.logLine()
	}
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
