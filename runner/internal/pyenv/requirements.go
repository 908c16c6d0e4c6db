package pyenv

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// workerRequirement is what the worker itself imports.
const workerRequirement = "msgpack>=1.0.5,<2"

var lineComment = regexp.MustCompile(`(^|\s+)#.*$`)

// cleanLines drops comments, blank lines and repetitions.
func cleanLines(requirements []string) []string {
	var kept []string
	for _, line := range requirements {
		line = strings.TrimSpace(lineComment.ReplaceAllString(line, ""))
		if line != "" && !slices.Contains(kept, line) {
			kept = append(kept, line)
		}
	}
	return kept
}

// requirement is the shape of a named requirement: name, extras, the rest.
var requirement = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*((?:[<>=!~;@(]|--).*)?$`)

var separators = regexp.MustCompile(`[-_.]+`)

// normalLine writes a line as all lines are written that mean the same, as far as
// that is easily told.
func normalLine(line string) string {
	line = strings.Join(strings.Fields(line), " ")
	parts := requirement.FindStringSubmatch(line)
	if parts == nil {
		return line
	}
	name, extras, rest := normalName(parts[1]), parts[2], parts[3]
	version, marker, marked := strings.Cut(rest, ";")
	if strings.Contains(rest, "@") || strings.Contains(version, "/") {
		return name + extras + " " + rest // a URL, of which blanks and ; may be part
	}
	version = strings.ReplaceAll(version, " ", "")
	if marked {
		version += ";" + strings.TrimSpace(marker)
	}
	return name + strings.ReplaceAll(extras, " ", "") + version
}

func normalName(name string) string {
	return strings.ToLower(separators.ReplaceAllString(name, "-"))
}

// normalLines are the lines in an order of their own. Options keep theirs: the
// order of indexes may matter.
func normalLines(lines []string) []string {
	var options, named []string
	for _, line := range lines {
		if strings.HasPrefix(line, "-") {
			options = append(options, normalLine(line))
		} else {
			named = append(named, normalLine(line))
		}
	}
	slices.Sort(named)
	return append(options, slices.Compact(named)...)
}

// names are what lines require, in words for people. Options are left out.
func names(lines []string) []string {
	var found []string
	for _, line := range lines {
		line, editable := cutEditable(line)
		if strings.HasPrefix(line, "-") {
			continue
		}
		name := hideCredentials(line)
		if parts := requirement.FindStringSubmatch(line); parts != nil && !editable && localPath(line) == "" {
			name = parts[1]
		}
		found = append(found, name)
	}
	return found
}

// summary is such as "numpy, soxr and 2 more".
func summary(lines []string) string {
	all := names(lines)
	switch n := len(all); {
	case n == 0:
		return "msgpack"
	case n == 2:
		return all[0] + " and " + all[1]
	case n <= 3:
		return strings.Join(all, ", ")
	default:
		return fmt.Sprintf("%s, %s and %d more", all[0], all[1], n-2)
	}
}

// cutEditable returns what is installed in editable mode.
func cutEditable(line string) (string, bool) {
	for _, option := range []string{"-e", "--editable"} {
		if rest, ok := strings.CutPrefix(line, option); ok && strings.HasPrefix(strings.TrimLeft(rest, " "), "=") || ok && strings.HasPrefix(rest, " ") {
			return strings.TrimLeft(rest, " ="), true
		}
	}
	return line, false
}

// hashed says that each requirement has to have a hash.
func hashed(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return strings.Contains(line, "--hash") || strings.HasPrefix(line, "--require-hashes")
	})
}
