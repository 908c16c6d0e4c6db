package manifest

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxRequirements is the size of the largest requirements file that is accepted, in
// bytes.
const maxRequirements = 1 << 20

// comment matches a comment in a requirements file. A # inside a word, as in a URL,
// does not begin one.
var comment = regexp.MustCompile(`(^|\s+)#.*$`)

// nestedFile matches an option of pip that refers to another file of requirements.
var nestedFile = regexp.MustCompile(`^(-r|-c|--requirement|--constraint)\b`)

// requirements returns a decodeFunc for a list of requirement lines, or the name of a
// file of them.
func (d *decoder) requirements(dst *[]string) decodeFunc {
	lines := d.texts(dst)
	return func(e element) {
		if value, ok := d.resolve(e); !ok || value.node.ShortTag() != "!!str" {
			lines(e)
			return
		}
		var file string
		if d.text(&file)(e); file == "" {
			return
		}
		found, err := readRequirements(d.base, file)
		if err != nil {
			d.reject(e, "%v", err)
		}
		*dst = found
	}
}

// readRequirements returns the lines of a pip requirements file, without comments and
// blank lines, and with continued lines joined.
func readRequirements(base folder, file string) ([]string, error) {
	if err := base.checkRegular(file); err != nil {
		return nil, err
	}
	data, err := base.read(file, maxRequirements)
	_, file = base.find(file)
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

func checkRequirements(r *report, path string, lines []string) {
	for i, line := range lines {
		checkRequirement(r, fmt.Sprintf("%s[%d]", path, i), line)
	}
}

func checkRequirement(r *report, path, line string) {
	switch {
	case strings.TrimSpace(line) == "":
		r.problem(path, "must not be empty")
	case strings.ContainsAny(line, "\x00\r\n"):
		r.problem(path, "must be a single line")
	case nestedFile.MatchString(line):
		r.problem(path, "%q refers to another file, which is not read; put its lines here", shorten(line))
	}
}
