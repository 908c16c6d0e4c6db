package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const identifier = `[\pL_][\pL\d_]*`

// dottedName is the name of a module, or of an object in one.
var dottedName = regexp.MustCompile(`^` + identifier + `(\.` + identifier + `)*$`)

// splitSource takes path.py[:Object] or package.module[:Object] apart.
func splitSource(source string) (code, object string, hasObject, isFile bool) {
	code = source
	if i := strings.LastIndexByte(source, ':'); i >= 0 {
		code, object, hasObject = source[:i], source[i+1:], true
	}
	isFile = strings.HasSuffix(code, ".py") || strings.Contains(code, "/")
	return code, object, hasObject, isFile
}

// checkSource checks where Python code is said to be; whether a module exists is
// known to the interpreter alone.
func checkSource(r *report, base, path, source string) {
	if source == "" {
		return
	}
	code, object, hasObject, isFile := splitSource(source)
	switch {
	case hasObject && !dottedName.MatchString(object):
		r.at(path, "%q names no Python object after the colon; write nodes.py:Object", shorten(source))
	case strings.ContainsAny(code, "\x00\r\n"), !isFile && !dottedName.MatchString(code):
		r.at(path, "%q is neither a Python file (nodes.py) nor a module (package.module)", shorten(source))
	case isFile && !strings.HasSuffix(code, ".py"):
		r.at(path, "%q is no Python file: its name does not end in .py", shorten(code))
	case isFile:
		file := resolvePath(base, code)
		if err := regularFile(file); err != nil {
			var meant string
			if !r.full() && errors.Is(err, fs.ErrNotExist) {
				meant = nearestFile(file, code)
			}
			r.suggest(path, meant, "%v", err)
		}
	}
}

func resolvePath(base, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(base, file)
}

// regularFile says why a file that the manifest names cannot be read.
func regularFile(file string) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &missingFile{file}
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", file)
	}
	return nil
}

// missingFile says that a file is not there.
type missingFile struct{ name string }

func (e *missingFile) Error() string { return "there is no file " + e.name }
func (e *missingFile) Unwrap() error { return fs.ErrNotExist }

// nearestFile returns the name, written as the given one, of a file of the same
// kind beside a missing one.
func nearestFile(file, written string) string {
	siblings, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*"+filepath.Ext(file)))
	for i, sibling := range siblings {
		siblings[i] = filepath.Base(sibling)
	}
	name := nearest(filepath.Base(file), siblings)
	if name == "" {
		return ""
	}
	return strings.TrimSuffix(written, filepath.Base(written)) + name
}
