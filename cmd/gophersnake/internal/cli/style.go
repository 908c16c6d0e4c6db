package cli

import (
	"io"
	"os"
	"sync"
)

// style colours text where it goes to a terminal that shows colours.
type style struct{ on bool }

// styleOf follows https://no-color.org.
func styleOf(w io.Writer) style {
	return style{isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (s style) paint(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string   { return s.paint("1", text) }
func (s style) dim(text string) string    { return s.paint("2", text) }
func (s style) red(text string) string    { return s.paint("1;31", text) }
func (s style) green(text string) string  { return s.paint("32", text) }
func (s style) yellow(text string) string { return s.paint("33", text) }
func (s style) cyan(text string) string   { return s.paint("36", text) }

// logWriter lets the log go through the progress display while there is one, so
// that neither writes over the other.
type logWriter struct {
	mu sync.Mutex
	to io.Writer
}

// Write writes to where the log goes now.
func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// redirect sends what follows elsewhere.
func (l *logWriter) redirect(to io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}

// end closes what the log goes to now, and sends what follows where it says; what
// is written meanwhile waits.
func (l *logWriter) end(closing func() io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = closing()
}
