// Package terminal formats what people read: progress, tables, colors and texts.
package terminal

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// Is reports whether a stream is a terminal.
func Is(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width returns the width of a terminal in characters, or 0 if the stream is not a
// terminal.
func Width(stream any) int {
	if f, ok := stream.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

// Style colors text for a stream. The zero Style leaves text as it is.
type Style struct {
	// Colors reports whether the stream shows colors.
	Colors bool
}

// StyleOf returns the style for a stream. It has colors if the stream is a terminal that
// supports them and the environment does not forbid them; see https://no-color.org.
func StyleOf(stream any) Style {
	return Style{Is(stream) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (s Style) paint(code, text string) string {
	if !s.Colors || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold returns the text in bold.
func (s Style) Bold(text string) string { return s.paint("1", text) }

// Dim returns the text in a faint color.
func (s Style) Dim(text string) string { return s.paint("2", text) }

// Red returns the text in red, the color of failures.
func (s Style) Red(text string) string { return s.paint("1;31", text) }

// Green returns the text in green, the color of success.
func (s Style) Green(text string) string { return s.paint("32", text) }

// Yellow returns the text in yellow, the color of warnings.
func (s Style) Yellow(text string) string { return s.paint("33", text) }

// Cyan returns the text in cyan, the color of names and of work in progress.
func (s Style) Cyan(text string) string { return s.paint("36", text) }

// Console is standard error: errors, the log and a [Display] share it. While a Display
// shows lines, writes appear above them. It is safe for concurrent use.
type Console struct {
	// Style is the style for the console.
	Style Style
	out   io.Writer

	mu sync.Mutex
	to io.Writer // out, or the lines that a Display shows
}

// NewConsole returns a console that writes to out.
func NewConsole(out io.Writer) *Console {
	return &Console{Style: StyleOf(out), out: out, to: out}
}

// Write writes to the console, above the progress lines if some are shown.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.to.Write(p)
}

// redirect makes later writes go to the writer of progress lines.
func (c *Console) redirect(to io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
}

// restore makes later writes go to the console itself, after finish has written the last
// state of the progress lines. Concurrent writes wait for it.
func (c *Console) restore(finish func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	finish()
	c.to = c.out
}
