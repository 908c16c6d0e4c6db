package pyenv

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"
)

const (
	tailLines = 20
	maxLine   = 1000
	maxAnswer = 1 << 20
)

// lines takes the output of a program apart, and keeps the last lines.
type lines struct {
	each func(string)

	mu      sync.Mutex
	partial []byte
	last    []string
}

// Write takes output.
func (l *lines) Write(p []byte) (int, error) {
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

func (l *lines) hold(part []byte) {
	l.partial = append(l.partial, part[:min(len(part), max(maxLine-len(l.partial), 0))]...)
}

func (l *lines) flush() {
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

// end takes what has no newline at its end.
func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

func (l *lines) tail() string {
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

// hideCredentials keeps passwords in URLs from logs and records.
func hideCredentials(text string) string { return credentials.ReplaceAllString(text, "${1}****@") }

// head keeps the beginning of what is written to it.
type head struct{ strings.Builder }

// Write never fails.
func (h *head) Write(p []byte) (int, error) {
	h.Builder.Write(p[:min(len(p), max(maxAnswer-h.Len(), 0))])
	return len(p), nil
}

// both writes to two writers that do not fail.
type both struct{ one, other io.Writer }

func (b both) Write(p []byte) (int, error) {
	_, _ = b.one.Write(p)
	return b.other.Write(p)
}
