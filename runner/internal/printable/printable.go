// Package printable escapes text that comes from a node, so that it can be shown on a
// terminal or in a text log. A terminal takes control characters for commands: they can
// rename its window, write the clipboard, or overwrite what stands above. Characters that
// reorder text make a line read differently from its content.
//
// All escaping of this kind is done here.
package printable

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// Text returns a text of any number of lines, in which each character that a terminal
// could take for a command is written as an escape such as \x1b or \u202e. Line feeds and
// tabs stay, and so does a carriage return before a line feed. A text without such
// characters is returned as it is, at no cost but that of reading it.
func Text(text string) string { return escape(text, true) }

// Line is [Text] for a single line: line ends are escaped, too.
func Line(text string) string { return escape(text, false) }

// Record returns the message of a log record. Each further line begins with a bar, so that
// none looks like a record of its own.
func Record(text string) string {
	return strings.ReplaceAll(Text(strings.TrimRight(text, "\r\n")), "\n", "\n  | ")
}

func escape(text string, lines bool) string {
	first := nextUnsafe(text, 0, lines)
	if first < 0 {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + 16)
	done := 0
	for at := first; at >= 0; at = nextUnsafe(text, done, lines) {
		b.WriteString(text[done:at])
		r, size := utf8.DecodeRuneInString(text[at:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[at])
		case r == '\n':
			b.WriteString(`\n`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		done = at + size
	}
	b.WriteString(text[done:])
	return b.String()
}

// nextUnsafe returns the index of the next character that must be escaped, -1 if there is
// none.
func nextUnsafe(text string, from int, lines bool) int {
	for i := from; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			switch {
			case c >= ' ' && c != 0x7f, c == '\t', c == '\n' && lines,
				c == '\r' && lines && i+1 < len(text) && text[i+1] == '\n':
				i++
				continue
			}
			return i
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 || Unsafe(r) {
			return i
		}
		i += size
	}
	return -1
}

// Unsafe reports whether a character outside of ASCII is a control character, a line
// separator, or changes the direction of the text after it.
func Unsafe(r rune) bool {
	return r >= 0x80 && r < 0xa0 || // C1
		r == 0x2028 || r == 0x2029 || // line and paragraph separators
		r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 // bidirectional overrides and isolates
}

// Logger is a logger for what a node logs and prints. It escapes messages, names, keys and
// text values. Keys that only the supervisor sets, such as node and worker, get the prefix
// "extra.", so that a node cannot write records in the name of another one.
type Logger struct{ hclog.Logger }

// reserved are the keys that only the supervisor sets. In JSON, those that begin with @ are the
// logger's own.
var reserved = map[string]bool{
	"node": true, "worker": true, "call": true, "attempt": true, "run": true, "trace_id": true, "span_id": true,
}

// key returns a key of a node's record.
func key(text string) string {
	if reserved[text] || strings.HasPrefix(text, "@") {
		text = "extra." + text
	}
	return Line(text)
}

// NewLogger returns a logger that writes to another one.
func NewLogger(to hclog.Logger) Logger {
	if own, ok := to.(Logger); ok {
		return own
	}
	return Logger{to}
}

// Log writes a record.
func (l Logger) Log(level hclog.Level, message string, args ...any) {
	l.Logger.Log(level, Record(message), printableArgs(args)...)
}

// Trace writes a record at trace level.
func (l Logger) Trace(message string, args ...any) { l.Log(hclog.Trace, message, args...) }

// Debug writes a record at debug level.
func (l Logger) Debug(message string, args ...any) { l.Log(hclog.Debug, message, args...) }

// Info writes a record at info level.
func (l Logger) Info(message string, args ...any) { l.Log(hclog.Info, message, args...) }

// Warn writes a record at warn level.
func (l Logger) Warn(message string, args ...any) { l.Log(hclog.Warn, message, args...) }

// Error writes a record at error level.
func (l Logger) Error(message string, args ...any) { l.Log(hclog.Error, message, args...) }

// With returns a logger that adds args to each record.
func (l Logger) With(args ...any) hclog.Logger { return Logger{l.Logger.With(printableArgs(args)...)} }

// Named returns a logger with a name added.
func (l Logger) Named(name string) hclog.Logger { return Logger{l.Logger.Named(Line(name))} }

// ResetNamed returns a logger with another name.
func (l Logger) ResetNamed(name string) hclog.Logger { return Logger{l.Logger.ResetNamed(Line(name))} }

// printableArgs returns keys and values with their texts escaped. It copies them if one
// changes. A logger quotes values of other types itself.
func printableArgs(args []any) []any {
	var out []any
	for i, arg := range args {
		text, ok := arg.(string)
		if !ok {
			continue
		}
		shown := Text(text)
		if i%2 == 0 {
			shown = key(text)
		}
		if shown == text {
			continue
		}
		if out == nil {
			out = append(out, args...)
		}
		out[i] = shown
	}
	if out == nil {
		return args
	}
	return out
}
