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
	"strings"
)

// largeFile is the size in bytes from which files are told apart by size and time
// alone, so that reuse stays quick.
const largeFile = 1 << 20

// fileOption is an option that names a file.
var fileOption = regexp.MustCompile(`^(?:-r|-c|--requirement|--constraint)[ =]\s*(\S+)`)

var (
	fileURL  = regexp.MustCompile(`(?:^|@\s*)file:(?://(?:localhost)?)?(\S+)`)
	namedURL = regexp.MustCompile(`^[A-Za-z0-9._-]+\s*(?:\[[^\]]*\])?\s*@\s*([./]\S*)`)
	archive  = regexp.MustCompile(`^(\S+\.(?:whl|tar\.gz|zip))\b`)
	anyPath  = regexp.MustCompile(`^(\.{0,2}/\S*|\.{1,2})(?:\s|;|$)`)
	ending   = regexp.MustCompile(`(\[[^\]]*\]|[#;].*)$`)
)

// localPath is the file or folder that a line installs, as it is written, or
// empty.
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

// localState identifies the content of all that lines install from files, which
// the lines themselves do not.
func localState(lines []string, base string) []string {
	var states []string
	for _, line := range lines {
		path := localPath(line)
		if path == "" {
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(base, path)
		}
		_, editable := cutEditable(line)
		states = append(states, path+" "+contentState(path, editable))
	}
	return states
}

// contentState identifies the content of a file or folder. Of an editable package
// only what describes it counts: its code is not copied.
func contentState(path string, editable bool) string {
	sum := sha256.New()
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != path && (editable || isMade(entry.Name())):
			return fs.SkipDir
		case entry.IsDir(), editable && !describes(entry.Name()):
			return nil
		}
		return addFile(sum, path, name)
	})
	if err != nil {
		return "missing" // the installer will tell
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// isMade reports whether a folder is one that tools make, also while they build.
func isMade(name string) bool {
	switch name {
	case "build", "dist", "node_modules", "venv":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "__pycache__") || strings.HasSuffix(name, ".egg-info")
}

func describes(name string) bool {
	return name == "pyproject.toml" || name == "setup.py" || name == "setup.cfg"
}

func addFile(sum hash.Hash, root, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return nil // a dangling link is nothing that gets installed
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
