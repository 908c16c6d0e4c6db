package failure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// UsageError says that the command line is invalid.
type UsageError struct {
	Err error
	// Command is the command with the help that the user should read, for instance
	// "gophersnake run".
	Command string
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef returns a [UsageError] with a formatted message.
func Usagef(format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...)}
}

// CheckChoice returns a usage error unless the value of a flag is one of the choices.
func CheckChoice(flag, value string, choices ...string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return Usagef("--%s takes %s, not %q", flag, Alternatives(choices), value)
}

// Alternatives joins names as in "a, b or c".
func Alternatives(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Suggest proposes the most similar of the known names, or lists them all if none is
// similar.
func Suggest(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "there are: " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// Nearest returns the known name that is most similar to name. It is empty if none is
// similar enough to be a misspelling.
func Nearest(name string, known []string) string {
	best, distance := "", len(name)/2+1
	for _, k := range known {
		if d := levenshtein.ComputeDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}
