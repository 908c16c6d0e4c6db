package pyenv

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// listName is the file that lists the files of an environment. Each time the environment
// is opened, the files are compared with it: one system call for each file.
//
// A file is damaged if it is missing, shorter than it was, of another type, or has lost a
// permission of its owner. A file that grew or was added is none: people add print
// statements and packages, and packages keep data beside their code. Bytecode is not
// listed, since Python writes and checks it.
const listName = "gophersnake.files"

// repairAgain is the time after a repair in which the environment is not repaired again.
const repairAgain = time.Hour

// listed is one line of the list.
type listed struct {
	path   string // relative to the environment
	mode   fs.FileMode
	size   int64
	target string // of a symbolic link
}

// String returns the line.
func (l listed) String() string {
	return fmt.Sprintf("%o %d %q %q", l.mode.Perm(), l.size, l.path, l.target)
}

// parseListed parses a line, and reports whether it is valid.
func parseListed(line string) (l listed, ok bool) {
	mode, rest, _ := strings.Cut(line, " ")
	size, rest, _ := strings.Cut(rest, " ")
	path, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return l, false
	}
	perm, errMode := strconv.ParseUint(mode, 8, 9)
	length, errSize := strconv.ParseInt(size, 10, 64)
	target, errTarget := strconv.Unquote(strings.TrimSpace(rest[len(path):]))
	path, err = strconv.Unquote(path)
	l = listed{path: path, mode: fs.FileMode(perm), size: length, target: target}
	if target != "" {
		l.mode |= fs.ModeSymlink
	}
	return l, errors.Join(err, errMode, errSize, errTarget) == nil
}

// writeList writes the list of the environment's files, and returns its size in bytes.
func writeList(dir string) (int64, error) {
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == "__pycache__" {
				return fs.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		each := listed{path: relative, mode: info.Mode(), size: info.Size()}
		if info.Mode().Type() == fs.ModeSymlink {
			if _, err := os.Stat(path); err != nil {
				return nil // a package may have a link that leads nowhere
			}
			each.target, err = os.Readlink(path)
		}
		text.WriteString(each.String() + "\n")
		return err
	})
	if err != nil {
		return 0, err
	}
	return int64(text.Len()), writeFile(filepath.Join(dir, listName), []byte(text.String()))
}

// Damage returns what is wrong with the environment in a folder, such as "lib/x.py is
// missing". It is empty if nothing is, or if the folder holds no complete environment.
func Damage(dir string) string {
	if r, ok := readRecord(dir); ok && r.Files > 0 {
		return findDamage(dir, r.Files)
	}
	return ""
}

// findDamage returns a text that says what is wrong with the environment's files, such as
// "lib/x.py is missing"; empty if nothing is. The size is that of the list.
func findDamage(dir string, size int64) string {
	f, err := os.Open(filepath.Join(dir, listName))
	if err != nil {
		return listName + " " + faultOf(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != size {
		return listName + " is incomplete"
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		file, ok := parseListed(lines.Text())
		if !ok {
			return listName + " is invalid"
		}
		if fault := file.fault(dir); fault != "" {
			return file.path + " " + fault
		}
	}
	if lines.Err() != nil {
		return listName + " cannot be read: " + withoutPath(lines.Err()).Error()
	}
	return ""
}

// fault says what is wrong with a file, such as "is missing"; empty if nothing is.
func (l listed) fault(dir string) string {
	path := filepath.Join(dir, l.path)
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return faultOf(err)
	case info.Mode().Type() != l.mode.Type():
		return "is no longer " + typeName(l.mode)
	case l.mode.Type() == fs.ModeSymlink:
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return "is a link to " + l.target + ", which is missing"
		}
		return ""
	case info.Size() < l.size:
		return "has " + strconv.FormatInt(info.Size(), 10) + " of its " + strconv.FormatInt(l.size, 10) + " bytes"
	case l.mode&^info.Mode()&0o700 != 0:
		return fmt.Sprintf("has the permissions %v instead of %v", info.Mode().Perm(), l.mode.Perm())
	}
	return ""
}

func faultOf(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "is missing"
	}
	return "cannot be read: " + withoutPath(err).Error()
}

func typeName(mode fs.FileMode) string {
	if mode.Type() == fs.ModeSymlink {
		return "a link"
	}
	return "a file"
}

// damagedPackages returns the names of the installed packages of which a file is missing or
// shorter than the package's own record says.
func damagedPackages(dir string) []string {
	var damaged []string
	records, _ := filepath.Glob(filepath.Join(dir, "lib", "python3*", "site-packages", "*.dist-info", "RECORD"))
	for _, path := range records {
		name, _, _ := strings.Cut(filepath.Base(filepath.Dir(path)), "-")
		if content, err := os.ReadFile(path); err == nil && !matchesRecord(filepath.Dir(filepath.Dir(path)), string(content)) {
			damaged = append(damaged, name)
		}
	}
	return damaged
}

// matchesRecord reports whether the files in a folder are those of a package's record.
func matchesRecord(dir, content string) bool {
	rows, err := csv.NewReader(strings.NewReader(content)).ReadAll()
	if err != nil {
		return false
	}
	for _, row := range rows {
		size, err := strconv.ParseInt(row[len(row)-1], 10, 64)
		if err != nil || strings.Contains(row[0], "__pycache__") {
			continue // it has no size, or is not listed
		}
		info, err := os.Stat(filepath.Join(dir, row[0]))
		if err != nil || info.Size() < size {
			return false
		}
	}
	return true
}

// damagedAgain returns the error of an environment that is damaged although it was just
// built, or was repaired a short time ago.
func (e *Environment) damagedAgain(repaired time.Time) *Error {
	return &Error{Op: "use the environment in " + e.Dir,
		Message: fmt.Sprintf("%s, although it was rebuilt at %s", e.Damage, repaired.Format(time.TimeOnly)),
		Hint: "another program changes files in the cache folder, or its disk is faulty: " + otherFolder +
			"; `gophersnake env prune PIPELINE` removes the environment",
	}
}
