package pyenv

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
)

// command is a program with its arguments and settings.
type command struct {
	args  []string
	dir   string
	env   []string // nil for the environment of this process
	stdin string
	line  func(string) // receives each line of output; may be nil
	// reaped says how the reaper runs that ends all that the program leaves behind; nil for
	// programs that start no others. The path of the program must then be absolute.
	reaped *lifeline.Reaped
}

// drainTime is how long run waits for the end of the output after the program has
// ended, if a process that it left behind holds the pipe open.
const drainTime = 2 * time.Second

// run runs the program and returns its standard output, and the last lines of its
// whole output. When the context ends, the program is killed with its whole process
// group, and the error is the context's cause. On Linux it is also killed when the
// supervisor ends.
func (c command) run(ctx context.Context) (stdout, tail string, err error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	output := &lineWriter{each: c.line}
	out := &limitedBuffer{}
	cmd.Dir, cmd.Env = c.dir, c.env
	if c.stdin != "" {
		cmd.Stdin = strings.NewReader(c.stdin)
	}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(out, output), output
	// A session of its own can be killed as a whole, and waits for no password at the terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drainTime
	if c.reaped != nil {
		err = lifeline.RunReaped(cmd, *c.reaped)
	} else {
		err = lifeline.Run(cmd, nil)
	}
	output.end()
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	return out.String(), output.tail(), err
}

// environWithout returns the environment of this process without the named variables.
func environWithout(names ...string) []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	})
}

const (
	tailLines = 20
	maxLine   = 1000
	maxAnswer = 1 << 20
)

// lineWriter splits the output of a program into lines, and keeps the last ones.
type lineWriter struct {
	each func(string)

	mu      sync.Mutex
	partial []byte
	last    []string
}

// Write never fails.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		end := bytes.IndexAny(rest, "\r\n")
		if end < 0 {
			l.hold(rest)
			break
		}
		l.hold(rest[:end])
		l.flush()
		rest = rest[end+1:]
	}
	return len(p), nil
}

func (l *lineWriter) hold(part []byte) {
	l.partial = append(l.partial, part[:min(len(part), max(maxLine-len(l.partial), 0))]...)
}

func (l *lineWriter) flush() {
	line := plainLine(string(l.partial))
	l.partial = l.partial[:0]
	if line == "" {
		return
	}
	if l.last = append(l.last, line); len(l.last) > tailLines {
		l.last = l.last[1:]
	}
	if l.each != nil {
		l.each(line)
	}
}

// end handles a last line without a newline.
func (l *lineWriter) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

func (l *lineWriter) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, "\n")
}

var (
	controls    = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]`)
	credentials = regexp.MustCompile(`(://)[^/@\s]+@`)
)

func plainLine(text string) string {
	return hideCredentials(strings.TrimRight(controls.ReplaceAllString(strings.ToValidUTF8(text, "?"), ""), " \t"))
}

// hideCredentials masks the passwords in URLs, for logs and records.
func hideCredentials(text string) string { return credentials.ReplaceAllString(text, "${1}****@") }

// limitedBuffer keeps the first maxAnswer bytes that are written to it.
type limitedBuffer struct{ strings.Builder }

// Write never fails.
func (h *limitedBuffer) Write(p []byte) (int, error) {
	h.Builder.Write(p[:min(len(p), max(maxAnswer-h.Len(), 0))])
	return len(p), nil
}

// decodeMarked decodes the JSON in the line of a script's output that begins with a
// mark. Other code may print at start-up too.
func decodeMarked(output, mark string, v any) error {
	_, text, _ := strings.Cut(output, mark)
	line, _, _ := strings.Cut(text, "\n")
	return json.Unmarshal([]byte(line), v)
}
