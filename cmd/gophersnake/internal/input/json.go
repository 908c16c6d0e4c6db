package input

import (
	"errors"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner/document"
)

// looksLikeJSON reports whether a text that is not JSON was probably meant to be.
func looksLikeJSON(text string) bool {
	text = strings.TrimSpace(text)
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")
}

// ParseJSONOrText returns the JSON value that a text is, or else the text itself. It warns
// if the text looks like JSON. A value that cannot be carried is an error, as for
// [document.Parse]. The name says in the warning what the text is.
func ParseJSONOrText(name, text string, warn func(message string, args ...any)) (any, error) {
	value, err := document.Parse([]byte(text))
	if !errors.Is(err, document.ErrSyntax) {
		return value, err
	}
	warnOfJSON(name, text, err, warn)
	return text, nil
}

// warnOfJSON warns if a text that is not JSON looks like it.
func warnOfJSON(name, text string, err error, warn func(message string, args ...any)) {
	if looksLikeJSON(text) {
		warn(name+" looks like JSON but is not valid; it is used as text", "input", terminal.Shorten(text, 60), "reason", strings.TrimPrefix(err.Error(), document.ErrSyntax.Error()+": "))
	}
}
