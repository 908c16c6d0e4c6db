package manifest

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxRequirements is the largest requirements file that is read, in bytes.
const maxRequirements = 1 << 20

// comment is a comment in a requirements file; a # inside a word, as in a URL,
// begins none.
var comment = regexp.MustCompile(`(^|\s+)#.*$`)

// nestedFile is an option of pip's that names a further file of requirements.
var nestedFile = regexp.MustCompile(`^(-r|-c|--requirement|--constraint)\b`)

// readRequirements returns the lines of a pip requirements file, without comments
// and blank lines, and continued lines made one.
func readRequirements(file string) ([]string, error) {
	if err := regularFile(file); err != nil {
		return nil, err
	}
	data, err := readFile(file, maxRequirements)
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxRequirements:
		return nil, fmt.Errorf("%s is larger than %d MiB", file, maxRequirements>>20)
	case !utf8.Valid(data):
		return nil, fmt.Errorf("%s is not UTF-8 text", file)
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\\\n", " ")
	var found []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(comment.ReplaceAllString(strings.TrimSuffix(line, "\n"), ""))
		if line != "" {
			found = append(found, line)
		}
	}
	return found, nil
}

func checkRequirement(r *report, path, line string) {
	switch {
	case strings.TrimSpace(line) == "":
		r.at(path, "must not be empty")
	case strings.ContainsAny(line, "\x00\r\n"):
		r.at(path, "must be a single line")
	case nestedFile.MatchString(line):
		r.at(path, "%q names a further file, which is not read; put its lines here", shorten(line))
	}
}
