package pyenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// workerRequirement is the package that the worker itself imports.
const workerRequirement = "msgpack>=1.0.5,<2"

// typesRequirement is the package that converts values to the types of annotations. Most
// nodes work without it. So it has no bounds, which could contradict those of the pipeline,
// and is not installed for versions of Python that may have no wheels of it.
const typesRequirement = `msgspec; python_version < "3.16"`

var lineComment = regexp.MustCompile(`(^|\s+)#.*$`)

// cleanLines drops comments, blank lines and repeated lines.
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

// requirement matches a named requirement: name, extras, the rest.
var requirement = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*((?:[<>=!~;@(]|--).*)?$`)

var separators = regexp.MustCompile(`[-_.]+`)

// normalLine normalizes a line, so that lines with the same meaning are mostly equal.
func normalLine(line string) string {
	line = strings.Join(strings.Fields(line), " ")
	parts := requirement.FindStringSubmatch(line)
	if parts == nil {
		return line
	}
	name, extras, rest := normalName(parts[1]), parts[2], parts[3]
	version, marker, marked := strings.Cut(rest, ";")
	if strings.Contains(rest, "@") || strings.Contains(version, "/") {
		return name + extras + " " + rest // a URL may contain blanks and semicolons
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

// normalLines normalizes and sorts the lines. Options keep their order, since that of
// indexes may matter.
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

// Override returns requirement lines with those of a part added. A line of the part replaces
// the other lines for the same package.
func Override(lines, part []string) []string {
	if len(part) == 0 {
		return lines
	}
	own := make(map[string]bool, len(part))
	for _, line := range part {
		if parts := requirement.FindStringSubmatch(line); parts != nil {
			own[normalName(parts[1])] = true
		}
	}
	kept := make([]string, 0, len(lines)+len(part))
	for _, line := range lines {
		if parts := requirement.FindStringSubmatch(line); parts == nil || !own[normalName(parts[1])] {
			kept = append(kept, line)
		}
	}
	return append(kept, part...)
}

// names returns the names of the required packages for messages, without options.
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

// summary returns a text such as "numpy, soxr and 2 more".
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

// cutEditable cuts the option for editable mode, and reports whether there was one.
func cutEditable(line string) (string, bool) {
	for _, option := range []string{"-e", "--editable"} {
		if rest, ok := strings.CutPrefix(line, option); ok && strings.HasPrefix(strings.TrimLeft(rest, " "), "=") || ok && strings.HasPrefix(rest, " ") {
			return strings.TrimLeft(rest, " ="), true
		}
	}
	return line, false
}

// needsHashes reports whether each requirement must have a hash.
func needsHashes(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return strings.Contains(line, "--hash") || strings.HasPrefix(line, "--require-hashes")
	})
}

// largeFile is the size in bytes above which a file is identified by its size and
// modification time alone, so that reusing an environment stays fast.
const largeFile = 1 << 20

// fileOption matches an option that names a file.
var fileOption = regexp.MustCompile(`^(?:-r|-c|--requirement|--constraint)[ =]\s*(\S+)`)

var (
	fileURL  = regexp.MustCompile(`(?:^|@\s*)file:(?://(?:localhost)?)?(\S+)`)
	namedURL = regexp.MustCompile(`^[A-Za-z0-9._-]+\s*(?:\[[^\]]*\])?\s*@\s*([./]\S*)`)
	archive  = regexp.MustCompile(`^(\S+\.(?:whl|tar\.gz|zip))\b`)
	anyPath  = regexp.MustCompile(`^(\.{0,2}/\S*|\.{1,2})(?:\s|;|$)`)
	ending   = regexp.MustCompile(`(\[[^\]]*\]|[#;].*)$`)
)

// localPath returns the file or folder that a line installs from, as it is written;
// empty if it installs from none.
func localPath(line string) string {
	if parts := fileOption.FindStringSubmatch(line); parts != nil {
		return parts[1]
	}
	line, _ = cutEditable(line)
	for _, form := range []*regexp.Regexp{fileURL, namedURL, anyPath, archive} {
		parts := form.FindStringSubmatch(line)
		if parts == nil || form == archive && strings.Contains(parts[1], "://") {
			continue
		}
		return ending.ReplaceAllString(parts[1], "")
	}
	return ""
}

// localState returns texts that identify the content of the files and folders that
// the lines install from.
func localState(lines []string, base string) []string {
	var states []string
	for _, line := range lines {
		path := localPath(line)
		if path == "" {
			continue
		}
		written := path
		if !filepath.IsAbs(path) {
			path = filepath.Join(base, path)
		}
		_, editable := cutEditable(line)
		if editable { // the environment refers to it by its path
			written = path
		}
		states = append(states, written+" "+contentState(path, editable))
	}
	return states
}

// contentState returns a hash of the content of a file or folder. For an editable
// package only its build configuration counts, since its code is not copied.
func contentState(path string, editable bool) string {
	sum := sha256.New()
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != path && (editable || isGenerated(entry.Name())):
			return fs.SkipDir
		case entry.IsDir(), editable && !isBuildConfig(entry.Name()):
			return nil
		}
		return addFile(sum, path, name)
	})
	if err != nil {
		return "missing" // the installer will report it
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// isGenerated reports whether a folder is one that tools generate.
func isGenerated(name string) bool {
	switch name {
	case "build", "dist", "node_modules", "venv":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "__pycache__") || strings.HasSuffix(name, ".egg-info")
}

func isBuildConfig(name string) bool {
	return name == "pyproject.toml" || name == "setup.py" || name == "setup.cfg"
}

func addFile(sum hash.Hash, root, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return nil // a dangling link is not installed
	}
	relative, err := filepath.Rel(root, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(sum, "%q %d ", relative, info.Size())
	if info.Size() > largeFile || !info.Mode().IsRegular() {
		fmt.Fprintf(sum, "at %d\n", info.ModTime().UnixNano())
		return nil
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	part := sha256.Sum256(content)
	fmt.Fprintf(sum, "%x\n", part)
	return nil
}
